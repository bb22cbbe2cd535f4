"""The standard TFLite metadata: what MediaPipe and Android's tools read from a model.

Two parts: a flatbuffer in the model's ``TFLITE_METADATA`` entry, and a zip archive of the files
that it names, appended to the model. Field numbers are those of metadata_schema.fbs 1.5 (in
MediaPipe: mediapipe/tasks/metadata/metadata_schema.fbs), counted from 0, a union taking two.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import flatbuffers

from effnet_edge import __version__
from effnet_edge.converters.description import label_lines, sentence
from effnet_edge.metadata import ModelMetadata
from effnet_edge.model_file import TFLITE_DESCRIPTION, TFLITE_LABELS
from effnet_edge.models.network import Network
from effnet_edge.models.quantized import QuantizedNetwork

_DESCRIPTIONS, _TENSOR_AXIS_LABELS = 1, 2  # enum AssociatedFileType
_RGB = 1  # enum ColorSpaceType
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2  # union ContentProperties
_NORMALIZATION_OPTIONS = 1  # union ProcessUnitOptions

MIN_PARSER_VERSION = "1.0.0"
"""Nothing here came later than the schema's first version."""


def model_metadata(network: Network | QuantizedNetwork, metadata: ModelMetadata) -> bytes:
    """The ``ModelMetadata`` flatbuffer, outputs in the order probabilities, logits."""
    image = _tensor(
        "image",
        "RGB image, values 0 to 255; the model normalises it.",
        {0: _IMAGE_PROPERTIES, 1: {0: _RGB}},
        low=0,
        high=255,
        extra={4: [{0: _NORMALIZATION_OPTIONS, 1: {0: [0.0], 1: [1.0]}}]},
    )
    labels = _file(TFLITE_LABELS, "Labels of the classes, one a line.", _TENSOR_AXIS_LABELS)
    feature = {0: _FEATURE_PROPERTIES, 1: {}}
    probabilities = _tensor(
        "probabilities",
        "Probability of each class; they sum to 1.",
        feature,
        low=0,
        high=1,
        extra={6: [labels]},
    )
    logits = _tensor("logits", "Score of each class before the softmax.", feature)
    subgraph = {0: metadata.name, 2: [image], 3: [probabilities, logits]}
    description = _file(TFLITE_DESCRIPTION, "The model's recipe and source.", _DESCRIPTIONS)
    model = {
        0: metadata.name,
        1: sentence(network, metadata),
        2: __version__,
        3: [subgraph],
        6: [description],
        7: MIN_PARSER_VERSION,
    }
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, model), b"M001")
    return bytes(builder.Output())


def attach_files(
    data: bytearray, network: Network | QuantizedNetwork, metadata: ModelMetadata
) -> None:
    """Append the labels and the description to a .tflite, in place, as a zip archive.

    The members are stored, not deflated, as the readers of such models expect, and their offsets
    count from the start of the model, as the reference tools write them.
    """
    files = {
        TFLITE_DESCRIPTION: metadata.to_json(),
        TFLITE_LABELS: label_lines(network, metadata) + "\n",
    }
    directory = bytearray()
    for name, text in files.items():
        # APPNOTE.TXT of the zip format, 4.3.7 and 4.3.12: version 2.0, flag 11 (names are UTF-8),
        # stored, 1980-01-01 so that a model is the same bytes whenever it is written.
        content = text.encode("utf-8")
        common = struct.pack(
            "<5H3I2H",
            *(20, 1 << 11, 0, 0, 0x21),
            *(zlib.crc32(content), len(content), len(content)),
            *(len(name), 0),
        )
        directory += struct.pack("<4sH", b"PK\x01\x02", 20) + common
        directory += struct.pack("<3H2I", 0, 0, 0, 0, len(data)) + name.encode("ascii")
        data += b"PK\x03\x04" + common + name.encode("ascii") + content
    start = len(data)
    data += directory
    data += struct.pack(
        "<4s4H2IH", b"PK\x05\x06", 0, 0, len(files), len(files), len(directory), start, 0
    )


def _tensor(
    name: str,
    description: str,
    content: dict[int, Any],
    *,
    low: float | None = None,
    high: float | None = None,
    extra: dict[int, Any] | None = None,
) -> dict[int, Any]:
    table = {0: name, 1: description, 3: content, **(extra or {})}
    if low is not None and high is not None:
        table[5] = {0: [float(high)], 1: [float(low)]}
    return table


def _file(name: str, description: str, kind: int) -> dict[int, Any]:
    return {0: name, 1: description, 2: kind}


def _write(builder: flatbuffers.Builder, value: Any) -> int:
    """Write a table (field number to value), a list of tables or floats, or a string; an int
    in a table is one byte, the size of this schema's enumerations. Return its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, list):
        return _write_vector(builder, value)
    references = {
        number: _write(builder, field)
        for number, field in value.items()
        if not isinstance(field, int)
    }
    builder.StartObject(max(value, default=-1) + 1)
    for number, field in value.items():
        if number in references:
            builder.PrependUOffsetTRelativeSlot(number, references[number], 0)
        else:
            builder.PrependUint8Slot(number, field, 0)
    return int(builder.EndObject())


def _write_vector(builder: flatbuffers.Builder, values: list[Any]) -> int:
    floats = isinstance(values[0], float)
    items = values if floats else [_write(builder, value) for value in values]
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        if floats:
            builder.PrependFloat32(item)
        else:
            builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())
