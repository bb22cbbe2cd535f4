"""The figures of `speed.py` as a picture: one SVG file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from effnet_edge.bench.charts.drawing import Scale, milliseconds, number
from effnet_edge.tables import counted

_WIDTH = 860
_LEFT = 190
_RIGHT = 640
_ROW = 22
_BAR = 12
_HEAD = 44
_GAP = 40

_OURS = "#0f6b6b"
_THEIRS = "#b4bcc6"
_INK = "#1b2026"
_FAINT = "#5a6470"
_GRID = "#e3e1da"


def plot(report: Mapping[str, Any], ours: str) -> str:
    """Draw a panel of bars for each result: median milliseconds and what 80 % lie between.

    Rows whose names begin with ``ours`` stand out.
    """
    panels: list[str] = []
    top = 64
    for result in report["results"]:
        panels += _panel(result, top, ours)
        top += _HEAD + _ROW * len(result["rows"]) + _GAP
    held = f", held to {report['isa']}" if report["isa"] else ""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" '
        f'viewBox="0 0 {_WIDTH} {top}" font-family="Helvetica, Arial, sans-serif" '
        f'font-size="12" fill="{_INK}">',
        "<title>Latency of one prediction</title>",
        f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>',
        _text(24, 32, "Latency of one prediction, ms", size=18),
        _text(24, 52, f"{report['device']}{held}; medians, and what 80 % lie between", _FAINT),
        *panels,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _panel(result: Mapping[str, Any], top: int, ours: str) -> Iterator[str]:
    rows = result["rows"]
    threads = counted(result["threads"], "thread")
    yield _text(24, top + 22, f"{result['model']}, {result['weights']}, {threads}", size=14)
    if not rows:
        return
    top, bottom = top + _HEAD, top + _HEAD + _ROW * len(rows)
    x = Scale(0, max(row["ms"]["high"] for row in rows), _LEFT, _RIGHT)
    for tick in x.ticks(8):
        yield f'<path d="M{x(tick):.1f} {top - 8}V{bottom}" stroke="{_GRID}"/>'
        yield _text(x(tick), bottom + 14, number(tick), _FAINT, "middle")
    for index, row in enumerate(rows):
        yield from _bar(row, top + _ROW * index, x, row["name"].startswith(ours))
    yield _text(_RIGHT + 16, top - 12, f"ms, of {result['reference']}", _FAINT)


def _bar(row: Mapping[str, Any], top: float, x: Scale, own: bool) -> Iterator[str]:
    middle = top + _BAR / 2
    ms, ratio = row["ms"], row["ratio"]
    yield _text(_LEFT - 8, middle + 4, row["name"], anchor="end")
    yield (
        f'<rect x="{_LEFT}" y="{top}" width="{x(ms["median"]) - _LEFT:.1f}" height="{_BAR}" '
        f'fill="{_OURS if own else _THEIRS}"/>'
    )
    yield f'<path d="M{x(ms["low"]):.1f} {middle}H{x(ms["high"]):.1f}" stroke="{_INK}"/>'
    words = milliseconds(ms["median"])
    if ratio is not None:
        words += f"   \u00d7 {ratio['median']:.2f}"
    if row["isa"]:
        words += f"   {row['isa']}"
    yield _text(_RIGHT + 16, middle + 4, words)


def _text(
    x: float, y: float, words: str, colour: str = _INK, anchor: str = "start", size: int = 12
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" '
        f'font-size="{size}" xml:space="preserve">{escape(words)}</text>'
    )
