"""How steady each cell is: the distribution of its latencies relative to its own median."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from effnet_edge.bench.charts.drawing import (
    WIDE,
    Scale,
    label_room,
    line,
    log_ticks,
    milliseconds,
    path,
    row_label,
    safe,
    svg,
    text,
)
from effnet_edge.bench.results import Cell

_ROW, _ROW_OF_TWO_LINES = 32, 40
_HALF = 11
_TOP, _BOTTOM = 30, 26
_BINS = 120
_SMALLEST, _LARGEST = 0.5, 3.0


def distribution_chart(cells: Sequence[Cell], colours: Sequence[int], width: int) -> str:
    """Draw one row a measured cell: density, the middle half, p50 and p95; the tail past the edge
    in words. Relative to the median, so that fast and slow cells compare."""
    row_height = _ROW if width >= WIDE else _ROW_OF_TWO_LINES
    left = label_room((cell.title for cell in cells), width)
    right = 118 if width >= WIDE else 58
    pooled = [_relative(cell) for cell in cells]
    high = max(1.1, *(float(np.percentile(values, 99)) * 1.04 for values in pooled))
    low = min(0.97, *(float(np.percentile(values, 1)) * 0.99 for values in pooled))
    x = Scale(max(low, _SMALLEST), min(high, _LARGEST), left, width - right, log=True)
    height = _TOP + row_height * len(cells) + _BOTTOM
    parts = [text(width - 2, 11, "p50, ms", "soft", "end")]
    title = "latency relative to the cell's median" if width >= WIDE else "relative to p50"
    parts.append(text(left, 11, title, "soft"))
    for value in _ticks(x, 9 if width >= WIDE else 4):
        kind = "axis" if value == 1 else "grid"
        parts.append(line(x(value), _TOP - 6, x(value), height - _BOTTOM + 2, kind))
        parts.append(text(x(value), height - 8, f"{value:g}\u00d7", "soft", "middle"))
    for row, (cell, values, colour) in enumerate(zip(cells, pooled, colours, strict=True)):
        middle = _TOP + row_height * (row + 0.5)
        parts.append(row_label(cell.title, cell.engine, cell.threads, middle, left - 8))
        parts += _violin(values, x, middle, colour, cell)
        assert cell.summary is not None  # noqa: S101 - it was measured
        parts.append(text(width - 2, middle + 4, milliseconds(cell.summary.p50), "strong", "end"))
        beyond = float(values.max())
        if beyond > x.high * 1.001 and width >= WIDE:
            parts.append(text(x.end + 5, middle + 4, f"to {beyond:.3g}\u00d7", "soft"))
    names = ", ".join(cell.title for cell in cells)
    return svg(width, height, f"Distribution of the latencies of {names}.", parts)


def _relative(cell: Cell) -> NDArray[np.float64]:
    values = np.array([value for each in cell.rounds for value in each.latencies_ms])
    return np.asarray(values / np.median(values))


def _ticks(x: Scale, most: int) -> list[float]:
    """Round values, 1 among them."""
    if x.high > 2:
        return log_ticks(x.low, x.high, most)
    linear = Scale(x.low, x.high, x.start, x.end)
    return [round(value, 6) for value in linear.ticks(most)]


def _violin(
    values: NDArray[np.float64], x: Scale, middle: float, colour: int, cell: Cell
) -> list[str]:
    logs = np.log(values)
    edges = np.linspace(math.log(x.low), math.log(x.high), _BINS + 1)
    counts, _ = np.histogram(logs, edges)
    # Scott's bandwidth from the middle half, which stragglers don't widen; a bin at least.
    quartiles = np.percentile(logs, (25, 75))
    spread = float(quartiles[1] - quartiles[0]) / 1.349
    bandwidth = max(spread * len(values) ** -0.2, float(edges[1] - edges[0]))
    centres = (edges[:-1] + edges[1:]) / 2
    density = np.exp(-0.5 * ((centres[:, None] - centres) / bandwidth) ** 2) @ counts
    density = _HALF * density / max(float(density.max()), 1e-12)
    shown = [i for i in range(_BINS) if density[i] > 0.05]
    above = [(x(math.exp(centres[i])), middle - density[i]) for i in shown]
    below = [(x(math.exp(centres[i])), middle + density[i]) for i in reversed(shown)]
    first, third = (x(math.exp(value)) for value in quartiles)
    parts = [path([*above, *below], f"body s{colour}", closed=True)] if shown else []
    parts.append(line(first, middle, max(third, first + 1), middle, f"box s{colour}"))
    summary = cell.summary
    if summary is not None and summary.p95 is not None:
        at = x(summary.p95 / summary.p50)
        parts.append(line(first, middle, at, middle, f"whisker s{colour}"))
        parts.append(line(at, middle - 5, at, middle + 5, f"whisker s{colour}"))
    tip = f"{cell.title}, {cell.engine}: {len(values)} runs, the slowest {values.max():.3g} x p50"
    return [f"<g><title>{safe(tip)}</title>", *parts, "</g>"]
