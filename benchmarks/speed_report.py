"""What `speed.py` found, in figures and in words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from speed_rounds import Record

from effnet_edge.fidelity import fidelity
from effnet_edge.tables import table

EXACT = 150.0
"""Decibels that stand for equal logits: float32 can't hold more."""
WRONG = -EXACT
"""And those that stand for logits of another shape, or not finite."""


@dataclass(frozen=True)
class Spread:
    """The median and what 80 % lie between."""

    median: float
    low: float
    high: float

    def text(self) -> str:
        """``0.65 (0.63-0.67)``."""
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    low, median, high = (float(value) for value in np.percentile(values, (10, 50, 90)))
    return Spread(median, low, high)


@dataclass(frozen=True)
class Row:
    """One contestant's figures. Times are milliseconds.

    ``ms`` is over all runs; ``ratio`` over the rounds, of the contestant's median to the
    reference's in the same round. ``first_ms`` is from the imports' end to the first logits.
    ``snr_db`` compares these with the float model's: an engine that computes something else
    isn't fast.
    """

    name: str
    isa: str
    versions: dict[str, str]
    ms: Spread
    ratio: Spread | None
    import_ms: float
    load_ms: float
    first_ms: float
    imported_bytes: int
    peak_bytes: int
    snr_db: float | None
    note: str
    round_medians_ms: list[float]


def rows(
    records: Sequence[Record], reference: str, logits: NDArray[np.float32] | None
) -> list[Row]:
    """Of all that were measured, fastest first; ``logits`` are the float model's, [1, classes]."""
    measured = [record for record in records if record.rounds]
    base = next((each.medians for each in measured if each.contestant.name == reference), None)
    found = [_row(record, base, logits) for record in measured]
    return sorted(found, key=lambda row: row.ms.median)


def _row(record: Record, base: list[float] | None, logits: NDArray[np.float32] | None) -> Row:
    starts = record.starts[1:] or record.starts

    def middle(name: str) -> float:
        return statistics.median(float(start[name]) for start in starts)

    return Row(
        name=record.contestant.name,
        isa=record.contestant.isa,
        versions=starts[0]["versions"],
        ms=spread([ms for burst in record.rounds for ms in burst]),
        ratio=None
        if base is None
        else spread([own / other for own, other in zip(record.medians, base, strict=False)]),
        import_ms=middle("import_ms"),
        load_ms=middle("load_ms"),
        first_ms=statistics.median(start["load_ms"] + start["first_ms"] for start in starts),
        imported_bytes=int(middle("imported_bytes")),
        peak_bytes=int(middle("peak_bytes")),
        snr_db=None if logits is None else _snr(logits, starts[0]["logits"]),
        note=starts[0]["note"],
        round_medians_ms=[round(ms, 4) for ms in record.medians],
    )


def _snr(reference: NDArray[np.float32], logits: Any) -> float:
    found = np.asarray(logits, np.float32)[None]
    if found.shape != reference.shape or not np.isfinite(found).all():
        return WRONG
    decibels: float = fidelity(reference, found).snr_db
    return min(decibels, EXACT)


def text(found: Sequence[Row], reference: str) -> str:
    """The rows as a table."""
    held = any(row.isa for row in found)
    header = ["", *["held to"] * held, "ms", "10-90 %", f"of {reference} (10-90 %)"]
    header += ["first ms", "load ms", "import ms", "peak MB", "imports MB", "SNR dB"]
    cells = [
        [
            row.name,
            *[row.isa] * held,
            f"{row.ms.median:.2f}",
            f"{row.ms.low:.2f}-{row.ms.high:.2f}",
            "-" if row.ratio is None else row.ratio.text(),
            f"{row.first_ms:.0f}",
            f"{row.load_ms:.0f}",
            f"{row.import_ms:.0f}",
            f"{row.peak_bytes / 1e6:.0f}",
            f"{row.imported_bytes / 1e6:.0f}",
            "-" if row.snr_db is None else f"{row.snr_db:.1f}",
        ]
        for row in found
    ]
    notes = [f"  {row.name}: {row.note}" for row in found if row.note]
    return "\n".join((table(header, cells, indent="  "), *notes))
