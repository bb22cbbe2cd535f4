"""The account of a choice: what could be chosen, what each would cost, and why this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from effnet_edge.errors import EffnetEdgeError
from effnet_edge.selection.limits import Limits

Verdict = Literal["chosen", "fits", "too slow", "too large", "failed", "not measured"]


@dataclass(frozen=True)
class Costs:
    """What was measured: milliseconds and bytes. ``asked_ms`` is at the percentile asked for.

    Of several ``processes`` see `effnet_edge.selection.search.together`; ``runs`` are those of all.
    """

    asked_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    load_ms: float
    peak_bytes: int
    runs: int
    processes: int = 1


@dataclass(frozen=True)
class Prediction:
    """What the cost model expected before anything was measured, with its 90 % interval."""

    ms: float
    low_ms: float
    high_ms: float
    peak_bytes: int


@dataclass(frozen=True)
class Row:
    """One way of running one model. ``reason`` says why it wasn't chosen, for people."""

    model: str
    path: Path
    engine: str
    threads: int
    precision: str
    phi: int
    family: str
    top1: float
    top1_published: bool
    predicted: Prediction
    measured: Costs | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Selection:
    """A choice and its reasons.

    ``rows`` are in order of expected accuracy; ``skipped`` are files of the store that can't be
    chosen, with the reason; ``notes`` what the caller should know. ``measured_now`` counts the
    candidates that were measured for this choice, others' figures being remembered.
    """

    limits: Limits
    rows: tuple[Row, ...]
    skipped: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...]
    device: str
    measured_now: int
    seconds: float
    nearest: bool = False

    @property
    def chosen(self) -> Row | None:
        """The row that was chosen, or None if nothing fits."""
        return next((row for row in self.rows if row.verdict == "chosen"), None)

    def noting(self, note: str) -> Selection:
        """The same with one more note."""
        return replace(self, notes=(*self.notes, note))

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON's types; `from_json` reads it back."""
        data = asdict(self)
        data["rows"] = [{**row, "path": str(row["path"])} for row in data["rows"]]
        data["skipped"] = [[str(path), reason] for path, reason in self.skipped]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Selection:
        """Rebuild from `to_json`. Raises what malformed data brings: LookupError, TypeError, ..."""
        rows = []
        for row in data["rows"]:
            measured = None if row["measured"] is None else Costs(**row["measured"])
            prediction = Prediction(**row["predicted"])
            rows.append(
                Row(
                    **{
                        **row,
                        "path": Path(row["path"]),
                        "predicted": prediction,
                        "measured": measured,
                    }
                )
            )
        return cls(
            limits=Limits(**data["limits"]),
            rows=tuple(rows),
            skipped=tuple((Path(path), str(reason)) for path, reason in data["skipped"]),
            notes=tuple(map(str, data["notes"])),
            device=str(data["device"]),
            measured_now=int(data["measured_now"]),
            seconds=float(data["seconds"]),
            nearest=bool(data["nearest"]),
        )

    @classmethod
    def recalled(cls, answer: dict[str, Any], limits: Limits) -> Selection:
        """The selection of a remembered answer, now that nothing was measured for it."""
        found = cls.from_json(answer["selection"])
        return replace(found, limits=limits, measured_now=0, seconds=0.0)

    def summary(self) -> tuple[Row, ...]:
        """One row a model: the chosen, a measured or the cheapest way of running it."""
        best: dict[str, Row] = {}
        for row in self.rows:
            if row.model not in best or _telling(row) < _telling(best[row.model]):
                best[row.model] = row
        return tuple(best.values())

    def text(self, rows: Sequence[Row] | None = None) -> str:
        """A table for people of ``rows`` (default: `summary`)."""
        from effnet_edge.tables import table

        return table(
            (
                *("", "model", "engine", "threads", "top-1", "predicted"),
                *("p50", "p95", "p99", "memory", "verdict"),
            ),
            [_cells(row) for row in (self.summary() if rows is None else rows)],
        )


class NothingFitsError(EffnetEdgeError):
    """No model of the store is within the limits; ``selection`` has what was tried."""

    def __init__(self, message: str, selection: Selection) -> None:
        super().__init__(message)
        self.selection = selection


def describe(limits: Limits, default: str = "what is free") -> str:
    """The limits in words: ``30 ms at p95 and 200 MB``; ``default`` says whence memory's comes
    where the caller gave none, or too much."""
    parts = []
    if limits.budget_ms is not None:
        parts.append(f"{limits.budget_ms:g} ms at p{limits.percentile:g}")
    if limits.memory_bytes is not None:
        whose = f" ({default})" if limits.device_decides else ""
        parts.append(f"{limits.memory_bytes / 1e6:.0f} MB{whose}")
    return " and ".join(parts) or "no limit"


def nearest_row(selection: Selection) -> Row | None:
    """The measured row that exceeds the limits least, by its worse ratio; the better model of two
    that exceed them alike."""
    measured = [row for row in selection.rows if row.measured is not None]
    return min(measured, key=lambda row: excess(row, selection.limits), default=None)


def excess(row: Row, limits: Limits) -> float:
    """By what factor a measured row exceeds the limits: the worse of time and memory."""
    if row.measured is None:
        raise ValueError("the row was not measured")
    ratios = [1.0]
    if limits.budget_ms is not None:
        ratios.append(row.measured.asked_ms / limits.budget_ms)
    if limits.memory_bytes is not None:
        ratios.append(row.measured.peak_bytes / max(limits.memory_bytes, 1))
    return max(ratios)


def choosing_nearest(selection: Selection, row: Row) -> Selection:
    """The selection with ``row`` chosen although it doesn't fit."""
    chosen = replace(row, verdict="chosen", reason=f"{row.verdict}, but the nearest")
    rows = tuple(chosen if each is row else each for each in selection.rows)
    note = f"nothing keeps within {describe(selection.limits)}: {row.model} is the nearest"
    return replace(selection.noting(note), rows=rows, nearest=True)


def _telling(row: Row) -> tuple[int, float]:
    return (0 if row.verdict == "chosen" else 1 if row.measured else 2), (
        row.measured.asked_ms if row.measured else row.predicted.ms
    )


def _cells(row: Row) -> tuple[str, ...]:
    costs = row.measured
    latencies = () if costs is None else (costs.p50_ms, costs.p95_ms, costs.p99_ms)
    memory = f"~{row.predicted.peak_bytes / 1e6:.0f}"
    if costs is not None:
        memory = f"{costs.peak_bytes / 1e6:.0f}"
    times = (*([f"{ms:.1f}" for ms in latencies] or "---"), f"{memory} MB")
    verdict = (
        row.reason
        if row.verdict in ("chosen", "not measured")
        else (f"{row.verdict}: {row.reason}" if row.reason else row.verdict)
    )
    return (
        "*" if row.verdict == "chosen" else "",
        row.model,
        row.engine,
        str(row.threads),
        f"{row.top1:.1f} %{'' if row.top1_published else '?'}" if row.top1 else "-",
        f"{row.predicted.ms:.1f} ms",
        *times,
        verdict,
    )
