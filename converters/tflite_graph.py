"""A TFLite model as it grows: tensors, buffers and operators, and the file made of them.

The file is a flatbuffer by TensorFlow Lite's schema (tensorflow/lite/schema/schema.fbs), through
the object API that ai-edge-litert generates from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from effnet_edge.converters.input_folding import whole_offset
from effnet_edge.converters.tflite_metadata import attach_files, model_metadata
from effnet_edge.metadata import ModelMetadata
from effnet_edge.models.geometry import PaddingMode, padding_before_after
from effnet_edge.models.network import Network
from effnet_edge.models.quantized import QuantizedNetwork
from effnet_edge.seal import PLACEHOLDER

SCHEMA_VERSION = 3
SIGNATURE = "serving_default"

_TYPES = {
    "float16": schema.TensorType.FLOAT16,
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
}
_OPTIONS = {
    "ADD": "AddOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
    "QUANTIZE": "QuantizeOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SUB": "SubOptions",
}
"""The options table of each operator; LOGISTIC has none."""


class Graph:
    """Tensors, buffers and operators as they come. Tensors are numbered; images are NHWC."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[tuple[str, int], int] = {}
        # Buffer 0 is the empty one, of every tensor that is computed.
        self.buffers: list[Any] = [schema.BufferT()]
        self._zero_points: dict[int, int] = {}

    @property
    def size(self) -> int:
        """About the bytes that the buffers take in the file."""
        return sum(0 if b.data is None else b.data.nbytes + 64 for b in self.buffers)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self.tensors[tensor].shape)

    def tensor(
        self, name: str, shape: Iterable[int], dtype: str, buffer: int = 0, quantization: Any = None
    ) -> int:
        """Add a tensor; see `quantization` for the last argument."""
        self.tensors.append(
            make(
                schema.TensorT,
                name=name,
                shape=list(shape),
                type=_TYPES[dtype],
                buffer=buffer,
                quantization=quantization,
            )
        )
        return len(self.tensors) - 1

    def buffer(self, array: NDArray[Any]) -> int:
        """Add a buffer."""
        self.buffers.append(_AlignedBuffer(array))
        return len(self.buffers) - 1

    def constant(self, name: str, array: NDArray[Any], quantization: Any = None) -> int:
        """Add a tensor of the file."""
        buffer = self.buffer(array)
        return self.tensor(name, array.shape, array.dtype.name, buffer, quantization)

    def quantization(
        self, scale: NDArray[np.float32] | float, zero_point: int = 0, axis: int | None = None
    ) -> Any:
        """Parameters of a tensor: one scale and zero point, or a scale per index of ``axis``."""
        return _Quantization(scale, zero_point, axis, self._zero_points)

    def operator(
        self,
        code: str,
        name: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        dtype: str = "float32",
        quantization: Any = None,
        version: int = 1,
        **options: Any,
    ) -> int:
        """Append an operator and return its output, which has the operator's name.

        ``version`` is the one that brought the operator's types or options: a runtime refuses a
        file whose operators are newer than its own (tensorflow/lite/tools/versioning).
        """
        output = self.tensor(name, shape, dtype, quantization=quantization)
        kind = _OPTIONS.get(code)
        self.operators.append(
            make(
                schema.OperatorT,
                opcodeIndex=self.codes.setdefault((code, version), len(self.codes)),
                inputs=list(inputs),
                outputs=[output],
                builtinOptionsType=getattr(schema.BuiltinOptions, kind) if kind else 0,
                builtinOptions=make(getattr(schema, f"{kind}T"), **options) if kind else None,
            )
        )
        return output


def centred_pixels(graph: Graph, image: int, offset: NDArray[np.float32]) -> int:
    """Append what makes float32 pixels less ``offset`` [3] of the uint8 tensor ``image``.

    A uint8 tensor with scale 1 and a zero point means ``pixel - zero point``, so one offset for all
    channels that is a whole number needs no operator but the DEQUANTIZE.
    """
    whole = whole_offset(offset)
    graph.tensors[image].quantization = graph.quantization(1, whole or 0)
    shape = graph.shape(image)
    x = graph.operator("DEQUANTIZE", "input.float", [image], shape)
    if whole is not None:
        return x
    constant = graph.constant("input.offset", offset.reshape(1, 1, 1, 3))
    return graph.operator("SUB", "input.centred", [x, constant], shape)


def explicit_padding(
    mode: PaddingMode, size: tuple[int, int], kernel: int, stride: int
) -> NDArray[np.int32] | None:
    """What a PAD before the convolution must add, int32 ``[4, 2]``, or None.

    None: SAME puts the zeros where the network does. XNNPACK makes PAD and the VALID convolution
    that follows one operator again.
    """
    rows, columns = (padding_before_after(mode, side, kernel, stride) for side in size)
    same = tuple(padding_before_after("same", side, kernel, stride) for side in size)
    if (rows, columns) == same:
        return None
    return np.array([(0, 0), rows, columns, (0, 0)], np.int32)


def model_file(
    graph: Graph,
    network: Network | QuantizedNetwork,
    metadata: ModelMetadata,
    image: int,
    outputs: list[int],
    min_runtime_version: bytes,
) -> bytearray:
    """The file of a finished graph, labels attached, ready to be sealed.

    Raises ConversionError if the labels don't fit the network.
    """
    entries = {
        "TFLITE_METADATA": model_metadata(network, metadata),
        "min_runtime_version": min_runtime_version.ljust(16, b"\0"),
        "effnet_edge_seal": PLACEHOLDER,
    }
    model = make(
        schema.ModelT,
        version=SCHEMA_VERSION,
        description=metadata.name,
        operatorCodes=[_operator_code(*code) for code in graph.codes],
        subgraphs=[
            make(
                schema.SubGraphT,
                name=metadata.name,
                tensors=graph.tensors,
                operators=graph.operators,
                inputs=[image],
                outputs=outputs,
            )
        ],
        metadata=[
            make(schema.MetadataT, name=key, buffer=graph.buffer(np.frombuffer(value, np.uint8)))
            for key, value in entries.items()
        ],
        buffers=graph.buffers,
        signatureDefs=[_signature(graph, image, outputs)],
    )
    builder = flatbuffers.Builder(graph.size + (1 << 20))
    builder.Finish(model.Pack(builder), b"TFL3")
    data = bytearray(memoryview(builder.Bytes)[builder.Head() :])
    attach_files(data, network, metadata)
    return data


def make(kind: Any, **fields: Any) -> Any:
    """Build a table of the object API; older generated classes take no arguments."""
    table = kind()
    for name, value in fields.items():
        if not hasattr(table, name):
            raise AttributeError(f"{kind.__name__} has no field {name}")
        setattr(table, name, value)
    return table


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


class _Quantization(schema.QuantizationParametersT):  # type: ignore[misc]
    """Scales and zero points. TensorFlow Lite wants a zero point of 8 bytes for every scale, and
    all of a channel's are 0, so equally long vectors of zeros are one in the file."""

    def __init__(
        self,
        scale: NDArray[np.float32] | float,
        zero_point: int,
        axis: int | None,
        written: dict[int, int],
    ) -> None:
        super().__init__()
        self.scale = np.atleast_1d(np.asarray(scale, np.float32))
        self.zeroPoint = np.full(self.scale.shape, zero_point, np.int64)
        self.quantizedDimension = axis or 0
        self._per_axis = axis is not None
        self._written = written

    def Pack(self, builder: Any) -> Any:  # noqa: N802
        scale = builder.CreateNumpyVector(self.scale)
        length = self.zeroPoint.size
        if not self._per_axis:
            zero_point = builder.CreateNumpyVector(self.zeroPoint)
        else:
            if length not in self._written:
                self._written[length] = builder.CreateNumpyVector(self.zeroPoint)
            zero_point = self._written[length]
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, zero_point)
        schema.QuantizationParametersAddQuantizedDimension(builder, self.quantizedDimension)
        return schema.QuantizationParametersEnd(builder)


def _operator_code(name: str, version: int) -> Any:
    code = getattr(schema.BuiltinOperator, name)
    # Readers older than the 32-bit field find the code in the byte-sized one.
    return make(
        schema.OperatorCodeT,
        builtinCode=code,
        deprecatedBuiltinCode=min(code, 127),
        version=version,
    )


def _signature(graph: Graph, image: int, outputs: list[int]) -> Any:
    def named(tensor: int) -> Any:
        return make(schema.TensorMapT, name=graph.tensors[tensor].name, tensorIndex=tensor)

    return make(
        schema.SignatureDefT,
        signatureKey=SIGNATURE,
        subgraphIndex=0,
        inputs=[named(image)],
        outputs=[named(tensor) for tensor in outputs],
    )
