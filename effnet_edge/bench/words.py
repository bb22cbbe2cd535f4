"""What the terminal and the page say alike: figures as text, and remarks on a cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effnet_edge.bench.charts.drawing import milliseconds
from effnet_edge.bench.comparison import Change, Comparison
from effnet_edge.bench.results import Cell, Session
from effnet_edge.bench.sustained import slowing
from effnet_edge.tables import counted

UNSTEADY = 0.1
"""Rounds whose medians lie further apart than this part of p50 deserve a remark."""
SLOWED = 1.05
"""A sustained run that ends this much slower deserves one too."""


def title(cell: Cell) -> str:
    """A cell in running text: ``flowers on litert, 4 threads``."""
    threads = "" if cell.threads is None else f", {counted(cell.threads, 'thread')}"
    return f"{cell.name} on {cell.engine}{threads}"


def ms(value: float | None) -> str:
    """A latency, or ``-`` where the runs are too few to tell."""
    return "-" if value is None else milliseconds(value)


def top1(cell: Cell) -> str:
    """The accuracy in percent; with a tilde if it is that of other weights of the network."""
    if cell.accuracy is None:
        return "-"
    return f"{'~' * cell.accuracy_is_borrowed}{cell.accuracy:.1f}"


def degrees(cell: Cell) -> str:
    """Temperature before and after, in degrees Celsius: ``48-61``; ``-`` if it isn't known."""
    if cell.ends is None:
        return "-"
    before, after = cell.ends
    return _range(before.temperature_c, after.temperature_c)


def clocks(cell: Cell) -> str:
    """The fastest core's clock before and after, in MHz; ``-`` if it isn't known."""
    if cell.ends is None:
        return "-"
    before, after = cell.ends
    return _range(before.fastest_mhz, after.fastest_mhz)


def _range(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "-"
    first, last = f"{before:.0f}", f"{after:.0f}"
    return first if first == last else f"{first}-{last}"


def remarks(cell: Cell, *, sustained: bool) -> list[str]:
    """What a reader should know before trusting the figures of a cell."""
    found = [f"throttled: {', '.join(cell.throttling)}"] if cell.throttling else []
    if cell.rounds and cell.error is not None:
        found.append(f"a later round failed: {cell.error}")
    if cell.model is not None and not cell.model.faithful:
        found.append("follows its float network badly")
    if _disagreement(cell) > UNSTEADY:
        found.append(f"rounds differ by {100 * _disagreement(cell):.0f} %")
    if sustained and cell.rounds:
        change = slowing(cell.rounds[0])
        if change.ratio > SLOWED:
            found.append(f"{100 * (change.ratio - 1):.0f} % slower at the end")
    return found


REMARKS = "remarks"
OPTIONAL: dict[str, Callable[[Session, Cell], str]] = {
    "\u00b0C": lambda session, cell: degrees(cell),
    "MHz": lambda session, cell: clocks(cell),
    REMARKS: lambda session, cell: "; ".join(
        remarks(cell, sustained=session.sustained_seconds is not None)
    ),
}
"""Columns of a table of cells, by their heading, that not every device fills."""


def optional_columns(sessions: Sequence[Session]) -> list[str]:
    """The headings of `OPTIONAL` that have something to say of any measured cell."""
    return [
        name
        for name, get in OPTIONAL.items()
        if any(
            get(session, cell) not in ("", "-") for session in sessions for cell in session.measured
        )
    ]


def warnings(session: Session) -> list[str]:
    """What casts doubt on a whole session, in sentences."""
    found = []
    measured = len(session.measured)
    slowed = [cell for cell in session.cells if cell.throttling]
    if slowed:
        why = ", ".join(dict.fromkeys(word for cell in slowed for word in cell.throttling))
        found.append(
            f"The processor was slowed down during {len(slowed)} of {measured} cells ({why}): "
            "cooled or powered better, the device is faster than this."
        )
    unsteady = sum(_disagreement(cell) > UNSTEADY for cell in session.measured)
    if unsteady:
        found.append(
            f"The rounds of {unsteady} of {measured} cells differ by more than "
            f"{100 * UNSTEADY:.0f} %: the device had something else to do, or changed its clock."
        )
    return found


def _disagreement(cell: Cell) -> float:
    return 0.0 if cell.summary is None else cell.summary.disagreement or 0.0


def interval(change: Change) -> str:
    """A change's 95 % interval in percent, or ``-``."""
    if change.low is None or change.high is None:
        return "-"
    return f"{percent(change.low)} to {percent(change.high)}"


def percent(ratio: float) -> str:
    """A ratio as a change: ``+8.3 %``; as a factor where percents say little."""
    if ratio >= 10:
        return f"{ratio:.3g} times"
    # Adding 0 makes 0 of -0.
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f} %"


def verdicts(comparison: Comparison) -> str:
    """How many cells became what: ``1 slower, 7 no clear change``."""
    counts = {
        verdict: sum(change.verdict == verdict for change in comparison.changes)
        for verdict in ("slower", "faster", "no clear change", "can't tell")
    }
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
