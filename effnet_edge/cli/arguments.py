"""Argument types that several commands share; argparse turns their errors into usage errors."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence


def phi_list(text: str) -> tuple[int, ...]:
    """Parse ``2``, ``0,2,4`` and ``0-7`` (and mixtures) into distinct phis in the order given."""
    phis: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,2})(?:\s*-\s*(\d{1,2}))?\s*", part)
        if match is None:
            raise argparse.ArgumentTypeError(
                f"{text!r} isn't a phi: give a number, a list such as 0,2,4 or a range such as 0-7"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise argparse.ArgumentTypeError(f"the range {part.strip()!r} goes backwards")
        phis += range(first, last + 1)
    return tuple(dict.fromkeys(phis))


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number of at least 1")
    return int(text)


def resolution(text: str) -> tuple[int, int]:
    """Parse ``240`` or ``240x320`` (height x width) into pixels."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} isn't a resolution: give pixels as 240, or height x width as 240x320"
        )
    return int(match[1]), int(match[2] or match[1])


def channel_values(texts: list[str]) -> tuple[float, float, float]:
    """One number for all three channels, or red, green and blue, apart by spaces or commas.

    Raises ValueError for anything else, and for numbers that aren't on the 0..1 scale.
    """
    values = [float(part) for text in texts for part in text.split(",") if part]
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise ValueError(f"one number or three, not {len(values)}")
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"{' '.join(texts)} isn't on it; if it is 0..255, divide by 255")
    return values[0], values[1], values[2]


def positive_int_list(text: str) -> tuple[int, ...]:
    """Parse ``1,2,4`` into distinct whole numbers of at least 1, in the order given."""
    return tuple(dict.fromkeys(positive_int(part.strip()) for part in text.split(",")))


def name_list(names: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of some of ``names``, apart by commas."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
        for name in chosen:
            if name not in names:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(names)}")
        return chosen

    return parse


def at_least(least: float) -> Callable[[str], float]:
    """A parser of finite numbers from ``least`` up."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} isn't a number of at least {least:g}")
        return value

    return parse
