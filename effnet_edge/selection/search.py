"""The search for the most accurate model that fits, measuring as little as possible.

A cost model predicts what every candidate costs, with an honest uncertainty, and learns from each
measurement. The search measures where the prediction leaves open whether a better model fits, and
stops where it doesn't.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from effnet_edge.measurement import Reason
from effnet_edge.selection.candidates import Candidate
from effnet_edge.selection.limits import Limits
from effnet_edge.selection.selection import Costs

LIKELY = 0.5
"""A better model is tried at once if its chance to fit is this good."""
WORTH_A_TRY = 0.05
"""With a model that fits in hand, better ones are tried down to this chance."""
LAST_RESORT = 0.005
"""While nothing fits, models are tried down to this chance, and the smallest in any case."""
CLOSE = (0.88, 1.08)
"""A latency between these parts of the budget is measured again, in other processes ..."""
MOST_PROCESSES = 3
"""... up to this many: see `together`."""


@dataclass(frozen=True)
class Outcome:
    """What measuring a candidate brought: its costs, or why it could not be measured."""

    costs: Costs | None
    failure: Reason | None = None
    message: str = ""


class Estimates(Protocol):
    """What the search asks of a cost model; `cost_model` has it for this package."""

    def chances(self, limits: Limits) -> Sequence[float]:
        """For each candidate the probability that it keeps within the limits."""

    def milliseconds(self) -> Sequence[float]:
        """For each candidate the expected latency."""

    def learn(self, index: int, outcome: Outcome, limits: Limits) -> None:
        """Take a measured candidate into account."""


def search(
    candidates: Sequence[Candidate],
    limits: Limits,
    estimates: Estimates,
    measure: Callable[[int, Outcome | None], Outcome],
    enough: Callable[[], bool],
) -> dict[int, Outcome]:
    """Measure candidates until the most accurate that fits is known; return the outcomes by index.

    ``measure`` gets a candidate's index and, if it is to be measured once more, the outcome so far;
    it returns the outcome of all. ``enough`` is asked before each but the first whether time is up.
    """
    outcomes: dict[int, Outcome] = {}
    while not outcomes or not enough():
        index = _next(candidates, limits, estimates, outcomes)
        if index is None:
            break
        outcome = measure(index, None)
        while _is_close(outcome, limits) and not enough():
            before, outcome = outcome, measure(index, outcome)
            if outcome == before:  # the further process told nothing
                break
        outcomes[index] = outcome
        estimates.learn(index, outcome, limits)
    return outcomes


def together(values: Sequence[float]) -> float:
    """What several processes found, as one figure: of two the larger, else the median.

    In simulations over recorded costs with a scatter of 4 to 7 % from one process to the next, this
    chose better than the largest in any case, which calls too much too slow, and than the
    median in any case.
    """
    return statistics.median_high(values)


def fits(outcome: Outcome, limits: Limits) -> bool:
    """Whether a candidate was measured and keeps within the limits."""
    costs = outcome.costs
    if costs is None:
        return False
    fast = limits.budget_ms is None or costs.asked_ms <= limits.budget_ms
    return fast and (limits.memory_bytes is None or costs.peak_bytes <= limits.memory_bytes)


def best(
    candidates: Sequence[Candidate], limits: Limits, outcomes: dict[int, Outcome]
) -> int | None:
    """The measured candidate that fits with the best rank, the faster one of equals."""
    fitting = [index for index, outcome in outcomes.items() if fits(outcome, limits)]

    def order(index: int) -> tuple[int, float]:
        costs = outcomes[index].costs
        return candidates[index].rank, costs.asked_ms if costs is not None else 0.0

    return min(fitting, key=order, default=None)


def _next(
    candidates: Sequence[Candidate],
    limits: Limits,
    estimates: Estimates,
    outcomes: dict[int, Outcome],
) -> int | None:
    """The candidate to measure now, or None when the answer is known well enough."""
    in_hand = best(candidates, limits, outcomes)
    rank_in_hand = None if in_hand is None else candidates[in_hand].rank
    chances, milliseconds = estimates.chances(limits), estimates.milliseconds()
    open_ways = [
        index
        for index, candidate in enumerate(candidates)
        if index not in outcomes and (rank_in_hand is None or candidate.rank < rank_in_hand)
    ]
    # Of one model the way that fits most likely, and of equals the fastest.
    by_rank: dict[int, int] = {}
    for index in open_ways:
        rank = candidates[index].rank
        rival = by_rank.get(rank)
        quality = (-round(chances[index], 2), milliseconds[index])
        if rival is None or quality < (-round(chances[rival], 2), milliseconds[rival]):
            by_rank[rank] = index
    contenders = [by_rank[rank] for rank in sorted(by_rank)]
    for index in contenders:
        if chances[index] >= LIKELY:
            return index
    likeliest = max(contenders, key=lambda index: chances[index], default=None)
    if likeliest is None:
        return None
    if in_hand is not None:
        return likeliest if chances[likeliest] >= WORTH_A_TRY else None
    if chances[likeliest] >= LAST_RESORT:
        return likeliest
    smallest = min(
        range(len(candidates)), key=lambda index: (_size(candidates[index]), milliseconds[index])
    )
    return None if smallest in outcomes else smallest


def _size(candidate: Candidate) -> int:
    """What says, before any measurement, that no other model takes less time and memory."""
    metadata = candidate.metadata
    return metadata.macs * {"int8": 1, "fp16": 2}.get(metadata.precision, 4)


def _is_close(outcome: Outcome, limits: Limits) -> bool:
    costs, budget_ms = outcome.costs, limits.budget_ms
    if costs is None or budget_ms is None or costs.processes >= MOST_PROCESSES:
        return False
    least, most = CLOSE
    return least <= costs.asked_ms / budget_ms < most
