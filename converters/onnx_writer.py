"""Writing a network as ONNX: a flat graph of standard operators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from effnet_edge.converters.half_precision import to_half
from effnet_edge.converters.input_folding import fold_input
from effnet_edge.converters.onnx_interface import IR_VERSION, OPSET, model_without_nodes
from effnet_edge.metadata import ModelMetadata
from effnet_edge.models.architecture import Activation
from effnet_edge.models.geometry import PaddingMode, output_map, padding_before_after
from effnet_edge.models.network import Conv, FloatArray, Head, MBConv, Network, SqueezeExcite


def onnx_model(network: Network, metadata: ModelMetadata) -> bytearray:
    """Return the model as bytes, ready to be sealed.

    Input ``image``: uint8 [N, H, W, 3], RGB, any N. Outputs ``logits`` and ``probabilities``:
    float32 [N, classes]. With the metadata's precision ``fp16``, weights and biases are stored
    as float16 and made float32 when the file is loaded; all else is as with ``fp32``. Raises
    ConversionError if the labels don't fit the network or the weights don't fit float16.
    """
    model = model_without_nodes(network, metadata)
    # The graph is filled where it stands: protobuf copies whatever is assigned, weights and all.
    _fill(model.graph, network, metadata.precision == "fp16")
    serialised = model.SerializeToString()
    del model
    return bytearray(serialised)


def _fill(proto: onnx.GraphProto, network: Network, half: bool) -> None:
    graph = _Graph(proto, network.architecture.activation, network.padding, half)
    x, size = _input(graph, network)
    for index, block in enumerate(network.blocks):
        x, size = _mbconv(graph, f"blocks.{index}", block, x, size)
    _head(graph, network.head, x, size)


class _Graph:
    """Adds nodes and constants. A node's only output has the node's name."""

    def __init__(
        self, proto: onnx.GraphProto, activation: Activation, padding: PaddingMode, half: bool
    ) -> None:
        self.proto = proto
        self.activation = activation
        self.padding = padding
        self.half = half
        self.constants: set[str] = set()

    def node(self, operator: str, name: str, inputs: Iterable[str], **attributes: Any) -> str:
        self.proto.node.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, array: FloatArray) -> str:
        """Add a float32 constant, unless one of this name is there already."""
        if name not in self.constants:
            self.constants.add(name)
            self.proto.initializer.add(
                name=name,
                dims=array.shape,
                data_type=TensorProto.FLOAT,
                raw_data=array.astype("<f4", copy=False).tobytes(),
            )
        return name

    def parameter(self, name: str, array: FloatArray) -> str:
        """Add a weight or bias: a float32 constant, or a float16 one and its Cast, which ONNX
        Runtime folds away on loading."""
        if not self.half:
            return self.constant(name, array)
        self.proto.initializer.add(
            name=f"{name}.half",
            dims=array.shape,
            data_type=TensorProto.FLOAT16,
            raw_data=to_half(name, array).astype("<f2", copy=False).tobytes(),
        )
        return self.node("Cast", name, [f"{name}.half"], to=TensorProto.FLOAT)


def _input(graph: _Graph, network: Network) -> tuple[str, tuple[int, int]]:
    """Pixels to the stem's output and its (height, width)."""
    offset, stem = fold_input(network)
    # Transposed while they are bytes: a quarter of what it would move as floats.
    x = graph.node("Transpose", "input.nchw", ["image"], perm=[0, 3, 1, 2])
    x = graph.node("Cast", "input.float", [x], to=TensorProto.FLOAT)
    mean = graph.constant("input.mean", offset.reshape(1, 3, 1, 1))
    x = graph.node("Sub", "input.centred", [x, mean])
    x = _conv(graph, "stem", stem, x, network.resolution)
    return _activation(graph, "stem", x), output_map(network.resolution, stem.stride)


def _mbconv(
    graph: _Graph, name: str, block: MBConv, x: str, size: tuple[int, int]
) -> tuple[str, tuple[int, int]]:
    shortcut = x
    if block.expand is not None:
        x = _conv(graph, f"{name}.expand", block.expand, x, size)
        x = _activation(graph, f"{name}.expand", x)
    x = _conv(graph, f"{name}.depthwise", block.depthwise, x, size)
    x = _activation(graph, f"{name}.depthwise", x)
    size = output_map(size, block.depthwise.stride)
    if block.squeeze_excite is not None:
        x = _squeeze_excite(graph, f"{name}.squeeze_excite", block.squeeze_excite, x)
    x = _conv(graph, f"{name}.project", block.project, x, size)
    if block.residual:
        x = graph.node("Add", f"{name}.residual", [x, shortcut])
    return x, size


def _squeeze_excite(graph: _Graph, name: str, gate: SqueezeExcite, x: str) -> str:
    y = graph.node("GlobalAveragePool", f"{name}.pool", [x])
    y = _conv(graph, f"{name}.reduce", gate.reduce, y, (1, 1))
    y = _silu(graph, f"{name}.reduce", y)
    y = _conv(graph, f"{name}.expand", gate.expand, y, (1, 1))
    y = graph.node("Sigmoid", f"{name}.gate", [y])
    return graph.node("Mul", name, [x, y])


def _head(graph: _Graph, head: Head, x: str, size: tuple[int, int]) -> None:
    x = _conv(graph, "head.conv", head.conv, x, size)
    x = _activation(graph, "head.conv", x)
    x = graph.node("GlobalAveragePool", "head.pool", [x])
    x = graph.node("Flatten", "head.features", [x])
    weight = graph.parameter("head.classifier.weight", head.weight)
    bias = graph.parameter("head.classifier.bias", head.bias)
    graph.node("Gemm", "logits", [x, weight, bias], transB=1)
    graph.node("Softmax", "probabilities", ["logits"], axis=-1)


def _conv(graph: _Graph, name: str, conv: Conv, x: str, size: tuple[int, int]) -> str:
    pads = [padding_before_after(graph.padding, side, conv.kernel, conv.stride) for side in size]
    (top, bottom), (left, right) = pads
    return graph.node(
        "Conv",
        name,
        [
            x,
            graph.parameter(f"{name}.weight", conv.weight),
            graph.parameter(f"{name}.bias", conv.bias),
        ],
        kernel_shape=[conv.kernel, conv.kernel],
        strides=[conv.stride, conv.stride],
        pads=[top, left, bottom, right],
        group=conv.groups,
    )


def _activation(graph: _Graph, name: str, x: str) -> str:
    if graph.activation == "silu":
        return _silu(graph, name, x)
    low = graph.constant("relu6.low", np.array(0, np.float32))
    high = graph.constant("relu6.high", np.array(6, np.float32))
    return graph.node("Clip", f"{name}.relu6", [x, low, high])


def _silu(graph: _Graph, name: str, x: str) -> str:
    gate = graph.node("Sigmoid", f"{name}.sigmoid", [x])
    return graph.node("Mul", f"{name}.silu", [x, gate])


def float_part_model(
    part: Conv | MBConv | Head,
    activation: Activation,
    padding: PaddingMode,
    size: tuple[int, int],
    outputs: Iterable[str],
) -> bytes:
    """Return a model of one part alone, to see what goes on inside it.

    Input ``x``: float32 [N, C, H, W] of ``size`` (height, width); for a stem (a `Conv`) what
    `fold_input` leaves. ``outputs`` are names of tensors as in `onnx_model`, where a block is
    called ``block``: ``block.expand``, ``block.squeeze_excite.pool``, ``head.conv`` and so on.
    """
    model = onnx.ModelProto(ir_version=IR_VERSION, opset_import=[helper.make_opsetid("", OPSET)])
    model.graph.name = "part"
    graph = _Graph(model.graph, activation, padding, half=False)
    if isinstance(part, Head):
        channels = part.conv.weight.shape[1]
        _head(graph, part, "x", size)
    elif isinstance(part, MBConv):
        first = part.expand or part.depthwise
        channels = first.weight.shape[1] * first.groups
        _mbconv(graph, "block", part, "x", size)
    else:
        channels = part.weight.shape[1]
        _activation(graph, "stem", _conv(graph, "stem", part, "x", size))
    shape = ["N", channels, *size]
    model.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    for name in outputs:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return bytes(model.SerializeToString())
