"""Writing a quantized network as ONNX: calls of the functions in `quantized_onnx_functions`.

The graph is a chain of calls on uint8 NHWC maps, from the image to the logits. Functions in a model
need IR version 8, which ONNX Runtime reads since 1.12; operator set 17 as for the float model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from effnet_edge.converters.onnx_interface import IR_VERSION, OPSET, model_without_nodes
from effnet_edge.converters.quantized_onnx_functions import (
    DOMAIN,
    DOMAIN_VERSION,
    UNSIGNED,
    FunctionCall,
    head_call,
    mbconv_call,
    pixels_call,
    stem_call,
)
from effnet_edge.metadata import ModelMetadata
from effnet_edge.models.geometry import PaddingMode, output_map
from effnet_edge.models.network import FloatArray
from effnet_edge.models.quantized import (
    ActivatedConv,
    Quantization,
    QuantizedHead,
    QuantizedMBConv,
    QuantizedNetwork,
)


def quantized_onnx_model(network: QuantizedNetwork, metadata: ModelMetadata) -> bytearray:
    """Return the model as bytes, ready to be sealed.

    Input and outputs are those of `onnx_writer.onnx_model`. Raises ConversionError if the labels
    don't fit the network.
    """
    model = model_without_nodes(network, metadata)
    writer = _Writer(model)
    x = writer.pixels("image", network.offset, network.stem.conv.input)
    x = writer.call("stem", stem_call(network.stem, network.padding, network.resolution), x)
    size = output_map(network.resolution, network.stem.conv.stride)
    for index, block in enumerate(network.blocks):
        x = writer.call(f"blocks.{index}", mbconv_call(block, network.padding, size), x)
        size = output_map(size, block.depthwise.conv.stride)
    writer.call("head", head_call(network.head), x, "logits")
    writer.node("Softmax", "probabilities", ["logits"], axis=-1)
    return bytearray(model.SerializeToString())


def quantized_part_model(
    part: ActivatedConv | QuantizedMBConv | QuantizedHead,
    padding: PaddingMode,
    size: tuple[int, int],
    offset: FloatArray | None = None,
) -> bytes:
    """Return a model of one part alone, to see what it makes of given input.

    Input ``x``: uint8 [N, H, W, C], activations as ONNX has them (the int8 ones plus 128), of
    ``size`` (height, width). With ``offset``, [3], the part is a stem, and ``x`` are pixels that
    it is subtracted from. Output ``y``: uint8 [N, H', W', C'], for a head float32 logits
    [N, classes].
    """
    model = onnx.ModelProto(ir_version=IR_VERSION, opset_import=[helper.make_opsetid("", OPSET)])
    model.graph.name = "part"
    writer = _Writer(model)
    kind, x = TensorProto.UINT8, "x"
    shape: list[int | str | None] = ["N", None, None, None]
    if isinstance(part, QuantizedHead):
        kind, shape = TensorProto.FLOAT, ["N", len(part.bias)]
        channels, call = part.conv.conv.weight.shape[1], head_call(part)
    elif isinstance(part, QuantizedMBConv):
        first = (part.expand or part.depthwise).conv
        channels, call = first.weight.shape[1] * first.groups, mbconv_call(part, padding, size)
    else:
        channels, call = part.conv.weight.shape[1], stem_call(part, padding, size)
        if offset is not None:
            x = writer.pixels(x, offset, part.conv.input)
    writer.call("part", call, x, "y")
    image = helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", *size, channels])
    model.graph.input.append(image)
    model.graph.output.append(helper.make_tensor_value_info("y", kind, shape))
    return bytes(model.SerializeToString())


class _Writer:
    """Appends nodes, constants and functions to a model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        model.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))

    def node(self, operator: str, output: str, inputs: Iterable[str], **attributes: Any) -> str:
        node = helper.make_node(operator, list(inputs), [output], output, **attributes)
        self.model.graph.node.append(node)
        return output

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.model.graph.initializer.add(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            raw_data=array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(),
        )
        return name

    def call(self, name: str, call: FunctionCall, x: str, output: str | None = None) -> str:
        """Call a function on ``x``; return its output, called ``name`` unless ``output`` is."""
        function = call.function
        if function.name not in (known.name for known in self.model.functions):
            self.model.functions.append(function)
        constants = [self.constant(f"{name}.{key}", value) for key, value in call.constants.items()]
        node = helper.make_node(
            function.name, [x, *constants], [output or name], name, domain=DOMAIN, **call.attributes
        )
        self.model.graph.node.append(node)
        return output or name

    def pixels(self, x: str, offset: FloatArray, quantization: Quantization) -> str:
        """Subtract ``offset`` from uint8 NHWC pixels and quantize the difference.

        Where the integers stay what they are, ``x`` itself is that.
        """
        zero_point = quantization.zero_point + UNSIGNED
        if quantization.scale == 1 and np.all(offset == zero_point):
            return x
        return self.call("pixels", pixels_call(offset, quantization), x)
