"""What a prediction may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from effnet_edge.errors import UsageError

_BASE_OF_CHILD = 45_000_000
_PART_KEPT_FREE = 0.05


@dataclass(frozen=True)
class Limits:
    """``budget_ms`` for a whole prediction at ``percentile``, and how far memory may grow.

    None is no limit. ``asked_bytes`` is what the caller allowed, ``free_bytes`` what the device can
    give, and ``memory_bytes`` the less of both.
    """

    budget_ms: float | None
    percentile: float
    memory_bytes: int | None
    asked_bytes: int | None = None
    free_bytes: int | None = None

    @property
    def device_decides(self) -> bool:
        """Whether memory is limited by what the device has free rather than by the caller."""
        return self.memory_bytes is not None and self.memory_bytes != self.asked_bytes


def limits(
    budget_ms: float | None, memory_mb: float | None, percentile: float, available: int | None
) -> Limits:
    """Check what a caller asked for, on a device with ``available`` bytes of free memory (or None).

    Of the free memory a model may take what is left by the process that measures it, less 5 %.
    Raises UsageError for numbers that can't be meant.
    """
    if budget_ms is not None:
        budget_ms = positive("budget_ms", budget_ms, "milliseconds, such as 30")
    asked = None
    if memory_mb is not None:
        asked = int(min(positive("memory_mb", memory_mb, "megabytes, such as 200"), 1e12) * 1e6)
    percentile = positive("percentile", percentile, "a percentage, such as 95")
    if percentile > 100:
        raise UsageError(f"percentile must be at most 100, not {percentile:g}")
    free = None
    if available is not None:
        free = max(0, int(available * (1 - _PART_KEPT_FREE)) - _BASE_OF_CHILD)
    memory = min((each for each in (asked, free) if each is not None), default=None)
    return Limits(budget_ms, percentile, memory, asked, free)


def positive(name: str, value: object, example: str) -> float:
    """Return ``value`` as a float if it is a finite number above 0; UsageError with an ``example``
    if not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UsageError(f"{name} must be a number of {example}, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise UsageError(f"{name} must be more than 0 and finite, not {number:g}: give {example}")
    return number
