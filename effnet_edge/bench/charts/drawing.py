"""What all charts draw with: scales with round ticks, safe text, marks, an SVG of a given width.

Every chart is drawn twice, for wide and for narrow screens, at about the size at which it is
shown: letters keep theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDE = 860
NARROW = 340

COLOURS = 7
"""How many classes ``s0``, ``s1`` ... of the page's style tell things apart; ``s7`` is grey."""
GREY = 7

ROOM_FOR_ONE_LINE = 180

_LETTER = 6.6
"""The width of an average letter of 12 pixels, in pixels."""

_SHAPES = {"onnxruntime": "circle", "litert": "square", "tflite-runtime": "triangle"}


@dataclass(frozen=True)
class Scale:
    """From values ``low`` to ``high`` to pixels ``start`` to ``end``, by logarithm if ``log``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of ``value``; values outside land on the ends."""
        value = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round values on the scale, at most about ``most``."""
        return log_ticks(self.low, self.high, most) if self.log else self._linear_ticks(most)

    def _linear_ticks(self, most: int) -> list[float]:
        step = round_step((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 ... times a power of ten from ``least`` up."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(
        factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9)
    )


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values between: the 1, 2, 5 of each decade, or fewer, or more where that gives two."""
    for factors in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        values = [
            factor * 10.0**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for factor in factors
            if low * (1 - 1e-9) <= factor * 10.0**power <= high * (1 + 1e-9)
        ]
        if len(values) <= most:
            return values
    return values[:: -(-len(values) // most)]


def padded(values: Iterable[float], part: float = 0.06) -> tuple[float, float]:
    """A linear axis for ``values`` with some room at both ends."""
    values = list(values)
    low, high = min(values), max(values)
    room, size = part * (high - low), max(abs(low), abs(high))
    if room <= 1e-6 * size or size < 1e-6:  # one value, but for rounding
        room = 0.05 * size if size > 1e-6 else 1.0
    return low - room, high + room


def log_padded(values: Iterable[float], part: float = 0.06) -> tuple[float, float]:
    """A logarithmic axis for positive ``values`` with some room at both ends."""
    low, high = padded((math.log(value) for value in values), part)
    return math.exp(low), math.exp(high)


def svg(width: float, height: float, description: str, parts: Iterable[str]) -> str:
    """One chart; ``description`` is what a screen reader says of it."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{safe(description)}">'
        f"{''.join(parts)}</svg>"
    )


def both_widths(draw: Callable[[int], str]) -> str:
    """The chart for wide and for narrow screens, of which the style shows one."""
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text; ``kind`` are classes of the style."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{safe(words)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def path(points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> str:
    """A line through ``points``."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{kind}" d="M{steps}{"Z" if closed else ""}"/>'


def mark(
    x: float,
    y: float,
    engine: str,
    precision: str,
    colour: int,
    tip: str = "",
    *,
    dashed: bool = False,
) -> str:
    """A point: its shape says the engine, its filling the precision (fp32 is hollow)."""
    filling = precision if precision in ("fp32", "fp16") else ""
    outline = "dashed" if dashed else ""
    kind = f'class="mark {filling} {outline} s{colour}"'
    match _SHAPES.get(engine):
        case "circle":
            shape = f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="4.5"'
        case "square":
            shape = f'<rect {kind} x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" rx="1"'
        case "triangle":
            shape = f'<path {kind} d="M{x:.1f} {y - 5:.1f}l5 9h-10z"'
        case _:
            shape = f'<path {kind} d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5-5.5 5.5-5.5-5.5z"'
    if not tip:
        return shape + "/>"
    tag = shape[1 : shape.index(" ")]
    return f"{shape}><title>{safe(tip)}</title></{tag}>"


def row_label(title: str, engine: str, threads: int | None, middle: float, room: float) -> str:
    """The name of a cell before its row, in one line or, with little ``room``, in two."""
    name = title if threads is None else f"{title} \u00d7{threads}"
    if room >= ROOM_FOR_ONE_LINE:
        return text(0, middle + 4, shortened(f"{name} \u00b7 {engine}", room))
    return text(0, middle - 1, shortened(name, room)) + text(
        0, middle + 13, shortened(engine, room), "soft"
    )


def label_room(titles: Iterable[str], width: int) -> float:
    """How many pixels the names of rows take."""
    if width < WIDE:
        return 104
    return min(max(ROOM_FOR_ONE_LINE, 150 + max(map(text_width, titles))), 300)


def shortened(words: str, width: float) -> str:
    """``words``, cut so that they take about ``width`` pixels at most."""
    most = max(2, int(width / _LETTER))
    return words if len(words) <= most else words[: most - 1].rstrip() + "\u2026"


def text_width(words: str) -> float:
    """About how wide ``words`` are, in pixels."""
    return _LETTER * len(words)


def milliseconds(value: float) -> str:
    """A latency with three figures: 4.31, 43.1, 431."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def number(value: float) -> str:
    """A tick's value without needless zeros."""
    return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"


def safe(words: str) -> str:
    """Escape for HTML, and take out what can't be printed (or would turn the text's direction)."""
    return escape("".join(letter if letter.isprintable() else " " for letter in words))
