"""The safetensors container: a JSON header and the raw tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.errors import CheckpointError, UsageError

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}


def looks_like_safetensors(head: bytes, file_size: int) -> bool:
    """Whether a file of ``file_size`` that begins with ``head`` (at least 9 bytes) may be one."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and 2 <= length <= file_size - 8


def read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read all tensors: floats as float32, other types as they are. Raises CheckpointError."""
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError as error:
        raise UsageError(
            f"reading {path} needs the safetensors package: pip install 'effnet-edge[convert]'"
        ) from error
    try:
        entries: list[tuple[str, dict[str, Any]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no sound safetensors file: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise CheckpointError(
                f"{path}: tensor {name} has type {entry['dtype']}, which isn't read: convert it "
                "to float32 before saving"
            )
        try:
            values = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        except ValueError as error:
            raise CheckpointError(f"{path}: tensor {name} has an impossible shape") from error
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        elif values.dtype.kind == "f":
            values = values.astype(np.float32, copy=False)
        tensors[name] = values
    return tensors
