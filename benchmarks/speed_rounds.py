"""Engines against each other in one run: workers that stay alive and take turns.

A machine drifts: it heats up, a neighbour wakes. So each round lets every worker run a short
burst, one after the other, and what is compared are the medians of one round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speed_peers import Contestant, reason

PATIENCE = 900.0
"""Seconds that a worker may take to be ready: some compile."""
PAUSE = 0.03
"""Seconds between two bursts, in which the threads of the last one stop waiting in a busy loop."""
SLOW_START = 10.0
"""Seconds: who takes longer to be ready, for it compiles, isn't started again."""
WARM_UP = 2
"""Runs at the start of a burst that aren't counted, for they find another engine's caches."""


@dataclass(frozen=True)
class Plan:
    """How long to measure: ``rounds`` of bursts of ``runs``, a burst no longer than
    ``burst_seconds`` and all of them no longer than ``seconds``; then ``starts`` fresh processes
    each."""

    rounds: int
    runs: int
    burst_seconds: float
    seconds: float
    starts: int


@dataclass
class Record:
    """What was measured of one contestant: milliseconds by round, and its `Start` by process."""

    contestant: Contestant
    rounds: list[list[float]] = field(default_factory=list)
    starts: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None

    @property
    def medians(self) -> list[float]:
        """The median of each round."""
        return [statistics.median(burst) for burst in self.rounds]


class Worker:
    """A process that has loaded its model, on CPUs of its own choice of ours."""

    def __init__(self, contestant: Contestant, sources: Path, threads: int) -> None:
        contestant.folder.mkdir(parents=True, exist_ok=True)
        self._log = contestant.folder / f"run-{threads}.log"
        pinned = ",".join(str(cpu) for cpu in cpus(threads))
        options = ("--threads", str(threads), "--cpus", pinned)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                contestant.command("run", sources, *options),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=contestant.surroundings,
                text=True,
                start_new_session=True,  # Ctrl-C is for us: we end the workers
            )
        try:
            self.start: dict[str, Any] = self._answer(PATIENCE)
        except BaseException:
            self.close()
            raise

    def burst(self, plan: Plan) -> list[float]:
        """Milliseconds of each run. Raises RuntimeError if the worker has died."""
        order = {"warm_up": WARM_UP, "runs": plan.runs, "seconds": plan.burst_seconds}
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        took: list[float] = self._answer(PATIENCE)
        return took

    def _answer(self, patience: float) -> Any:
        assert self._process.stdout is not None
        alarm = threading.Timer(patience, self._process.kill)
        alarm.start()
        try:
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
        if not line or line.startswith('{"error"'):
            raise RuntimeError(reason(line, self._log))
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cpus(threads: int) -> list[int]:
    """The CPUs to compute on: the last ones, for the first serves most interrupts."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[-threads:]


def compete(
    contestants: Sequence[Contestant],
    sources: Path,
    threads: int,
    plan: Plan,
    tell: Callable[[str], None],
) -> tuple[list[Record], bool]:
    """Measure all contestants; a False beside the records says that Ctrl-C came before the end.

    One that fails says so in its record and doesn't stop the others.
    """
    records = [Record(contestant) for contestant in contestants]
    try:
        _rounds(records, sources, threads, plan, tell)
        _starts(records, sources, threads, plan, tell)
    except KeyboardInterrupt:
        return records, False
    return records, True


def _rounds(
    records: Sequence[Record],
    sources: Path,
    threads: int,
    plan: Plan,
    tell: Callable[[str], None],
) -> None:
    with ExitStack() as stack:
        workers: list[tuple[Record, Worker]] = []
        for record in records:
            tell(f"loading {record.contestant.name}")
            try:
                worker = stack.enter_context(Worker(record.contestant, sources, threads))
            except RuntimeError as error:
                record.error = str(error)
                continue
            record.starts.append(worker.start)
            workers.append((record, worker))
        ends = time.monotonic() + plan.seconds
        for index in range(plan.rounds):
            if time.monotonic() > ends:
                return
            tell(f"round {index + 1} of {plan.rounds}")
            bursts: list[tuple[Record, list[float]]] = []
            for record, worker in workers:
                if record.error is not None:
                    continue
                time.sleep(PAUSE)
                try:
                    bursts.append((record, worker.burst(plan)))
                except RuntimeError as error:
                    record.error = str(error)
            for record, burst in bursts:  # a round that was broken off doesn't count
                record.rounds.append(burst)


def _starts(
    records: Sequence[Record],
    sources: Path,
    threads: int,
    plan: Plan,
    tell: Callable[[str], None],
) -> None:
    """Start anew, in turn. The first start, of the rounds' worker, has warmed up the file cache."""
    for index in range(plan.starts):
        for record in records:
            if record.error is not None or _takes_long(record):
                continue
            tell(f"start {index + 1} of {plan.starts}: {record.contestant.name}")
            with Worker(record.contestant, sources, threads) as worker:
                record.starts.append(worker.start)


def _takes_long(record: Record) -> bool:
    first = record.starts[0]
    return bool(first["load_ms"] + first["first_ms"] > SLOW_START * 1e3)
