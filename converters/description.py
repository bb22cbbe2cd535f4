"""What both formats say of a model in words, and its labels as text."""

from __future__ import annotations

from effnet_edge.errors import ConversionError
from effnet_edge.metadata import ModelMetadata
from effnet_edge.model_file import encode_labels
from effnet_edge.models.network import Network
from effnet_edge.models.quantized import QuantizedNetwork


def label_lines(network: Network | QuantizedNetwork, metadata: ModelMetadata) -> str:
    """One label a line. Raises ConversionError if they don't fit the network or a line."""
    if metadata.classes != network.classes:
        raise ConversionError(
            f"there are {metadata.classes} labels for a network of {network.classes} classes"
        )
    try:
        return encode_labels(metadata.labels)
    except ValueError as error:
        raise ConversionError(f"the labels can't be stored: {error}") from None


def sentence(network: Network | QuantizedNetwork, metadata: ModelMetadata) -> str:
    """A description for people who meet the file in another tool."""
    height, width = network.resolution
    return (
        f"{network.architecture.title}, {metadata.precision}, {network.classes} classes, from "
        f"{metadata.source.file}. Input: RGB images of {height} x {width} pixels "
        "(height x width), values 0 to 255."
    )
