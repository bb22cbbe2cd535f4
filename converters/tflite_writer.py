"""Writing a network as TFLite: flat built-in operators that XNNPACK takes whole.

Operators are chosen so that XNNPACK makes one partition of the graph: any other choice breaks it in
pieces and costs half the speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from effnet_edge.converters.half_precision import to_half
from effnet_edge.converters.input_folding import fold_input
from effnet_edge.converters.tflite_graph import Graph, centred_pixels, explicit_padding, model_file
from effnet_edge.metadata import ModelMetadata
from effnet_edge.models.architecture import Activation
from effnet_edge.models.geometry import PaddingMode
from effnet_edge.models.network import Conv, Head, MBConv, Network, SqueezeExcite

MIN_RUNTIME_VERSION = b"1.14.0"
"""The first TensorFlow Lite with all the operators used here at their versions."""
HALF_DEQUANTIZE_VERSION = 3
MIN_RUNTIME_VERSION_FOR_HALF = b"1.15.0"
"""From where DEQUANTIZE takes float16."""

_NONE, _RELU6 = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6


def tflite_model(network: Network, metadata: ModelMetadata) -> bytearray:
    """Return the model as bytes, ready to be sealed.

    Input ``image``: uint8 [1, H, W, 3], RGB. Outputs ``probabilities`` and ``logits``: float32
    [1, classes]; probabilities come first because general clients classify by output 0. With
    the metadata's precision ``fp16``, weights and biases are stored as float16 and made float32
    when the file is loaded; all else is as with ``fp32``. Raises ConversionError if the labels
    don't fit the network or the weights don't fit float16.
    """
    graph = _Graph(network.architecture.activation, network.padding, metadata.precision == "fp16")
    image = graph.tensor("image", (1, *network.resolution, 3), "uint8")
    offset, stem = fold_input(network)
    x = centred_pixels(graph, image, offset)
    x = _activated_conv(graph, "stem", stem, x)
    for index, block in enumerate(network.blocks):
        x = _mbconv(graph, f"blocks.{index}", block, x)
    logits = _head(graph, network.head, x)
    probabilities = graph.operator(
        "SOFTMAX", "probabilities", [logits], graph.shape(logits), beta=1
    )
    oldest = MIN_RUNTIME_VERSION_FOR_HALF if graph.half else MIN_RUNTIME_VERSION
    return model_file(graph, network, metadata, image, [probabilities, logits], oldest)


class _Graph(Graph):
    """A graph of float32 tensors."""

    def __init__(self, activation: Activation, padding: PaddingMode, half: bool) -> None:
        super().__init__()
        self.activation = activation
        self.padding = padding
        self.half = half

    def parameter(self, name: str, array: NDArray[np.float32]) -> int:
        """Add a weight or bias: a float32 constant, or a float16 one and its DEQUANTIZE, which is
        done once, on loading. Up to LiteRT 2.1 at least, XNNPACK leaves out a convolution of
        which one is float16 and the other isn't."""
        if not self.half:
            return self.constant(name, array)
        stored = self.constant(f"{name}.half", to_half(name, array))
        version = HALF_DEQUANTIZE_VERSION
        return self.operator("DEQUANTIZE", name, [stored], array.shape, version=version)


def _mbconv(graph: _Graph, name: str, block: MBConv, x: int) -> int:
    shortcut = x
    if block.expand is not None:
        x = _activated_conv(graph, f"{name}.expand", block.expand, x)
    x = _activated_conv(graph, f"{name}.depthwise", block.depthwise, x)
    if block.squeeze_excite is not None:
        x = _squeeze_excite(graph, f"{name}.squeeze_excite", block.squeeze_excite, x)
    x = _conv(graph, f"{name}.project", block.project, x)
    if block.residual:
        x = graph.operator("ADD", f"{name}.residual", [x, shortcut], graph.shape(x))
    return x


def _squeeze_excite(graph: _Graph, name: str, gate: SqueezeExcite, x: int) -> int:
    y = _mean(graph, f"{name}.pool", x)
    y = _silu(graph, f"{name}.reduce", _conv(graph, f"{name}.reduce", gate.reduce, y))
    y = _conv(graph, f"{name}.expand", gate.expand, y)
    y = graph.operator("LOGISTIC", f"{name}.gate", [y], graph.shape(y))
    return graph.operator("MUL", name, [x, y], graph.shape(x))


def _head(graph: _Graph, head: Head, x: int) -> int:
    x = _mean(graph, "head.features", _activated_conv(graph, "head.conv", head.conv, x))
    weight = graph.parameter("head.classifier.weight", head.weight)
    bias = graph.parameter("head.classifier.bias", head.bias)
    return graph.operator("FULLY_CONNECTED", "logits", [x, weight, bias], (1, head.weight.shape[0]))


def _mean(graph: _Graph, name: str, x: int) -> int:
    axes = graph.constant(f"{name}.axes", np.array([1, 2], np.int32))
    return graph.operator("MEAN", name, [x, axes], (1, 1, 1, graph.shape(x)[3]), keepDims=True)


def _activated_conv(graph: _Graph, name: str, conv: Conv, x: int) -> int:
    if graph.activation == "silu":
        return _silu(graph, name, _conv(graph, name, conv, x))
    return _conv(graph, name, conv, x, activation=_RELU6)


def _conv(graph: _Graph, name: str, conv: Conv, x: int, activation: int = _NONE) -> int:
    _, height, width, _ = graph.shape(x)
    x, padding = _pad(graph, name, conv, x)
    depthwise = conv.groups > 1
    weight = conv.weight.transpose(1, 2, 3, 0) if depthwise else conv.weight.transpose(0, 2, 3, 1)
    options: dict[str, Any] = {"depthMultiplier": 1} if depthwise else {}
    return graph.operator(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        name,
        [
            x,
            graph.parameter(f"{name}.weight", weight),
            graph.parameter(f"{name}.bias", conv.bias),
        ],
        (1, -(-height // conv.stride), -(-width // conv.stride), conv.out_channels),
        padding=padding,
        strideW=conv.stride,
        strideH=conv.stride,
        fusedActivationFunction=activation,
        **options,
    )


def _pad(graph: _Graph, name: str, conv: Conv, x: int) -> tuple[int, int]:
    """Where SAME puts the zeros elsewhere than the network does, put them explicitly."""
    _, height, width, _ = shape = graph.shape(x)
    pads = explicit_padding(graph.padding, (height, width), conv.kernel, conv.stride)
    if pads is None:
        return x, schema.Padding.SAME
    amounts = graph.constant(f"{name}.pads", pads)
    padded = [side + int(around.sum()) for side, around in zip(shape, pads, strict=True)]
    return graph.operator("PAD", f"{name}.padded", [x, amounts], padded), schema.Padding.VALID


def _silu(graph: _Graph, name: str, x: int) -> int:
    gate = graph.operator("LOGISTIC", f"{name}.sigmoid", [x], graph.shape(x))
    return graph.operator("MUL", f"{name}.silu", [x, gate], graph.shape(x))
