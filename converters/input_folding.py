"""Folding the input normalisation into the stem, so that a model takes plain uint8 pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from effnet_edge.models.network import Conv, FloatArray, Network


def fold_input(network: Network) -> tuple[FloatArray, Conv]:
    """Return the per-channel offset ``[3]``, in pixel values, and the stem that follows it.

    ``stem(normalise(pixel)) == folded(pixel - offset)``. The scale goes into the weights, the mean
    can't: the stem pads the *normalised* image with zeros, so the border is right only if a pixel
    that equals the mean is zero when the convolution pads.
    """
    mean = np.asarray(network.mean, np.float64)
    std = np.asarray(network.std, np.float64)
    weight = network.stem.weight.astype(np.float64) / (255 * std)[:, None, None]
    return (255 * mean).astype(np.float32), replace(network.stem, weight=weight.astype(np.float32))


def whole_offset(offset: FloatArray) -> int | None:
    """The one whole number, 0 to 255, that ``offset`` [3] is for all channels, or None.

    It can be a zero point: then subtracting it costs nothing and is exact.
    """
    whole = np.all(offset == np.rint(offset[0])) and 0 <= offset[0] <= 255
    return int(offset[0]) if whole else None
