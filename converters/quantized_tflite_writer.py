"""Writing a quantized network as TFLite: flat int8 operators that XNNPACK takes whole.

All but the ends is integer arithmetic by TensorFlow Lite's quantization specification
(ai.google.dev/edge/litert/models/quantization_spec). The image is uint8, so it is dequantized and
quantized again, for which XNNPACK has kernels; one QUANTIZE from uint8 to int8 it leaves out.

The classifier's weights are int8 in the file and made float32, once, on loading: int8 logits would
be too coarse, and a classifier of float input and int8 weights quantizes its input anew for every
image, so that its logits are not those of the ONNX file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from effnet_edge.converters.tflite_graph import (
    Graph,
    centred_pixels,
    explicit_padding,
    model_file,
)
from effnet_edge.metadata import ModelMetadata
from effnet_edge.models.geometry import PaddingMode
from effnet_edge.models.quantized import (
    SIGMOID,
    ActivatedConv,
    Quantization,
    QuantizedConv,
    QuantizedHead,
    QuantizedMBConv,
    QuantizedNetwork,
    QuantizedSilu,
    QuantizedSqueezeExcite,
)

MIN_RUNTIME_VERSION = b"2.7.0"
"""The first TensorFlow Lite with all the operators used here at their versions."""


def quantized_tflite_model(network: QuantizedNetwork, metadata: ModelMetadata) -> bytearray:
    """Return the model as bytes, ready to be sealed.

    Input and outputs are those of `tflite_writer.tflite_model`. Raises ConversionError if the
    labels don't fit the network.
    """
    graph = _Graph(network.padding)
    image = graph.tensor("image", (1, *network.resolution, 3), "uint8")
    x = centred_pixels(graph, image, network.offset)
    pixels = network.stem.conv.input
    x = graph.integer("QUANTIZE", "input.quantized", [x], graph.shape(x), pixels, version=1)
    x = _activated(graph, "stem", network.stem, x)
    for index, block in enumerate(network.blocks):
        x = _mbconv(graph, f"blocks.{index}", block, x)
    logits = _head(graph, network.head, x)
    probabilities = graph.operator(
        "SOFTMAX", "probabilities", [logits], graph.shape(logits), beta=1
    )
    return model_file(graph, network, metadata, image, [probabilities, logits], MIN_RUNTIME_VERSION)


class _Graph(Graph):
    """A graph of int8 tensors."""

    def __init__(self, padding: PaddingMode) -> None:
        super().__init__()
        self.padding = padding
        self.quantizations: dict[int, Quantization] = {}

    def integer(
        self,
        code: str,
        name: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        output: Quantization,
        version: int = 2,
        **options: Any,
    ) -> int:
        """Append an operator with an int8 output; 2 is the version of most for int8."""
        parameters = self.quantization(output.scale, output.zero_point)
        tensor = self.operator(code, name, inputs, shape, "int8", parameters, version, **options)
        self.quantizations[tensor] = output
        return tensor

    def product(self, name: str, a: int, b: int, output: Quantization) -> int:
        """Append a MUL of the shape of ``a``."""
        rescale = self.quantizations[a].scale * self.quantizations[b].scale / output.scale
        version = 3 if rescale >= 1 else 2
        return self.integer("MUL", name, [a, b], self.shape(a), output, version)


def _mbconv(graph: _Graph, name: str, block: QuantizedMBConv, x: int) -> int:
    shortcut = x
    if block.expand is not None:
        x = _activated(graph, f"{name}.expand", block.expand, x)
    x = _activated(graph, f"{name}.depthwise", block.depthwise, x)
    if block.squeeze_excite is not None:
        x = _gated(graph, f"{name}.squeeze_excite", block.squeeze_excite, x)
    x = _conv(graph, f"{name}.project", block.project, x)
    if block.residual is not None:
        sum_name = f"{name}.residual"
        x = graph.integer("ADD", sum_name, [x, shortcut], graph.shape(x), block.residual)
    return x


def _gated(graph: _Graph, name: str, gate: QuantizedSqueezeExcite, x: int) -> int:
    y = _mean(graph, f"{name}.pool", x, gate.pool)
    y = _activated(graph, f"{name}.reduce", gate.reduce, y)
    y = _conv(graph, f"{name}.expand", gate.expand, y)
    return graph.product(name, x, _sigmoid(graph, f"{name}.gate", y), gate.output)


def _head(graph: _Graph, head: QuantizedHead, x: int) -> int:
    x = _mean(graph, "head.pool", _activated(graph, "head.conv", head.conv, x), head.features)
    x = graph.operator("DEQUANTIZE", "head.features", [x], graph.shape(x), version=2)
    scale = graph.quantization(head.weight_scale, axis=0)
    stored = graph.constant("head.classifier.integers", head.weight, scale)
    name = "head.classifier.weight"
    weight = graph.operator("DEQUANTIZE", name, [stored], head.weight.shape, version=5)
    bias = head.bias * (head.features.scale * head.weight_scale.astype(np.float64))
    inputs = [x, weight, graph.constant("head.classifier.bias", bias.astype(np.float32))]
    return graph.operator("FULLY_CONNECTED", "logits", inputs, (1, len(bias)))


def _mean(graph: _Graph, name: str, x: int, output: Quantization) -> int:
    axes = graph.constant(f"{name}.axes", np.array([1, 2], np.int32))
    shape = (1, 1, 1, graph.shape(x)[3])
    return graph.integer("MEAN", name, [x, axes], shape, output, keepDims=True)


def _activated(graph: _Graph, name: str, part: ActivatedConv, x: int) -> int:
    x = _conv(graph, name, part.conv, x)
    return x if part.silu is None else _silu(graph, name, part.silu, x)


def _silu(graph: _Graph, name: str, silu: QuantizedSilu, x: int) -> int:
    argument = x
    if silu.argument is not None:
        factors, parameters = silu.argument.factors, silu.argument.factors_quantization
        factor = graph.constant(
            f"{name}.factor",
            factors.reshape(1, 1, 1, -1),
            graph.quantization(parameters.scale, parameters.zero_point),
        )
        graph.quantizations[factor] = parameters
        argument = graph.product(f"{name}.argument", x, factor, silu.argument.output)
    gate = _sigmoid(graph, f"{name}.sigmoid", argument)
    return graph.product(f"{name}.silu", x, gate, silu.output)


def _sigmoid(graph: _Graph, name: str, x: int) -> int:
    return graph.integer("LOGISTIC", name, [x], graph.shape(x), SIGMOID)


def _conv(graph: _Graph, name: str, conv: QuantizedConv, x: int) -> int:
    if graph.quantizations[x] != conv.input:
        raise ValueError(f"{name} reads {conv.input}, but is given {graph.quantizations[x]}")
    _, height, width, _ = graph.shape(x)
    depthwise = conv.groups > 1
    weight = conv.weight.transpose(1, 2, 3, 0) if depthwise else conv.weight.transpose(0, 2, 3, 1)
    axis = 3 if depthwise else 0
    bias_scale = (np.float32(conv.input.scale) * conv.weight_scale).astype(np.float32)
    options: dict[str, Any] = {"depthMultiplier": 1} if depthwise else {}
    x, padding = _pad(graph, name, conv, x)
    return graph.integer(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        name,
        [
            x,
            graph.constant(
                f"{name}.weight", weight, graph.quantization(conv.weight_scale, axis=axis)
            ),
            graph.constant(f"{name}.bias", conv.bias, graph.quantization(bias_scale, axis=0)),
        ],
        (1, -(-height // conv.stride), -(-width // conv.stride), conv.out_channels),
        conv.output,
        version=3,
        padding=padding,
        strideW=conv.stride,
        strideH=conv.stride,
        **options,
    )


def _pad(graph: _Graph, name: str, conv: QuantizedConv, x: int) -> tuple[int, int]:
    """Zeros, which are the zero point, where SAME would put them elsewhere."""
    _, height, width, _ = shape = graph.shape(x)
    pads = explicit_padding(graph.padding, (height, width), conv.kernel, conv.stride)
    if pads is None:
        return x, schema.Padding.SAME
    amounts = graph.constant(f"{name}.pads", pads)
    padded = [side + int(around.sum()) for side, around in zip(shape, pads, strict=True)]
    x = graph.integer("PAD", f"{name}.padded", [x, amounts], padded, graph.quantizations[x])
    return x, schema.Padding.VALID
