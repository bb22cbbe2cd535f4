"""Where a convolution reads: padding and output size for the two conventions of trained weights."""

from __future__ import annotations

import math
from typing import Literal

PaddingMode = Literal["same", "symmetric"]
"""``same``: TensorFlow's SAME, as little as the output size needs, the odd one after.
``symmetric``: PyTorch's ``padding=kernel // 2`` on every side."""


def output_size(size: int, stride: int) -> int:
    """Output length of an odd-sized kernel along one axis; equal for both conventions."""
    return math.ceil(size / stride)


def output_map(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """`output_size` of a map's height and width."""
    height, width = size
    return output_size(height, stride), output_size(width, stride)


def padding_before_after(mode: PaddingMode, size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros to put before and after an axis of length ``size`` for an odd ``kernel``.

    ``after`` is what the last window needs, so that ``(before + size + after - kernel)`` is
    non-negative and at most ``stride - 1`` input elements stay unread; PyTorch may nominally pad
    one more that no window reads.
    """
    needed = max((output_size(size, stride) - 1) * stride + kernel - size, 0)
    before = needed // 2 if mode == "same" else kernel // 2
    return before, max(needed - before, 0)
