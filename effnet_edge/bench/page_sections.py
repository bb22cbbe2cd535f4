"""The parts of the page: what fits, the charts with their captions, the devices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from effnet_edge.bench import words
from effnet_edge.bench.charts.accuracy import FRAME_RATES, accuracy_chart, plotted
from effnet_edge.bench.charts.changes import change_chart
from effnet_edge.bench.charts.distributions import distribution_chart
from effnet_edge.bench.charts.drawing import (
    COLOURS,
    GREY,
    both_widths,
    mark,
    milliseconds,
    safe,
    svg,
)
from effnet_edge.bench.charts.heat import heat_chart
from effnet_edge.bench.comparison import Comparison
from effnet_edge.bench.page_table import change_table
from effnet_edge.bench.results import Cell, Session
from effnet_edge.bench.sustained import slowing
from effnet_edge.engines import ENGINES


def facts(session: Session) -> str:
    """The device and the software of a session."""
    pairs = {name: text for name, text in session.facts.items() if text != session.board}
    pairs["software"] = ", ".join(
        f"{name} {version}" for name, version in session.environment.items()
    )
    return (
        '<dl class="facts">\n'
        + "".join(
            f"<div><dt>{safe(name)}</dt><dd>{safe(text)}</dd></div>\n"
            for name, text in pairs.items()
        )
        + "</dl>\n"
    )


def fits(sessions: Sequence[Session]) -> Iterable[str]:
    """The best model for each of a few frame rates: what the reader came for."""
    if not any(plotted(session) for session in sessions):
        return
    yield "<h2>What fits</h2>"
    yield (
        '<p class="soft">The most accurate model that keeps up with so many frames a second in '
        "95 % of its predictions, from decoded image to labels.</p>"
    )
    for session in sessions:
        if len(sessions) > 1:
            yield f"<h3>{safe(session.board)}</h3>"
        yield '<ul class="fits">'
        for rate in FRAME_RATES:
            yield _fit(session, rate)
        yield "</ul>"


def _fit(session: Session, rate: int) -> str:
    budget = 1000 / rate
    best: tuple[float, float, Cell] | None = None
    for cell in plotted(session):
        assert cell.summary is not None  # noqa: S101 - it is plotted
        worst, top1 = cell.summary.p95_or_worse, cell.accuracy or 0.0
        if worst <= budget and (best is None or (top1, -worst) > best[:2]):
            best = top1, -worst, cell
    head = f'<li><span class="budget">{rate} fps \u00b7 {milliseconds(budget)} ms</span>'
    if best is None:
        return f'{head}<span class="pick">nothing</span>{_nearest(session)}</li>'
    _, worst, cell = best
    threads = f"{cell.threads} thread{'s' if cell.threads != 1 else ''}"
    return (
        f'{head}<span class="pick">{safe(cell.title)}</span>'
        f'<span class="how">{words.top1(cell)} % top-1, '
        f"{milliseconds(-worst)} ms at p95<br>{safe(cell.engine)}, {threads}</span></li>"
    )


def _nearest(session: Session) -> str:
    """The fastest there is, where nothing fits."""
    cells = [(cell.summary.p95_or_worse, cell) for cell in plotted(session) if cell.summary]
    if not cells:
        return ""
    worst, cell = min(cells, key=lambda pair: pair[0])
    return (
        f'<span class="how">the fastest is {safe(cell.title)}, {milliseconds(worst)} ms at p95'
        "</span>"
    )


def accuracy(sessions: Sequence[Session]) -> Iterable[str]:
    """The chart of accuracy against latency; nothing where no cell has an accuracy."""
    chosen = [plotted(session) for session in sessions]
    if not any(chosen):
        return
    colours = [
        [_colour(sessions, board, cell) for cell in cells] for board, cells in enumerate(chosen)
    ]
    borrowed = sum(cell.accuracy_is_borrowed for cells in chosen for cell in cells)
    left_out = sum(len(session.measured) for session in sessions) - sum(map(len, chosen))
    yield "<h2>Accuracy against latency</h2>"
    yield "<figure>"
    yield _legend(sessions, [cell for cells in chosen for cell in cells])
    yield both_widths(partial(accuracy_chart, sessions, colours))
    caption = (
        "Up and to the left is better. The stairs are the Pareto front: the best accuracy that "
        "each latency buys. A point is the median, its line reaches to p95. int8 and fp16 stand at "
        "the published accuracy of their float network; "
        "'effnet-edge evaluate' tells what they lose on your images."
    )
    if borrowed:
        caption += (
            f" Dashed, and with a tilde elsewhere: {borrowed} whose own weights have no published "
            "accuracy, at that of the usual weights of the same network."
        )
    if left_out:
        caption += f" Of no known accuracy, and so not drawn: {left_out}."
    yield f"<figcaption>{caption}</figcaption></figure>"


def changes(comparison: Comparison | None) -> Iterable[str]:
    """What became faster or slower."""
    if comparison is None:
        return
    yield f"<h2>Changes since {safe(comparison.old.started[:10])}</h2>"
    yield f"<p>{safe(words.verdicts(comparison))}.</p>"
    if comparison.differences:
        yield "<p>Not the same as then:</p><ul class='plain'>"
        yield from (f"<li>{safe(text)}</li>" for text in comparison.differences)
        yield "</ul>"
    yield "<figure>"
    yield both_widths(partial(change_chart, comparison.changes))
    yield (
        "<figcaption>Latency now over latency then, with 95 % intervals (Welch's t on the medians "
        "of rounds). Coloured where it is significant at 5 % among all cells (Holm). What "
        "differs between two days, such as the room's temperature, no interval shows."
        "</figcaption></figure>"
    )
    yield change_table(comparison)


def heat(sessions: Sequence[Session]) -> Iterable[str]:
    """The long runs of sustained sessions."""
    if not any(session.sustained_seconds for session in sessions):
        return
    yield "<h2>Under sustained load</h2>"
    for board, session in enumerate(sessions):
        if not session.sustained_seconds:
            continue
        for cell in session.measured:
            change = slowing(cell.rounds[0])
            where = f"{session.board}: " if len(sessions) > 1 else ""
            threads = f"{cell.threads} thread{'s' if cell.threads != 1 else ''}"
            yield f"<h3>{safe(f'{where}{cell.title} on {cell.engine}, {threads}')}</h3>"
            yield (
                f"<p class='soft'>First {change.seconds:.2g} s: {milliseconds(change.first)} ms. "
                f"Last {change.seconds:.2g} s: {milliseconds(change.last)} ms "
                f"({words.percent(change.ratio)}).</p>"
            )
            colour = _colour(sessions, board, cell)
            yield "<figure>"
            yield both_widths(partial(heat_chart, cell, colour))
            yield "</figure>"


def distributions(sessions: Sequence[Session]) -> Iterable[str]:
    """How far the runs of each cell are apart."""
    if not any(session.measured for session in sessions):
        return
    yield "<h2>How steady it is</h2>"
    for board, session in enumerate(sessions):
        cells = session.measured
        if not cells:
            continue
        if len(sessions) > 1:
            yield f"<h3>{safe(session.board)}</h3>"
        colours = [_colour(sessions, board, cell) for cell in cells]
        yield "<figure>"
        yield both_widths(partial(distribution_chart, cells, colours))
        yield (
            "<figcaption>All runs of each cell relative to its median: where they lie, the middle "
            "half (thick), and p95 (tick).</figcaption></figure>"
        )


def devices(sessions: Sequence[Session]) -> Iterable[str]:
    """The facts of each of several devices."""
    if len(sessions) == 1:
        return
    yield "<h2>The devices</h2>"
    for session in sessions:
        yield f"<h3>{safe(session.board)}</h3>"
        yield facts(session)


def _colour(sessions: Sequence[Session], board: int, cell: Cell) -> int:
    """Boards have colours where there are several, engines otherwise."""
    if len(sessions) > 1:
        return _board_colour(board)
    engines = list(ENGINES)
    return engines.index(cell.engine) if cell.engine in engines else len(engines)


def _board_colour(board: int) -> int:
    """More boards than colours share them; the tips and the table tell them apart."""
    return board % COLOURS


def _legend(sessions: Sequence[Session], cells: Sequence[Cell]) -> str:
    def sign(engine: str, precision: str, colour: int) -> str:
        drawn = mark(8, 8, engine, precision, colour)
        return svg(16, 16, "", [drawn]).replace('role="img" aria-label=""', 'aria-hidden="true"')

    entries = []
    if len(sessions) > 1:
        entries += [
            (sign("", "int8", _board_colour(board)), session.board)
            for board, session in enumerate(sessions)
        ]
    several = len(sessions) > 1
    for engine in dict.fromkeys(cell.engine for cell in cells):
        first = next(cell for cell in cells if cell.engine == engine)
        entries.append(
            (sign(engine, "int8", GREY if several else _colour(sessions, 0, first)), engine)
        )
    for precision in dict.fromkeys(cell.model.precision for cell in cells if cell.model):
        entries.append((sign("onnxruntime", precision, GREY), precision))
    return (
        '<ul class="legend">'
        + "".join(f"<li>{drawn}{safe(name)}</li>" for drawn, name in entries)
        + "</ul>"
    )
