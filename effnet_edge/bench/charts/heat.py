"""A long run over time: latency, temperature and clock, one above the other."""

from __future__ import annotations

from collections.abc import Sequence

from effnet_edge.bench.charts.drawing import (
    WIDE,
    Scale,
    line,
    milliseconds,
    number,
    padded,
    path,
    svg,
    text,
)
from effnet_edge.bench.results import Cell, Round
from effnet_edge.bench.sustained import slowing, stretches

_LEFT, _RIGHT = 44, 12
_HEIGHTS = {"latency": 130, "temperature": 62, "clock": 62}
_GAP = 40
_TOP = 26
_LEAST_RANGE = 0.1
"""An axis that a steady latency doesn't fill with its noise: at least 10 % of the latency."""


def heat_chart(cell: Cell, colour: int, width: int) -> str:
    """Draw the one long round of a cell; strips without data are left out."""
    run = cell.rounds[0]
    end = max(run.started_s[-1], 1.0)
    x = Scale(0, end, _LEFT, width - _RIGHT)
    top: float = _TOP
    parts = _latency(run, x, top, colour)
    top += _HEIGHTS["latency"] + _GAP
    for name, title, values in _strips(run):
        parts += _strip(title, values, x, top, _HEIGHTS[name])
        top += _HEIGHTS[name] + _GAP
    bottom = top - _GAP
    for value in x.ticks(10 if width >= WIDE else 5):
        parts.append(text(x(value), bottom + 17, number(value), "soft", "middle"))
    parts.append(text(width - _RIGHT, bottom + 34, "seconds", "soft", "end"))
    change = slowing(run)
    return svg(
        width,
        bottom + 40,
        f"{cell.title} over {end:.0f} seconds: from {milliseconds(change.first)} to "
        f"{milliseconds(change.last)} ms.",
        parts,
    )


def _latency(run: Round, x: Scale, top: float, colour: int) -> list[str]:
    found = stretches(run)
    low, high = padded([value for each in found for value in (each.low, each.high)])
    middle, needed = (low + high) / 2, _LEAST_RANGE * max(each.p50 for each in found)
    if high - low < needed:
        low, high = middle - needed / 2, middle + needed / 2
    y = Scale(max(0.0, low), high, top + _HEIGHTS["latency"], top)
    centres = [x(each.start + each.seconds / 2) for each in found]
    upper = [(at, y(each.high)) for at, each in zip(centres, found, strict=True)]
    lower = [(at, y(each.low)) for at, each in zip(centres, found, strict=True)]
    median = [(at, y(each.p50)) for at, each in zip(centres, found, strict=True)]
    return [
        text(0, top - 13, "latency, ms (line: p50 of a second, band: p5 to p95)", "soft"),
        *_grid(x, y, 4),
        path([*upper, *reversed(lower)], f"band s{colour}", closed=True),
        path(median, f"curve s{colour}"),
    ]


def _strips(run: Round) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """Name, title and (seconds, value) of what the device told while running."""
    moments = [moment for moment in run.conditions if moment.seconds >= 0]
    temperature = [
        (moment.seconds, moment.temperature_c)
        for moment in moments
        if moment.temperature_c is not None
    ]
    clock = [
        (moment.seconds, float(moment.fastest_mhz))
        for moment in moments
        if moment.fastest_mhz is not None
    ]
    strips = [
        ("temperature", "temperature, \u00b0C", temperature),
        ("clock", "clock of the fastest core, MHz", clock),
    ]
    return [strip for strip in strips if len(strip[2]) > 1]


def _strip(
    title: str, values: Sequence[tuple[float, float]], x: Scale, top: float, height: float
) -> list[str]:
    low, high = padded((value for _, value in values), 0.1)
    if high - low < 2:
        low, high = low - 1, high + 1
    y = Scale(low, high, top + height, top)
    points = [(x(seconds), y(value)) for seconds, value in values]
    return [text(0, top - 13, title, "soft"), *_grid(x, y, 4), path(points, "curve s7")]


def _grid(x: Scale, y: Scale, most: int) -> list[str]:
    parts = []
    for value in y.ticks(most):
        parts.append(line(x.start, y(value), x.end, y(value), "grid"))
        parts.append(text(x.start - 8, y(value) + 4, number(value), "soft", "end"))
    parts.append(line(x.start, y.start, x.end, y.start, "axis"))
    return parts
