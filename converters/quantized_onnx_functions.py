"""Stem, block and head of a quantized network as ONNX functions of standard QDQ operators.

A part becomes one call of a model-local function in the domain ``effnet_edge``. Its body is what
any ONNX Runtime fuses to integer kernels; a library that registers an operator of the same domain
and name replaces it. One function serves all parts of one structure, and its name spells that:

    Pixels = "Pixels" (only where an offset must be subtracted from the image)
    Stem   = "Stem" Act
    MBConv = "MBConv" ["Expand" Act] "Depthwise" Act ["Gate" Act] ["Residual"]
    Head   = "Head" Act
    Act    = "" (none, or ReLU6 by saturation) | "Silu" | "ScaledSilu" (`SigmoidArgument`)

so ``MBConvExpandSiluDepthwiseSiluGateSiluResidual`` is a block of B0. Maps are uint8 NHWC.
Inputs come in the order of the computation, and where the name leaves something out, so do they:

    Pixels = x offset Q(y)
    Stem   = x Q(x) Conv(conv)
    MBConv = x Q(x) [Conv(expand)] Conv(depthwise) [Q(pool) Conv(reduce) Gate] Conv(project) [Q(y)]
    Gate   = W(gate) Q(gate) Q(gated)
    Head   = x Q(x) Conv(conv) Q(features) W(classifier)
    Conv   = W Q(conv) Silu          (Silu only where its Act says so)
    Silu   = [factor factor_scale factor_zero_point Q(argument)] Q(silu)
    W      = weight weight_scale bias
    Q      = scale zero_point

``Q`` is float32 and uint8, both scalar; ``offset`` is float32 ``[3]``. ``weight`` is int8
``[out, in / groups, k, k]`` (``[classes, features]`` in the head), ``weight_scale`` float32
``[out]``, ``bias`` int32 ``[out]`` in units of the convolution's input scale times
``weight_scale``; ``factor`` is uint8 ``[channels, 1, 1]``. All but ``x`` are initializers of the
graph. ``Stem`` and ``MBConv`` have the attributes ``strides``, ``pads`` (top, left, bottom, right)
and ``group`` of their stem convolution or depthwise one. The sigmoid of a SiLU and of a gate is
stored with scale 1/256, zero point 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from effnet_edge.converters.onnx_interface import OPSET
from effnet_edge.models.geometry import PaddingMode, padding_before_after
from effnet_edge.models.network import FloatArray
from effnet_edge.models.quantized import (
    SIGMOID,
    ActivatedConv,
    Int8Array,
    Int32Array,
    Quantization,
    QuantizedConv,
    QuantizedHead,
    QuantizedMBConv,
    QuantizedSilu,
    QuantizedSqueezeExcite,
)

DOMAIN = "effnet_edge"
DOMAIN_VERSION = 1

UNSIGNED = 128
"""What is added to an int8 activation to store it as uint8: x86 kernels want it so."""


@dataclass(frozen=True)
class FunctionCall:
    """A function and one call of it.

    ``constants`` are the call's inputs after ``x``, in order, by the function's names for them.
    """

    function: onnx.FunctionProto
    constants: dict[str, NDArray[Any]]
    attributes: dict[str, Any]


def pixels_call(offset: FloatArray, quantization: Quantization) -> FunctionCall:
    """uint8 NHWC pixels less ``offset`` [3], quantized, to uint8 of the same shape."""
    body = _Body("Pixels")
    real = body.node("Cast", "x_real", ["x"], to=onnx.TensorProto.FLOAT)
    centred = body.node("Sub", "centred", [real, body.constant("offset", offset)])
    scale, zero_point = body.quantization("y", quantization)
    body.node("QuantizeLinear", "y", [centred, scale, zero_point])
    return body.call({})


def stem_call(stem: ActivatedConv, padding: PaddingMode, size: tuple[int, int]) -> FunctionCall:
    """uint8 NHWC of ``size`` (height, width), quantized by ``stem.conv.input``, to uint8 NHWC."""
    body = _Body("Stem" + _act(stem.silu))
    x = _from_nhwc(body, stem.conv.input)
    x = _activated(body, "conv", stem, x, spatial=True)
    _to_nhwc(body, x)
    return body.call(_spatial(stem.conv, padding, size))


def mbconv_call(
    block: QuantizedMBConv, padding: PaddingMode, size: tuple[int, int]
) -> FunctionCall:
    """uint8 NHWC of ``size`` (height, width), quantized by ``block.input``, to uint8 NHWC."""
    gate = block.squeeze_excite
    body = _Body(
        "MBConv"
        + ("" if block.expand is None else "Expand" + _act(block.expand.silu))
        + ("Depthwise" + _act(block.depthwise.silu))
        + ("" if gate is None else "Gate" + _act(gate.reduce.silu))
        + ("" if block.residual is None else "Residual")
    )
    x = shortcut = _from_nhwc(body, block.input)
    if block.expand is not None:
        x = _activated(body, "expand", block.expand, x)
    x = _activated(body, "depthwise", block.depthwise, x, spatial=True)
    if gate is not None:
        x = _gated(body, gate, x)
    x = _conv(body, "project", block.project, x)
    if block.residual is not None:
        total = body.node("Add", "sum", [body.real(x), body.real(shortcut)])
        x = body.quantized("y", total, block.residual)
    _to_nhwc(body, x)
    return body.call(_spatial(block.depthwise.conv, padding, size))


def head_call(head: QuantizedHead) -> FunctionCall:
    """uint8 NHWC, quantized by ``head.conv.conv.input``, to float32 logits ``[N, classes]``."""
    body = _Body("Head" + _act(head.conv.silu))
    x = _from_nhwc(body, head.conv.conv.input)
    x = _activated(body, "conv", head.conv, x)
    x = _pooled(body, "features", head.features, x)
    flat = _Tensor(body.node("Flatten", "flat", [x.name]), x.scale, x.zero_point, x.quantization)
    weight, bias = _parameters(body, "classifier", head.weight, head.weight_scale, head.bias, flat)
    body.node("Gemm", "y", [body.real(flat), weight, bias], transB=1)
    return body.call({})


@dataclass(frozen=True)
class _Tensor:
    """A uint8 value of the body and the names of what it is quantized with."""

    name: str
    scale: str
    zero_point: str
    quantization: Quantization


class _Body:
    """The function as it grows, and with it the constants of the call."""

    def __init__(self, name: str) -> None:
        self.function = onnx.FunctionProto(
            name=name,
            domain=DOMAIN,
            input=["x"],
            output=["y"],
            opset_import=[helper.make_opsetid("", OPSET)],
        )
        self.constants: dict[str, NDArray[Any]] = {}
        self._real: dict[str, str] = {}

    def node(self, operator: str, output: str, inputs: Iterable[str], **attributes: Any) -> str:
        self.function.node.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def fixed(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant that is the same in every call."""
        return self.node("Constant", name, [], value=numpy_helper.from_array(array))

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add an input whose argument, in this call, is ``array``."""
        self.function.input.append(name)
        self.constants[name] = array
        return name

    def quantization(self, name: str, quantization: Quantization) -> tuple[str, str]:
        """Add a scale and a zero point to the inputs."""
        zero_point = quantization.zero_point + UNSIGNED
        return (
            self.constant(f"{name}_scale", np.array(quantization.scale, np.float32)),
            self.constant(f"{name}_zero_point", np.array(zero_point, np.uint8)),
        )

    def quantized(self, name: str, real: str, quantization: Quantization) -> _Tensor:
        """Quantize the float value ``real``, with parameters that are inputs."""
        return self.quantized_by(name, real, *self.quantization(name, quantization), quantization)

    def quantized_by(
        self, name: str, real: str, scale: str, zero_point: str, quantization: Quantization
    ) -> _Tensor:
        """Quantize the float value ``real``, with parameters that are there already."""
        output = self.node("QuantizeLinear", f"{name}_q", [real, scale, zero_point])
        return _Tensor(output, scale, zero_point, quantization)

    def real(self, tensor: _Tensor) -> str:
        """``tensor`` dequantized, once for all who read it."""
        if tensor.name not in self._real:
            self._real[tensor.name] = self.node(
                "DequantizeLinear",
                f"{tensor.name}_real",
                [tensor.name, tensor.scale, tensor.zero_point],
            )
        return self._real[tensor.name]

    def sigmoid(self, name: str, argument: _Tensor) -> _Tensor:
        """The sigmoid, quantized by `SIGMOID`, whose parameters are constants of the body."""
        scale, zero_point = "sigmoid_scale", "sigmoid_zero_point"
        if scale not in (node.output[0] for node in self.function.node):
            self.fixed(scale, np.array(SIGMOID.scale, np.float32))
            self.fixed(zero_point, np.array(SIGMOID.zero_point + UNSIGNED, np.uint8))
        real = self.node("Sigmoid", f"{name}_sigmoid", [self.real(argument)])
        return self.quantized_by(f"{name}_sigmoid", real, scale, zero_point, SIGMOID)

    def call(self, attributes: dict[str, Any]) -> FunctionCall:
        self.function.attribute.extend(attributes)
        return FunctionCall(self.function, self.constants, attributes)


def _act(silu: QuantizedSilu | None) -> str:
    if silu is None:
        return ""
    return "Silu" if silu.argument is None else "ScaledSilu"


def _spatial(conv: QuantizedConv, padding: PaddingMode, size: tuple[int, int]) -> dict[str, Any]:
    pads = [padding_before_after(padding, side, conv.kernel, conv.stride) for side in size]
    (top, bottom), (left, right) = pads
    return {
        "strides": [conv.stride, conv.stride],
        "pads": [top, left, bottom, right],
        "group": conv.groups,
    }


def _from_nhwc(body: _Body, quantization: Quantization) -> _Tensor:
    scale, zero_point = body.quantization("x", quantization)
    x = body.node("Transpose", "x_nchw", ["x"], perm=[0, 3, 1, 2])
    return _Tensor(x, scale, zero_point, quantization)


def _to_nhwc(body: _Body, y: _Tensor) -> None:
    body.node("Transpose", "y", [y.name], perm=[0, 2, 3, 1])


def _activated(
    body: _Body, name: str, part: ActivatedConv, x: _Tensor, spatial: bool = False
) -> _Tensor:
    x = _conv(body, name, part.conv, x, spatial)
    return x if part.silu is None else _silu(body, name, part.silu, x)


def _silu(body: _Body, name: str, silu: QuantizedSilu, x: _Tensor) -> _Tensor:
    argument = x
    if silu.argument is not None:
        factors = silu.argument.factors.astype(np.int16) + UNSIGNED
        factor_name = body.constant(f"{name}_factor", factors.astype(np.uint8).reshape(-1, 1, 1))
        quantization = silu.argument.factors_quantization
        factor = _Tensor(factor_name, *body.quantization(factor_name, quantization), quantization)
        real = body.node("Mul", f"{name}_unscaled", [body.real(x), body.real(factor)])
        argument = body.quantized(f"{name}_argument", real, silu.argument.output)
    sigmoid = body.sigmoid(name, argument)
    real = body.node("Mul", f"{name}_silu", [body.real(x), body.real(sigmoid)])
    return body.quantized(f"{name}_silu", real, silu.output)


def _gated(body: _Body, gate: QuantizedSqueezeExcite, x: _Tensor) -> _Tensor:
    y = _pooled(body, "pool", gate.pool, x)
    y = _activated(body, "reduce", gate.reduce, y)
    y = _conv(body, "gate", gate.expand, y)
    sigmoid = body.sigmoid("gate", y)
    real = body.node("Mul", "gated", [body.real(x), body.real(sigmoid)])
    return body.quantized("gated", real, gate.output)


def _pooled(body: _Body, name: str, quantization: Quantization, x: _Tensor) -> _Tensor:
    # Not ReduceMean: ONNX Runtime has no integer kernel for that.
    mean = body.node("GlobalAveragePool", name, [body.real(x)])
    return body.quantized(name, mean, quantization)


def _conv(
    body: _Body, name: str, conv: QuantizedConv, x: _Tensor, spatial: bool = False
) -> _Tensor:
    if x.quantization != conv.input:
        raise ValueError(f"{name} reads {conv.input}, but is given {x.quantization}")
    weight, bias = _parameters(body, name, conv.weight, conv.weight_scale, conv.bias, x)
    real = body.node("Conv", name, [body.real(x), weight, bias])
    if spatial:
        kinds = onnx.AttributeProto
        for attribute, kind in (
            ("strides", kinds.INTS),
            ("pads", kinds.INTS),
            ("group", kinds.INT),
        ):
            body.function.node[-1].attribute.add(name=attribute, type=kind, ref_attr_name=attribute)
    return body.quantized(name, real, conv.output)


def _parameters(
    body: _Body,
    name: str,
    weight: Int8Array,
    weight_scale: FloatArray,
    bias: Int32Array,
    x: _Tensor,
) -> tuple[str, str]:
    """The float weight and bias of a convolution or Gemm that reads ``x``."""
    w = body.constant(f"{name}_weight", weight)
    scale = body.constant(f"{name}_weight_scale", weight_scale)
    b = body.constant(f"{name}_bias", bias)
    # What follows is folded on loading, and then fused, where constants would cost 5 bytes per
    # channel. A zero point could be left out, but ONNX Runtime before 1.32 reads it unasked when
    # "session.x64quantprecision" is set.
    channels = body.node("Shape", f"{name}_channels", [scale])
    zero = numpy_helper.from_array(np.zeros(1, np.int8))
    zero_point = body.node("ConstantOfShape", f"{name}_weight_zero_point", [channels], value=zero)
    bias_scale = body.node("Mul", f"{name}_bias_scale", [x.scale, scale])
    return (
        body.node("DequantizeLinear", f"{name}_weight_real", [w, scale, zero_point], axis=0),
        body.node("DequantizeLinear", f"{name}_bias_real", [b, bias_scale], axis=0),
    )
