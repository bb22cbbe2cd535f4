"""What ``effnet-edge bench`` prints: a table of cells, what to know about them, a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from effnet_edge.bench import words
from effnet_edge.bench.comparison import Comparison
from effnet_edge.bench.results import Cell, Session
from effnet_edge.tables import table

_HEADER = ("model", "engine", "thr", "p50", "p90", "p95", "p99", "prepare", "infer", "load", "MB")


def print_session(session: Session) -> None:
    """Print one session: its device, the table, remarks, and what could not be measured."""
    print(f"{session.board}, {session.started[:10]}, {session.tool}")
    known = [session.facts.get(name) for name in ("memory", "governor", "system")]
    print(f"{'; '.join(fact for fact in known if fact)}\n")
    if session.measured:
        _print_table(session)
        print()
    for warning in words.warnings(session):
        print(warning)
    if session.sustained_seconds is not None:
        _print_slowing(session)
    failed = [cell for cell in session.cells if not cell.rounds]
    if failed:
        print("not measured:")
        for cell in failed:
            why = " ".join((cell.error or "interrupted before its turn").split())
            print(f"  {_name(cell)}: {why}")
    if not session.complete:
        print("interrupted: rounds or cells are missing")


def print_comparison(comparison: Comparison) -> None:
    """Print what changed since an older session."""
    print(f"\nsince {comparison.old.started} ({comparison.old.tool}):\n")
    rows = [
        [
            change.cell.name,
            change.cell.engine,
            str(change.cell.threads),
            words.ms(change.old_ms),
            words.ms(change.new_ms),
            words.percent(change.ratio),
            words.interval(change),
            change.verdict,
        ]
        for change in comparison.changes
    ]
    header = ("model", "engine", "thr", "then", "now", "change", "95 % interval", "verdict")
    print(table(header, rows))
    print(f"\n{words.verdicts(comparison)} (at 5 %, corrected for the number of cells)")
    if comparison.untold:
        print(
            "one round tells nothing of chance: then and now, measure with --rounds 3 or more, and "
            "without --duration"
        )
    for text in comparison.differences:
        print(f"not the same as then: {text}")
    for when, cells in (("then", comparison.only_old), ("now", comparison.only_new)):
        if cells:
            print(f"only {when}: {'; '.join(map(words.title, cells))}")


def _print_table(session: Session) -> None:
    optional = words.optional_columns([session])
    rows = [
        [*_row(session, cell), *(words.OPTIONAL[name](session, cell) for name in optional)]
        for cell in session.measured
    ]
    print(table((*_HEADER, *optional), rows))
    print("\nmilliseconds, MB of memory; * no other is both faster and more accurate")


def _row(session: Session, cell: Cell) -> list[str]:
    summary = cell.summary
    assert summary is not None  # noqa: S101 - it was measured
    return [
        f"{cell.name} *" if cell.key in session.front else cell.name,
        cell.engine,
        str(cell.threads),
        words.ms(summary.p50),
        words.ms(summary.p90),
        words.ms(summary.p95),
        words.ms(summary.p99),
        words.ms(summary.preprocessing),
        words.ms(summary.inference),
        words.ms(summary.load),
        f"{summary.peak_bytes / 1e6:.0f}",
    ]


def _print_slowing(session: Session) -> None:
    from effnet_edge.bench.sustained import slowing

    for cell in session.measured:
        change = slowing(cell.rounds[0])
        print(
            f"{_name(cell)}: first {change.seconds:.2g} s {words.ms(change.first)} ms, "
            f"last {change.seconds:.2g} s {words.ms(change.last)} ms "
            f"({words.percent(change.ratio)})"
        )


def _name(cell: Cell) -> str:
    parts: Sequence[str] = [cell.name]
    if cell.engine:
        parts = [*parts, cell.engine]
    if cell.threads is not None:
        parts = [*parts, f"{cell.threads} thr."]
    return ", ".join(parts)
