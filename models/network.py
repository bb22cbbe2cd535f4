"""The one intermediate form: a trained EfficientNet with batch norm folded, as frozen data.

Readers make a `Network`, passes map it to another, writers turn it into a file. Arrays are
float32, convolution weights are ``[out, in / groups, height, width]`` and must not be modified.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.models.architecture import Architecture
from effnet_edge.models.geometry import PaddingMode

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Mean and standard deviation of each output channel over the training distribution.

    Batch norm's own statement about the convolution it was folded into: after the fold, channel
    c has mean beta[c] and deviation |gamma[c]| * sqrt(var / (var + eps)). Activation ranges can be
    derived from them without data (Nagel et al. 2019, "Data-Free Quantization", section 4.2).
    """

    mean: FloatArray
    std: FloatArray


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution with bias. ``groups`` is 1, or the channel count for a depthwise one."""

    weight: FloatArray
    bias: FloatArray
    stride: int = 1
    groups: int = 1
    statistics: ChannelStatistics | None = None

    @property
    def kernel(self) -> int:
        """Height and width of the square kernel."""
        return int(self.weight.shape[2])

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return int(self.weight.shape[0])


@dataclass(frozen=True, eq=False)
class SqueezeExcite:
    """Gate per channel: sigmoid(expand(silu(reduce(mean over the map)))); both are 1x1."""

    reduce: Conv
    expand: Conv


@dataclass(frozen=True, eq=False)
class MBConv:
    """Inverted bottleneck: expand, depthwise, squeeze-excite, project, and the residual sum."""

    expand: Conv | None
    depthwise: Conv
    squeeze_excite: SqueezeExcite | None
    project: Conv
    residual: bool


@dataclass(frozen=True, eq=False)
class Head:
    """1x1 convolution, activation, global average pool, classifier.

    ``weight`` is ``[classes, features]``, ``bias`` is ``[classes]``.
    """

    conv: Conv
    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True, eq=False)
class Network:
    """A trained EfficientNet.

    ``mean`` and ``std`` are the input normalisation ``(pixel / 255 - mean) / std`` per RGB channel
    that the stem expects; writers fold it in. ``resolution`` is ``(height, width)`` in pixels.
    """

    architecture: Architecture
    padding: PaddingMode
    resolution: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stem: Conv
    blocks: tuple[MBConv, ...]
    head: Head

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.head.weight.shape[0])

    @property
    def parameters(self) -> int:
        """Trainable parameters of the network that was read: batch norm's gamma and beta count."""
        return sum(array.size for _, array in self.arrays()) + sum(
            conv.out_channels for conv in self.normalised_convs()
        )

    def normalised_convs(self) -> Iterator[Conv]:
        """Every convolution that a batch norm was folded into, in order of execution."""
        yield self.stem
        for block in self.blocks:
            if block.expand is not None:
                yield block.expand
            yield block.depthwise
            yield block.project
        yield self.head.conv

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every weight and bias with a readable path, in order of execution."""
        yield from _conv_arrays("stem", self.stem)
        for index, block in enumerate(self.blocks):
            prefix = f"blocks.{index}"
            if block.expand is not None:
                yield from _conv_arrays(f"{prefix}.expand", block.expand)
            yield from _conv_arrays(f"{prefix}.depthwise", block.depthwise)
            if block.squeeze_excite is not None:
                yield from _conv_arrays(
                    f"{prefix}.squeeze_excite.reduce", block.squeeze_excite.reduce
                )
                yield from _conv_arrays(
                    f"{prefix}.squeeze_excite.expand", block.squeeze_excite.expand
                )
            yield from _conv_arrays(f"{prefix}.project", block.project)
        yield from _conv_arrays("head.conv", self.head.conv)
        yield "head.classifier.weight", self.head.weight
        yield "head.classifier.bias", self.head.bias


def _conv_arrays(path: str, conv: Conv) -> Iterator[tuple[str, NDArray[Any]]]:
    yield f"{path}.weight", conv.weight
    yield f"{path}.bias", conv.bias
