"""Giving every channel of a SiLU the whole range of its tensor.

One scale per tensor must fit the channel with the largest values, and in the first blocks of an
EfficientNet that is a hundred times what other channels have: these are left with a few integers.
A factor per channel would mend that, but SiLU, unlike ReLU, doesn't commute with factors. It does
if its sigmoid is given the true argument: with u = f x,  u * sigmoid(u / f) = f * silu(x). So the
convolution gives u, a multiplication by constants 1 / f makes the argument, which may saturate
where the sigmoid has, and the weights that follow absorb f. It costs one elementwise
multiplication.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.observation import Observed, activate, sigmoid
from effnet_edge.converters.ranges import fake_quantize, quantization
from effnet_edge.converters.ties import product_quantization
from effnet_edge.models.network import FloatArray
from effnet_edge.models.quantized import SIGMOID, Quantization, SigmoidArgument

ARGUMENT = Quantization(1 / 16, 0)
"""-8 to 7.94: beyond, a sigmoid of 8 bits is 0 or 1."""
_LEVELS = 255
_SAMPLES = 512
_TAILS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Negative ends tried for the tensor's range, in parts of its positive end."""
_HEADROOMS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
"""Positive ends tried for each channel, in parts of its largest value."""


@dataclass(frozen=True, eq=False)
class Balance:
    """``factors`` float32 [channels] on a convolution's output, the quantization of that output
    with them (``convolved``) and of SiLU's result (``activated``), and the sigmoid's argument."""

    factors: FloatArray
    convolved: Quantization
    activated: Quantization
    argument: SigmoidArgument


def balance(tensor: Observed, importance: NDArray[np.float64]) -> Balance:
    """Choose the factors for ``tensor``, a convolution's output before SiLU.

    The error of each channel's SiLU is made least, and their sum, weighted by ``importance``
    [channels], by the choice of the negative end.
    """
    values = tensor.few(_SAMPLES)
    wanted = activate(values, "silu")
    # A channel that is never positive still has its negative tail to show.
    highest = np.maximum(wanted.max(axis=1), 0.3)
    step = float(np.float32(3 * highest.max() / _LEVELS))
    choices = [_for_tail(values, wanted, highest, step, tail, importance) for tail in _TAILS]
    _, levels, tail = min(choices, key=lambda choice: choice[0])
    # A smaller step than three times the largest value needs loses nothing.
    step *= float(levels.max()) / _LEVELS
    levels = np.clip(np.rint(levels * (_LEVELS / levels.max())), 1, _LEVELS)
    factors = (1 / (levels * step)).astype(np.float32)
    convolved = quantization(-tail, 1.0)
    activated = quantization(-min(tail, 0.2785 * float(factors.max())), 1.0)
    inverse = Quantization(float(np.float32(step)), -128)
    return Balance(
        factors,
        convolved,
        product_quantization(convolved.scale, SIGMOID.scale, activated),
        SigmoidArgument(
            (levels - 128).astype(np.int8),
            inverse,
            product_quantization(convolved.scale, inverse.scale, ARGUMENT),
        ),
    )


def _for_tail(
    values: FloatArray,
    wanted: FloatArray,
    highest: FloatArray,
    step: float,
    tail: float,
    importance: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64], float]:
    """Error, levels (1 / factor in steps) and ``tail``, with each channel's best headroom."""
    convolved, activated = quantization(-tail, 1.0), quantization(-min(tail, 0.2785), 1.0)
    best_error = np.full(len(values), np.inf)
    best_levels = np.ones(len(values))
    for headroom in _HEADROOMS:
        levels = np.clip(np.rint(headroom * highest / step), 1, _LEVELS)
        inverse = (levels * step).astype(np.float32)[:, None]
        u = fake_quantize(values / inverse, convolved)
        argument = fake_quantize(u * inverse, ARGUMENT)
        gate = fake_quantize(sigmoid(argument), SIGMOID)
        error = np.mean((fake_quantize(u * gate, activated) * inverse - wanted) ** 2, axis=1)
        better = error < best_error
        best_error[better], best_levels[better] = error[better], levels[better]
    return float(np.sum(importance * best_error)), best_levels, tail
