"""Reading what a model file says of itself, without the libraries of its format.

Only descriptions are read, never the weights; every size that the file states is checked
before anything of that size is read.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from effnet_edge.errors import ModelError, ModelNotFoundError
from effnet_edge.files import open_regular
from effnet_edge.metadata import ModelMetadata
from effnet_edge.protocol_buffer import ProtocolBuffer, length_tag, varint_tag

ModelFormat = Literal["onnx", "tflite"]

ONNX_DESCRIPTION = "effnet_edge"
ONNX_LABELS = "labels"
ONNX_SEAL = "effnet_edge_seal"
"""Keys of ONNX's ``metadata_props``."""

TFLITE_DESCRIPTION = "effnet_edge.json"
TFLITE_LABELS = "labels.txt"
"""Names of the files that are attached to a .tflite."""

_MAX_TEXT = 16 << 20
_MAX_FIELDS = 100_000
_MAX_DIRECTORY = 1 << 20
_MAX_DEPTH = 64

# Fields of ModelProto and StringStringEntryProto in onnx.proto.
_IR_VERSION_TAG = b"\x08"
_METADATA_PROPS = length_tag(14)
_KEY, _VALUE = length_tag(1), length_tag(2)

# Where onnx.proto has tensors: by message, its fields that may hold some further down.
_HOLDERS = {
    message: {length_tag(number): inner for number, inner in fields.items()}
    for message, fields in {
        "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
        "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
        "NodeProto": {5: "AttributeProto"},
        "AttributeProto": {
            **{5: "TensorProto", 10: "TensorProto", 6: "GraphProto", 11: "GraphProto"},
            **{22: "SparseTensorProto", 23: "SparseTensorProto"},
        },
        "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
        "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
        "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
        "TensorProto": {},
    }.items()
}
_EXTERNAL_DATA, _DATA_LOCATION = length_tag(13), varint_tag(14)


def model_format(path: Path) -> ModelFormat:
    """Tell by its first bytes what the file at ``path`` is, whatever its name.

    Raises ModelNotFoundError for a missing file, and ModelError for one that can't be read or is
    neither.
    """
    try:
        with open_regular(path) as file:
            return _format(file, path)
    except FileNotFoundError:
        raise ModelNotFoundError(f"there is no model file {path}") from None
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error


def read_metadata(path: Path) -> ModelMetadata:
    """Read the description and the labels of a model file that this package wrote.

    Raises ModelNotFoundError for a missing file, and ModelError for one that can't be read, is
    damaged, or comes from elsewhere and carries no description.
    """
    try:
        with open_regular(path) as file:
            read = _read_onnx if _format(file, path) == "onnx" else _read_tflite
            file.seek(0)
            texts = read(file, path)
    except FileNotFoundError:
        raise ModelNotFoundError(f"there is no model file {path}") from None
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error
    if texts is None:
        raise ModelError(
            f"{path} carries no effnet-edge description, so its labels and its preprocessing "
            "aren't known: make one from the trained weights with "
            "effnet-edge convert --weights FILE"
        )
    try:
        description, labels = (text.decode("utf-8") for text in texts)
        return ModelMetadata.from_json(description, decode_labels(labels))
    except UnicodeDecodeError as error:
        raise _damaged(path, "its description isn't UTF-8 text") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def check_self_contained(path: Path) -> None:
    """Refuse an ONNX file that keeps tensors in other files, which no seal of its own covers.

    Looks at every tensor's header and at none of its values. Raises as `read_metadata` does.
    """
    try:
        with open_regular(path) as file:
            external = _has_external_tensors(ProtocolBuffer(file))
    except FileNotFoundError:
        raise ModelNotFoundError(f"there is no model file {path}") from None
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if external:
        raise ModelError(
            f"{path} keeps weights in another file, which its seal doesn't cover: convert the "
            "model again"
        )


def encode_labels(labels: tuple[str, ...]) -> str:
    """One label a line, no end to the last. Raises ValueError for a label of several lines."""
    for index, label in enumerate(labels):
        if "\n" in label:
            raise ValueError(f"label {index} has more than one line: {label!r}")
    return "\n".join(labels)


def decode_labels(text: str) -> tuple[str, ...]:
    """The inverse of `encode_labels`."""
    return tuple(text.split("\n"))


def _format(file: BinaryIO, path: Path) -> ModelFormat:
    start = file.read(8)
    if start[4:] == b"TFL3":
        return "tflite"
    if start[:1] == _IR_VERSION_TAG:
        return "onnx"
    what = "is empty" if not start else "is neither an ONNX nor a TFLite model"
    raise ModelError(f"{path} {what}: give a file that effnet-edge convert wrote")


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} is damaged ({why}): convert it again or copy it again")


def _read_onnx(file: BinaryIO, path: Path) -> tuple[bytes, bytes] | None:
    """Description and labels from the top level of a ModelProto."""
    message = ProtocolBuffer(file, _MAX_FIELDS)
    found: dict[str, bytes] = {}
    try:
        for start, size in _metadata_props(message):
            fields = {
                tag: message.read(at, length)
                for tag, length, at in message.fields(start, start + size)
                if tag in (_KEY, _VALUE)
            }
            key = fields.get(_KEY, b"").decode("utf-8", "replace")
            if key in (ONNX_DESCRIPTION, ONNX_LABELS):
                found[key] = fields.get(_VALUE, b"")
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if len(found) < 2:
        return None
    return found[ONNX_DESCRIPTION], found[ONNX_LABELS]


def _metadata_props(message: ProtocolBuffer) -> Iterator[tuple[int, int]]:
    """Where every ``metadata_props`` entry is, and its size. Raises ValueError."""
    budget = _MAX_TEXT
    for tag, size, at in message.fields():
        if tag == _METADATA_PROPS:
            budget -= size
            if budget < 0:
                raise ValueError("its description is too large")
            yield at, size


def _has_external_tensors(
    file: ProtocolBuffer,
    message: str = "ModelProto",
    start: int = 0,
    end: int | None = None,
    depth: int = 0,
) -> bool:
    """Whether a tensor of a message lies elsewhere. Raises ValueError for a malformed one."""
    is_tensor, holders = message == "TensorProto", _HOLDERS[message]
    for tag, value, at in file.fields(start, end):
        if is_tensor and (tag == _EXTERNAL_DATA or (tag == _DATA_LOCATION and value != 0)):
            return True
        inner = holders.get(tag)
        if inner is None:
            continue
        if depth == _MAX_DEPTH:
            raise ValueError("its graphs are nested too deep")
        if _has_external_tensors(file, inner, at, at + value, depth + 1):
            return True
    return False


def _read_tflite(file: BinaryIO, path: Path) -> tuple[bytes, bytes] | None:
    """Description and labels from the zip archive that ends the file."""
    if not _ends_in_small_zip(file):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if TFLITE_DESCRIPTION not in names or TFLITE_LABELS not in names:
                return None
            description = _member(archive.getinfo(TFLITE_DESCRIPTION), archive)
            labels = _member(archive.getinfo(TFLITE_LABELS), archive)
            # As a text file it ends its last line too; readers take an empty last one for none.
            return description, labels.removesuffix(b"\n")
    except (zipfile.BadZipFile, struct.error, ValueError, EOFError, RuntimeError) as error:
        raise _damaged(path, f"attached files: {error}") from error


def _ends_in_small_zip(file: BinaryIO) -> bool:
    """Whether the file ends in a plain zip directory of a size that is safe to parse.

    zipfile loads the whole directory, however large. The record is the last 22 bytes, for the
    archive has no comment; before it, "PK\\6\\7" would point to a second, 64-bit one. (APPNOTE.TXT
    of the zip format, 4.3.15 and 4.3.16.)
    """
    size = file.seek(0, os.SEEK_END)
    if size < 42:
        return False
    file.seek(size - 42)
    tail = file.read(42)
    directory_size: int = struct.unpack_from("<I", tail, 20 + 12)[0]
    return (
        tail[20:24] == b"PK\x05\x06"
        and tail[:4] != b"PK\x06\x07"
        and directory_size <= _MAX_DIRECTORY
    )


def _member(info: zipfile.ZipInfo, archive: zipfile.ZipFile) -> bytes:
    if info.compress_type != 0 or info.flag_bits & 1 or info.file_size > _MAX_TEXT:
        raise ValueError(f"{info.filename} isn't stored as effnet-edge stores it")
    return archive.read(info)
