"""Models as ONNX Runtime has optimised them for this processor, kept for the next time.

Optimising takes most of the time that loading takes, and leaves memory behind that the result
doesn't need. What ONNX Runtime made of a model is kept as ``<home>/optimised/<key>/``: the graph,
and its weights in a file of their own, which is mapped and not copied. The key holds all that the
result depends on. Nothing here is needed: where nothing can be read or written, or what is there
was spoilt by a power cut, the model is optimised anew.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from effnet_edge.errors import StoreError

LEAST_MODEL_BYTES = 1 << 20
"""Smaller models load in no time."""
MOST_BYTES = 1 << 29
"""All entries together; those unused for longest go first."""
SPARE_BYTES = 1 << 28
"""What must remain free on the disk."""

WEIGHTS = "weights.bin"
_GRAPH = "model.onnx"
_CHECK = "crc32"
_FORMAT = "1"
_SECONDS_TO_MAKE = 3600.0
_SECONDS_BETWEEN_TOUCHES = 3600.0
"""Of use within the same hour nobody knows which was later."""
_CHUNK = 1 << 20


class OptimisedModel:
    """The place of one model's optimised form."""

    def __init__(self, folder: Path, model_bytes: int) -> None:
        self._folder = folder
        self._model_bytes = model_bytes

    def find(self) -> Path | None:
        """The graph's file, if it is there and whole."""
        try:
            expected = (self._folder / _CHECK).read_text("ascii")
            if _checksums(self._folder) == expected:
                self._remember_use()
                return self._folder / _GRAPH
        except FileNotFoundError:
            if not self._folder.exists():
                return None
        except (OSError, ValueError):
            pass
        self.discard()
        return None

    @contextmanager
    def making(self) -> Iterator[Path | None]:
        """Where to write the graph, with `WEIGHTS` beside it. It becomes the entry unless an
        exception passes. None where there is no room for it."""
        temporary = self._folder.with_name(f".{self._folder.name}.{secrets.token_hex(4)}")
        try:
            temporary.mkdir(parents=True)
            has_room = _free_bytes(temporary) > 2 * self._model_bytes + SPARE_BYTES
        except OSError:
            has_room = False
        try:
            yield temporary / _GRAPH if has_room else None
            if has_room:
                with suppress(OSError):  # the disk is full, or another process was faster
                    (temporary / _CHECK).write_text(_checksums(temporary), "ascii")
                    temporary.rename(self._folder)
                    _tidy(self._folder.parent)
        finally:
            _remove(temporary)

    def discard(self) -> None:
        """Remove the entry, as far as that can be."""
        _remove(self._folder)

    def _remember_use(self) -> None:
        # Not each one: that would wear a memory card out.
        if time.time() - self._folder.stat().st_mtime > _SECONDS_BETWEEN_TOUCHES:
            with suppress(OSError):
                os.utime(self._folder)


def optimised_model(path: Path, digest: str, made_by: str) -> OptimisedModel | None:
    """The place for what ``made_by``, an engine's version and a processor, makes of the model at
    ``path`` with this ``digest``; None for a model that isn't worth it or can't have one."""
    from effnet_edge.store import default_home

    try:
        size = path.stat().st_size
        home = default_home()
    except (OSError, StoreError):
        return None
    if not LEAST_MODEL_BYTES <= size <= MOST_BYTES // 2:
        return None
    key = hashlib.sha256("\n".join((_FORMAT, digest, made_by)).encode()).hexdigest()
    return OptimisedModel(home / "optimised" / key[:32], size)


def _checksums(folder: Path) -> str:
    # Against torn writes and worn flash. A digest would take several times as long on the
    # processors that gain most, and stop nobody who can write here.
    sums = []
    for name in (_GRAPH, WEIGHTS):
        crc = size = 0
        with (folder / name).open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                crc = zlib.crc32(chunk, crc)
                size += len(chunk)
        sums.append(f"{crc:08x} {size} {name}\n")
    return "".join(sums)


def _tidy(folder: Path) -> None:
    """Remove the entries unused for longest until the others fit, and what was never finished."""
    entries = []
    for entry in folder.iterdir():
        used = entry.stat().st_mtime
        if not entry.name.startswith("."):
            entries.append((used, sum(file.stat().st_size for file in entry.iterdir()), entry))
        elif time.time() - used > _SECONDS_TO_MAKE:
            _remove(entry)
    total = 0
    for _, size, entry in sorted(entries, reverse=True):
        total += size
        if total > MOST_BYTES:
            _remove(entry)


def _free_bytes(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
