"""Running cells in rounds: every round takes all cells once, each in a fresh process.

So a device that gets warmer, or busy for a while, slows all cells and not those of one model. The
order within a round is drawn anew (a randomised block design), for a large model heats the board
for the one that comes after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

import numpy as np

from effnet_edge import device, seal
from effnet_edge.bench.cells import PlannedCell
from effnet_edge.bench.environment import describe_device, versions
from effnet_edge.bench.results import (
    MOST_LATENCIES,
    Cell,
    Conditions,
    ModelFacts,
    Round,
    Session,
    clean,
)
from effnet_edge.device import DeviceState
from effnet_edge.errors import EffnetEdgeError
from effnet_edge.measurement import Measurement, MeasurementError, Plan, Task, measure
from effnet_edge.metadata import ModelMetadata
from effnet_edge.ranking import is_faithful, published_top1
from effnet_edge.selection.limits import limits

DEFAULT_ROUNDS = 3
DEFAULT_SECONDS = 2.0

_SECONDS_BETWEEN_LOOKS = 1.0
_ORDER_SEED = 0
_TIMEOUT = 1200.0
"""In seconds, for loading and warming up: B7 takes a minute for each prediction where it doesn't
fit the caches at all."""
_ABOUT_AS_COOL = 3.0

Progress = Callable[[str, float], object]
"""Called with what is running and the part of a measurement done since the last call."""


@dataclass(frozen=True)
class Settings:
    """``rounds`` of about ``seconds`` for each cell; or, in sustained mode, ``duration_s`` of each
    without a pause."""

    rounds: int = DEFAULT_ROUNDS
    seconds: float = DEFAULT_SECONDS
    duration_s: float | None = None

    @property
    def plan(self) -> Plan:
        """How one round is measured."""
        if self.duration_s is not None:
            return Plan.sustained(self.duration_s)
        return Plan(
            seconds=self.seconds,
            runs=50,
            seconds_limit=2 * self.seconds,
            least_runs=5,
            timeout=_TIMEOUT + 2 * self.seconds,
        )


@dataclass
class _Progressing:
    """What is known of a cell so far."""

    planned: PlannedCell
    name: str
    model: ModelFacts | None
    rounds: list[Round]
    error: str | None
    reason: str | None


class Benchmark:
    """A benchmark under way. `session` gives what it has found, also after an interruption."""

    def __init__(self, planned: Sequence[PlannedCell], settings: Settings) -> None:
        self._settings = settings
        self._started = _now()
        self._complete = False
        known: dict[Path, ModelFacts] = {}
        self._cells = [
            _Progressing(
                cell,
                clean(cell.name),
                _facts(cell, known),
                [],
                None if cell.error is None else clean(cell.error),
                None if cell.error is None else "missing",
            )
            for cell in planned
        ]
        self._described = describe_device()
        self._cool_c: float | None = None

    @property
    def measurements(self) -> int:
        """How many measurements the whole takes, if none fails."""
        return self._settings.rounds * sum(cell.planned.error is None for cell in self._cells)

    def run(self, progress: Progress) -> None:
        """Measure all cells. One that fails is left out of later rounds and keeps its reason."""
        order = np.random.default_rng(_ORDER_SEED)
        for _ in range(self._settings.rounds):
            for index in order.permutation(len(self._cells)):
                cell = self._cells[index]
                if cell.planned.error is None:
                    if self._settings.duration_s is not None:
                        self._cool_down(progress)
                    self._measure(cell, progress)
        self._complete = True

    def session(self) -> Session:
        """What was found until now."""
        return Session(
            tool=f"effnet-edge {versions().get('effnet-edge', 'of unknown version')}",
            started=self._started,
            finished=_now(),
            complete=self._complete,
            board=clean(self._described.board),
            facts={name: clean(text) for name, text in self._described.facts.items()},
            device=self._described.data,
            environment={name: clean(text) for name, text in versions().items()},
            settings={
                "rounds": self._settings.rounds,
                "seconds": None if self._settings.duration_s else self._settings.seconds,
                "duration_s": self._settings.duration_s,
            },
            cells=tuple(
                Cell(
                    name=cell.name,
                    engine=cell.planned.engine,
                    threads=cell.planned.threads,
                    model=cell.model,
                    rounds=tuple(cell.rounds),
                    error=cell.error,
                    reason=cell.reason,
                )
                for cell in self._cells
            ),
        )

    def _cool_down(self, progress: Progress) -> None:
        """Wait until the device is about as cool as at first, for as long as a cell heated it."""
        ends = time.monotonic() + (self._settings.duration_s or 0)
        while time.monotonic() < ends:
            now = device.state().temperature_c
            if now is None:
                return
            if self._cool_c is None:
                self._cool_c = now
            if now <= self._cool_c + _ABOUT_AS_COOL:
                return
            progress(f"cooling down from {now:.0f} \u00b0C", 0.0)
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _measure(self, cell: _Progressing, progress: Progress) -> None:
        planned = cell.planned
        what = f"{cell.name}, {planned.engine}, {planned.threads} thr."
        reported = 0.0

        def report(part: float) -> None:
            nonlocal reported
            part = max(part, reported)
            progress(what, part - reported)
            reported = part

        report(0.0)
        if cell.error is None:
            try:
                cell.rounds.append(_one_round(planned, self._settings.plan, report))
            except MeasurementError as error:
                cell.error, cell.reason = clean(str(error)), error.reason
            except (EffnetEdgeError, OSError) as error:
                cell.error, cell.reason = clean(str(error)), "error"
        report(1.0)


def _one_round(cell: PlannedCell, plan: Plan, report: Callable[[float], object]) -> Round:
    assert cell.path is not None and cell.threads is not None  # noqa: S101 - it can be run
    looks = [(time.monotonic(), device.state())]

    def on_progress(part: float) -> None:
        report(part)
        if time.monotonic() - looks[-1][0] >= _SECONDS_BETWEEN_LOOKS:
            looks.append((time.monotonic(), device.state()))

    found = measure(
        Task(cell.path, cell.engine, cell.threads),
        plan,
        ceiling_bytes=limits(None, None, 95, device.available_memory()).memory_bytes,
        on_progress=on_progress,
    )
    looks.append((time.monotonic(), device.state()))
    return _round(found, looks)


def _round(found: Measurement, looks: Sequence[tuple[float, DeviceState]]) -> Round:
    latencies = found.latencies_ms
    step = -(-len(latencies) // MOST_LATENCIES)
    slowed = (word for (_, a), (_, b) in pairwise(looks) for word in device.throttled_between(a, b))
    return Round(
        runs=len(latencies),
        min_ms=min(latencies),
        max_ms=max(latencies),
        mean_ms=sum(latencies) / len(latencies),
        latencies_ms=latencies[::step],
        preprocessing_ms=found.preprocessing_ms[::step],
        inference_ms=found.inference_ms[::step],
        started_s=found.started_s[::step],
        load_ms=found.load_ms,
        peak_bytes=found.peak_bytes,
        warmup_runs=found.warmup_runs,
        conditions=tuple(
            Conditions(
                seconds=round(moment - found.began, 3),
                temperature_c=state.temperature_c,
                frequencies_mhz=state.frequencies_mhz,
                throttling=state.throttled_now,
            )
            for moment, state in looks
        ),
        throttling=tuple(dict.fromkeys(slowed)),
    )


def _facts(cell: PlannedCell, known: dict[Path, ModelFacts]) -> ModelFacts | None:
    if cell.metadata is None or cell.path is None:
        return None
    if cell.path not in known:
        known[cell.path] = model_facts(cell.name, cell.path, cell.metadata)
    return known[cell.path]


def model_facts(name: str, path: Path, metadata: ModelMetadata) -> ModelFacts:
    """What a report needs to know of the model file at ``path``, called ``name``."""
    try:
        digest, size = seal.verify(path), path.stat().st_size
    except (EffnetEdgeError, OSError):  # measuring it will say so
        digest, size = None, 0
    source = metadata.source
    return ModelFacts(
        name=clean(name),
        family=metadata.family,
        phi=metadata.phi,
        precision=metadata.precision,
        resolution=metadata.recipe.resolution,
        classes=metadata.classes,
        parameters=metadata.parameters,
        macs=metadata.macs,
        top1=source.top1,
        usual_top1=published_top1(metadata.family, metadata.phi),
        weights=clean(source.weights or source.file),
        file=clean(path.name),
        size=size,
        sha256=digest,
        faithful=is_faithful(metadata),
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
