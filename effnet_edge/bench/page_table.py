"""The tables of the page: every cell with its figures, and every change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effnet_edge.bench import words
from effnet_edge.bench.charts.drawing import safe
from effnet_edge.bench.comparison import Comparison
from effnet_edge.bench.results import Cell, Session
from effnet_edge.bench.statistics import Summary

_FIGURES: dict[str, Callable[[Summary], float | None]] = {
    "p50": lambda summary: summary.p50,
    "p90": lambda summary: summary.p90,
    "p95": lambda summary: summary.p95,
    "p99": lambda summary: summary.p99,
    "min": lambda summary: summary.min,
    "mean": lambda summary: summary.mean,
    "prepare": lambda summary: summary.preprocessing,
    "infer": lambda summary: summary.inference,
    "load": lambda summary: summary.load,
}


def cell_table(sessions: Sequence[Session]) -> str:
    """Every cell, in the order in which it was asked for; what failed says why."""
    boards = len(sessions) > 1
    heads = [_head("model", left=True)]
    if boards:
        heads.append(_head("board", left=True))
    heads += [_head("engine", left=True), _head("thr.")]
    heads += [_head(name) for name in (*_FIGURES, "MB", "top-1 %")]
    optional = words.optional_columns(sessions)
    heads += [_head(name, left=name == words.REMARKS) for name in optional]
    rows = []
    for session in sessions:
        rows += [
            _row(session, cell, boards=boards, optional=optional, columns=len(heads))
            for cell in session.cells
        ]
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="All figures">\n'
        '<table class="sortable cells"><caption>All times in ms. A dot marks the Pareto front; '
        "MB is the growth of memory; \u00b0C and MHz are before and after.</caption>\n"
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>"
        "</table></div>"
    )


def change_table(comparison: Comparison) -> str:
    """Every change with its interval, and the cells that only one session has."""
    heads = [_head("model", left=True), _head("engine", left=True), _head("threads")]
    heads += [_head(name) for name in ("then, ms", "now, ms", "change", "95 % interval", "p")]
    heads.append(_head("verdict", left=True))
    rows = []
    for change in comparison.changes:
        cell = change.cell
        kind = change.verdict if change.verdict in ("slower", "faster") else "soft"
        rows.append(
            f'<tr><th scope="row">{safe(cell.title)}</th><td class="t">{safe(cell.engine)}</td>'
            + _number(cell.threads, str(cell.threads or "-"))
            + _number(change.old_ms, words.ms(change.old_ms))
            + _number(change.new_ms, words.ms(change.new_ms))
            + _number(change.ratio, words.percent(change.ratio))
            + f"<td>{words.interval(change)}</td>"
            + _number(change.p, "-" if change.p is None else f"{change.p:.2g}")
            + f'<td class="t {kind}">{safe(change.verdict)}</td></tr>'
        )
    left = [
        f"<p class='soft'>Only {when}: {safe('; '.join(map(words.title, cells)))}.</p>"
        for when, cells in (("then", comparison.only_old), ("now", comparison.only_new))
        if cells
    ]
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Changes">\n'
        f'<table class="sortable"><thead><tr>{"".join(heads)}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
        + "".join(left)
    )


def _row(
    session: Session, cell: Cell, *, boards: bool, optional: Sequence[str], columns: int
) -> str:
    best = cell.key in session.front
    opening = f'<tr{" class=best" * best}><th scope="row">{safe(cell.title)}</th>'
    if boards:
        opening += f'<td class="t">{safe(session.board)}</td>'
    opening += f'<td class="t">{safe(cell.engine or "-")}</td>'
    opening += _number(cell.threads, str(cell.threads or "-"))
    summary = cell.summary
    if summary is None:
        why = cell.error or "not measured"
        return f'{opening}<td class="why" colspan="{columns - 3 - boards}">{safe(why)}</td></tr>'
    figures = {name: get(summary) for name, get in _FIGURES.items()}
    return (
        opening
        + "".join(_number(value, words.ms(value)) for value in figures.values())
        + _number(summary.peak_bytes, f"{summary.peak_bytes / 1e6:.1f}")
        + _number(cell.accuracy, words.top1(cell))
        + "".join(_optional(name, session, cell) for name in optional)
        + "</tr>"
    )


def _optional(name: str, session: Session, cell: Cell) -> str:
    kind = " class=remark" if name == words.REMARKS else ""
    return f"<td{kind}>{safe(words.OPTIONAL[name](session, cell))}</td>"


def _head(name: str, *, left: bool = False) -> str:
    return f'<th scope="col"{" class=t" * left}>{safe(name)}</th>'


def _number(value: float | None, shown: str) -> str:
    sorted_by = "" if value is None else f' data-v="{value:.9g}"'
    return f"<td{sorted_by}>{shown}</td>"
