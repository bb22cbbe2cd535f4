"""The question that a caller asks, and its answer if it is remembered.

This is all that a program needs which starts with a choice made earlier, so nothing that takes time
to import is imported here.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from effnet_edge import device
from effnet_edge.engines import ENGINES, thread_count
from effnet_edge.errors import StoreError, UsageError
from effnet_edge.files import user_path
from effnet_edge.kernels import find_kernels
from effnet_edge.selection.cache import MeasurementCache
from effnet_edge.selection.limits import limits
from effnet_edge.store import ModelStore, default_home

MORE = 1.1
"""How many times as much memory must be free for a model that was too large to be tried again."""


class Question:
    """What is asked, checked: see `EdgeClassifier.auto` for the arguments.

    Raises UsageError for what can't be meant.
    """

    def __init__(
        self,
        budget_ms: float | None = None,
        memory_mb: float | None = None,
        *,
        percentile: float = 95,
        store: ModelStore | str | os.PathLike[str] | None = None,
        engine: str | None = None,
        threads: int | None = None,
        models: str | None = None,
    ) -> None:
        if models is not None and not isinstance(models, str):
            raise UsageError(f"models must be a name or a pattern such as 'b*', not {models!r}")
        self.limits = limits(budget_ms, memory_mb, percentile, device.available_memory())
        self.store = _store(store)
        self.engine = engine
        self.threads = None if threads is None else thread_count(threads)
        self.models = models
        self.cache = MeasurementCache(_homes(self.store))

    def key(self) -> dict[str, Any]:
        """All that the answer depends on, as it is now; quickly told.

        Free memory isn't in it, for it is never twice the same: see `recall`.
        """
        try:
            files = sorted(
                (entry.name, status.st_size, status.st_mtime_ns)
                for entry in os.scandir(self.store.folder)
                if entry.name.endswith((".onnx", ".tflite")) and (status := entry.stat())
            )
        except OSError:
            files = []
        return {
            "kind": "selection",
            **circumstances(),
            "budget_ms": self.limits.budget_ms,
            "percentile": self.limits.percentile,
            "memory_bytes": self.limits.asked_bytes,
            "engine": self.engine,
            "threads": self.threads,
            "models": self.models,
            "store": str(self.store.folder),
            "files": files,
        }

    def recall(self) -> dict[str, Any] | None:
        """The remembered answer (see `remember`), unless what is free now may lead to another."""
        answer = self.cache.get(self.key())
        try:
            peak, then = answer["peak_bytes"], answer["memory_bytes"]
            now = self.limits.memory_bytes
            same = then == now or (
                then is not None
                and now is not None
                and peak <= now
                and not (answer["memory_decided"] and now > MORE * then)
            )
        except (LookupError, TypeError):
            return None
        return answer if same else None

    def remember(self, key: dict[str, Any], answer: dict[str, Any]) -> None:
        """Keep an ``answer``: ``path``, ``engine`` and ``threads`` of the model to load and its
        ``peak_bytes``, the ``memory_bytes`` that it might take, whether with more a better model
        might have been chosen (``memory_decided``), and the whole ``selection``."""
        self.cache.put(key, answer)


def circumstances() -> dict[str, Any]:
    """What every measurement depends on besides the model and the way of running it."""
    import numpy as np
    from PIL import __version__ as pillow_version

    packages = ("effnet-edge", *(engine.package for engine in ENGINES.values()))
    return {
        "device": device.fingerprint(),
        "kernels": find_kernels().identity(),
        "packages": {
            "numpy": np.__version__,
            "pillow": pillow_version,
            **{
                package: version or _location(package)
                for package, version in device.installed_versions(packages).items()
            },
        },
    }


def _location(package: str) -> str | None:
    """Where an engine is that came under another name (onnxruntime-gpu), and since when."""
    for engine in ENGINES.values():
        spec = find_spec(engine.library) if engine.package == package else None
        if spec is not None and spec.origin is not None:
            with suppress(OSError):
                return f"{spec.origin} {Path(spec.origin).stat().st_mtime_ns}"
    return None


def _store(store: ModelStore | str | os.PathLike[str] | None) -> ModelStore:
    if store is None or isinstance(store, ModelStore):
        return store or ModelStore()
    if not isinstance(store, (str, os.PathLike)):
        raise UsageError(f"store must be a ModelStore or the path of its home, not {store!r}")
    return ModelStore(user_path(store))


def _homes(store: ModelStore) -> list[Path]:
    """Where measurements may be kept: beside the models, or where one's own models would be."""
    try:
        return [store.home, default_home()]
    except StoreError:
        return [store.home]
