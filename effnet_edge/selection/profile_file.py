"""Device profiles as JSON files, which may come from anybody.

    {"format": 1, "name": "pi5", "title": "Raspberry Pi 5", "aliases": [...],
     "architecture": {"value": "aarch64", "source": KEY}, "bits": ..., "cores": ...,
     "memory_mb": ..., "bandwidth_gb_s": ..., "cache_mb": ...,
     "points": [{"family": "standard", "phi": 0, ..., "source": KEY}, ...],
     "sources": {KEY: {"title": ..., "url": ..., "seen": "2026-11-23"}}, "note": ...}

Every fact and every point names its source; what a profile doesn't know it leaves out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from effnet_edge.errors import EffnetEdgeError
from effnet_edge.files import open_regular, storage_error
from effnet_edge.metadata import UNPRINTABLE
from effnet_edge.models.architecture import phis
from effnet_edge.selection.calibration import KINDS
from effnet_edge.selection.profile import Cores, Point, Profile, Source

FORMAT_VERSION = 1
"""Raised when a file could no longer be read by an older package."""

NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,99}")

_FACTS = ("architecture", "bits", "cores", "memory_mb", "bandwidth_gb_s", "cache_mb")
_KEYS = {"format", "name", "title", "aliases", "points", "sources", "note", *_FACTS}
_POINT_KEYS = set(Point.__dataclass_fields__)
_LARGEST_FILE = 4_000_000
_MOST_ENTRIES = 10_000
_LONGEST_TEXT = 1000

T = TypeVar("T")


class ProfileError(EffnetEdgeError):
    """A device profile that can't be read, or isn't one."""


def read_profile(path: Path) -> Profile:
    """Read a profile. Raises ProfileError that says what is wrong and where, or StoreError."""
    try:
        with open_regular(path) as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise storage_error("can't read", path, error) from error
    if len(data) > _LARGEST_FILE:
        raise ProfileError(f"{path} is too large for a device profile")
    try:
        return parse_profile(data.decode())
    except UnicodeDecodeError:
        raise ProfileError(f"{path} is no device profile: it isn't text") from None
    except ProfileError as error:
        raise ProfileError(f"{path} is no sound device profile: {error}") from None


def parse_profile(text: str) -> Profile:
    """Build a profile from its JSON. Raises ProfileError."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ProfileError(f"it isn't JSON ({error})") from None
    except RecursionError:
        raise ProfileError("it is nested too deep") from None
    record = _object(data, "the file")
    version = _whole(_entry(record, "format", "the file"), "format", 1, 10**6)
    if version > FORMAT_VERSION:
        raise ProfileError(
            f"it has format {version}, and this effnet-edge reads up to {FORMAT_VERSION}: "
            "upgrade effnet-edge"
        )
    _no_others(record, _KEYS, "the file")
    sources = {
        _text(key, "a source's key"): _source(value, f"source {key!r}")
        for key, value in _object(_entry(record, "sources", "the file"), "sources").items()
    }
    facts = {name: _fact(record[name], name, sources) for name in _FACTS if name in record}
    for name in ("architecture", "bits", "cores"):
        if name not in facts:
            raise ProfileError(f"{name} is missing")
    name = _text(_entry(record, "name", "the file"), "name")
    if not NAME.fullmatch(name):
        raise ProfileError(
            f"name {name[:100]!r}: take lower-case letters, digits and - _ . + (pi5-in-a-case)"
        )
    bits = _whole(facts["bits"][0], "bits", 32, 64)
    if bits not in (32, 64):
        raise ProfileError(f"bits must be 32 or 64, not {bits}")

    def number(fact: str, least: float, most: float) -> float | None:
        return _number(facts[fact][0], fact, least, most) if fact in facts else None

    return Profile(
        name=name,
        title=_text(_entry(record, "title", "the file"), "title"),
        architecture=_text(facts["architecture"][0], "architecture"),
        bits=bits,
        cores=_all(facts["cores"][0], "cores", _cores, least=1),
        sources=sources,
        fact_sources={name: source for name, (_, source) in facts.items()},
        aliases=_all(record.get("aliases", []), "aliases", _text),
        memory_mb=number("memory_mb", 16, 1e8),
        bandwidth_gb_s=number("bandwidth_gb_s", 0.01, 1e4),
        cache_mb=number("cache_mb", 0.01, 1e5),
        points=_all(
            record.get("points", []), "points", lambda value, where: _point(value, where, sources)
        ),
        note=_text(record["note"], "note") if record.get("note") is not None else None,
    )


def profile_json(profile: Profile) -> str:
    """The profile as its file has it."""
    data: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "name": profile.name,
        "title": profile.title,
        "aliases": list(profile.aliases),
    }
    for name in _FACTS:
        value = getattr(profile, name)
        if value is not None:
            plain = [asdict(each) for each in value] if name == "cores" else value
            data[name] = {"value": plain, "source": profile.fact_sources[name]}
    if profile.note is not None:
        data["note"] = profile.note
    data["points"] = [_without_none(asdict(point)) for point in profile.points]
    data["sources"] = {key: asdict(source) for key, source in profile.sources.items()}
    return json.dumps(data, indent=1) + "\n"


def _without_none(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None}


def _source(value: Any, where: str) -> Source:
    record = _object(value, where)
    _no_others(record, {"title", "url", "seen"}, where)
    url = record.get("url")
    if url is not None and not _text(url, f"{where}, url").startswith(("https://", "http://")):
        raise ProfileError(f"{where}: its url must be a web address")
    seen = _text(_entry(record, "seen", where), f"{where}, seen")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", seen):
        raise ProfileError(f"{where}: seen must be a day, such as 2026-11-23, not {seen[:50]!r}")
    return Source(_text(_entry(record, "title", where), f"{where}, title"), url, seen)


def _fact(value: Any, name: str, sources: Mapping[str, Source]) -> tuple[Any, str]:
    record = _object(value, name)
    _no_others(record, {"value", "source"}, name)
    return _entry(record, "value", name), _known_source(record, name, sources)


def _known_source(record: Mapping[str, Any], where: str, sources: Mapping[str, Source]) -> str:
    key = _text(_entry(record, "source", where), f"{where}, source")
    if key not in sources:
        raise ProfileError(f"{where} names the source {key[:100]!r}, which sources doesn't have")
    return key


def _cores(value: Any, where: str) -> Cores:
    record = _object(value, where)
    _no_others(record, {"count", "mhz", "name", "kind"}, where)
    kind = _one_of(record, "kind", where, tuple(KINDS))
    name = record.get("name")
    return Cores(
        count=_whole(_entry(record, "count", where), f"{where}, count", 1, 1024),
        mhz=_number(_entry(record, "mhz", where), f"{where}, mhz", 50, 20_000),
        name=None if name is None else _text(name, f"{where}, name"),
        kind=kind,
    )


def _point(value: Any, where: str, sources: Mapping[str, Source]) -> Point:
    record = _object(value, where)
    _no_others(record, _POINT_KEYS, where)

    def whole(name: str, least: int, most: int) -> int:
        return _whole(_entry(record, name, where), f"{where}, {name}", least, most)

    def optional(name: str) -> int | None:
        return whole(name, 1, 1 << 62) if record.get(name) is not None else None

    family: Any = _one_of(record, "family", where, ("standard", "lite", "mobilenet-v2"))
    covers: Any = _one_of(record, "covers", where, ("inference", "predict"))
    size = _all(
        _entry(record, "resolution", where),
        f"{where}, resolution",
        lambda each, at: _whole(each, at, 8, 1 << 14),
    )
    if len(size) != 2:
        raise ProfileError(f"{where}, resolution must be [height, width]")
    return Point(
        family=family,
        phi=whole("phi", 0, 0 if family == "mobilenet-v2" else phis(family)[-1]),
        resolution=(size[0], size[1]),
        precision=_one_of(record, "precision", where, ("fp32", "fp16", "int8")),
        engine=_one_of(
            record, "engine", where, ("onnxruntime", "litert", "tflite-runtime", "ncnn")
        ),
        threads=whole("threads", 1, 1024),
        ms=_number(_entry(record, "ms", where), f"{where}, ms", 1e-3, 1e7),
        covers=covers,
        source=_known_source(record, where, sources),
        uncertainty=_text(_entry(record, "uncertainty", where), f"{where}, uncertainty"),
        spread=_number(_entry(record, "spread", where), f"{where}, spread", 0, 2),
        macs=optional("macs"),
        parameters=optional("parameters"),
        peak_bytes=optional("peak_bytes"),
    )


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProfileError(f"{where} must be an object, not {type(value).__name__}")
    if len(value) > _MOST_ENTRIES:
        raise ProfileError(f"{where} has too many entries")
    return value


def _entry(record: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in record:
        raise ProfileError(f"{where} has no {name!r}")
    return record[name]


def _no_others(record: Mapping[str, Any], known: set[str], where: str) -> None:
    strange = next((name for name in record if name not in known), None)
    if strange is not None:
        raise ProfileError(f"{where} has an entry {strange[:100]!r} that profiles don't have")


def _all(value: Any, where: str, read: Callable[[Any, str], T], least: int = 0) -> tuple[T, ...]:
    if not isinstance(value, list) or not least <= len(value) <= _MOST_ENTRIES:
        raise ProfileError(f"{where} must be a list of {least} to {_MOST_ENTRIES} entries")
    return tuple(read(each, f"{where}[{index}]") for index, each in enumerate(value))


def _one_of(record: Mapping[str, Any], name: str, where: str, known: Sequence[str]) -> str:
    value = _text(_entry(record, name, where), f"{where}, {name}")
    if value not in known:
        raise ProfileError(f"{where}, {name} {value[:100]!r} must be one of {', '.join(known)}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_TEXT:
        raise ProfileError(f"{where} must be text of 1 to {_LONGEST_TEXT} characters")
    if UNPRINTABLE.search(value):
        raise ProfileError(f"{where} has a control character")
    return value


def _whole(value: Any, where: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ProfileError(f"{where} must be a whole number from {least} to {most}")
    return value


def _number(value: Any, where: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ProfileError(f"{where} must be a number")
    if not least <= value <= most:  # which nothing that isn't finite passes
        raise ProfileError(f"{where} must be from {least:g} to {most:g}")
    return float(value)
