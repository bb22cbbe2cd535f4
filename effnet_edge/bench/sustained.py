"""What heat does: one long run of a cell, second by second, and its end against its beginning."""

from __future__ import annotations

import math
from dataclasses import dataclass

from effnet_edge.bench.results import Round
from effnet_edge.measurement import percentile

_MOST_BINS = 600
_LONGEST_END = 60.0


@dataclass(frozen=True)
class Stretch:
    """The runs that started from ``start`` on for ``seconds``; latencies in ms."""

    start: float
    seconds: float
    p50: float
    low: float
    high: float
    """The 5th and 95th percentile."""


@dataclass(frozen=True)
class Slowing:
    """p50 in ms of the first and the last ``seconds`` of a run."""

    seconds: float
    first: float
    last: float

    @property
    def ratio(self) -> float:
        """Above 1 it became slower."""
        return self.last / self.first


def stretches(run: Round) -> tuple[Stretch, ...]:
    """The run second by second, or in up to 600 longer stretches; without those that no run
    started in."""
    span = run.started_s[-1]
    seconds = max(1.0, math.ceil(span / _MOST_BINS))
    groups: dict[int, list[float]] = {}
    for start, latency in zip(run.started_s, run.latencies_ms, strict=True):
        groups.setdefault(int(start / seconds), []).append(latency)
    return tuple(
        Stretch(
            index * seconds,
            seconds,
            percentile(latencies, 50),
            percentile(latencies, 5),
            percentile(latencies, 95),
        )
        for index, latencies in sorted(groups.items())
    )


def slowing(run: Round) -> Slowing:
    """Compare the first minute with the last one; of less than three minutes, the first and last
    thirds."""
    span = run.started_s[-1] + run.latencies_ms[-1] / 1e3
    seconds = min(_LONGEST_END, span / 3)
    pairs = list(zip(run.started_s, run.latencies_ms, strict=True))
    first = [latency for start, latency in pairs if start < seconds]
    last = [latency for start, latency in pairs if start >= span - seconds] or [pairs[-1][1]]
    return Slowing(seconds, percentile(first, 50), percentile(last, 50))
