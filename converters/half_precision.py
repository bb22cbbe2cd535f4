"""Weights as float16: half the bytes, made float32 again when a model is loaded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from effnet_edge.errors import ConversionError
from effnet_edge.models.network import FloatArray


def to_half(name: str, weight: FloatArray) -> NDArray[np.float16]:
    """Round ``weight`` to the nearest float16; what is below 2^-25 becomes zero.

    Raises ConversionError, calling it ``name``, if a value is above 65504, float16's largest.
    """
    with np.errstate(over="ignore"):
        half = weight.astype(np.float16)
    if np.isinf(half).any():
        raise ConversionError(
            f"{name} reaches {np.abs(weight).max():.3g}, and float16 ends at "
            f"{np.finfo(np.float16).max:.0f}: leave --fp16 out"
        )
    return half
