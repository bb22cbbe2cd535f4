"""Keras applications: names, layout, and how the file says its images were fed.

``keras/src/applications/efficientnet.py``: Rescaling(1/255) and Normalization stand inside the
model. The released ImageNet weights store the standard deviation where the layer wants the
variance, and a second Rescaling by its square root makes up for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.dialects.names import (
    BlockNames,
    ConvNames,
    NetworkNames,
    NormNames,
    Tensors,
)
from effnet_edge.converters.keras_file import KerasLayer, block_name
from effnet_edge.errors import CheckpointError
from effnet_edge.models.architecture import Architecture, BlockSpec
from effnet_edge.models.geometry import padding_before_after
from effnet_edge.recipe import IMAGENET_STD, Recipe

ANCHOR = "stem_conv/kernel"

_DEFAULT_EPSILON = 1e-3
_LEAST_DEVIATION = 1e-7
"""``keras.config.epsilon()``, which Normalization puts below its square root of the variance."""

# Layers that change nothing at inference, or that are EfficientNet's own parts.
_PARTS = frozenset(
    {
        "Activation",
        "Add",
        "BatchNormalization",
        "Conv2D",
        "Dense",
        "DepthwiseConv2D",
        "Dropout",
        "FixedDropout",
        "GaussianNoise",
        "GlobalAveragePooling2D",
        "InputLayer",
        "Multiply",
        "Normalization",
        "Rescaling",
        "Reshape",
        "Softmax",
        "ZeroPadding2D",
    }
)
_ACTIVATIONS = ("swish", "silu")


@dataclass(frozen=True)
class KerasWeights:
    """A Keras file in the terms of the other dialects.

    ``tensors`` are laid out as PyTorch's are ([out, in, h, w]; [classes, features]), the classifier
    named ``predictions``. ``mean`` and ``std`` are per channel on the 0..1 scale, or None where
    the file has no layers for them; ``resolution`` is the input the model was built for, if fixed.
    """

    tensors: Tensors
    epsilon: float
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    resolution: tuple[int, int] | None
    notes: tuple[str, ...]


def names(arch: Architecture) -> NetworkNames:
    """The names that `adapt` gives to ``arch``'s tensors."""
    return NetworkNames(
        stem=_conv("stem_conv", "stem_bn"),
        blocks=tuple(_block(block) for block in arch.blocks),
        head=_conv("top_conv", "top_bn"),
        classifier=("predictions/kernel", "predictions/bias"),
    )


def adapt(
    tensors: Mapping[str, NDArray[Any]], layers: tuple[KerasLayer, ...] | None, where: str
) -> KerasWeights:
    """Turn a Keras file's tensors and layers into `KerasWeights`.

    Raises CheckpointError for a model that does more than the EfficientNet in it.
    """
    backbone = {f"{part}/{variable}" for part in _backbone_layers(tensors) for variable in _ALL}
    normalizations = {
        name.removesuffix("/variance") for name in tensors if name.endswith("/variance")
    }
    laid_out: Tensors = {
        name: _laid_out(name, tensors[name]) for name in tensors if name in backbone
    }
    rest = {
        name: values
        for name, values in tensors.items()
        if name not in backbone and name.partition("/")[0] not in normalizations
    }
    notes: list[str] = []
    if layers is None:
        epsilon = _DEFAULT_EPSILON
        mean, std = _stored_normalization(tensors, normalizations, notes)
        resolution = None
    else:
        epsilon = _check_layers(layers, where, notes)
        mean, std = _composed_normalization(tensors, layers, where)
        resolution = _input_size(layers)
    laid_out.update(_classifier(rest, epsilon, where))
    return KerasWeights(laid_out, epsilon, mean, std, resolution, tuple(notes))


def check_padding(
    layers: Iterable[KerasLayer], arch: Architecture, recipe: Recipe, where: str
) -> None:
    """Check that the ZeroPadding2D layers do what SAME does at ``recipe``'s resolution.

    Keras fixes them when the model is built: for even sizes if the input's size was left open.
    Raises CheckpointError.
    """
    paddings = {layer.name: layer for layer in layers if layer.kind == "ZeroPadding2D"}
    strided = [("stem_conv_pad", 3)]
    strided += [(f"{block_name(b)}_dwconv_pad", b.kernel) for b in arch.blocks if b.stride == 2]
    size = recipe.resolution
    for name, kernel in strided:
        wanted = [list(padding_before_after("same", side, kernel, 2)) for side in size]
        layer = paddings.get(name)
        found = None if layer is None else layer.config.get("padding")
        if found is not None and [list(pair) for pair in found] != wanted:
            raise CheckpointError(
                f"{where} was built for another input size: at {recipe.resolution[0]} x "
                f"{recipe.resolution[1]} its layer {name} would pad {found}, where {wanted} is "
                "right. Give --resolution as in training, or build the model for this size"
            )
        size = ((size[0] + 1) // 2, (size[1] + 1) // 2)


_ALL = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def _conv(layer: str, norm: str) -> ConvNames:
    return ConvNames(
        f"{layer}/kernel",
        norm=NormNames(
            f"{norm}/gamma", f"{norm}/beta", f"{norm}/moving_mean", f"{norm}/moving_variance"
        ),
    )


def _block(block: BlockSpec) -> BlockNames:
    name = block_name(block)
    squeezed = block.squeeze_channels is not None
    reduce = ConvNames(f"{name}_se_reduce/kernel", bias=f"{name}_se_reduce/bias")
    excite = ConvNames(f"{name}_se_expand/kernel", bias=f"{name}_se_expand/bias")
    expand = _conv(f"{name}_expand_conv", f"{name}_expand_bn")
    return BlockNames(
        expand=expand if block.has_expand else None,
        depthwise=_conv(f"{name}_dwconv", f"{name}_bn"),
        reduce=reduce if squeezed else None,
        excite=excite if squeezed else None,
        project=_conv(f"{name}_project_conv", f"{name}_project_bn"),
    )


def _backbone_layers(tensors: Mapping[str, Any]) -> set[str]:
    layers = {name.partition("/")[0] for name in tensors}
    ends = {"stem_conv", "stem_bn", "top_conv", "top_bn"}
    return {layer for layer in layers if layer in ends or layer.startswith("block")}


def _laid_out(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim != 4:
        return values
    # Depthwise kernels are [h, w, channels, 1], the others [h, w, in, out].
    depthwise = name.partition("/")[0].endswith("dwconv")
    return values.transpose(2, 3, 0, 1) if depthwise else values.transpose(3, 2, 0, 1)


def _classifier(rest: Tensors, epsilon: float, where: str) -> Tensors:
    """The one Dense layer, with a batch norm of its input (as in Keras's own guide to fine-tuning
    EfficientNet) folded in; whatever else there is stays, to be reported as unexpected."""
    dense = [name for name, v in rest.items() if name.endswith("/kernel") and v.ndim == 2]
    if len(dense) > 1:
        layers = " and ".join(name.removesuffix("/kernel") for name in dense)
        raise CheckpointError(
            f"{where} ends in {len(dense)} dense layers, {layers}: only networks with a single one "
            "after the pooling can be converted"
        )
    if not dense:
        raise CheckpointError(
            f"{where} holds no classifier: it may be a model built with include_top=False. Save "
            "the whole classification network"
        )
    layer = dense[0].removesuffix("/kernel")
    rest = dict(rest)
    weight = rest.pop(f"{layer}/kernel").T
    bias = rest.pop(f"{layer}/bias", np.zeros(weight.shape[0], np.float32))
    norms = [name.removesuffix("/moving_variance") for name in rest if "/moving_variance" in name]
    if len(norms) == 1 and rest[f"{norms[0]}/moving_variance"].shape == (weight.shape[1],):
        variance = rest.pop(f"{norms[0]}/moving_variance").astype(np.float64)
        mean = rest.pop(f"{norms[0]}/moving_mean", np.zeros_like(variance))
        gamma = rest.pop(f"{norms[0]}/gamma", np.ones_like(variance))
        beta = rest.pop(f"{norms[0]}/beta", np.zeros_like(variance))
        if (variance < 0).any():
            raise CheckpointError(f"{where}: {norms[0]} has negative variances: it is damaged")
        scale = gamma / np.sqrt(variance + epsilon)
        bias = (bias + weight @ (beta - mean * scale)).astype(np.float32)
        weight = (weight * scale).astype(np.float32)
    return {**rest, "predictions/kernel": weight, "predictions/bias": bias}


def _check_layers(layers: tuple[KerasLayer, ...], where: str, notes: list[str]) -> float:
    """Refuse what isn't EfficientNet; return batch norm's epsilon."""
    epsilons: set[float] = set()
    dense_seen = False
    for layer in layers:
        if layer.kind not in _PARTS and not layer.kind.startswith("Random"):
            raise CheckpointError(
                f"{where} has a layer {layer.name} of class {layer.kind}, which is no part of an "
                "EfficientNet classifier: it can't be converted as one"
            )
        if layer.config.get("data_format", "channels_last") not in ("channels_last", None):
            raise CheckpointError(f"{where} is built channels first: save it channels last")
        if layer.kind == "BatchNormalization":
            epsilons.add(float(layer.config.get("epsilon", _DEFAULT_EPSILON)))
        activation = layer.config.get("activation")
        if layer.kind == "Dense":
            dense_seen = True
            if activation not in ("softmax", "linear", None):
                notes.append(
                    f"the classifier ends in {activation}; the converted model gives its logits, "
                    "and predictions are their softmax"
                )
        elif layer.kind == "Activation" and activation not in (
            ("softmax", "linear") if dense_seen else _ACTIVATIONS
        ):
            raise CheckpointError(
                f"{where} uses the activation {activation!r:.60} in layer {layer.name}: only "
                "networks with swish (SiLU) can be converted"
            )
    if len(epsilons) > 1:
        raise CheckpointError(f"{where} has batch norms of different epsilon: {sorted(epsilons)}")
    return epsilons.pop() if epsilons else _DEFAULT_EPSILON


def _input_size(layers: tuple[KerasLayer, ...]) -> tuple[int, int] | None:
    for layer in layers:
        shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
        if isinstance(shape, list) and len(shape) == 4:
            height, width = shape[1:3]
            if isinstance(height, int) and isinstance(width, int):
                return height, width
    return None


Triple = tuple[float, float, float]


def _composed_normalization(
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
            deviation = np.maximum(
                np.sqrt(_given(tensors, layer, "variance", where)), _LEAST_DEVIATION
            )
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
        return np.broadcast_to(np.asarray(value, np.float64).reshape(-1), (3,))
    except (TypeError, ValueError):
        raise CheckpointError(
            f"{where}: the layer {layer.name} doesn't say how it scales the three channels"
        ) from None


def _stored_normalization(
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
    return _triple(mean.ravel()), _triple(np.maximum(np.sqrt(variance.ravel()), _LEAST_DEVIATION))


def _triple(values: NDArray[Any]) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def with_normalization(recipe: Recipe, weights: KerasWeights) -> Recipe:
    """``recipe`` with the mean and std that the file holds, if it does."""
    if weights.mean is None or weights.std is None:
        return recipe
    return replace(recipe, mean=weights.mean, std=weights.std)
