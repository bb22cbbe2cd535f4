"""A session as a JSON document, and back; what is read is checked in every part.

    {"format": "effnet-edge bench", "version": 1, "tool": ..., "cells": [...]}

Milliseconds are rounded to a microsecond, which is below what timers resolve.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from effnet_edge.bench.results import (
    LEAST_LATENCY_MS,
    MOST_LATENCIES,
    MOST_ROUNDS,
    MOST_TEXT,
    Cell,
    Conditions,
    ModelFacts,
    Round,
    Session,
    clean,
)
from effnet_edge.errors import BenchmarkError
from effnet_edge.files import atomic_write, open_regular

FORMAT = "effnet-edge bench"
VERSION = 1
"""Raised when an older effnet-edge could no longer read the document."""

_MOST_BYTES = 1 << 30
_MOST_CELLS = 10_000
_LARGEST = 1e15

_T = TypeVar("_T")


def to_json(session: Session) -> str:
    """Return the document's text."""
    data = {"format": FORMAT, "version": VERSION, **asdict(session)}
    return json.dumps(_rounded(data), separators=(",", ":"), allow_nan=False) + "\n"


def write(session: Session, path: Path) -> None:
    """Write the document, whole or not at all. Raises StoreError."""
    atomic_write(path, to_json(session).encode())


def read(path: Path) -> Session:
    """Read what `write` wrote.

    Raises BenchmarkError, which names the file, for one that is missing, cut short, foreign or
    of a newer version.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise BenchmarkError(f"there is no benchmark {path}") from None
    except OSError as error:
        raise BenchmarkError(f"{path} can't be read: {error.strerror or error}") from error
    if len(content) > _MOST_BYTES:
        raise BenchmarkError(f"{path} is too large to be a benchmark")
    try:
        return from_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BenchmarkError(f"{path} is no benchmark: it isn't text") from None
    except BenchmarkError as error:
        raise BenchmarkError(f"{path} {error}") from None


def from_json(text: str) -> Session:
    """Rebuild a session from `to_json`. Raises BenchmarkError that says what is wrong with it."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith('{"format":"effnet-edge bench"'):
            raise BenchmarkError("was cut short or damaged: copy it again") from error
        raise BenchmarkError("is no benchmark: it isn't JSON") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BenchmarkError(
            "is no benchmark: 'effnet-edge bench --json FILE' writes what is needed here"
        )
    version = data.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise BenchmarkError("states no version: it is damaged")
    if version > VERSION:
        raise BenchmarkError(
            f"has version {version}, and this effnet-edge reads up to {VERSION}: upgrade it"
        )
    try:
        return _session(data)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BenchmarkError(f"is damaged: {_first_line(error)}") from error


def _session(data: dict[str, Any]) -> Session:
    return Session(
        tool=_text(data["tool"]),
        started=_text(data["started"]),
        finished=_text(data["finished"]),
        complete=_boolean(data["complete"]),
        board=_text(data["board"]),
        facts=_texts(data["facts"]),
        device=_mapping(data["device"]),
        environment=_texts(data["environment"]),
        settings={_text(name): _setting(value) for name, value in data["settings"].items()},
        cells=_many(data["cells"], _cell, _MOST_CELLS),
    )


def _cell(data: dict[str, Any]) -> Cell:
    return Cell(
        name=_text(data["name"]),
        engine=_text(data["engine"]),
        threads=_optional(data["threads"], _count),
        model=_optional(data["model"], _model),
        rounds=_many(data["rounds"], _round, MOST_ROUNDS),
        error=_optional(data["error"], _text),
        reason=_optional(data["reason"], _text),
    )


def _model(data: dict[str, Any]) -> ModelFacts:
    height, width = data["resolution"]
    return ModelFacts(
        name=_text(data["name"]),
        family=_text(data["family"]),
        phi=_count(data["phi"]),
        precision=_text(data["precision"]),
        resolution=(_count(height), _count(width)),
        classes=_count(data["classes"]),
        parameters=_count(data["parameters"]),
        macs=_count(data["macs"]),
        top1=_optional(data["top1"], _percentage),
        usual_top1=_optional(data["usual_top1"], _percentage),
        weights=_text(data["weights"]),
        file=_text(data["file"]),
        size=_count(data["size"]),
        sha256=_optional(data["sha256"], _text),
        # Documents from before it was noted lack it.
        faithful=_boolean(data.get("faithful", True)),
    )


def _round(data: dict[str, Any]) -> Round:
    latencies = _many(data["latencies_ms"], _time, MOST_LATENCIES)
    if not latencies:
        raise ValueError("a round has no latencies")
    series = {
        name: _many(data[name], _amount, MOST_LATENCIES)
        for name in ("preprocessing_ms", "inference_ms", "started_s")
    }
    for name, values in series.items():
        if len(values) != len(latencies):
            raise ValueError(f"a round has {len(latencies)} latencies and {len(values)} {name}")
    started = series["started_s"]
    if started[0] != 0 or any(later < earlier for earlier, later in pairwise(started)):
        raise ValueError("the runs of a round didn't start one after the other, from 0 on")
    shortest, longest = _time(data["min_ms"]), _time(data["max_ms"])
    if not shortest <= min(latencies) <= max(latencies) <= longest:
        raise ValueError("a round has latencies beyond its shortest or longest")
    conditions = _many(data["conditions"], _conditions, 1_000_000)
    if not conditions:
        raise ValueError("a round has no conditions")
    runs = _count(data["runs"])
    if runs < len(latencies):
        raise ValueError(f"a round of {runs} runs has {len(latencies)} latencies")
    return Round(
        runs=runs,
        min_ms=shortest,
        max_ms=longest,
        mean_ms=_time(data["mean_ms"]),
        latencies_ms=latencies,
        preprocessing_ms=series["preprocessing_ms"],
        inference_ms=series["inference_ms"],
        started_s=started,
        load_ms=_amount(data["load_ms"]),
        peak_bytes=_count(data["peak_bytes"]),
        warmup_runs=_count(data["warmup_runs"]),
        conditions=conditions,
        throttling=_many(data["throttling"], _text, 100),
    )


def _conditions(data: dict[str, Any]) -> Conditions:
    return Conditions(
        seconds=_number(data["seconds"]),
        temperature_c=_optional(data["temperature_c"], _number),
        frequencies_mhz=_many(data["frequencies_mhz"], _count, 10_000),
        throttling=_many(data["throttling"], _text, 100),
    )


def _many(values: Any, parse: Callable[[Any], _T], most: int) -> tuple[_T, ...]:
    if not isinstance(values, list) or len(values) > most:
        raise ValueError(f"a list of at most {most} is expected")
    return tuple(parse(value) for value in values)


def _optional(value: Any, parse: Callable[[Any], _T]) -> _T | None:
    return None if value is None else parse(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise TypeError(f"{str(value)[:40]!r} stands where text is expected")
    return clean(value)


def _texts(values: Any) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in _mapping(values).items()}


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{str(value)[:40]!r} stands where an object is expected")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{str(value)[:40]!r} stands where true or false is expected")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{str(value)[:40]!r} stands where a number is expected")
    if not abs(value) <= _LARGEST:
        raise ValueError("a number is out of range")
    return value


def _amount(value: Any) -> float:
    if _number(value) < 0:
        raise ValueError("an amount is negative")
    return float(value)


def _time(value: Any) -> float:
    if _amount(value) < LEAST_LATENCY_MS:
        raise ValueError("a latency is next to 0")
    return float(value)


def _percentage(value: Any) -> float:
    if _amount(value) > 100:
        raise ValueError("a percentage is above 100")
    return float(value)


def _count(value: Any) -> int:
    if not isinstance(_number(value), int) or value < 0:
        raise ValueError("a count isn't a whole number from 0")
    return int(value)


def _setting(value: Any) -> float | int | str | None:
    return _text(value) if isinstance(value, str) else _optional(value, _number)


def _rounded(value: Any) -> Any:
    """``value`` with numbers to three places; what isn't finite, which JSON lacks, is null."""
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _rounded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return (str(error).splitlines() or ["it is malformed"])[0][:200]
