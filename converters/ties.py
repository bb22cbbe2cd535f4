"""Scales by which no two engines round a product or a sum to different integers.

Engines compute the same real number and round it to the nearest integer, but one in float32 and
another in fixed point. Where that number lies in the very middle of two integers, or so close that
the arithmetic's own error decides, their results differ by one, and every block that follows
makes more of it. If the ratio of the scales is p / N with an odd N, no result is closer to a
middle than 1 / 2N: a scale is moved by less than a thousandth to make it so.
"""

from __future__ import annotations

import numpy as np

from effnet_edge.models.quantized import Quantization

_SUM_UNITS = 511
"""1/1022 is well above the error of the 20-bit multipliers with which XNNPACK adds."""
_MOST_UPSCALING = 255.0
_PRODUCT_UNITS = np.arange(4097, 8192, 2)
"""1/16382 is above the error of products in float32, which are at most 255 after rescaling."""


def product_quantization(left: float, right: float, wanted: Quantization) -> Quantization:
    """``wanted``, moved to suit products of integers of scales ``left`` and ``right``.

    XNNPACK refuses results that are finer than 1/256 of the product; so coarse they become.
    """
    ratio = min(left * right / wanted.scale, _MOST_UPSCALING)
    numerators = np.maximum(np.rint(ratio * _PRODUCT_UNITS), 1)
    best = int(np.argmin(np.abs(numerators / _PRODUCT_UNITS - ratio)))
    scale = left * right * float(_PRODUCT_UNITS[best] / numerators[best])
    return Quantization(float(np.float32(scale)), wanted.zero_point)


def sum_quantizations(
    summand: Quantization, shortcut: Quantization, wanted: Quantization
) -> tuple[Quantization, Quantization]:
    """``summand`` and ``wanted``, moved to suit their sum with ``shortcut``.

    The summand's scale becomes at least 1/32 of the sum's: XNNPACK refuses less than 1/1024.
    """
    units = max(1, int(_SUM_UNITS * shortcut.scale / wanted.scale))  # down: the range isn't cut
    unit = shortcut.scale / units
    total = Quantization(float(np.float32(unit * _SUM_UNITS)), wanted.zero_point)
    units = max(_SUM_UNITS // 32, round(summand.scale / unit))
    return Quantization(float(np.float32(unit * units)), summand.zero_point), total
