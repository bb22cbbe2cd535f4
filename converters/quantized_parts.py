"""One float part and what was seen of it, to its quantized counterpart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.balancing import balance
from effnet_edge.converters.input_folding import whole_offset
from effnet_edge.converters.observation import Matrix, Observed, PartObservation, activate, sigmoid
from effnet_edge.converters.ranges import best_quantization, quantization
from effnet_edge.converters.rounding import round_weights
from effnet_edge.converters.ties import product_quantization, sum_quantizations
from effnet_edge.models.architecture import Activation
from effnet_edge.models.network import Conv, FloatArray, Head, MBConv, SqueezeExcite
from effnet_edge.models.quantized import (
    SIGMOID,
    ActivatedConv,
    Quantization,
    QuantizedConv,
    QuantizedHead,
    QuantizedMBConv,
    QuantizedSilu,
    QuantizedSqueezeExcite,
)

Importance = NDArray[np.float64]

_LEAST_RESCALING = 2.0**-20
"""Of input scale * weight scale / output scale: engines hold it as a fixed-point number."""
_MOST_BIAS = 2.0**30


@dataclass(frozen=True, eq=False)
class Wire:
    """A tensor between parts: its quantization, and the factor float32 [channels] that each of its
    channels is multiplied by, to be undone by the weights that read it."""

    quantization: Quantization
    factors: FloatArray


def quantize_stem(
    stem: Conv,
    seen: PartObservation,
    offset: FloatArray,
    following: Conv,
    activation: Activation,
    *,
    balanced: bool,
) -> tuple[ActivatedConv, Wire]:
    """Quantize the stem of an input of pixels less ``offset``; ``following`` reads its output."""
    pixels = Wire(_pixel_quantization(offset), np.ones(len(offset), np.float32))
    return _activated(
        stem,
        seen.moments["stem"],
        seen.tensors["stem"],
        pixels,
        _reading(following),
        activation,
        balanced=balanced,
    )


def quantize_block(
    block: MBConv, seen: PartObservation, wire: Wire, activation: Activation, *, balanced: bool
) -> QuantizedMBConv:
    """Quantize a block that reads ``wire``. A balanced one has `SigmoidArgument`s."""
    tensors = seen.tensors
    shortcut = wire.quantization
    expand = None
    if block.expand is not None:
        expand, wire = _activated(
            block.expand,
            tensors["input"].scaled(wire.factors).moment(),
            tensors["expand"],
            wire,
            _reading(block.depthwise),
            activation,
            balanced=balanced,
        )
    gates: Importance = np.ones(block.depthwise.out_channels)
    if block.squeeze_excite is not None:
        gates = np.mean(sigmoid(tensors["gate"].samples) ** 2, axis=1, dtype=np.float64)
    depthwise, wide = _activated(
        block.depthwise,
        seen.moments["depthwise"] * (wire.factors.astype(np.float64) ** 2)[:, None, None],
        tensors["depthwise"],
        wire,
        _reading(block.project) * gates,
        activation,
        balanced=balanced,
    )
    gated = tensors["project_input"].scaled(wide.factors)
    squeeze_excite = None
    if block.squeeze_excite is not None:
        squeeze_excite = _squeeze_excite(block.squeeze_excite, tensors, wide, gated, block.project)
        wide = Wire(squeeze_excite.output, wide.factors)
    output = best_quantization(tensors["project"])
    residual = None
    if block.residual:
        total = best_quantization(tensors["output"])
        if 512 * shortcut.scale < total.scale:
            output = total  # all 256 steps of the shortcut are less than half a step of the sum
        else:
            output, residual = sum_quantizations(output, shortcut, total)
    project = _conv(block.project, gated.moment(), wide, output)
    return QuantizedMBConv(expand, depthwise, squeeze_excite, project, residual)


def quantize_head(
    head: Head, seen: PartObservation, wire: Wire, activation: Activation, *, balanced: bool
) -> QuantizedHead:
    """Quantize the head, which reads ``wire``."""
    conv, wide = _activated(
        head.conv,
        seen.tensors["input"].scaled(wire.factors).moment(),
        seen.tensors["conv"],
        wire,
        np.sum(head.weight.astype(np.float64) ** 2, axis=0),
        activation,
        balanced=balanced,
    )
    features = seen.tensors["features"].scaled(wide.factors)
    pooled = Wire(best_quantization(features), wide.factors)
    classifier = _conv(
        Conv(head.weight[:, :, None, None], head.bias), features.moment(), pooled, None
    )
    return QuantizedHead(
        conv,
        pooled.quantization,
        classifier.weight[:, :, 0, 0],
        classifier.weight_scale,
        classifier.bias,
    )


def _activated(
    conv: Conv,
    moment: Matrix,
    convolved: Observed,
    wire: Wire,
    importance: Importance,
    activation: Activation,
    *,
    balanced: bool,
) -> tuple[ActivatedConv, Wire]:
    """Quantize a convolution and its activation; ``convolved`` is what was seen between them."""
    ones = np.ones(conv.out_channels, np.float32)
    if activation == "relu6":
        clipped = convolved.activated(activation)
        output = best_quantization(clipped, importance)
        return ActivatedConv(_conv(conv, moment, wire, output), None), Wire(output, ones)
    if balanced:
        chosen = balance(convolved, importance)
        scaled = replace(
            conv,
            weight=conv.weight * chosen.factors[:, None, None, None],
            bias=conv.bias * chosen.factors,
        )
        silu = QuantizedSilu(chosen.activated, chosen.argument)
        quantized = _conv(scaled, moment, wire, chosen.convolved)
        return ActivatedConv(quantized, silu), Wire(silu.output, chosen.factors)
    before = best_quantization(convolved, importance, _silu)
    after = best_quantization(convolved.activated(activation), importance)
    silu = QuantizedSilu(product_quantization(before.scale, SIGMOID.scale, after))
    return ActivatedConv(_conv(conv, moment, wire, before), silu), Wire(silu.output, ones)


def _squeeze_excite(
    gate: SqueezeExcite,
    tensors: dict[str, Observed],
    wide: Wire,
    gated: Observed,
    project: Conv,
) -> QuantizedSqueezeExcite:
    pooled = tensors["pool"].scaled(wide.factors)
    pool = Wire(best_quantization(pooled), wide.factors)
    reduce, reduced = _activated(
        gate.reduce,
        pooled.moment(),
        tensors["reduce"],
        pool,
        _reading(gate.expand),
        "silu",
        balanced=False,
    )
    inner = tensors["reduce"].activated("silu")
    argument = best_quantization(tensors["gate"], None, sigmoid)
    output = best_quantization(gated, _reading(project) / wide.factors.astype(np.float64) ** 2)
    return QuantizedSqueezeExcite(
        pool.quantization,
        reduce,
        _conv(gate.expand, inner.moment(), reduced, argument),
        product_quantization(wide.quantization.scale, SIGMOID.scale, output),
    )


def _conv(conv: Conv, moment: Matrix, wire: Wire, output: Quantization | None) -> QuantizedConv:
    """Quantize a convolution that reads ``wire``; a classifier has no ``output``."""
    factors = wire.factors if conv.groups == 1 else wire.factors[:, None]
    shape = (1, -1, 1, 1) if conv.groups == 1 else (-1, 1, 1, 1)
    weight = conv.weight / factors.reshape(shape)
    input_ = wire.quantization
    rescaling = 1e-30 if output is None else _LEAST_RESCALING * output.scale / input_.scale
    least = np.maximum(np.abs(conv.bias) / (_MOST_BIAS * input_.scale), rescaling)
    integers, scale = round_weights(weight, moment, least.astype(np.float32))
    bias = np.rint(conv.bias / (np.float64(input_.scale) * scale))
    return QuantizedConv(
        integers,
        scale,
        bias.astype(np.int32),
        input_,
        output or input_,
        conv.stride,
        conv.groups,
    )


def _pixel_quantization(offset: FloatArray) -> Quantization:
    """Of pixels less ``offset``: exact where it is one whole number, else 255 steps over all."""
    whole = whole_offset(offset)
    if whole is not None:
        return Quantization(1.0, whole - 128)
    return quantization(float(-offset.max()), float(255 - offset.min()))


def _reading(conv: Conv) -> Importance:
    """How much each input channel's errors weigh in what ``conv`` computes of them."""
    axes = (0, 2, 3) if conv.groups == 1 else (1, 2, 3)
    energy: Importance = np.sum(conv.weight.astype(np.float64) ** 2, axis=axes)
    return np.maximum(energy, 1e-12 * max(float(energy.max()), 1e-30))


def _silu(x: FloatArray) -> FloatArray:
    return activate(x, "silu")
