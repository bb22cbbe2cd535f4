"""The cost model's view of candidates: what the search asks of it."""

from __future__ import annotations

from collections.abc import Sequence

from effnet_edge.selection.candidates import Candidate
from effnet_edge.selection.cost_model import Config, LatencyModel, MemoryModel, Speed
from effnet_edge.selection.limits import Limits
from effnet_edge.selection.search import Outcome
from effnet_edge.selection.selection import Prediction

_MS_OF_TIMEOUT = 20_000.0
"""A model that didn't finish one run in time is taken to need this long."""
_BEYOND = 1.2
"""How much more than its memory ceiling a model that broke it is taken to need."""


class CandidateEstimates:
    """What each of ``candidates`` is expected to cost on a device of this ``speed``."""

    def __init__(self, candidates: Sequence[Candidate], speed: Speed) -> None:
        self._configs = [config(candidate) for candidate in candidates]
        self._latency = LatencyModel(speed)
        self._memory = MemoryModel()

    def chances(self, limits: Limits) -> list[float]:
        """For each candidate the probability that it keeps within the limits."""
        chances = [1.0] * len(self._configs)
        for model, limit in (
            (self._latency, limits.budget_ms),
            (self._memory, limits.memory_bytes),
        ):
            if limit is not None:
                for index, estimate in enumerate(model.estimates(self._configs)):
                    chances[index] *= estimate.probability_at_most(limit)
        return chances

    def memory_chances(self, limit: int) -> list[float]:
        """For each candidate the probability that its memory keeps below ``limit`` bytes."""
        return [
            estimate.probability_at_most(limit)
            for estimate in self._memory.estimates(self._configs)
        ]

    def milliseconds(self) -> list[float]:
        """For each candidate the expected latency."""
        return [estimate.median for estimate in self._latency.estimates(self._configs)]

    def predictions(self) -> list[Prediction]:
        """For each candidate what is expected, for people to read."""
        found = []
        for latency, memory in zip(
            self._latency.estimates(self._configs),
            self._memory.estimates(self._configs),
            strict=True,
        ):
            low, high = latency.interval()
            found.append(Prediction(latency.median, low, high, round(memory.median)))
        return found

    def learn(self, index: int, outcome: Outcome, limits: Limits) -> None:
        """Take a measured candidate into account."""
        known = self._configs[index]
        if outcome.costs is not None:
            self._latency.observe(known, outcome.costs.asked_ms)
            self._memory.observe(known, outcome.costs.peak_bytes)
        elif outcome.failure == "memory" and limits.memory_bytes is not None:
            self._memory.observe(known, max(1, limits.memory_bytes) * _BEYOND)
        elif outcome.failure == "timeout":
            self._latency.observe(known, _MS_OF_TIMEOUT)


def config(candidate: Candidate) -> Config:
    """What the cost model has to know of a candidate."""
    metadata = candidate.metadata
    height, width = metadata.recipe.resolution
    return Config(
        family="lite" if metadata.family == "lite" else "standard",
        phi=metadata.phi,
        resolution=(height, width),
        precision=metadata.precision,
        engine=candidate.engine,
        threads=candidate.threads,
        macs=metadata.macs,
        parameters=metadata.parameters,
    )
