"""A checkpoint file as plain data: named tensors, whatever container they came in."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters import hdf5_file, keras_file, pytorch_file, safetensors_file
from effnet_edge.converters.keras_file import KerasModel
from effnet_edge.converters.torch_tensors import StoredTensor
from effnet_edge.converters.unwrap import Weights, find_weights
from effnet_edge.errors import CheckpointError
from effnet_edge.files import sha256

_HEAD_BYTES = 1024


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    ``tensors`` are the network's weights with wrappers and prefixes removed: floats as float32,
    other types as they are, read-only views of the file where possible. Keras's keep Keras's
    layout. ``arch_hint`` is the model's name where the wrapper stores one. ``notes`` say what was
    chosen among several things. ``keras`` is None for anything but a Keras file.
    """

    path: Path
    sha256: str
    tensors: dict[str, NDArray[Any]]
    arch_hint: str | None = None
    notes: tuple[str, ...] = ()
    keras: KerasModel | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of any known container, told by its content and not by its name.

    PyTorch (zip and legacy pickle), safetensors, Keras (``.keras``, ``.weights.h5``, ``.h5``).
    Nothing in the file is run. Raises CheckpointError.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise CheckpointError(
                f"{path} is no regular file but a folder: give the checkpoint file inside of it"
            )
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer
            raise CheckpointError(
                f"{path} is no regular file but a pipe, socket or device: save the checkpoint to "
                "a file first"
            )
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        digest = sha256(path)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}") from None
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL character in the path
        raise CheckpointError(f"{str(path)!r} can't be read: {error}") from error
    if head.startswith(hdf5_file.MAGIC):
        tensors, keras = keras_file.read_keras_hdf5(path)
        return Checkpoint(path, digest, tensors, keras=keras)
    if head.startswith(b"PK\x03\x04"):
        if _is_keras(path):
            tensors, keras = keras_file.read_keras_archive(path)
            return Checkpoint(path, digest, tensors, keras=keras)
        return _pytorch(path, digest, pytorch_file.read_zip(path))
    if head.startswith(pytorch_file.LEGACY_MAGIC):
        return _pytorch(path, digest, pytorch_file.read_legacy(path))
    foreign = _foreign(head)
    if foreign is None and safetensors_file.looks_like_safetensors(head, status.st_size):
        arrays = safetensors_file.read_safetensors(path)
        found = find_weights(arrays, lambda value: isinstance(value, np.ndarray), str(path))
        return _checkpoint(path, digest, found, found.tensors)
    raise CheckpointError(
        f"{path} {foreign or 'is no checkpoint that can be read, or is damaged'}. What can be "
        "read: PyTorch (.pth, .pt), safetensors, Keras (.keras, .h5)"
    )


def _pytorch(path: Path, digest: str, file: pytorch_file.PyTorchFile) -> Checkpoint:
    found = find_weights(file.root, lambda value: isinstance(value, StoredTensor), str(path))
    claimed = sum(tensor.size for tensor in found.tensors.values())
    if claimed > 2 * path.stat().st_size:
        # Many tensors over one storage: no checkpoint shares so much.
        raise CheckpointError(f"{path} claims {claimed} values, far more than it can hold: refused")
    tensors = {name: file.read(tensor) for name, tensor in found.tensors.items()}
    return _checkpoint(path, digest, found, tensors)


def _checkpoint(
    path: Path, digest: str, found: Weights, tensors: dict[str, NDArray[Any]]
) -> Checkpoint:
    return Checkpoint(path, digest, tensors, found.architecture, found.notes)


def _is_keras(path: Path) -> bool:
    try:
        with ZipFile(path) as archive:
            return keras_file.CONFIG in archive.namelist()
    except (BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _foreign(head: bytes) -> str | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "is empty: the download or the copy failed"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "is a web page, not weights: the download went to a log-in or error page"
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself: run git lfs pull"
    if head[4:8] == b"TFL3":
        return "is a TFLite model already: effnet-edge predict can run it"
    if head.startswith(b"PK"):
        return "is an empty or split zip archive"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf")):
        return "is compressed: unpack it first"
    if head[257:262] == b"ustar":
        return (
            "is a tar archive: unpack it; or, if PyTorch before 0.1.10 wrote it, load it there and "
            "save it with a newer one"
        )
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return (
            "is a plain pickle, which torch.save didn't write: load it where it was made and save "
            "the weights with torch.save(state_dict, FILE)"
        )
    return None
