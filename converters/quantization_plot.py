"""The quantization report as a picture: one SVG file that needs nothing else."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from html import escape

from effnet_edge.converters.quantization_report import (
    PartReport,
    QuantizationReport,
    decibel_text,
    whole_model_text,
)

_WIDTH = 1000
_LEFT = 110
_RIGHT = 700
_BAR = 7
_ROW = 22
_WRAP = 140

_OWN = "#3b74b9"
_ACCUMULATED = "#b4bcc6"
_WORST = "#cf3f2e"
_INK = "#1f2730"
_FAINT = "#66707c"
_GRID = "#e4e8ec"


def plot_svg(report: QuantizationReport, title: str) -> str:
    """Draw, per part, the signal-to-noise ratio of its own noise and of all up to it.

    The worst parts stand out. 1000 pixels wide; the height follows the number of parts.
    """
    worst = report.worst()
    caption = textwrap.wrap(_first_upper(whole_model_text(report)) + ".", _WRAP)
    if worst:
        caption.append("Most noise of their own: " + ", ".join(part.name for part in worst) + ".")
    if report.settings:
        settings = ", ".join(f"{name}: {value}" for name, value in report.settings.items())
        caption += textwrap.wrap(settings, _WRAP)
    top = 70 + 17 * len(caption)
    bottom = top + _ROW * len(report.parts)
    height = bottom + 48
    low, high = _limits(report)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="Helvetica, Arial, sans-serif" '
        f'font-size="12" fill="{_INK}">',
        f"<title>{_safe(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(24, 32, title, size=18, weight="bold"),
        *(_text(24, 56 + 17 * line, text, colour=_FAINT) for line, text in enumerate(caption)),
        _text(_RIGHT + 52, top - 6, "alone", colour=_FAINT, anchor="end", size=11),
        _text(_RIGHT + 100, top - 6, "with all", colour=_FAINT, anchor="end", size=11),
        *_grid(low, high, top, bottom),
    ]
    for row, part in enumerate(report.parts):
        lines += _part(part, part in worst, top + _ROW * row, low, high)
    lines += [*_legend(bottom + 38), "</svg>"]
    return "\n".join(lines) + "\n"


def _limits(report: QuantizationReport) -> tuple[float, float]:
    """The axis in dB, whole tens that hold every finite value and 0."""
    values = [value for part in report.parts for value in (part.snr_db, part.own_snr_db)]
    finite = [value for value in values if math.isfinite(value)]
    low = 10 * math.floor(min([0.0, *finite]) / 10)
    high = 10 * math.ceil(max([10.0, *finite]) / 10)
    return float(low), float(high)


def _grid(low: float, high: float, top: int, bottom: int) -> Iterator[str]:
    step = 10 * max(1, math.ceil((high - low) / 120))
    for tick in range(int(low), int(high) + 1, step):
        x = _x(tick, low, high)
        yield f'<path d="M{x:.1f} {top - 4}V{bottom}" stroke="{_GRID}"/>'
        yield _text(x, bottom + 14, f"{tick} dB", colour=_FAINT, anchor="middle", size=11)


def _part(part: PartReport, bad: bool, y: int, low: float, high: float) -> Iterator[str]:
    colour, weight = (_WORST, "bold") if bad else (_INK, "normal")
    yield _text(_LEFT - 10, y + 14, part.name, colour=colour, weight=weight, anchor="end")
    yield _bar(part.own_snr_db, y + 3, _WORST if bad else _OWN, low, high)
    yield _bar(part.snr_db, y + 3 + _BAR + 1, _ACCUMULATED, low, high)
    own, accumulated = decibel_text(part.own_snr_db), decibel_text(part.snr_db)
    yield _text(_RIGHT + 52, y + 14, own, colour=colour, weight=weight, anchor="end")
    yield _text(_RIGHT + 100, y + 14, accumulated, colour=_FAINT, anchor="end")
    if part.notes:
        notes = textwrap.shorten(", ".join(part.notes), 30, placeholder="...")
        yield _text(_RIGHT + 116, y + 14, notes, colour=_FAINT, size=11)


def _bar(value: float, y: int, colour: str, low: float, high: float) -> str:
    if math.isnan(value):
        value = low
    start, end = sorted((_x(0, low, high), _x(min(max(value, low), high), low, high)))
    return (
        f'<rect x="{start:.1f}" y="{y}" width="{end - start:.1f}" height="{_BAR}" fill="{colour}"/>'
    )


def _legend(y: int) -> Iterator[str]:
    entries = (
        (_OWN, "noise of the part alone", 180),
        (_WORST, "the worst of these", 150),
        (_ACCUMULATED, "with the noise of all parts before it", 240),
    )
    x = _LEFT
    for colour, text, width in entries:
        yield f'<rect x="{x}" y="{y - 9}" width="14" height="{_BAR + 3}" fill="{colour}"/>'
        yield _text(x + 20, y, text, colour=_FAINT)
        x += width
    yield _text(x + 4, y, "signal-to-noise ratio; longer is better", colour=_FAINT)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    colour: str = _INK,
    size: int = 12,
    weight: str = "normal",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" '
        f'font-weight="{weight}" text-anchor="{anchor}">{_safe(text)}</text>'
    )


def _safe(text: str) -> str:
    """Escape, and take out the control characters that XML can't hold."""
    return escape("".join(letter if letter.isprintable() else " " for letter in text))


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (value - low) / (high - low)
