"""The measuring process: loads one model, runs it, and says what it took. See `measurement`.

It talks in lines of JSON over what was its standard output.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from array import array
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.classifier import EdgeClassifier
from effnet_edge.engines import KEEPING, Session, import_library, named_engine
from effnet_edge.errors import EffnetEdgeError
from effnet_edge.measurement import FRAME, Measurement, Plan

_STEADY = 0.03
_PART_OF_TIMEOUT = 0.8
_SECONDS_OF_FIRST_RUN = 2.0
_FIRST_ON_OOM = "1000"
_SECONDS_BEFORE_GIVING_UP = 0.3
_SECONDS_BETWEEN_NEWS = 0.2
_SECONDS_A_STRETCH = 0.25


def work(job: dict[str, Any]) -> None:
    """Do what `effnet_edge.measurement.measure` asked for."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # engines may print
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_ON_OOM, encoding="ascii")
    try:
        _measure(job["task"], Plan(**job["plan"]), out)
    except (EffnetEdgeError, MemoryError) as error:
        _say(out, {"error": str(error) or type(error).__name__})


def _measure(task: dict[str, Any], plan: Plan, out: IO[str]) -> None:
    # Before the timeout that the parent keeps, so that it gets an answer.
    ends = time.monotonic() + _PART_OF_TIMEOUT * plan.timeout
    frame = _frame()
    with suppress(OSError):  # forget the peak of the imports
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    baseline = _memory("VmRSS")
    _say(out, {"baseline": baseline})
    path, engine, threads = Path(task["path"]), task["engine"], task["threads"]
    start = time.perf_counter()
    import_library(named_engine(engine))
    import_seconds = time.perf_counter() - start
    if engine in KEEPING:
        with EdgeClassifier.load(path, engine, threads) as classifier:
            classifier.predict(frame)
    start = time.perf_counter()
    with EdgeClassifier.load(path, engine, threads) as classifier:
        load_seconds = time.perf_counter() - start
        give_up_bytes = math.inf if plan.give_up_bytes is None else plan.give_up_bytes
        runs = _Runs(classifier, frame, plan, out, ends)
        runs.run_once()
        too_large = _memory("VmHWM") - baseline > give_up_bytes
        if not (too_large or runs.hopeless):
            runs.warm_up()
        warmup_runs = len(runs.latencies)
        began = time.monotonic()
        if not (too_large or runs.hopeless or runs.out_of_time()):
            runs.clear()
            began = time.monotonic()
            runs.measure()
        elif warmup_runs > 1:
            runs.drop_first()
        peak_bytes = max(0, _memory("VmHWM") - baseline)
        measurement = Measurement(
            latencies_ms=_milliseconds(runs.latencies),
            preprocessing_ms=_milliseconds(runs.preprocessing),
            inference_ms=_milliseconds(runs.inference),
            started_s=tuple(moment - runs.started[0] for moment in runs.started),
            began=began,
            load_ms=(import_seconds + load_seconds) * 1e3,
            peak_bytes=peak_bytes,
            warmup_runs=warmup_runs,
            stopped_early=too_large or runs.hopeless,
        )
        _say(out, vars(measurement))


class _TimedSession(Session):
    """A session that notes when it was last called, and for how long."""

    def __init__(self, session: Session) -> None:
        self.input_shape, self.classes = session.input_shape, session.classes
        self.threads = session.threads
        self._session = session
        self.called = 0.0
        self.took = 0.0

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.called = time.perf_counter()
        logits = self._run(batch)
        self.took = time.perf_counter() - self.called
        return logits

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._session.run(batch)

    def close(self) -> None:
        self._session.close()


class _Runs:
    """Runs of one classifier; all times in seconds. They end before ``ends``, a monotonic time."""

    def __init__(
        self,
        classifier: EdgeClassifier,
        frame: NDArray[np.uint8],
        plan: Plan,
        out: IO[str],
        ends: float,
    ) -> None:
        self._classifier, self._frame, self._plan, self._out = classifier, frame, plan, out
        self._ends = ends
        self._session = _TimedSession(classifier._open_session())
        classifier._session = self._session
        self._news = 0.0
        self.hopeless = False
        self.clear()

    def clear(self) -> None:
        """Forget the runs."""
        # Eight bytes a run: an hour of them must not be taken for the model's memory.
        self.latencies = array("d")
        self.preprocessing = array("d")
        self.inference = array("d")
        self.started = array("d")

    def drop_first(self) -> None:
        """Forget the first run, which pays for what engines put off."""
        for values in (self.latencies, self.preprocessing, self.inference, self.started):
            del values[0]

    def out_of_time(self) -> bool:
        """Whether another run would end too late."""
        return time.monotonic() + self.latencies[-1] > self._ends

    def run_once(self) -> None:
        """The first run."""
        took = self._run(time.perf_counter(), self._plan.warm_up + self._plan.seconds_limit)
        give_up_ms = self._plan.give_up_ms
        # It pays for what engines put off, but not for seconds.
        long = took > _SECONDS_OF_FIRST_RUN
        self.hopeless = long and give_up_ms is not None and took * 1e3 > 2 * give_up_ms

    def warm_up(self) -> None:
        """Run until the latency is steady, plainly too long, or time is up."""
        plan = self._plan
        start = self.started[0]
        elapsed = self.latencies[0]
        while elapsed < plan.warm_up_limit and not self.out_of_time():
            elapsed = self._run(start, plan.warm_up + plan.seconds_limit)
            self.hopeless = self._is_hopeless(elapsed)
            if self.hopeless or (elapsed >= plan.warm_up and self._is_steady()):
                return

    def measure(self) -> None:
        """Run as long as the plan says, or until time is up."""
        plan = self._plan
        start = time.perf_counter()
        while True:
            elapsed = self._run(start, plan.seconds_limit)
            count = len(self.latencies)
            if elapsed >= plan.seconds and count >= plan.runs:
                return
            if elapsed >= plan.seconds_limit and count >= plan.least_runs:
                return
            self.hopeless = self._is_hopeless(elapsed)
            if self.hopeless or self.out_of_time():
                return

    def _run(self, start: float, expected: float) -> float:
        began = time.perf_counter()
        self._classifier.predict(self._frame)
        ended = time.perf_counter()
        self.latencies.append(ended - began)
        self.preprocessing.append(self._session.called - began)
        self.inference.append(self._session.took)
        self.started.append(began)
        if ended - self._news > _SECONDS_BETWEEN_NEWS:
            self._news = ended
            _say(self._out, {"part": min(1.0, (ended - start) / max(expected, 1e-9))})
        return ended - start

    def _is_hopeless(self, elapsed: float) -> bool:
        if self._plan.give_up_ms is None or elapsed < _SECONDS_BEFORE_GIVING_UP:
            return False
        later = self.latencies[1:] or self.latencies
        return min(later) * 1e3 > self._plan.give_up_ms

    def _is_steady(self) -> bool:
        """Whether the last two stretches of runs, of a quarter of a second or of three, agree."""
        stretch = max(3, round(_SECONDS_A_STRETCH / self.latencies[-1]))
        last, before = self.latencies[-stretch:], self.latencies[-2 * stretch : -stretch]
        if len(before) < stretch:
            return False
        return abs(float(np.median(last) / np.median(before)) - 1) < _STEADY


def _frame() -> NDArray[np.uint8]:
    """An image for whose content no engine is faster or slower."""
    return np.random.default_rng(0).integers(0, 256, FRAME, np.uint8)


def _memory(field: str) -> int:
    """``VmRSS`` (resident now) or ``VmHWM`` (its peak) of this process, in bytes."""
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    # The peak since the start is all that other systems tell; macOS gives bytes, others kB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _milliseconds(seconds: array[float]) -> tuple[float, ...]:
    return tuple(round(value * 1e3, 4) for value in seconds)


def _say(out: IO[str], message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


def _leave_with_parent() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)
