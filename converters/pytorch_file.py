"""PyTorch's two checkpoint containers: the zip archive (1.6 and later) and the legacy pickle.

Formats: ``torch/serialization.py``, ``_save`` and ``_legacy_save``. Storages are mapped, not
copied. Nothing in the file is run (see `pickle_reader`).
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.pickle_reader import unpickle
from effnet_edge.converters.torch_tensors import Storage, StoredTensor, stored_array
from effnet_edge.errors import CheckpointError

LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"
"""The pickle of 0x1950a86a20f9469cfc6c with which every legacy file begins."""
_LEGACY_PROTOCOL = 1001

_MAX_PICKLE_BYTES = 16 << 20
"""B7's own is 0.3 MB; one with its optimizer and options stays far below."""

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


@dataclass(frozen=True)
class PyTorchFile:
    """What was pickled, and how to get at a tensor's values."""

    root: Any
    read: Callable[[StoredTensor], NDArray[Any]]


def read_zip(path: Path) -> PyTorchFile:
    """Read a zip checkpoint. Raises CheckpointError."""
    data = _map(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
    except Exception as error:
        raise CheckpointError(
            f"{path} is a zip archive with no readable directory: it is cut short or damaged, "
            "bring it again"
        ) from error
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if not pickles:
        raise CheckpointError(_foreign_zip(path, entries))
    folder = pickles[0].removesuffix("data.pkl")
    if any(name.startswith((f"{folder}code/", f"{folder}constants.pkl")) for name in entries):
        raise CheckpointError(
            f"{path} is a TorchScript program, not a file of weights. Load it with torch.jit.load "
            "and save the weights alone: torch.save(dict(module.state_dict()), FILE)"
        )
    records = _records(path, data, list(entries.values()))
    document = records[pickles[0]]
    if document.nbytes > _MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"{path} holds {document.nbytes >> 20} MB of pickle: not a checkpoint"
        )
    order = records.get(f"{folder}byteorder")
    big = order is not None and order.tobytes().strip() == b"big"
    root, _ = _unpickle(path, io.BytesIO(document.tobytes()))

    return PyTorchFile(root, _reader(path, records, f"{folder}data/", big=big))


def read_legacy(path: Path) -> PyTorchFile:
    """Read a checkpoint of PyTorch before 1.6. Raises CheckpointError."""
    data = _map(path)
    stream = io.BytesIO(data[:_MAX_PICKLE_BYTES].tobytes())
    stream.seek(len(LEGACY_MAGIC))
    protocol, _ = _unpickle(path, stream)
    if protocol != _LEGACY_PROTOCOL:
        raise CheckpointError(f"{path} has a legacy protocol that isn't known")
    _unpickle(path, stream)
    root, known = _unpickle(path, stream)
    keys, _ = _unpickle(path, stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError(f"{path} has no list of storages: it is damaged")
    position = stream.tell()
    # The item size of a storage stands in the pickle only, so the runs can be found only in turn.
    sizes = {key: storage.item_bytes for key, storage in known.items()}
    storages: dict[str, NDArray[np.uint8]] = {}
    for key in keys:
        count = int.from_bytes(data[position : position + 8].tobytes(), "little", signed=True)
        end = position + 8 + count * sizes.get(key, 0)
        if position + 8 > data.nbytes or count < 0 or end > data.nbytes or key not in sizes:
            raise CheckpointError(f"{path} is cut short or damaged: storage {key} isn't whole")
        storages[key] = data[position + 8 : end]
        position = end

    return PyTorchFile(root, _reader(path, storages, "", big=False))


def _reader(
    path: Path, storages: Mapping[str, NDArray[np.uint8]], folder: str, *, big: bool
) -> Callable[[StoredTensor], NDArray[Any]]:
    def read(tensor: StoredTensor) -> NDArray[Any]:
        data = storages.get(f"{folder}{tensor.storage.key}")
        if data is None:
            raise CheckpointError(f"{path} lacks the storage {tensor.storage.key}: it is damaged")
        try:
            return stored_array(data, tensor, big=big)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None

    return read


def _unpickle(path: Path, stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    try:
        return unpickle(stream)
    except CheckpointError as error:
        raise CheckpointError(f"{path} can't be used: {error}") from error.__cause__


def _map(path: Path) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error


def _records(
    path: Path, data: NDArray[np.uint8], entries: list[zipfile.ZipInfo]
) -> dict[str, NDArray[np.uint8]]:
    """Map every entry. PyTorch stores them uncompressed and apart; anything else could make
    gigabytes out of a small file."""
    records: dict[str, NDArray[np.uint8]] = {}
    previous_end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise CheckpointError(
                f"{path} holds a compressed or encrypted entry, {entry.filename}, which PyTorch "
                "never writes: unpack it and save the weights with torch.save again"
            )
        start = entry.header_offset
        header = data[max(start, 0) : start + _LOCAL_HEADER.size].tobytes()
        whole = start >= previous_end and len(header) == _LOCAL_HEADER.size
        if whole:
            signature, *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            begin = start + _LOCAL_HEADER.size + name_length + extra_length
            previous_end = begin + entry.file_size
            whole = signature == b"PK\x03\x04" and entry.compress_size == entry.file_size
        if not whole or previous_end > data.nbytes:
            raise CheckpointError(f"{path} is cut short or damaged at entry {entry.filename}")
        records[entry.filename] = data[begin:previous_end]
    return records


def _foreign_zip(path: Path, names: dict[str, zipfile.ZipInfo]) -> str:
    if any(name.endswith(".npy") for name in names):
        kind = "a NumPy archive; save the weights with torch.save or as .safetensors"
    elif any(name.endswith(("/saved_model.pb", "variables.index")) for name in names):
        kind = "an archive of a TensorFlow SavedModel; save the model as .keras"
    elif any(name.endswith((".pth", ".pt", ".safetensors", ".h5", ".keras")) for name in names):
        kind = "an archive around a checkpoint; unpack it and give the file inside"
    else:
        kind = "a zip archive, but neither PyTorch's nor Keras's"
    return f"{path} is {kind}"
