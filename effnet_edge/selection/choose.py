"""From a budget to a model: remember or measure, decide, explain."""

from __future__ import annotations

import time
from collections.abc import Callable

from effnet_edge import device
from effnet_edge.selection.asking import Question, circumstances
from effnet_edge.selection.candidates import candidates, thread_counts, usable_engines
from effnet_edge.selection.cost_model import speed_of
from effnet_edge.selection.estimates import CandidateEstimates
from effnet_edge.selection.explanation import PREDICTED_TOO_LARGE, explain
from effnet_edge.selection.limits import positive
from effnet_edge.selection.search import search
from effnet_edge.selection.selection import (
    NothingFitsError,
    Selection,
    choosing_nearest,
    describe,
    excess,
    nearest_row,
)
from effnet_edge.selection.trials import Trials

Progress = Callable[[str, float], object]
"""Told what is being measured, and how much of that is done, 0 to 1."""

SECONDS_LIMIT = 120.0
"""After this no further candidate is measured, and the best of those measured is taken."""


def choose(
    question: Question,
    *,
    strict: bool = True,
    refresh: bool = False,
    seconds_limit: float = SECONDS_LIMIT,
    progress: Progress | None = None,
) -> Selection:
    """Choose the most accurate model whose measured costs keep within the question's limits.

    The answer is remembered. Raises NothingFitsError if none does, unless ``strict`` is false:
    then the nearest is chosen, and a note says so. See `EdgeClassifier.auto` for the other errors.
    """
    seconds_limit = positive("seconds_limit", seconds_limit, "seconds, such as 60")
    answer = None if refresh else question.recall()
    if answer is not None:
        return Selection.recalled(answer, question.limits)
    key = question.key()
    selection, lasting = _measured(
        question,
        refresh=refresh,
        seconds_limit=seconds_limit,
        progress=progress or (lambda step, part: None),
    )
    if selection.chosen is None:
        return _nearest_or_error(selection, strict=strict)
    if question.key() != key:
        selection = selection.noting(
            "the device or the store changed meanwhile, so this choice isn't remembered"
        )
    elif lasting:
        _remember(question, key, selection)
    if question.cache.problem is not None:
        selection = selection.noting(
            f"what was measured can't be remembered: {question.cache.problem}"
        )
    return selection


def _remember(question: Question, key: dict[str, object], selection: Selection) -> None:
    chosen = selection.chosen
    if chosen is None or chosen.measured is None:
        return
    question.remember(
        key,
        {
            "path": str(chosen.path),
            "engine": chosen.engine,
            "threads": chosen.threads,
            "peak_bytes": chosen.measured.peak_bytes,
            "memory_bytes": selection.limits.memory_bytes,
            "memory_decided": any(
                row.verdict == "too large" or row.reason == PREDICTED_TOO_LARGE
                for row in selection.rows
            ),
            "selection": selection.to_json(),
        },
    )


def _measured(
    question: Question, *, refresh: bool, seconds_limit: float, progress: Progress
) -> tuple[Selection, bool]:
    """Measure what has to be measured, and decide; also whether the decision will hold.

    It won't if time was up or the device slowed down.
    """
    started = time.monotonic()
    limits, threads = question.limits, question.threads
    counts = thread_counts(device.default_threads()) if threads is None else (threads,)
    ways, skipped = candidates(
        question.store, usable_engines(question.engine), counts, question.models
    )
    estimates = CandidateEstimates(ways, speed_of(device.inspect()))
    predictions = estimates.predictions()
    now = circumstances()
    with question.cache.measuring(
        now["device"], lambda: progress("waiting for another process that measures", 0)
    ):
        trials = Trials(limits, question.cache, now, progress, seconds_limit, refresh=refresh)
        outcomes = search(
            ways,
            limits,
            estimates,
            lambda index, so_far: trials.measure(ways[index], so_far),
            trials.time_is_up,
        )
    cut_short = trials.time_is_up()
    notes = [f"{each.path} is skipped: {each.reason}" for each in skipped]
    if cut_short:
        notes.append(f"measuring was ended after {seconds_limit:g} s; a better one may fit")
    if trials.throttled:
        causes = ", ".join(device.state().throttled_now) or "for a while"
        notes.append(f"the device was slowed down ({causes}); without that it may afford more")
    selection = Selection(
        limits=limits,
        rows=explain(ways, limits, outcomes, predictions, estimates, cut_short=cut_short),
        skipped=tuple((each.path, each.reason) for each in skipped),
        notes=tuple(notes),
        device=now["device"],
        measured_now=trials.count,
        seconds=round(time.monotonic() - started, 3),
    )
    return selection, not (cut_short or trials.throttled)


def _nearest_or_error(selection: Selection, *, strict: bool) -> Selection:
    near = nearest_row(selection)
    hint = ""
    if near is not None:
        hint = (
            f"\nthe nearest is {near.model} on {near.engine}, "
            f"{excess(near, selection.limits):.2g} times too much: allow more (--budget-ms, "
            "--memory-mb), convert a smaller model or to int8, or take the nearest "
            "(strict=False, --nearest)"
        )
    if strict or near is None:
        raise NothingFitsError(
            f"no model of the store keeps within {describe(selection.limits)}:\n"
            + "\n".join([selection.text(), *(f"note: {note}" for note in selection.notes)])
            + hint,
            selection,
        )
    return choosing_nearest(selection, near)
