"""How well `effnet-edge select` chooses, against measuring everything.

    python benchmarks/selection.py --store ~/ladder --json selection.json

First every model of the store is measured on every engine and thread count, in ``--rounds`` fresh
processes each, one round after the other. Then ``--trials`` random budgets (log-uniform over what
was seen; half of them with a random memory limit too) are given to a choice that remembers nothing,
and what it chose is measured once more in a fresh process. What the store lacks of the ladder,
B0..B7 and Lite0..2 in int8 and fp32, is converted first. All of it takes about half an hour on two
cores.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import statistics
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ladder import ensure_ladder

from effnet_edge import device
from effnet_edge.measurement import Measurement, MeasurementError, Plan, Task, measure
from effnet_edge.selection.asking import Question
from effnet_edge.selection.candidates import Candidate, candidates, thread_counts, usable_engines
from effnet_edge.selection.choose import choose
from effnet_edge.selection.selection import NothingFitsError, Selection
from effnet_edge.store import ModelStore

PERCENT = 95
PACKAGES = ("numpy", "pillow", "onnxruntime", "ai-edge-litert")


@dataclass(frozen=True)
class Seen:
    """A candidate, measured exhaustively: medians over the rounds."""

    candidate: Candidate
    p95_ms: float
    peak_bytes: float


@dataclass(frozen=True)
class Trial:
    """One question and how it was answered. Ranks count models from the best, 0; None is none.

    ``fits`` is whether the chosen one kept within the limits in a process of its own; None where
    nothing was chosen.
    """

    budget_ms: float
    memory_mb: float | None
    chosen: str | None
    rank: int | None
    best_rank: int | None
    fits: bool | None
    p95_ms: float | None
    peak_mb: float | None
    measured: int
    seconds: float

    @property
    def steps(self) -> float:
        """How many models the choice is below the best that fits.

        None, too, if it is better than the best that was seen to fit, and did fit when checked.
        """
        if self.rank is None or self.best_rank is None:
            return 0 if self.rank == self.best_rank or self.fits else math.inf
        if self.rank < self.best_rank:
            return 0 if self.fits else self.best_rank - self.rank
        return self.rank - self.best_rank


def exhaustive(ways: tuple[Candidate, ...], rounds: int) -> list[Seen]:
    """Measure every candidate in every round."""
    found: dict[int, list[Measurement]] = {}
    for turn in range(rounds):
        for index, way in enumerate(ways):
            try:
                measurement = measure(Task(way.path, way.engine, way.threads), Plan())
            except MeasurementError as error:
                print(f"{way.metadata.name} on {way.engine}: {error}")
                continue
            found.setdefault(index, []).append(measurement)
            print(
                f"\rround {turn + 1}, {index + 1} of {len(ways)}: {way.metadata.name} {way.engine} "
                f"{way.threads}: {measurement.percentile(PERCENT):.1f} ms",
                end="\033[K",
                flush=True,
            )
    print()
    return [
        Seen(
            ways[index],
            statistics.median(each.percentile(PERCENT) for each in measurements),
            statistics.median(each.peak_bytes for each in measurements),
        )
        for index, measurements in found.items()
    ]


def seen_before(ways: tuple[Candidate, ...], file: Path) -> list[Seen]:
    """What an earlier run wrote with ``--json``."""
    costs = {
        (each["model"], each["engine"], each["threads"]): each
        for each in json.loads(file.read_text(encoding="utf-8"))["exhaustive"]
    }
    found = [costs[way.metadata.name, way.engine, way.threads] for way in ways]
    return [
        Seen(way, each["p95_ms"], each["peak_bytes"]) for way, each in zip(ways, found, strict=True)
    ]


def best_rank(seen: list[Seen], budget_ms: float, memory_mb: float | None) -> int | None:
    """The rank of the best model of which some way of running it fits."""
    memory = math.inf if memory_mb is None else memory_mb * 1e6
    return min(
        (
            each.candidate.rank
            for each in seen
            if each.p95_ms <= budget_ms and each.peak_bytes <= memory
        ),
        default=None,
    )


def ask(store: ModelStore, budget_ms: float, memory_mb: float | None) -> Selection:
    """A choice that uses nothing remembered."""
    question = Question(budget_ms, memory_mb, percentile=PERCENT, store=store)
    try:
        return choose(question, refresh=True)
    except NothingFitsError as error:
        return error.selection


def trial(store: ModelStore, seen: list[Seen], budget_ms: float, memory_mb: float | None) -> Trial:
    """Ask for one budget and check the answer."""
    selection = ask(store, budget_ms, memory_mb)
    row = selection.chosen
    rank = fits = p95_ms = peak_mb = None
    if row is not None:
        rank = next(each.candidate.rank for each in seen if each.candidate.path == row.path)
        again = measure(Task(row.path.resolve(), row.engine, row.threads), Plan())
        p95_ms, peak_mb = again.percentile(PERCENT), again.peak_bytes / 1e6
        fits = p95_ms <= budget_ms and (memory_mb is None or peak_mb <= memory_mb)
    return Trial(
        budget_ms=budget_ms,
        memory_mb=memory_mb,
        chosen=None if row is None else f"{row.model} {row.engine} {row.threads}",
        rank=rank,
        best_rank=best_rank(seen, budget_ms, memory_mb),
        fits=fits,
        p95_ms=p95_ms,
        peak_mb=peak_mb,
        measured=selection.measured_now,
        seconds=selection.seconds,
    )


def questions(seen: list[Seen], count: int, seed: int) -> list[tuple[float, float | None]]:
    """Random budgets and memory limits over the range of what the ladder takes."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    times = [each.p95_ms for each in seen]
    peaks = [each.peak_bytes / 1e6 for each in seen]

    def between(values: list[float]) -> float:
        return math.exp(rng.uniform(math.log(min(values)), math.log(1.1 * max(values))))

    return [(between(times), between(peaks) if index % 2 else None) for index in range(count)]


def report(trials: list[Trial]) -> dict[str, Any]:
    """What the issue asks for, from the trials."""
    chosen = [each for each in trials if each.fits is not None]
    return {
        "trials": len(trials),
        "chosen": len(chosen),
        "fits_percent": round(100 * statistics.mean(bool(each.fits) for each in chosen), 1),
        "best_or_next_percent": round(100 * statistics.mean(e.steps <= 1 for e in trials), 1),
        "best_percent": round(100 * statistics.mean(each.steps == 0 for each in trials), 1),
        "measured_mean": round(statistics.mean(each.measured for each in trials), 2),
        "seconds_median": round(statistics.median(each.seconds for each in trials), 1),
        "seconds_max": round(max(each.seconds for each in trials), 1),
    }


def line(number: int, each: Trial) -> str:
    """One trial for the terminal."""
    memory = "-" if each.memory_mb is None else f"{each.memory_mb:.0f} MB"
    got = "nothing fits"
    if each.p95_ms is not None:
        got = f"{each.p95_ms:.1f} ms {each.peak_mb:.0f} MB{'' if each.fits else ' TOO MUCH'}"
    return (
        f"{number:3} {each.budget_ms:8.1f} ms {memory:>8}  {each.chosen or '-':38} {got:28} "
        f"steps {each.steps:g}, {each.measured} measured, {each.seconds:.0f} s"
    )


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, required=True, help="the store's home folder")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--seen", type=Path, help="what an earlier run wrote, not to measure all")
    args = parser.parse_args()
    store = ModelStore(args.store)
    ensure_ladder(store)
    print(f"{platform.machine()}, {device.fingerprint()}")
    print(", ".join(f"{package} {version(package)}" for package in PACKAGES), "\n")
    ways, _ = candidates(
        store, usable_engines(None), thread_counts(device.default_threads()), "efficientnet-*"
    )
    seen = exhaustive(ways, args.rounds) if args.seen is None else seen_before(ways, args.seen)
    trials = []
    for number, (budget_ms, memory_mb) in enumerate(questions(seen, args.trials, args.seed), 1):
        trials.append(trial(store, seen, budget_ms, memory_mb))
        print(line(number, trials[-1]), flush=True)
    summary = report(trials)
    print(f"\n{json.dumps(summary, indent=1)}")
    if args.json:
        everything = {
            "device": device.fingerprint(),
            "packages": {package: version(package) for package in PACKAGES},
            "summary": summary,
            "exhaustive": [
                {
                    "model": each.candidate.metadata.name,
                    "engine": each.candidate.engine,
                    "threads": each.candidate.threads,
                    "rank": each.candidate.rank,
                    "p95_ms": each.p95_ms,
                    "peak_bytes": each.peak_bytes,
                }
                for each in seen
            ],
            "trials": [{**vars(each), "steps": str(each.steps)} for each in trials],
        }
        args.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
