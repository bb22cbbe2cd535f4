"""How a stream goes: frames per second, latency, and what had to be dropped."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from effnet_edge.streaming import LabelledFrame

_KEPT = 1000
"""Percentiles are of the last thousand frames, so that a year's stream takes no more memory."""


@dataclass(frozen=True)
class StreamReport:
    """``labelled`` and ``dropped`` frames in ``seconds``; latency and age in milliseconds, None
    before the first frame."""

    labelled: int
    dropped: int
    seconds: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    age_p50_ms: float | None
    age_p95_ms: float | None

    @property
    def frames_per_second(self) -> float:
        """How many frames were labelled a second, over the whole time."""
        return self.labelled / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        frames = f"{self.labelled} frames in {self.seconds:.1f} s"
        if self.latency_p50_ms is None:
            return f"{frames}, {self.dropped} dropped"
        return (
            f"{frames}: {self.frames_per_second:.1f} frames/s, latency {self.latency_p50_ms:.1f} "
            f"ms (p95 {self.latency_p95_ms:.1f}), {self.dropped} dropped, age of a label "
            f"{self.age_p50_ms:.0f} ms (p95 {self.age_p95_ms:.0f})"
        )


class FrameRate:
    """Counts a stream's frames from now on; ``labelled`` is how many there were."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.labelled = 0
        self._dropped = 0
        self._latencies: deque[float] = deque(maxlen=_KEPT)
        self._ages: deque[float] = deque(maxlen=_KEPT)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def add(self, frame: LabelledFrame) -> None:
        """Count a frame that was labelled, and what was dropped up to it."""
        self.labelled += 1
        self._dropped = frame.dropped
        self._latencies.append(frame.latency_ms)
        self._ages.append(frame.age_ms)

    def report(self) -> StreamReport:
        """How it went so far."""
        latency: list[float | None] = [None, None]
        age: list[float | None] = [None, None]
        if self._latencies:
            latency = [float(ms) for ms in np.percentile(self._latencies, (50, 95))]
            age = [float(ms) for ms in np.percentile(self._ages, (50, 95))]
        return StreamReport(self.labelled, self._dropped, self.seconds, *latency, *age)
