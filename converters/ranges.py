"""Choosing the range of an activation by the error that it causes.

The whole range of a tensor is rarely the best: a few outliers would make every step coarse. The
candidates are parts of the observed range, judged by the mean squared error of what the tensor
is used for, so that SiLU's flat tail, say, costs no integers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.observation import Observed
from effnet_edge.models.network import FloatArray
from effnet_edge.models.quantized import Quantization

Function = Callable[[FloatArray], FloatArray]

_LEAST_RANGE = 1e-4
"""A tensor that is always zero gets this range; so do ranges that are narrower."""
_PARTS = np.concatenate([np.geomspace(0.02, 0.5, 10), np.linspace(0.55, 1.0, 10)])
_SWEEPS = 2
_VALUES = 16384
"""So many samples judge a range; the extremes are always among them."""


def quantization(low: float, high: float) -> Quantization:
    """The int8 quantization of ``low``..``high``, widened to hold zero exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max(high - low, _LEAST_RANGE) / 255))
    zero_point = int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return Quantization(scale, zero_point)


def fake_quantize(x: FloatArray, by: Quantization) -> FloatArray:
    """What is left of ``x`` after rounding to ``by``'s integers."""
    steps = np.rint(x / np.float32(by.scale))
    clipped = np.clip(steps, -128 - by.zero_point, 127 - by.zero_point)
    result: FloatArray = clipped.astype(np.float32) * np.float32(by.scale)
    return result


def best_quantization(
    tensor: Observed,
    importance: NDArray[np.float64] | None = None,
    function: Function | None = None,
) -> Quantization:
    """The quantization with the least mean squared error of ``function`` of the tensor.

    ``importance`` [channels] weighs the channels' errors; None: all alike.
    """
    values, weights = _values(tensor, importance)
    wanted = values if function is None else function(values)
    widest = (min(float(tensor.low.min()), 0.0), max(float(tensor.high.max()), 0.0))

    def error(low: float, high: float) -> float:
        rounded = fake_quantize(values, quantization(low, high))
        found = rounded if function is None else function(rounded)
        return float(np.mean(weights * (found - wanted) ** 2))

    best = widest
    least = error(*widest)
    for _ in range(_SWEEPS):
        for part in _PARTS:
            candidate = (widest[0] * part, best[1])
            if (found := error(*candidate)) < least:
                least, best = found, candidate
        for part in _PARTS:
            candidate = (best[0], widest[1] * part)
            if (found := error(*candidate)) < least:
                least, best = found, candidate
    return quantization(*best)


def _values(
    tensor: Observed, importance: NDArray[np.float64] | None
) -> tuple[FloatArray, FloatArray]:
    """A choice of values, and of their weights."""
    channels = len(tensor.samples)
    weights = np.ones(channels)
    if importance is not None and importance.mean() > 0:  # else nothing reads the tensor
        weights = importance / importance.mean()
    values = tensor.few(max(1, _VALUES // channels))
    spread = np.broadcast_to(weights.astype(np.float32)[:, None], values.shape)
    return values.ravel(), spread.ravel()
