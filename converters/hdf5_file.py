"""Reads the numeric datasets of an HDF5 file, and nothing outside of it.

HDF5 can point into other files (external links, external storage, virtual datasets) and can
declare datasets far larger than the file; a checkpoint does neither, so both are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from effnet_edge.errors import CheckpointError, UsageError

MAGIC = b"\x89HDF\r\n\x1a\n"

_MAX_DEPTH = 16
_MAX_OBJECTS = 50_000
_MAX_ELEMENTS = 256_000_000
"""Four times B7: what all datasets together may declare."""
_MAX_EXPANSION = 64
_FREE_BYTES = 4096
"""A dataset may declare that many times its stored bytes, and these: compressed weights shrink
far less, but values that were never written take no room in the file at all."""


@dataclass(frozen=True)
class Hdf5Contents:
    """Datasets by path (floats as float32), and the text attributes by (group path, name)."""

    datasets: dict[str, NDArray[Any]]
    attributes: dict[tuple[str, str], str]


def read_hdf5(source: Path | BinaryIO, where: str, skip: tuple[str, ...] = ()) -> Hdf5Contents:
    """Read all numeric datasets but those below the top-level groups ``skip``.

    Raises CheckpointError for a damaged file or one that reaches outside itself.
    """
    try:
        import h5py  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise UsageError(
            f"reading {where} needs the h5py package: pip install 'effnet-edge[convert]'"
        ) from error
    try:
        with h5py.File(source, "r") as file:
            return _Walk(h5py, where, skip).contents(file)
    except CheckpointError:
        raise
    except Exception as error:
        # h5py reports a broken file by whatever its C library tripped over.
        raise CheckpointError(
            f"{where} is a damaged HDF5 file ({error}): bring it again"
        ) from error


class _Walk:
    def __init__(self, h5py: Any, where: str, skip: tuple[str, ...]) -> None:
        self.h5py = h5py
        self.where = where
        self.skip = skip
        self.objects = 0
        self.elements = 0
        self.datasets: dict[str, NDArray[Any]] = {}
        self.attributes: dict[tuple[str, str], str] = {}

    def contents(self, file: Any) -> Hdf5Contents:
        self._group(file, "", 0)
        return Hdf5Contents(self.datasets, self.attributes)

    def _group(self, group: Any, path: str, depth: int) -> None:
        self._texts(group, path)
        if depth > _MAX_DEPTH:
            raise CheckpointError(f"{self.where} nests its groups without end")
        for name in group:
            child = f"{path}/{name}" if path else name
            if not path and name in self.skip:
                continue
            self.objects += 1
            if self.objects > _MAX_OBJECTS:
                raise CheckpointError(f"{self.where} holds more objects than any checkpoint")
            if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
                raise CheckpointError(
                    f"{self.where}: {child} is a link to somewhere else, which no checkpoint "
                    "needs; it was not followed"
                )
            item = group[name]
            if isinstance(item, self.h5py.Group):
                self._group(item, child, depth + 1)
            elif (
                isinstance(item, self.h5py.Dataset)
                and item.dtype.kind in "fiub"
                and item.shape is not None  # None: a dataset of no values at all
            ):
                self.datasets[child] = self._array(item, child)

    def _texts(self, group: Any, path: str) -> None:
        for name in group.attrs:
            if name in ("model_config", "name"):
                value = group.attrs[name]
                text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
                if isinstance(text, str):
                    self.attributes[path, name] = text

    def _array(self, dataset: Any, path: str) -> NDArray[Any]:
        if dataset.external or dataset.is_virtual:
            raise CheckpointError(
                f"{self.where}: {path} keeps its values in another file, which no checkpoint "
                "needs; it was not opened"
            )
        self.elements += int(dataset.size)
        if self.elements > _MAX_ELEMENTS:
            raise CheckpointError(f"{self.where} declares more values than any EfficientNet has")
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > _MAX_EXPANSION * stored + _FREE_BYTES:
            raise CheckpointError(
                f"{self.where}: {path} declares {dataset.nbytes} bytes and stores {stored} of "
                "them: the file is cut short, or never was a checkpoint"
            )
        values: NDArray[Any] = np.asarray(dataset[()])
        return values.astype(np.float32, copy=False) if values.dtype.kind == "f" else values
