"""Device profiles by name: those that come with the package, and the user's own.

The user's are ``<home>/devices/<name>.json``, and any file given by its path. One of the user's
with the name of a shipped one takes its place.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_edge.errors import StoreError, UsageError
from effnet_edge.files import atomic_write, storage_error, user_path
from effnet_edge.selection.profile import Cores, Point, Profile, Source
from effnet_edge.selection.profile_file import NAME, ProfileError, profile_json, read_profile
from effnet_edge.selection.speed import speed_of

if TYPE_CHECKING:
    from effnet_edge.device import Device

__all__ = [
    "Cores",
    "Point",
    "Profile",
    "ProfileError",
    "Source",
    "find_profile",
    "profile_from_measurements",
    "profile_path",
    "profiles",
    "shipped_profiles",
    "write_profile",
]

_SHIPPED = Path(__file__).parent.parent / "data" / "devices"
_MEASURED = "measured"


def profiles(home: Path | None = None) -> tuple[Profile, ...]:
    """Return all profiles by name.

    A file of the user's that can't be read is left out, and so is their folder; `find_profile` says
    what is wrong with a file.
    """
    found = {profile.name: profile for profile in shipped_profiles()}
    own: list[Path] = []
    with suppress(StoreError):
        own = _files(user_folder(home))
    for path in own:
        try:
            profile = read_profile(path)
        except (ProfileError, StoreError):
            continue
        found[profile.name] = profile
    return tuple(found[name] for name in sorted(found))


def shipped_profiles() -> tuple[Profile, ...]:
    """The profiles that come with the package, by name."""
    return tuple(read_profile(path) for path in _files(_SHIPPED))


def find_profile(name_or_path: str | os.PathLike[str], home: Path | None = None) -> Profile:
    """Return the profile of a device by its name, an alias (``raspberry pi 5``) or its file.

    Raises UsageError with the names that come close, ProfileError for a file that is no profile,
    and StoreError for one that can't be read.
    """
    text = os.fspath(name_or_path)
    if text.endswith(".json") or os.sep in text:
        return read_profile(user_path(text))
    known = profiles(home)
    for profile in known:
        if profile.name == text:
            return profile
    wanted = _plain(text)
    for profile in known:
        if wanted in (_plain(profile.name), _plain(profile.title), *map(_plain, profile.aliases)):
            return profile
    for path in _files(user_folder(home)):
        if path.stem == text:
            return read_profile(path)  # which says what is wrong with it
    raise UsageError(_unknown(text, known))


def user_folder(home: Path | None = None) -> Path:
    """Where the user's own profiles are. It need not exist."""
    from effnet_edge.store import default_home

    return (default_home() if home is None else home) / "devices"


def write_profile(
    profile: Profile, target: str | os.PathLike[str], home: Path | None = None
) -> Path:
    """Write a profile to `profile_path`; return that. Atomic.

    Raises UsageError for an unusable name, StoreError where it can't be written.
    """
    path = profile_path(target, home)
    atomic_write(path, profile_json(profile).encode())
    return path


def profile_path(target: str | os.PathLike[str], home: Path | None = None) -> Path:
    """Where a profile goes: ``target`` is a name among the user's own, or a file if it ends in
    ``.json`` or has a folder. Raises UsageError for an unusable name."""
    text = os.fspath(target)
    if text.endswith(".json") or os.sep in text:
        return user_path(text)
    if NAME.fullmatch(text):
        return user_folder(home) / f"{text}.json"
    raise UsageError(
        f"{text[:100]!r} can't be a profile's name: take lower-case letters, digits and - _ . "
        "+ (pi5-in-a-case), or a file that ends in .json"
    )


def profile_from_measurements(
    name: str,
    device: Device,
    points: Sequence[Point],
    *,
    version: str,
    day: str,
    title: str | None = None,
) -> Profile:
    """Make the profile of this ``device`` from what was measured on it.

    ``points`` may name any source: all of it is said to be measured by ``effnet-edge bench`` of
    that ``version`` on that ``day`` (YYYY-MM-DD). ``name`` is a name or a file, as `write_profile`
    takes it.
    """
    from dataclasses import replace

    speed = speed_of(device)
    names = {cores.max_mhz: cores.name for cores in device.core_classes}
    total = device.memory.total
    facts = ("architecture", "bits", "cores", "memory_mb", "cache_mb")
    return Profile(
        name=profile_name(name),
        title=title or device.board or device.soc or name,
        architecture=device.architecture or "unknown",
        bits=speed.bits,
        cores=tuple(
            Cores(each.count, each.mhz, names.get(round(each.mhz)), each.kind)
            for each in speed.cores
        ),
        sources={_MEASURED: Source(f"measured by effnet-edge bench {version}", None, day)},
        fact_sources=dict.fromkeys(facts, _MEASURED),
        memory_mb=None if total is None else total / 2**20,
        cache_mb=speed.cache_mb,
        points=tuple(replace(point, source=_MEASURED) for point in points),
    )


def profile_name(target: str | os.PathLike[str]) -> str:
    """The name of a profile that is written to ``target``: a file's without its ending.

    Characters that a name can't have become dashes.
    """
    stem = Path(os.fspath(target)).name.removesuffix(".json").lower()
    return re.sub(r"[^a-z0-9._+-]+", "-", stem).strip("-._+")[:100] or "device"


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error("can't read", folder, error) from error


def _plain(text: str) -> str:
    """A name without what people write in different ways: case, spaces, dashes, brackets."""
    return re.sub(r"[^a-z0-9+]", "", text.lower())


def _unknown(text: str, known: Sequence[Profile]) -> str:
    by_name = {
        _plain(each): profile.name
        for profile in known
        for each in (profile.name, profile.title, *profile.aliases)
    }
    close = difflib.get_close_matches(_plain(text), by_name, n=3)
    names = dict.fromkeys(by_name[each] for each in close)
    message = f"there is no device profile {text[:100]!r}"
    if names:
        return f"{message}; did you mean {' or '.join(names)}?"
    listed = ", ".join(profile.name for profile in known)
    return (
        f"{message}; there are {listed}. 'effnet-edge bench --save-profile NAME' measures one on "
        "the device itself"
    )
