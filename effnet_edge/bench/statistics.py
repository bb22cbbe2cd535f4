"""Figures of one cell: percentiles that its runs support, and how far its rounds agree."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effnet_edge.measurement import percentile

if TYPE_CHECKING:
    from effnet_edge.bench.results import Round

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Summary:
    """The rounds of a cell together; times in milliseconds.

    A percentile is None where the runs are too few to tell, see `supported_percentile`.
    ``preprocessing``, ``inference`` and ``load`` are medians, ``peak_bytes`` is the largest.
    ``disagreement`` is how far the medians of single rounds lie apart, as a part of p50; None of
    one round.
    """

    runs: int
    p50: float
    p90: float | None
    p95: float | None
    p99: float | None
    min: float
    max: float
    mean: float
    preprocessing: float
    inference: float
    load: float
    peak_bytes: int
    disagreement: float | None

    @property
    def p95_or_worse(self) -> float:
        """The 95th percentile, or the slowest run where that can't be told."""
        return self.max if self.p95 is None else self.p95


def summarise(rounds: Sequence[Round]) -> Summary:
    """Pool the runs of one or more rounds."""
    latencies = sorted(value for each in rounds for value in each.latencies_ms)
    runs = sum(each.runs for each in rounds)
    medians = round_medians(rounds)
    p50 = percentile(latencies, 50)
    return Summary(
        runs=runs,
        p50=p50,
        p90=supported_percentile(latencies, 90),
        p95=supported_percentile(latencies, 95),
        p99=supported_percentile(latencies, 99),
        min=min(each.min_ms for each in rounds),
        max=max(each.max_ms for each in rounds),
        mean=sum(each.mean_ms * each.runs for each in rounds) / runs,
        preprocessing=percentile([v for each in rounds for v in each.preprocessing_ms], 50),
        inference=percentile([v for each in rounds for v in each.inference_ms], 50),
        load=statistics.median(each.load_ms for each in rounds),
        peak_bytes=max(each.peak_bytes for each in rounds),
        disagreement=(max(medians) - min(medians)) / p50 if len(medians) > 1 else None,
    )


def supported_percentile(values: Sequence[float], percent: float) -> float | None:
    """The percentile, or None unless at least one run is expected beyond it.

    So p99 takes 100 runs and p95 20: of fewer, it would be the maximum under another name.
    """
    if len(values) * (100 - percent) < 100:
        return None
    return percentile(values, percent)


def round_medians(rounds: Sequence[Round]) -> tuple[float, ...]:
    """The median latency of each round in milliseconds."""
    return tuple(percentile(each.latencies_ms, 50) for each in rounds)
