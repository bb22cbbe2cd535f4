"""Keras applications: names, layout, and how the file says its images were fed.

``keras/src/applications/efficientnet.py``: Rescaling(1/255) and Normalization stand inside the
model. The released ImageNet weights store the standard deviation where the layer wants the
variance, and a second Rescaling by its square root makes up for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.dialects.folding import TENSORFLOW_EPSILON
from effnet_edge.converters.dialects.keras_checks import check_layers, reading_configuration
from effnet_edge.converters.dialects.keras_input import (
    composed_normalization,
    input_size,
    stored_normalization,
)
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
from effnet_edge.recipe import Recipe

ANCHOR = "stem_conv/kernel"


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
        epsilon = TENSORFLOW_EPSILON
        mean, std = stored_normalization(tensors, normalizations, notes)
        resolution = None
    else:
        with reading_configuration(where):
            epsilon = check_layers(layers, where, notes)
            mean, std = composed_normalization(tensors, layers, where)
            resolution = input_size(layers, where)
    laid_out.update(_classifier(rest, epsilon, where))
    return KerasWeights(laid_out, epsilon, mean, std, resolution, tuple(notes))


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
        if {mean.shape, gamma.shape, beta.shape} != {variance.shape} or bias.shape != (
            len(weight),
        ):
            raise CheckpointError(
                f"{where}: the parts of {norms[0]} and {layer} have shapes that don't fit together"
            )
        if (variance < 0).any():
            raise CheckpointError(f"{where}: {norms[0]} has negative variances: it is damaged")
        scale = gamma / np.sqrt(variance + epsilon)
        bias = (bias + weight @ (beta - mean * scale)).astype(np.float32)
        weight = (weight * scale).astype(np.float32)
    return {**rest, "predictions/kernel": weight, "predictions/bias": bias}


def with_normalization(recipe: Recipe, weights: KerasWeights, where: str) -> Recipe:
    """``recipe`` with the mean and std that the file holds, if it does. Raises CheckpointError."""
    if weights.mean is None or weights.std is None:
        return recipe
    try:
        return replace(recipe, mean=weights.mean, std=weights.std)
    except ValueError as error:
        raise CheckpointError(f"{where} normalises its input by nonsense: {error}") from None
