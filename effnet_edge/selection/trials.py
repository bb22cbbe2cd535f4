"""Measuring candidates, or remembering what measuring them brought."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from effnet_edge import device, seal
from effnet_edge.errors import ModelError
from effnet_edge.measurement import MeasurementError, Plan, Task, measure, percentile
from effnet_edge.selection.asking import MORE
from effnet_edge.selection.cache import MeasurementCache
from effnet_edge.selection.candidates import Candidate
from effnet_edge.selection.limits import Limits
from effnet_edge.selection.search import Outcome, together
from effnet_edge.selection.selection import Costs
from effnet_edge.tables import counted

GIVE_UP = 1.3
"""A model whose every run is this many times over the budget isn't measured to the end."""
LEAST_SECONDS = 20.0
"""What one measurement may take even when time is nearly up."""
_PART_OF_TIME = 0.5
"""What one measurement may take of the time that is left, so that another can follow."""


class Trials:
    """Trials of candidates under ``limits``, for ``seconds``.

    An entry of ``cache`` is the list of what each process found. ``circumstances`` is all that it
    depends on besides the model and the way of running it.
    """

    def __init__(
        self,
        limits: Limits,
        cache: MeasurementCache,
        circumstances: dict[str, Any],
        progress: Callable[[str, float], object],
        seconds: float,
        *,
        refresh: bool,
    ) -> None:
        self._limits = limits
        self._cache = cache
        self._circumstances = circumstances
        self._progress = progress
        self._ends = time.monotonic() + seconds
        self._refresh = refresh
        self._keys: dict[Task, dict[str, Any]] = {}
        self._found: dict[Task, list[dict[str, Any]]] = {}
        self.count = 0
        """How many candidates were measured, rather than remembered."""
        self.throttled = False
        """Whether the device was slowed down during a measurement."""

    def time_is_up(self) -> bool:
        """Whether nothing more should be begun."""
        return time.monotonic() > self._ends

    def measure(self, candidate: Candidate, so_far: Outcome | None) -> Outcome:
        """What is known of a candidate, after one process more than ``so_far``."""
        task = Task(candidate.path, candidate.engine, candidate.threads)
        if task not in self._keys:
            try:
                digest = seal.verify(candidate.path)
            except ModelError as error:
                return Outcome(None, "error", str(error))
            key = {
                "kind": "measurement",
                **self._circumstances,
                "model": digest,
                "engine": candidate.engine,
                "threads": candidate.threads,
            }
            self._keys[task] = key
            self._found[task] = [] if self._refresh else self._entries(key)
            self.count += not self._found[task]
        entries = self._found[task]
        wanted = 1
        if so_far is not None and so_far.costs is not None:
            wanted += so_far.costs.processes
        while len(entries) < wanted:
            try:
                entry, lasting = self._run(task, candidate.metadata.name)
            except MeasurementError as error:
                # One process that did its work says more than another that could not.
                return so_far or Outcome(None, error.reason, str(error))
            entries.append(entry)
            if lasting:
                self._cache.put(self._keys[task], entries)
        return self._outcome(entries)

    def _run(self, task: Task, name: str) -> tuple[dict[str, Any], bool]:
        """What one process found, and whether it will hold another time."""
        step = f"measuring {name} on {task.engine}, {counted(task.threads, 'thread')}"
        limits = self._limits
        ceiling = limits.memory_bytes if limits.free_bytes is None else limits.free_bytes
        self._progress(step, 0)
        try:
            found = measure(
                task,
                Plan(
                    give_up_ms=self._give_up_ms(),
                    give_up_bytes=limits.memory_bytes,
                    timeout=max(LEAST_SECONDS, _PART_OF_TIME * (self._ends - time.monotonic())),
                ),
                ceiling_bytes=ceiling,
                on_progress=lambda part: self._progress(step, part),
            )
        except MeasurementError as error:
            if error.reason != "memory":
                raise
            return {"failure": str(error), "ceiling": ceiling}, error.over_ceiling
        throttled = bool(device.state().throttled_now)
        self.throttled |= throttled
        entry = {
            "latencies_ms": [round(value, 3) for value in found.latencies_ms],
            "load_ms": round(found.load_ms, 1),
            "peak_bytes": found.peak_bytes,
            "stopped_early": found.stopped_early,
        }
        return entry, not throttled

    def _entries(self, key: dict[str, Any]) -> list[dict[str, Any]]:
        """What is remembered of a candidate and tells something under these limits."""
        try:
            return [entry for entry in self._cache.get(key) or [] if self._tells(entry)]
        except (LookupError, TypeError, ValueError, AttributeError):
            return []

    def _tells(self, entry: dict[str, Any]) -> bool:
        limit = self._limits.memory_bytes
        if "failure" in entry:
            return limit is not None and limit <= MORE * entry["ceiling"]
        give_up_ms = self._give_up_ms()
        too_slow = give_up_ms is not None and min(entry["latencies_ms"]) > give_up_ms
        too_large = limit is not None and entry["peak_bytes"] > limit
        return too_slow or too_large or not entry["stopped_early"]

    def _outcome(self, entries: list[dict[str, Any]]) -> Outcome:
        """What several processes found: see `together`; of memory the most."""
        for entry in entries:
            if "failure" in entry:
                return Outcome(None, "memory", entry["failure"])

        def at(percent: float) -> float:
            return together([percentile(entry["latencies_ms"], percent) for entry in entries])

        return Outcome(
            Costs(
                asked_ms=at(self._limits.percentile),
                p50_ms=at(50),
                p95_ms=at(95),
                p99_ms=at(99),
                load_ms=together([entry["load_ms"] for entry in entries]),
                peak_bytes=max(entry["peak_bytes"] for entry in entries),
                runs=sum(len(entry["latencies_ms"]) for entry in entries),
                processes=len(entries),
            )
        )

    def _give_up_ms(self) -> float | None:
        budget_ms = self._limits.budget_ms
        return None if budget_ms is None else GIVE_UP * budget_ms
