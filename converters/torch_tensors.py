"""Tensors as a PyTorch checkpoint describes them: views of storages that lie elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.errors import CheckpointError

MAX_DIMENSIONS = 8
_MAX_SIDE = 1 << 31
_MAX_STRIDE = 1 << 40

BFLOAT16 = "bfloat16"
"""Stands where a numpy dtype name would: numpy has no such type."""

STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
TORCH_DTYPES = {
    "float64": "float64",
    "double": "float64",
    "float32": "float32",
    "float": "float32",
    "float16": "float16",
    "half": "float16",
    "bfloat16": BFLOAT16,
    "int64": "int64",
    "int32": "int32",
    "int16": "int16",
    "int8": "int8",
    "uint8": "uint8",
    "bool": "bool",
}


class MalformedError(Exception):
    """The pickle does what no checkpoint writer does; the caller says where."""


@dataclass(frozen=True)
class Storage:
    """A run of ``count`` elements of ``dtype`` that lies elsewhere in the file under ``key``."""

    key: str
    dtype: str
    count: int

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return item_bytes(self.dtype)


@dataclass(frozen=True)
class StoredTensor:
    """A strided view of a storage, in elements of ``dtype``; checked to lie inside of it."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=object)) if self.shape else 1


def item_bytes(dtype: str) -> int:
    """Bytes of one element of ``dtype`` as this module names them."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def stored_array(data: NDArray[np.uint8], tensor: StoredTensor, *, big: bool) -> NDArray[Any]:
    """The tensor's values: floats as float32, other types as they are.

    ``data`` is the storage's bytes; float32 tensors are read-only views of it. ``big`` tells the
    byte order. Raises CheckpointError if the storage is shorter than the pickle claimed.
    """
    bfloat = tensor.dtype == BFLOAT16
    dtype = np.dtype("uint16" if bfloat else tensor.dtype).newbyteorder(">" if big else "<")
    elements = data.nbytes // dtype.itemsize
    if tensor.size and tensor.offset + _reach(tensor.shape, tensor.strides) >= elements:
        raise CheckpointError(f"storage {tensor.storage.key} is shorter than its tensors")
    if not tensor.size:
        # Not of its shape: numpy refuses zero elements whose other sides multiply to too much.
        return np.zeros(0, np.float32)
    flat = np.frombuffer(data, dtype, elements)[tensor.offset :]
    view = np.lib.stride_tricks.as_strided(
        flat, tensor.shape, [stride * dtype.itemsize for stride in tensor.strides], writeable=False
    )
    if bfloat:
        widened: NDArray[Any] = (view.astype(np.uint32) << 16).view(np.float32)
        return widened
    if dtype.kind == "f":
        return view.astype(np.float32, copy=False)
    return view


def stored_tensor(
    storage: Storage, dtype: str, offset: Any, size: Any, stride: Any
) -> StoredTensor:
    """Make a record of values that a pickle gave, after checking that they make sense.

    Raises MalformedError for a view that reaches outside its storage.
    """
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride):
        raise MalformedError("a tensor whose size and stride don't match")
    if len(size) > MAX_DIMENSIONS:
        raise MalformedError(f"a tensor of {len(size)} dimensions")
    shape, strides = tuple(map(counted, size)), tuple(map(counted, stride))
    tensor = StoredTensor(storage, dtype, counted(offset), shape, strides)
    if any(side > _MAX_SIDE for side in shape) or any(step > _MAX_STRIDE for step in strides):
        raise MalformedError("a tensor of impossible size or stride")
    room = storage.count * storage.item_bytes // item_bytes(dtype)
    # The second condition keeps stride 0 from making terabytes of a single number.
    if tensor.size and (tensor.offset + _reach(shape, strides) >= room or tensor.size > room):
        raise MalformedError(f"a tensor of shape {shape} reaches beyond its storage of {room}")
    return tensor


def counted(value: Any) -> int:
    """``value`` if it is a non-negative int. Raises MalformedError."""
    if type(value) is not int or value < 0:
        raise MalformedError("a tensor has a size that is no count")
    return value


def _reach(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    return sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
