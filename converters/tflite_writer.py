"""Writing a network as TFLite: flat built-in operators that XNNPACK takes whole.

The file is a flatbuffer by TensorFlow Lite's schema (tensorflow/lite/schema/schema.fbs), through
the object API that ai-edge-litert generates from it. Operators are chosen so that XNNPACK makes
one partition of the graph: any other choice breaks it in pieces and costs half the speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from effnet_edge.converters.input_folding import fold_input
from effnet_edge.converters.tflite_metadata import attach_files, model_metadata
from effnet_edge.metadata import ModelMetadata
from effnet_edge.models.architecture import Activation
from effnet_edge.models.geometry import PaddingMode, padding_before_after
from effnet_edge.models.network import Conv, Head, MBConv, Network, SqueezeExcite
from effnet_edge.seal import PLACEHOLDER

SCHEMA_VERSION = 3
SIGNATURE = "serving_default"
MIN_RUNTIME_VERSION = b"1.14.0"
"""The first TensorFlow Lite with all the operators used here at their versions."""

_NONE, _RELU6 = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6
_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
}


def tflite_model(network: Network, metadata: ModelMetadata) -> bytearray:
    """Return the model as bytes, ready to be sealed.

    Input ``image``: uint8 [1, H, W, 3], RGB. Outputs ``probabilities`` and ``logits``: float32
    [1, classes]; probabilities come first because general clients classify by output 0. Raises
    ConversionError if the labels don't fit the network.
    """
    description = model_metadata(network, metadata)
    graph = _Graph(network.architecture.activation, network.padding)
    image = graph.tensor("image", (1, *network.resolution, 3), "uint8")
    x = _input(graph, network, image)
    for index, block in enumerate(network.blocks):
        x = _mbconv(graph, f"blocks.{index}", block, x)
    logits = _head(graph, network.head, x)
    probabilities = graph.operator(
        "SOFTMAX", "probabilities", [logits], graph.shape(logits), beta=1
    )
    model = _model(graph, metadata.name, image, [probabilities, logits], description)
    builder = flatbuffers.Builder(graph.size + (1 << 20))
    builder.Finish(model.Pack(builder), b"TFL3")
    data = bytearray(memoryview(builder.Bytes)[builder.Head() :])
    attach_files(data, network, metadata)
    return data


class _Graph:
    """Tensors, buffers and operators as they come. Tensors are numbered; images are NHWC."""

    def __init__(self, activation: Activation, padding: PaddingMode) -> None:
        self.activation = activation
        self.padding = padding
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[str, int] = {}
        # Buffer 0 is the empty one, of every tensor that is computed.
        self.buffers: list[Any] = [schema.BufferT()]

    @property
    def size(self) -> int:
        """About the bytes that the buffers take in the file."""
        return sum(0 if b.data is None else b.data.nbytes + 64 for b in self.buffers)

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self.tensors[tensor].shape)

    def tensor(self, name: str, shape: Iterable[int], dtype: str, buffer: int = 0) -> int:
        self.tensors.append(
            _make(schema.TensorT, name=name, shape=list(shape), type=_TYPES[dtype], buffer=buffer)
        )
        return len(self.tensors) - 1

    def buffer(self, array: NDArray[Any]) -> int:
        self.buffers.append(_AlignedBuffer(array))
        return len(self.buffers) - 1

    def constant(self, name: str, array: NDArray[Any]) -> int:
        return self.tensor(name, array.shape, array.dtype.name, self.buffer(array))

    def operator(
        self, code: str, name: str, inputs: Sequence[int], shape: Sequence[int], **options: Any
    ) -> int:
        """Append an operator and return its float32 output, which has the operator's name."""
        output = self.tensor(name, shape, "float32")
        kind = _OPTIONS.get(code)
        self.operators.append(
            _make(
                schema.OperatorT,
                opcodeIndex=self.codes.setdefault(code, len(self.codes)),
                inputs=list(inputs),
                outputs=[output],
                builtinOptionsType=getattr(schema.BuiltinOptions, kind) if kind else 0,
                builtinOptions=_make(getattr(schema, f"{kind}T"), **options) if kind else None,
            )
        )
        return output


_OPTIONS = {
    "ADD": "AddOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SUB": "SubOptions",
}
"""The options table of each operator; LOGISTIC has none."""


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data is aligned as the schema asks (16 bytes), which the generated code
    leaves out, and is copied once, straight into the file."""

    def __init__(self, data: NDArray[Any]) -> None:
        super().__init__()
        self.data = data

    def Pack(self, builder: Any) -> Any:  # noqa: N802
        builder.StartVector(1, self.data.nbytes, 16)
        builder.head -= self.data.nbytes
        target = np.frombuffer(
            builder.Bytes, self.data.dtype.newbyteorder("<"), self.data.size, builder.head
        )
        target.reshape(self.data.shape)[...] = self.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def _input(graph: _Graph, network: Network, image: int) -> int:
    """Pixels to the stem's output.

    A uint8 tensor with scale 1 and a zero point means ``pixel - zero point``, so one mean for all
    channels that is a whole number needs no operator but the DEQUANTIZE.
    """
    offset, stem = fold_input(network)
    whole = bool(np.all(offset == np.rint(offset[0])) and 0 <= offset[0] <= 255)
    graph.tensors[image].quantization = _make(
        schema.QuantizationParametersT,
        scale=np.array([1], np.float32),
        zeroPoint=np.array([int(offset[0]) if whole else 0], np.int64),
    )
    shape = graph.shape(image)
    x = graph.operator("DEQUANTIZE", "input.float", [image], shape)
    if not whole:
        mean = graph.constant("input.mean", offset.reshape(1, 1, 1, 3))
        x = graph.operator("SUB", "input.centred", [x, mean], shape)
    return _activated_conv(graph, "stem", stem, x)


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
    weight = graph.constant("head.classifier.weight", head.weight)
    bias = graph.constant("head.classifier.bias", head.bias)
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
    options = {"depthMultiplier": 1} if depthwise else {}
    return graph.operator(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        name,
        [
            x,
            graph.constant(f"{name}.weight", weight),
            graph.constant(f"{name}.bias", conv.bias),
        ],
        (1, -(-height // conv.stride), -(-width // conv.stride), conv.out_channels),
        padding=padding,
        strideW=conv.stride,
        strideH=conv.stride,
        fusedActivationFunction=activation,
        **options,
    )


def _pad(graph: _Graph, name: str, conv: Conv, x: int) -> tuple[int, int]:
    """Where SAME puts the zeros elsewhere than the network does, put them explicitly.

    XNNPACK makes PAD and the VALID convolution that follows one operator again.
    """
    shape = graph.shape(x)
    rows, columns = (
        padding_before_after(graph.padding, side, conv.kernel, conv.stride) for side in shape[1:3]
    )
    same = tuple(
        padding_before_after("same", side, conv.kernel, conv.stride) for side in shape[1:3]
    )
    if (rows, columns) == same:
        return x, schema.Padding.SAME
    pads = np.array([(0, 0), rows, columns, (0, 0)], np.int32)
    amounts = graph.constant(f"{name}.pads", pads)
    padded = [side + int(before + after) for side, (before, after) in zip(shape, pads, strict=True)]
    return graph.operator("PAD", f"{name}.padded", [x, amounts], padded), schema.Padding.VALID


def _silu(graph: _Graph, name: str, x: int) -> int:
    gate = graph.operator("LOGISTIC", f"{name}.sigmoid", [x], graph.shape(x))
    return graph.operator("MUL", f"{name}.silu", [x, gate], graph.shape(x))


def _model(graph: _Graph, name: str, image: int, outputs: list[int], description: bytes) -> Any:
    subgraph = _make(
        schema.SubGraphT,
        name=name,
        tensors=graph.tensors,
        operators=graph.operators,
        inputs=[image],
        outputs=outputs,
    )
    entries = {
        "TFLITE_METADATA": description,
        "min_runtime_version": MIN_RUNTIME_VERSION.ljust(16, b"\0"),
        "effnet_edge_seal": PLACEHOLDER,
    }
    metadata = [
        _make(schema.MetadataT, name=key, buffer=graph.buffer(np.frombuffer(value, np.uint8)))
        for key, value in entries.items()
    ]
    return _make(
        schema.ModelT,
        version=SCHEMA_VERSION,
        description=name,
        operatorCodes=[_operator_code(code) for code in graph.codes],
        subgraphs=[subgraph],
        buffers=graph.buffers,
        metadata=metadata,
        signatureDefs=[_signature(graph, image, outputs)],
    )


def _operator_code(name: str) -> Any:
    code = getattr(schema.BuiltinOperator, name)
    # Readers older than the 32-bit field find the code in the byte-sized one.
    return _make(
        schema.OperatorCodeT, builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1
    )


def _signature(graph: _Graph, image: int, outputs: list[int]) -> Any:
    def named(tensor: int) -> Any:
        return _make(schema.TensorMapT, name=graph.tensors[tensor].name, tensorIndex=tensor)

    return _make(
        schema.SignatureDefT,
        signatureKey=SIGNATURE,
        subgraphIndex=0,
        inputs=[named(image)],
        outputs=[named(tensor) for tensor in outputs],
    )


def _make(kind: Any, **fields: Any) -> Any:
    """Build a table of the object API; older generated classes take no arguments."""
    table = kind()
    for name, value in fields.items():
        if not hasattr(table, name):
            raise AttributeError(f"{kind.__name__} has no field {name}")
        setattr(table, name, value)
    return table
