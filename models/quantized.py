"""The quantized network: the same shape as `network.Network`, with integers instead of floats.

Both writers take their numbers from here and only from here, so that the ONNX and the TFLite file
carry the same integers. Weights are symmetric int8 per output channel, activations are affine int8
per tensor, biases int32 (Jacob et al. 2018, "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference"). ONNX files store activations as uint8, which is the
same integer plus 128.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effnet_edge.models.architecture import Architecture
from effnet_edge.models.geometry import PaddingMode
from effnet_edge.models.network import FloatArray

Int8Array = NDArray[np.int8]
Int32Array = NDArray[np.int32]


@dataclass(frozen=True)
class Quantization:
    """Real value = ``scale * (integer - zero_point)``, integers and zero point in -128..127."""

    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        """The smallest real value."""
        return self.scale * (-128 - self.zero_point)

    @property
    def high(self) -> float:
        """The largest real value."""
        return self.scale * (127 - self.zero_point)


SIGMOID = Quantization(1 / 256, -128)
"""What LOGISTIC gives in TFLite, by its specification; the ONNX file does the same."""


@dataclass(frozen=True, eq=False)
class QuantizedConv:
    """A convolution of int8 weights ``[out, in / groups, height, width]``.

    ``weight_scale`` is float32 ``[out]``, ``bias`` int32 ``[out]`` in units of ``input.scale *
    weight_scale``. A ReLU6 that follows is the saturation of ``output``: its range is within 0..6.
    """

    weight: Int8Array
    weight_scale: FloatArray
    bias: Int32Array
    input: Quantization
    output: Quantization
    stride: int = 1
    groups: int = 1

    @property
    def kernel(self) -> int:
        """Height and width of the square kernel."""
        return int(self.weight.shape[2])

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return int(self.weight.shape[0])


@dataclass(frozen=True, eq=False)
class SigmoidArgument:
    """Undoes, for the sigmoid alone, the factor that its convolution gave each channel.

    ``argument = factors_quantization(factors) * convolution output``, saturated to ``output``'s
    range. ``factors`` is int8 ``[channels]``.
    """

    factors: Int8Array
    factors_quantization: Quantization
    output: Quantization


@dataclass(frozen=True, eq=False)
class QuantizedSilu:
    """``x * sigmoid(x)``, where x is a convolution's output.

    Without ``argument`` that is all. With it, the convolution's output u has one factor per channel
    on x, so that all channels fill the range: ``u * sigmoid(argument(u))`` is then SiLU
    with the same factor per channel, and whatever follows has weights that undo it.
    """

    output: Quantization
    argument: SigmoidArgument | None = None


@dataclass(frozen=True, eq=False)
class ActivatedConv:
    """A convolution and its activation: SiLU, or None for ReLU6 (see `QuantizedConv`)."""

    conv: QuantizedConv
    silu: QuantizedSilu | None

    @property
    def output(self) -> Quantization:
        """Of the activation's result."""
        return self.conv.output if self.silu is None else self.silu.output


@dataclass(frozen=True, eq=False)
class QuantizedSqueezeExcite:
    """``pool`` is the mean over the map, ``output`` the map times its gates.

    ``expand.output`` is the argument of the sigmoid, whose result is quantized by `SIGMOID`.
    """

    pool: Quantization
    reduce: ActivatedConv
    expand: QuantizedConv
    output: Quantization


@dataclass(frozen=True, eq=False)
class QuantizedMBConv:
    """Inverted bottleneck. ``residual`` quantizes the sum with the input; None: there is none."""

    expand: ActivatedConv | None
    depthwise: ActivatedConv
    squeeze_excite: QuantizedSqueezeExcite | None
    project: QuantizedConv
    residual: Quantization | None

    @property
    def input(self) -> Quantization:
        """Of the block's input."""
        first = self.depthwise if self.expand is None else self.expand
        return first.conv.input

    @property
    def output(self) -> Quantization:
        """Of the block's result."""
        return self.project.output if self.residual is None else self.residual


@dataclass(frozen=True, eq=False)
class QuantizedHead:
    """1x1 convolution, activation, global average (``features``), classifier to float logits.

    ``weight`` is int8 ``[classes, features]``, ``weight_scale`` float32 ``[classes]``, ``bias``
    int32 ``[classes]`` in units of ``features.scale * weight_scale``.
    """

    conv: ActivatedConv
    features: Quantization
    weight: Int8Array
    weight_scale: FloatArray
    bias: Int32Array


@dataclass(frozen=True, eq=False)
class QuantizedNetwork:
    """A quantized EfficientNet, from uint8 pixels to float logits.

    ``offset``, float32 ``[3]``, is subtracted from the pixels; ``stem.conv.input`` quantizes the
    difference. Where it is one whole number, scale 1 and zero point ``offset - 128`` make the
    subtraction free and exact.
    """

    architecture: Architecture
    padding: PaddingMode
    resolution: tuple[int, int]
    offset: FloatArray
    stem: ActivatedConv
    blocks: tuple[QuantizedMBConv, ...]
    head: QuantizedHead

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.head.weight.shape[0])

    def convs(self) -> Iterator[tuple[str, QuantizedConv]]:
        """Every convolution with a readable path, in order of execution."""
        yield "stem", self.stem.conv
        for index, block in enumerate(self.blocks):
            prefix = f"blocks.{index}"
            if block.expand is not None:
                yield f"{prefix}.expand", block.expand.conv
            yield f"{prefix}.depthwise", block.depthwise.conv
            if block.squeeze_excite is not None:
                yield f"{prefix}.squeeze_excite.reduce", block.squeeze_excite.reduce.conv
                yield f"{prefix}.squeeze_excite.expand", block.squeeze_excite.expand
            yield f"{prefix}.project", block.project
        yield "head.conv", self.head.conv.conv
