"""How a Keras model feeds itself: the input size and normalisation that stand inside of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.keras_file import KerasLayer
from effnet_edge.errors import CheckpointError
from effnet_edge.recipe import IMAGENET_STD, MAX_RESOLUTION

_LEAST_DEVIATION = 1e-7
"""``keras.config.epsilon()``, which Normalization puts below its square root of the variance."""

Triple = tuple[float, float, float]


def input_size(layers: tuple[KerasLayer, ...], where: str) -> tuple[int, int] | None:
    """(height, width) of the outermost input, or None where the model leaves it open.

    Raises CheckpointError for a size that no image has.
    """
    for layer in layers:
        shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
        if isinstance(shape, list) and len(shape) == 4:
            height, width = shape[1:3]
            if isinstance(height, int) and isinstance(width, int):
                if not all(1 <= side <= MAX_RESOLUTION for side in (height, width)):
                    raise CheckpointError(
                        f"{where} was built for images of another size than 1 to {MAX_RESOLUTION} "
                        "pixels a side"
                    )
                return height, width
    return None


def composed_normalization(
    tensors: Mapping[str, NDArray[Any]], layers: tuple[KerasLayer, ...], where: str
) -> tuple[Triple, Triple] | tuple[None, None]:
    """All Rescaling and Normalization layers before the stem, as one (x / 255 - mean) / std."""
    scale, shift = np.ones(3), np.zeros(3)
    found = False
    for layer in layers:
        if layer.kind == "Conv2D":
            break
        if layer.kind == "Rescaling":
            factor = _channels(layer.config.get("scale"), layer, where)
            scale, shift = scale * factor, shift * factor
            shift = shift + _channels(layer.config.get("offset", 0.0), layer, where)
            found = True
        elif layer.kind == "Normalization":
            if layer.config.get("invert"):
                raise CheckpointError(f"{where}: {layer.name} inverts, which isn't converted")
            mean = _given(tensors, layer, "mean", where)
            with np.errstate(invalid="ignore"):
                spread = np.sqrt(_given(tensors, layer, "variance", where))
            deviation = np.maximum(spread, _LEAST_DEVIATION)
            scale, shift = scale / deviation, (shift - mean) / deviation
            found = True
    if not found:
        return None, None
    if not (np.isfinite(scale) & (scale > 0) & np.isfinite(shift)).all():
        raise CheckpointError(f"{where} normalises its input in a way that can't be converted")
    std = 1 / (255 * scale)
    return _triple(0.0 - shift * std), _triple(std)


def _given(
    tensors: Mapping[str, NDArray[Any]], layer: KerasLayer, what: str, where: str
) -> NDArray[np.float64]:
    inline = layer.config.get(what)
    stored = tensors.get(f"{layer.name}/{what}")
    return _channels(stored if inline is None else inline, layer, where)


def _channels(value: Any, layer: KerasLayer, where: str) -> NDArray[np.float64]:
    if isinstance(value, Mapping):
        value = value.get("config", {}).get("value")
    try:
        channels = np.broadcast_to(np.asarray(value, np.float64).reshape(-1), (3,))
    except (OverflowError, TypeError, ValueError):
        channels = np.full(3, np.nan)
    if not np.isfinite(channels).all():
        raise CheckpointError(
            f"{where}: the layer {layer.name} doesn't say how it scales the three channels"
        )
    return channels


def stored_normalization(
    tensors: Mapping[str, NDArray[Any]], layers: set[str], notes: list[str]
) -> tuple[Triple, Triple] | tuple[None, None]:
    """The same from a weights-only file: Rescaling(1/255) and one Normalization."""
    if len(layers) != 1:
        return None, None
    (layer,) = layers
    mean, variance = tensors.get(f"{layer}/mean"), tensors[f"{layer}/variance"]
    if mean is None or mean.size != 3 or variance.size != 3:
        return None, None
    if np.allclose(variance.ravel(), IMAGENET_STD, atol=1e-4):
        notes.append(
            "the stored variance is ImageNet's standard deviation, as in Keras's released weights, "
            "and was read as such"
        )
        return _triple(mean.ravel()), IMAGENET_STD
    with np.errstate(invalid="ignore"):
        deviation = np.maximum(np.sqrt(variance.ravel()), _LEAST_DEVIATION)
    return _triple(mean.ravel()), _triple(deviation)


def _triple(values: NDArray[Any]) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
