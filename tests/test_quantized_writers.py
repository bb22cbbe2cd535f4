"""What both int8 writers promise alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
import quantized_networks

from effnet_edge.converters.quantized_onnx_writer import quantized_onnx_model
from effnet_edge.converters.quantized_tflite_writer import quantized_tflite_model
from effnet_edge.errors import ConversionError
from effnet_edge.models.quantized import Quantization

pytestmark = pytest.mark.parametrize("write", [quantized_onnx_model, quantized_tflite_model])


def test_a_network_is_written_to_the_same_bytes_twice(write):
    network = quantized_networks.random_quantized()
    metadata = quantized_networks.describe(network)
    assert write(network, metadata) == write(network, metadata)


def test_labels_that_do_not_fit_are_refused(write):
    network = quantized_networks.random_quantized(classes=3)
    metadata = replace(quantized_networks.describe(network), labels=("a", "b"))
    with pytest.raises(ConversionError, match="2 labels for a network of 3 classes"):
        write(network, metadata)


def test_parts_that_disagree_on_what_passes_between_them_are_refused(write):
    network = quantized_networks.random_quantized()
    block = network.blocks[1]
    strange = replace(block.project, input=Quantization(3.0, 7))
    blocks = (network.blocks[0], replace(block, project=strange), *network.blocks[2:])
    network = replace(network, blocks=blocks)
    with pytest.raises(ValueError, match=r"project reads Quantization\(scale=3"):
        write(network, quantized_networks.describe(network))
