"""Why each candidate was chosen or not, in words."""

from __future__ import annotations

from collections.abc import Sequence

from effnet_edge.metadata import ModelMetadata
from effnet_edge.ranking import expected_top1, is_faithful
from effnet_edge.selection.candidates import Candidate
from effnet_edge.selection.estimates import CandidateEstimates
from effnet_edge.selection.limits import Limits
from effnet_edge.selection.search import Outcome, best, fits
from effnet_edge.selection.selection import Prediction, Row, Verdict

PREDICTED_TOO_LARGE = "predicted too large"


def explain(
    candidates: Sequence[Candidate],
    limits: Limits,
    outcomes: dict[int, Outcome],
    predictions: Sequence[Prediction],
    estimates: CandidateEstimates,
    *,
    cut_short: bool,
) -> tuple[Row, ...]:
    """A row for each candidate; ``predictions`` are those before anything was measured.

    ``cut_short`` says that the search ended because time was up.
    """
    chosen = best(candidates, limits, outcomes)
    rank = None if chosen is None else candidates[chosen].rank
    too_large = [False] * len(candidates)
    if limits.memory_bytes is not None:
        too_large = [chance < 0.5 for chance in estimates.memory_chances(limits.memory_bytes)]
    rows = []
    for index, candidate in enumerate(candidates):
        outcome = outcomes.get(index)
        verdict: Verdict
        if index == chosen:
            verdict, reason = "chosen", _chosen(candidate.metadata)
        elif outcome is not None:
            verdict, reason = _measured(outcome, limits)
        else:
            verdict = "not measured"
            reason = _passed_over(candidate, rank, too_large[index], cut_short=cut_short)
        rows.append(_row(candidate, predictions[index], outcome, verdict, reason))
    return tuple(rows)


def _row(
    candidate: Candidate,
    predicted: Prediction,
    outcome: Outcome | None,
    verdict: Verdict,
    reason: str,
) -> Row:
    metadata = candidate.metadata
    return Row(
        model=metadata.name,
        path=candidate.path,
        engine=candidate.engine,
        threads=candidate.threads,
        precision=metadata.precision,
        phi=metadata.phi,
        family=metadata.family,
        top1=expected_top1(metadata),
        top1_published=metadata.source.top1 is not None,
        predicted=predicted,
        measured=None if outcome is None else outcome.costs,
        verdict=verdict,
        reason=reason,
    )


def _chosen(metadata: ModelMetadata) -> str:
    if is_faithful(metadata):
        return "chosen"
    return "chosen, though it follows its float network badly"


def _measured(outcome: Outcome, limits: Limits) -> tuple[Verdict, str]:
    if outcome.costs is None:
        if outcome.failure == "memory":
            return "too large", outcome.message
        return ("too slow" if outcome.failure == "timeout" else "failed"), outcome.message
    if fits(outcome, limits):
        return "fits", "but is less accurate, or slower"
    if limits.memory_bytes is not None and outcome.costs.peak_bytes > limits.memory_bytes:
        return "too large", ""
    return "too slow", ""


def _passed_over(
    candidate: Candidate, chosen: int | None, too_large: bool, *, cut_short: bool
) -> str:
    if chosen is not None and candidate.rank > chosen:
        if is_faithful(candidate.metadata):
            return "less accurate"
        return "follows its float network badly"
    if chosen is not None and candidate.rank == chosen:
        return "the same model, run otherwise"
    if too_large:
        return PREDICTED_TOO_LARGE
    return "not reached in time" if cut_short else "predicted too slow"
