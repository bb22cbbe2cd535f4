"""Accuracy against latency, and what no other cell beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from effnet_edge.bench.charts.drawing import (
    WIDE,
    Scale,
    line,
    log_padded,
    mark,
    milliseconds,
    number,
    padded,
    path,
    svg,
    text,
    text_width,
)
from effnet_edge.bench.results import Cell, Session, pareto_front
from effnet_edge.bench.words import top1

_TOP, _BOTTOM, _LEFT, _RIGHT = 26, 44, 44, 14

FRAME_RATES = (60, 30, 10, 1)
"""What cameras give, in frames a second: marks on the axis of latency."""


class _Point:
    """A cell on the chart."""

    def __init__(self, cell: Cell, board: int, colour: int) -> None:
        assert cell.summary is not None and cell.model is not None  # noqa: S101 - see `plotted`
        assert cell.accuracy is not None  # noqa: S101
        self.cell, self.board, self.colour = cell, board, colour
        self.summary, self.model, self.top1 = cell.summary, cell.model, cell.accuracy

    @property
    def series(self) -> tuple[int, str, str, int, str]:
        """What it has in common with the points that it is joined to."""
        return (
            self.board,
            self.cell.engine,
            self.model.precision,
            self.cell.threads or 0,
            self.model.family,
        )


def plotted(session: Session) -> tuple[Cell, ...]:
    """The cells that have a latency and an accuracy, be it that of other weights."""
    return tuple(cell for cell in session.measured if cell.accuracy is not None)


def accuracy_chart(
    sessions: Sequence[Session], colours: Sequence[Sequence[int]], width: int
) -> str:
    """Draw top-1 in percent over p50 in ms (logarithmic), with a line to p95.

    ``colours`` has the colour of each of a session's `plotted` cells.
    """
    points = [
        _Point(cell, board, colour)
        for board, (session, chosen) in enumerate(zip(sessions, colours, strict=True))
        for cell, colour in zip(plotted(session), chosen, strict=True)
    ]
    height = 430 if width >= WIDE else 380
    latencies = [
        value for point in points for value in (point.summary.p50, point.summary.p95_or_worse)
    ]
    x = Scale(*log_padded(latencies), _LEFT, width - _RIGHT, log=True)
    y = Scale(*padded((point.top1 for point in points), 0.12), height - _BOTTOM, _TOP)
    fronts = [_front(points, board) for board in range(len(sessions))]
    parts = [*_axes(x, y, width, height)]
    if len(sessions) == 1:
        parts.append(_stairs(fronts[0], x, y, "under", closed=True))
        parts += [_stairs(front, x, y, "front") for front in fronts]
        parts += _threads(points, x, y)
    else:  # several boards are too much for anything but their fronts
        parts += [_stairs(front, x, y, f"curve s{front[0].colour}") for front in fronts if front]
    parts += [_whisker(point, x, y) for point in points]
    on_front = [point for front in fronts for point in front]
    behind = "".join(_mark(point, x, y) for point in points if point not in on_front)
    parts.append(f"<g{' class=behind' * (len(sessions) > 1)}>{behind}</g>")
    parts += [_mark(point, x, y) for point in on_front]
    parts += _labels(on_front, x, y)
    best = "; ".join(_tip(point) for point in on_front)
    return svg(width, height, f"Accuracy against latency. Not beaten by any other: {best}.", parts)


def _axes(x: Scale, y: Scale, width: int, height: int) -> list[str]:
    parts = [text(0, 11, "ImageNet top-1, % (published, of the float network)", "soft")]
    for value in y.ticks(7):
        parts.append(line(_LEFT, y(value), width - _RIGHT, y(value), "grid"))
        parts.append(text(_LEFT - 8, y(value) + 4, number(value), "soft", "end"))
    for value in x.ticks(10 if width >= WIDE else 5):
        parts.append(line(x(value), y.start, x(value), y.start + 5, "axis"))
        parts.append(text(x(value), y.start + 19, number(value), "soft", "middle"))
    parts.append(line(_LEFT, y.start, width - _RIGHT, y.start, "axis"))
    parts.append(
        text(width - _RIGHT, height - 6, "latency of one prediction, ms (log)", "soft", "end")
    )
    for rate in FRAME_RATES:
        budget = 1000 / rate
        if x.low < budget < x.high and x(budget) - _LEFT > 50:
            parts.append(line(x(budget), y.end - 2, x(budget), y.start, "guide"))
            parts.append(text(x(budget) - 5, y.start - 7, f"{rate} fps", "soft halo", "end"))
    return parts


def _front(points: Sequence[_Point], board: int) -> list[_Point]:
    own = [point for point in points if point.board == board]
    return [own[index] for index in pareto_front([(p.summary.p50, p.top1) for p in own])]


def _stairs(front: Sequence[_Point], x: Scale, y: Scale, kind: str, *, closed: bool = False) -> str:
    """The best accuracy that each latency buys."""
    if not front:
        return ""
    corners = [(x(front[0].summary.p50), y.start)]
    for point in front:
        corners.append((x(point.summary.p50), corners[-1][1]))
        corners.append((x(point.summary.p50), y(point.top1)))
    corners.append((x.end, corners[-1][1]))
    if closed:
        corners.append((x.end, y.start))
        return path(corners, kind, closed=True)
    return path(corners[2:], kind)


def _threads(points: Sequence[_Point], x: Scale, y: Scale) -> list[str]:
    """A thin line through the sizes of one family on one engine."""
    ordered = sorted(points, key=lambda point: (point.series, point.model.macs))
    parts = []
    for _, group in groupby(ordered, key=lambda point: point.series):
        members = list(group)
        if len(members) > 1:
            corners = [(x(point.summary.p50), y(point.top1)) for point in members]
            parts.append(path(corners, f"thread s{members[0].colour}"))
    return parts


def _whisker(point: _Point, x: Scale, y: Scale) -> str:
    summary, height = point.summary, y(point.top1)
    return line(x(summary.p50), height, x(summary.p95_or_worse), height, f"whisker s{point.colour}")


def _mark(point: _Point, x: Scale, y: Scale) -> str:
    return mark(
        x(point.summary.p50),
        y(point.top1),
        point.cell.engine,
        point.model.precision,
        point.colour,
        _tip(point),
        dashed=point.cell.accuracy_is_borrowed,
    )


def _tip(point: _Point) -> str:
    threads = f"{point.cell.threads} thread{'s' if point.cell.threads != 1 else ''}"
    return (
        f"{point.cell.title} on {point.cell.engine}, {threads}: "
        f"p50 {milliseconds(point.summary.p50)} ms, "
        f"p95 {milliseconds(point.summary.p95_or_worse)} ms, top-1 {top1(point.cell)} %"
    )


def _labels(points: Sequence[_Point], x: Scale, y: Scale) -> list[str]:
    """Names at the upper left of points, where a front has nothing; those that fit."""
    taken: list[tuple[float, float, float]] = []
    parts = []
    with_threads = len({point.cell.threads for point in points}) > 1
    for point in points:
        label = point.cell.title
        if with_threads:
            label += f" \u00d7{point.cell.threads}"
        wide = text_width(label)
        right, height = x(point.summary.p50) - 8, y(point.top1) - 7
        left = right - wide
        if left < _LEFT:
            left, right = _LEFT + 3, _LEFT + 3 + wide
            height -= 3
        clear = all(
            left > other_right or right < other_left or abs(height - other) > 13
            for other_left, other_right, other in taken
        )
        if clear:
            taken.append((left, right, height))
            parts.append(text(right, height, label, "strong halo", "end"))
    return parts
