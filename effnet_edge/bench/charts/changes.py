"""New latency over old, cell by cell, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from effnet_edge.bench.charts.drawing import (
    WIDE,
    Scale,
    label_room,
    line,
    log_ticks,
    row_label,
    svg,
    text,
)
from effnet_edge.bench.comparison import Change
from effnet_edge.bench.words import percent

_ROW, _ROW_OF_TWO_LINES = 30, 40
_TOP, _BOTTOM = 26, 26
_LIMIT = 4.0
_KINDS = {"slower": "bad", "faster": "good"}


def change_chart(changes: Sequence[Change], width: int) -> str:
    """Draw one row a change: its ratio and 95 % interval around 1; slower is to the right."""
    row_height = _ROW if width >= WIDE else _ROW_OF_TWO_LINES
    left = label_room((change.cell.title for change in changes), width)
    extreme = max(1.05, *(max(_reach(change)) for change in changes))
    extreme = min(extreme * 1.02, _LIMIT)
    x = Scale(1 / extreme, extreme, left, width - 66, log=True)
    height = _TOP + row_height * len(changes) + _BOTTOM
    parts = [
        text(x(1) - 8, 11, "\u2190 faster", "soft", "end"),
        text(x(1) + 8, 11, "slower \u2192", "soft"),
    ]
    for value in _ticks(x, 7 if width >= WIDE else 3):
        kind = "axis" if value == 1 else "grid"
        parts.append(line(x(value), _TOP - 6, x(value), height - _BOTTOM + 2, kind))
        parts.append(text(x(value), height - 8, f"{value:.4g}\u00d7", "soft", "middle"))
    for row, change in enumerate(changes):
        y = _TOP + row_height * (row + 0.5)
        kind = _KINDS.get(change.verdict, "neutral")
        cell = change.cell
        parts.append(row_label(cell.title, cell.engine, cell.threads, y, left - 8))
        if change.low is not None and change.high is not None:
            parts.append(line(x(change.low), y, x(change.high), y, f"{kind} interval"))
        parts.append(f'<circle class="{kind}" cx="{x(change.ratio):.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(text(width - 2, y + 4, percent(change.ratio), f"strong {kind}", "end"))
    said = ", ".join(f"{change.cell.title} {percent(change.ratio)}" for change in changes)
    return svg(width, height, f"Change of latency: {said}.", parts)


def _reach(change: Change) -> tuple[float, ...]:
    values = (change.ratio, change.low or change.ratio, change.high or change.ratio)
    return tuple(max(value, 1 / value) for value in values)


def _ticks(x: Scale, most: int) -> list[float]:
    if x.high > 1.5:
        return [*log_ticks(x.low, 0.999, most // 2), 1, *log_ticks(1.001, x.high, most // 2)]
    linear = Scale(x.low, x.high, x.start, x.end)
    return [round(value, 6) for value in linear.ticks(most)]
