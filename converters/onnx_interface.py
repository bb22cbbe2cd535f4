"""What every ONNX file of ours has around its nodes: input, outputs, description, labels, seal.

Opset 17 and IR 8 are read by every ONNX Runtime since 1.12 (July 2022), so also by the old ones
that small devices keep.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from effnet_edge import __version__
from effnet_edge.converters.description import label_lines, sentence
from effnet_edge.metadata import ModelMetadata
from effnet_edge.model_file import ONNX_DESCRIPTION, ONNX_LABELS, ONNX_SEAL
from effnet_edge.models.network import Network
from effnet_edge.models.quantized import QuantizedNetwork
from effnet_edge.seal import PLACEHOLDER

OPSET = 17
IR_VERSION = 8


def model_without_nodes(
    network: Network | QuantizedNetwork, metadata: ModelMetadata
) -> onnx.ModelProto:
    """Return a model that lacks only its nodes and constants.

    Input ``image``: uint8 [N, H, W, 3], RGB, any N. Outputs ``logits`` and ``probabilities``:
    float32 [N, classes]. Raises ConversionError if the labels don't fit the network.
    """
    model = onnx.ModelProto(
        ir_version=IR_VERSION,
        producer_name="effnet-edge",
        producer_version=__version__,
        doc_string=sentence(network, metadata),
        opset_import=[helper.make_opsetid("", OPSET)],
    )
    properties = {
        ONNX_DESCRIPTION: metadata.to_json(),
        ONNX_LABELS: label_lines(network, metadata),
        ONNX_SEAL: PLACEHOLDER.decode("ascii"),
    }
    helper.set_model_props(model, properties)
    model.graph.name = metadata.name
    height, width = network.resolution
    model.graph.input.append(
        helper.make_tensor_value_info(
            "image", TensorProto.UINT8, ["N", height, width, 3], "RGB pixels, 0 to 255"
        )
    )
    for name in ("logits", "probabilities"):
        model.graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", network.classes])
        )
    return model
