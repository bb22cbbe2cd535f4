"""Sessions as CSV: one line a cell, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from effnet_edge.bench.results import Cell, ModelFacts, Session
from effnet_edge.bench.statistics import Summary

_CELL = ("board", "started", "model", "engine", "threads")
_MODEL: dict[str, Callable[[ModelFacts], object]] = {
    "family": lambda model: model.family,
    "phi": lambda model: model.phi,
    "precision": lambda model: model.precision,
    "height": lambda model: model.resolution[0],
    "width": lambda model: model.resolution[1],
    "parameters": lambda model: model.parameters,
    "macs": lambda model: model.macs,
    "file_bytes": lambda model: model.size,
    "top1_percent": lambda model: model.top1,
    "usual_top1_percent": lambda model: model.usual_top1,
    "faithful": lambda model: model.faithful,
}
_FIGURES: dict[str, Callable[[Summary], object]] = {
    "runs": lambda summary: summary.runs,
    "p50_ms": lambda summary: _ms(summary.p50),
    "p90_ms": lambda summary: _ms(summary.p90),
    "p95_ms": lambda summary: _ms(summary.p95),
    "p99_ms": lambda summary: _ms(summary.p99),
    "min_ms": lambda summary: _ms(summary.min),
    "mean_ms": lambda summary: _ms(summary.mean),
    "max_ms": lambda summary: _ms(summary.max),
    "preprocessing_ms": lambda summary: _ms(summary.preprocessing),
    "inference_ms": lambda summary: _ms(summary.inference),
    "load_ms": lambda summary: _ms(summary.load),
    "peak_bytes": lambda summary: summary.peak_bytes,
}
_ENDS = ("temperature_before_c", "temperature_after_c", "mhz_before", "mhz_after")


def to_csv(sessions: Sequence[Session]) -> str:
    """Return a heading and a line a cell. What isn't known is empty.

    Text that a spreadsheet would run as a formula gets an apostrophe before it (OWASP, "CSV
    Injection").
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((*_CELL, *_MODEL, "rounds", *_FIGURES, *_ENDS, "throttling", "error"))
    for session in sessions:
        for cell in session.cells:
            writer.writerow([_harmless(value) for value in _row(session, cell)])
    return out.getvalue()


def _row(session: Session, cell: Cell) -> list[object]:
    model, summary = cell.model, cell.summary
    return [
        session.board,
        session.started,
        cell.name,
        cell.engine,
        cell.threads,
        *(None if model is None else get(model) for get in _MODEL.values()),
        len(cell.rounds),
        *(None if summary is None else get(summary) for get in _FIGURES.values()),
        *_ends(cell),
        "; ".join(cell.throttling),
        cell.error,
    ]


def _ends(cell: Cell) -> tuple[object, ...]:
    """Temperature and clock before the first round and after the last one."""
    if cell.ends is None:
        return (None,) * len(_ENDS)
    before, after = cell.ends
    return before.temperature_c, after.temperature_c, before.fastest_mhz, after.fastest_mhz


def _ms(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _harmless(value: object) -> object:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value
