"""What a model costs on this device: one place that measures latency and memory.

A model is measured in a process of its own, so that one which exhausts the memory or crashes its
engine takes nothing else with it. Latency is the whole of `EdgeClassifier.predict`, from a
decoded image to labels; memory is how far the resident set grows above a Python that has imported
this package but no engine.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from effnet_edge.errors import EffnetEdgeError, EngineError, StoreError

FRAME = (480, 640, 3)
"""Shape of the image that is labelled: what cheap cameras give, uint8 RGB."""

Reason = Literal["memory", "crash", "timeout", "error"]

# Not multiprocessing: its children run the caller's main module again, or fork its threads. The
# current folder, which -c puts first, may hold anybody's modules.
_CHILD = (
    "import sys; sys.path[:] = [entry for entry in sys.path if entry]; "
    "import json; job = json.loads(sys.stdin.readline()); sys.path[:] = job['path']; "
    "from effnet_edge.measurement_worker import work; work(job)"
)
_SECONDS_BETWEEN_LOOKS = 0.01
_SECONDS_TO_START = 60.0
_SECONDS_TO_DIE = 10.0
_SECONDS_OF_USE = 86400.0
_STDERR_KEPT = 4000
_OUT_OF_MEMORY = ("bad_alloc", "memoryerror", "failed to allocate", "out of memory")


class MeasurementError(EffnetEdgeError):
    """A model that could not be measured.

    ``reason`` is ``memory`` (it exceeded its ceiling, or the system killed it), ``crash`` (its
    engine died), ``timeout``, or ``error`` (it was refused with an ordinary error).
    ``over_ceiling`` says that it was the ceiling: the model needs more, whatever else runs.
    """

    def __init__(self, message: str, reason: Reason, *, over_ceiling: bool = False) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.over_ceiling = over_ceiling


@dataclass(frozen=True)
class Task:
    """One way of running a model: its file, an engine's name, and how many threads."""

    path: Path
    engine: str
    threads: int


@dataclass(frozen=True)
class Plan:
    """For how long to run a model; all times in seconds.

    Warming up ends when two stretches of runs differ by less than 3 %, between ``warm_up`` and
    ``warm_up_limit``. Then runs are measured until there are ``runs`` of them and ``seconds``
    have passed, or ``seconds_limit`` has with at least ``least_runs``. A model whose every run
    takes more than ``give_up_ms`` milliseconds, or that has taken more than ``give_up_bytes``, is
    stopped as soon as that is plain. ``timeout`` is for everything, loading included: runs end
    before it, and even one is an answer.
    """

    warm_up: float = 0.5
    warm_up_limit: float = 3.0
    runs: int = 100
    least_runs: int = 5
    seconds: float = 1.0
    seconds_limit: float = 4.0
    give_up_ms: float | None = None
    give_up_bytes: int | None = None
    timeout: float = 300.0

    @classmethod
    def sustained(cls, seconds: float) -> Plan:
        """A plan that runs for ``seconds`` without a warm-up, to see what heat does."""
        return cls(
            warm_up=0,
            warm_up_limit=0,
            runs=1,
            least_runs=1,
            seconds=seconds,
            seconds_limit=seconds,
            timeout=2 * seconds + 300,
        )


@dataclass(frozen=True)
class Measurement:
    """What was seen. One latency, in milliseconds, a run, in the order of the runs.

    ``preprocessing_ms`` is up to the call of the engine, ``inference_ms`` that call; making
    labels of the logits is the rest of ``latencies_ms``. ``started_s`` is when each run started,
    in seconds from the first one; ``began`` that moment on `time.monotonic`'s clock.
    ``load_ms`` is for importing the engine and loading a model that was loaded before: some engines
    keep what they made of it. ``peak_bytes`` is the resident set's largest growth, by loading,
    for the first time too, and running, including the engine's own code; 0 where the system doesn't
    tell. ``stopped_early`` says that the model was given up, so that the latencies are few.
    """

    latencies_ms: tuple[float, ...]
    preprocessing_ms: tuple[float, ...]
    inference_ms: tuple[float, ...]
    started_s: tuple[float, ...]
    began: float
    load_ms: float
    peak_bytes: int
    warmup_runs: int
    stopped_early: bool

    def percentile(self, percent: float) -> float:
        """The latency in ms that ``percent`` of the runs didn't exceed; see `percentile`."""
        return percentile(self.latencies_ms, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of ``values`` that at least ``percent`` of them don't exceed (nearest rank).

    It is a value that was seen; of fewer than 20, the 95th percentile is the largest.
    """
    ordered = sorted(values)
    below = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(below) - 1)]


def measure(
    task: Task,
    plan: Plan,
    *,
    ceiling_bytes: int | None = None,
    on_progress: Callable[[float], object] | None = None,
) -> Measurement:
    """Run ``task`` as ``plan`` says, in a process of its own.

    The process is killed when its resident set has grown by more than ``ceiling_bytes`` (on
    systems with /proc; looked at every 10 ms, for address space is no measure of memory), and is
    the first that Linux chooses when memory runs out. ``on_progress`` gets the part done, 0 to 1.
    Raises MeasurementError. Whatever ends this call ends the process.
    """
    job = {
        "task": {**asdict(task), "path": str(task.path)},
        "plan": asdict(plan),
        "path": [os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100 - "" is the cwd
    }
    with ExitStack() as stack:
        try:
            child = _Child(job, stack.enter_context(_private_home()))
        except OSError as error:
            raise MeasurementError(f"no process to measure in: {error}", "error") from error
        stack.callback(child.end)
        return _follow(child, plan, ceiling_bytes, on_progress or (lambda part: None))


@contextmanager
def _private_home() -> Iterator[str]:
    """A home for what the child keeps of the model, which must not replace what others keep.

    Where there is no place for it, nothing is kept.
    """
    from effnet_edge.store import default_home

    try:
        folder = default_home()
        # Of measuring processes that were killed together with us.
        for left in folder.glob(".measuring-*"):
            if time.time() - left.stat().st_mtime > _SECONDS_OF_USE:
                shutil.rmtree(left, ignore_errors=True)
    except (OSError, StoreError):
        yield os.devnull
        return
    home = folder / f".measuring-{secrets.token_hex(4)}"
    try:
        yield str(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


class _Child:
    """The measuring process and threads that read what it says."""

    def __init__(self, job: dict[str, Any], home: str) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise EngineError("can't measure: this program has no Python interpreter to run")
        self._process = subprocess.Popen(  # noqa: S603 - our own code, no shell
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "EFFNET_EDGE_HOME": home},
            start_new_session=True,  # Ctrl-C is for us; we end the child
        )
        self._messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._last_words = b""
        self._readers = [
            threading.Thread(target=read, daemon=True) for read in (self._listen, self._overhear)
        ]
        for reader in self._readers:
            reader.start()
        # Stays open: when we die, the child reads the end of it and goes too.
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(OSError):  # it died at once, which will be noticed
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        for line in self._process.stdout:
            self._messages.put(line)
        self._messages.put(b"")

    def _overhear(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        while said := self._process.stderr.read1(_STDERR_KEPT):  # type: ignore[attr-defined]
            self._last_words = (self._last_words + said)[-_STDERR_KEPT:]

    def message(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None if none came in time. Raises EOFError when it has ended."""
        try:
            line = self._messages.get(timeout=seconds)
        except queue.Empty:
            return None
        if not line:
            raise EOFError
        try:
            parsed = json.loads(line)
        except ValueError:
            return None  # something else that prints, before our code runs or while it dies
        return parsed if isinstance(parsed, dict) else None

    def resident_bytes(self) -> int | None:
        """How much memory it holds now."""
        try:
            with open(f"/proc/{self._process.pid}/statm", "rb") as file:  # noqa: PTH123 - quick
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return None

    def obituary(self) -> MeasurementError:
        """Why it ended without being asked to."""
        try:
            status = self._process.wait(_SECONDS_TO_DIE)
        except subprocess.TimeoutExpired:
            return MeasurementError("its process fell silent", "crash")
        for reader in self._readers:
            reader.join(_SECONDS_TO_DIE)
        said = self._last_words.decode("utf-8", "replace").strip()
        if status == -signal.SIGTERM:
            return MeasurementError("it was terminated from outside", "crash")
        if status == -9 or _is_about_memory(said):
            return MeasurementError("the system killed it: not enough memory", "memory")
        last = f": {said.splitlines()[-1]}" if said else ""
        how = signal_name(-status) if status < 0 else f"exit status {status}"
        return MeasurementError(f"its process died ({how}){last}", "crash")

    def end(self) -> None:
        """End it if it still runs, and wait for that."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(_SECONDS_TO_DIE)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):  # what it had not read yet
                    pipe.close()


def signal_name(number: int) -> str:
    """``SIGILL``; real-time signals have no names."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _follow(
    child: _Child,
    plan: Plan,
    ceiling_bytes: int | None,
    on_progress: Callable[[float], object],
) -> Measurement:
    ends = time.monotonic() + _SECONDS_TO_START + plan.timeout
    baseline: int | None = None
    while True:
        try:
            message = child.message(_SECONDS_BETWEEN_LOOKS)
        except EOFError:
            raise child.obituary() from None
        if message is None:
            pass
        elif "baseline" in message:
            baseline = message["baseline"]
            ends = time.monotonic() + plan.timeout
        elif "part" in message:
            on_progress(message["part"])
        elif "error" in message:
            text = str(message["error"])
            raise MeasurementError(text, "memory" if _is_about_memory(text) else "error")
        else:
            found = _measurement(message)
            if ceiling_bytes is not None and found.peak_bytes > ceiling_bytes:
                raise _too_large(ceiling_bytes)
            return found
        if ceiling_bytes is not None and baseline is not None:
            resident = child.resident_bytes()
            if resident is not None and resident - baseline > ceiling_bytes:
                raise _too_large(ceiling_bytes)
        if time.monotonic() > ends:
            raise MeasurementError(f"it wasn't done after {plan.timeout:.0f} s", "timeout")


def _measurement(message: dict[str, Any]) -> Measurement:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in message.items()
    }
    return Measurement(**fields)


def _too_large(ceiling_bytes: int) -> MeasurementError:
    message = f"it takes more than {ceiling_bytes / 1e6:.0f} MB"
    return MeasurementError(message, "memory", over_ceiling=True)


def _is_about_memory(text: str) -> bool:
    lowered = text.lower()
    return any(phrase in lowered for phrase in _OUT_OF_MEMORY)
