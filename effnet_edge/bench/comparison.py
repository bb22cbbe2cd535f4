"""Whether cells became faster or slower since an older session.

The unit is the round, a fresh process, and not the run: runs of one process share its memory
layout and the state of the device, so that thousands of them show less than three processes do
(Georges, Buytaert and Eeckhout, "Statistically rigorous Java performance evaluation", OOPSLA 2007,
section 3). Of each round the logarithm of the median latency is taken; Welch's t interval of the
difference of the two sessions' means (Welch, Biometrika 34, 1947), which doesn't suppose equal
spreads, is that of the ratio of latencies, as Kalibera and Jones report ("Rigorous benchmarking in
reasonable time", ISMM 2013). Of many cells some differ by chance: the p-values are corrected by
Holm's step-down method (Scandinavian Journal of Statistics 6, 1979), so that with 95 % probability
no cell at all is called faster or slower wrongly.

What differs between two sessions but not between rounds of one, a warmer room say, no number of
rounds shows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from effnet_edge.bench import student
from effnet_edge.bench.results import Cell, Session
from effnet_edge.bench.statistics import round_medians
from effnet_edge.errors import BenchmarkError

LEVEL = 0.95
LEAST_ROUNDS = 2

# Half of the last place of a latency in a document: rounds can't be told to agree better.
_ROUNDING_MS = 0.0005

Verdict = Literal["faster", "slower", "no clear change", "can't tell"]


@dataclass(frozen=True)
class Change:
    """One cell in both sessions; ``old_ms`` and ``new_ms`` are its rounds' medians' geometric mean.

    ``ratio`` is new latency over old, above 1 is slower, ``low`` and ``high`` its 95 % interval,
    of this cell alone; ``p`` is corrected for the number of cells. The three are None where the
    rounds are too few, which ``verdict`` says.
    """

    cell: Cell
    old: Cell
    old_ms: float
    new_ms: float
    ratio: float
    low: float | None
    high: float | None
    p: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Two sessions: the cells that both measured, those that one did, and what else differs."""

    old: Session
    new: Session
    changes: tuple[Change, ...]
    only_old: tuple[Cell, ...]
    only_new: tuple[Cell, ...]
    differences: tuple[str, ...]

    def regressions(self, percent: float) -> tuple[Change, ...]:
        """The cells that are slower, and not by chance, by more than ``percent``."""
        return tuple(
            change
            for change in self.changes
            if change.verdict == "slower" and change.ratio > 1 + percent / 100
        )

    @property
    def untold(self) -> tuple[Change, ...]:
        """The cells of which nothing can be said, for want of rounds."""
        return tuple(change for change in self.changes if change.verdict == "can't tell")


def compare(old: Session, new: Session) -> Comparison:
    """Compare the cells that both have, matched by model, engine and threads.

    Raises BenchmarkError if there is none.
    """
    before = {cell.key: cell for cell in old.measured}
    after = {cell.key: cell for cell in new.measured}
    pairs = [(before[key], cell) for key, cell in after.items() if key in before]
    if not pairs:
        raise BenchmarkError(
            "the two benchmarks have no cell in common: a model on the same engine with the same "
            "number of threads"
        )
    estimates = [_estimate(one, other) for one, other in pairs]
    corrected = holm([estimate.p for estimate in estimates if estimate is not None])
    remaining = iter(corrected)
    changes = [
        _change(one, other, estimate, None if estimate is None else next(remaining))
        for (one, other), estimate in zip(pairs, estimates, strict=True)
    ]
    return Comparison(
        old,
        new,
        tuple(changes),
        only_old=tuple(cell for key, cell in before.items() if key not in after),
        only_new=tuple(cell for key, cell in after.items() if key not in before),
        differences=(*_differences(old, new), *_changed_files(pairs)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: what each p-value is worth among so many, in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True)
class _Estimate:
    """The difference of log latencies, half its interval, and the p-value of no difference."""

    difference: float
    half: float
    p: float


def _estimate(old: Cell, new: Cell) -> _Estimate | None:
    if min(len(old.rounds), len(new.rounds)) < LEAST_ROUNDS:
        return None
    before, after = _log_medians(old), _log_medians(new)
    variances = [
        max(statistics.variance(logs), (_ROUNDING_MS / math.exp(statistics.fmean(logs))) ** 2)
        / len(logs)
        for logs in (before, after)
    ]
    # Welch and Satterthwaite's degrees of freedom.
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (len(logs) - 1)
        for variance, logs in zip(variances, (before, after), strict=True)
    )
    error = math.sqrt(sum(variances))
    difference = statistics.fmean(after) - statistics.fmean(before)
    return _Estimate(
        difference,
        half=student.quantile(LEVEL, freedom) * error,
        p=student.two_sided_p(difference / error, freedom),
    )


def _log_medians(cell: Cell) -> list[float]:
    return [math.log(median) for median in round_medians(cell.rounds)]


def _change(old: Cell, new: Cell, estimate: _Estimate | None, p: float | None) -> Change:
    before, after = (math.exp(statistics.fmean(_log_medians(cell))) for cell in (old, new))
    if estimate is None:
        return Change(new, old, before, after, after / before, None, None, None, "can't tell")
    verdict: Verdict = "no clear change"
    if p is not None and p < 1 - LEVEL:
        verdict = "slower" if estimate.difference > 0 else "faster"
    return Change(
        new,
        old,
        before,
        after,
        ratio=after / before,
        low=math.exp(estimate.difference - estimate.half),
        # An interval of two wildly different rounds can exceed every float.
        high=math.exp(min(700.0, estimate.difference + estimate.half)),
        p=p,
        verdict=verdict,
    )


def _differences(old: Session, new: Session) -> list[str]:
    """What makes the sessions no like for like, in words."""
    found = []
    if old.board != new.board:
        found.append(f"device: {old.board}, now {new.board}")
    for name in dict.fromkeys([*old.facts, *new.facts]):
        one, other = old.facts.get(name, "not known"), new.facts.get(name, "not known")
        if one != other:
            found.append(f"{name}: {one}, now {other}")
    for name in dict.fromkeys([*old.environment, *new.environment]):
        one, other = old.environment.get(name, "none"), new.environment.get(name, "none")
        if one != other:
            found.append(f"{name}: {one}, now {other}")
    for name in ("duration_s", "rounds"):
        if old.settings.get(name) != new.settings.get(name):
            found.append(f"{name}: {old.settings.get(name)}, now {new.settings.get(name)}")
    return found


def _changed_files(pairs: Sequence[tuple[Cell, Cell]]) -> list[str]:
    changed = {
        new.name: None
        for old, new in pairs
        if old.model is not None and new.model is not None and old.model.sha256 != new.model.sha256
    }
    return [f"{name} is another file than it was" for name in changed]
