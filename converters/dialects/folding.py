"""Named tensors to a `Network`: batch norm folded into its convolution, statistics kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.dialects.names import BlockNames, ConvNames, NetworkNames, Tensors
from effnet_edge.errors import CheckpointError
from effnet_edge.models.architecture import Architecture, BlockSpec
from effnet_edge.models.geometry import PaddingMode
from effnet_edge.models.network import (
    ChannelStatistics,
    Conv,
    FloatArray,
    Head,
    MBConv,
    Network,
    SqueezeExcite,
)
from effnet_edge.recipe import Recipe

PYTORCH_EPSILON = 1e-5
"""``torch.nn.BatchNorm2d``'s default."""
TENSORFLOW_EPSILON = 1e-3
"""``batch_norm_epsilon`` of the released TensorFlow networks and all that were ported from them;
also the default of Keras's layer."""

_STEM_STRIDE = 2


def fold_network(
    tensors: Tensors,
    names: NetworkNames,
    arch: Architecture,
    *,
    padding: PaddingMode,
    epsilon: float,
    recipe: Recipe,
    where: str,
) -> Network:
    """Build the network from tensors that are known to be there in the right shapes.

    Folds in float64: weight * gamma / sqrt(variance + epsilon), and
    beta - mean * gamma / sqrt(variance + epsilon) as the bias. Raises CheckpointError for tensors
    that aren't finite floats, and negative variances.
    """
    folder = _Folder(tensors, epsilon, where)
    weight, bias = names.classifier
    return Network(
        architecture=arch,
        padding=padding,
        resolution=recipe.resolution,
        mean=recipe.mean,
        std=recipe.std,
        stem=folder.conv(names.stem, _STEM_STRIDE),
        blocks=tuple(
            folder.block(block, spec) for block, spec in zip(names.blocks, arch.blocks, strict=True)
        ),
        head=Head(folder.conv(names.head), folder.floats(weight), folder.floats(bias)),
    )


def as_two_classes(network: Network) -> Network:
    """A network of one output z, which a sigmoid turns into a probability, as one of the two
    outputs 0 and z: their softmax gives 1 - sigmoid(z) and sigmoid(z)."""
    head = network.head
    weight = np.concatenate([np.zeros_like(head.weight), head.weight])
    bias = np.concatenate([np.zeros_like(head.bias), head.bias])
    return replace(network, head=replace(head, weight=weight, bias=bias))


class _Folder:
    def __init__(self, tensors: Tensors, epsilon: float, where: str) -> None:
        self.tensors = tensors
        self.epsilon = epsilon
        self.where = where

    def floats(self, name: str) -> FloatArray:
        values = self.tensors[name]
        if values.dtype.kind != "f":
            raise CheckpointError(
                f"{self.where}: {name} is {values.dtype}, where floats are wanted: is this a "
                "quantized checkpoint? Bring the float one"
            )
        self._check_finite(values, name)
        return np.ascontiguousarray(values, np.float32)

    def block(self, names: BlockNames, spec: BlockSpec) -> MBConv:
        gate = None
        if names.reduce is not None and names.excite is not None:
            gate = SqueezeExcite(self.conv(names.reduce), self.conv(names.excite))
        return MBConv(
            expand=None if names.expand is None else self.conv(names.expand),
            depthwise=self.conv(names.depthwise, spec.stride, spec.expanded_channels),
            squeeze_excite=gate,
            project=self.conv(names.project),
            residual=spec.has_residual,
        )

    def conv(self, names: ConvNames, stride: int = 1, groups: int = 1) -> Conv:
        weight = self.floats(names.weight)
        if names.norm is None:
            bias = self.floats(names.bias) if names.bias else np.zeros(len(weight), np.float32)
            return Conv(weight, bias, stride, groups)
        gamma, beta, mean, variance = (
            self.floats(name).astype(np.float64)
            for name in (names.norm.gamma, names.norm.beta, names.norm.mean, names.norm.variance)
        )
        if (variance < 0).any():
            raise CheckpointError(
                f"{self.where}: {names.norm.variance} has negative variances: it is damaged"
            )
        scale = gamma / np.sqrt(variance + self.epsilon)
        folded = self._float32(weight * scale[:, None, None, None], names.weight)
        bias = self._float32(beta - mean * scale, names.norm.beta)
        deviation = np.abs(gamma) * np.sqrt(variance / (variance + self.epsilon))
        statistics = ChannelStatistics(
            self._float32(beta, names.norm.beta), self._float32(deviation, names.norm.gamma)
        )
        return Conv(folded, bias, stride, groups, statistics)

    def _float32(self, values: NDArray[np.float64], name: str) -> FloatArray:
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32)
        self._check_finite(narrow, name)
        return narrow

    def _check_finite(self, values: NDArray[Any], name: str) -> None:
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{self.where}: {name} holds values that aren't finite (NaN or infinite): the "
                "training diverged or the file is damaged"
            )
