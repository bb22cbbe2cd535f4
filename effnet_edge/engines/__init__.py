"""Inference engines: one file each, imported only when chosen."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import cast

from effnet_edge.engines.base import Session, positive_int
from effnet_edge.errors import EngineError, UsageError
from effnet_edge.model_file import ModelFormat

__all__ = [
    "ENGINES",
    "KEEPING",
    "Engine",
    "Session",
    "available_engines",
    "choose_engine",
    "import_library",
    "importing",
    "named_engine",
    "open_session",
    "positive_int",
    "thread_count",
]


@dataclass(frozen=True)
class Engine:
    """``module`` here runs files of ``format`` with ``library``, which pip calls ``package``."""

    name: str
    module: str
    format: ModelFormat
    library: str
    package: str


ENGINES = {
    "onnxruntime": Engine(
        "onnxruntime", "effnet_edge.engines.onnxruntime", "onnx", "onnxruntime", "onnxruntime"
    ),
    "litert": Engine(
        "litert", "effnet_edge.engines.litert", "tflite", "ai_edge_litert", "ai-edge-litert"
    ),
    "tflite-runtime": Engine(
        "tflite-runtime",
        "effnet_edge.engines.tflite_runtime",
        "tflite",
        "tflite_runtime",
        "tflite-runtime",
    ),
}
"""By name, the preferred ones of a format first."""

KEEPING = ("onnxruntime",)
"""Engines that keep what they make of a model, so that it loads differently the second time."""

MAX_THREADS = 1024
"""More than any device has cores; far more fails inside the engines, some of which abort then."""


def available_engines() -> tuple[Engine, ...]:
    """The engines whose library is installed, none of which this imports."""
    return tuple(engine for engine in ENGINES.values() if find_spec(engine.library) is not None)


def choose_engine(model_format: ModelFormat, asked: str | None = None) -> Engine:
    """Return the engine called ``asked``, or else the first installed one for ``model_format``.

    Raises UsageError for an unknown engine or one that doesn't run this format, and EngineError
    if none that does is installed.
    """
    if asked is not None:
        engine = named_engine(asked)
        if engine.format != model_format:
            raise UsageError(
                f"{engine.name} runs .{engine.format} files, not .{model_format}: "
                f"leave the engine out, or give the .{engine.format} file"
            )
        return engine
    for engine in available_engines():
        if engine.format == model_format:
            return engine
    packages = [engine.package for engine in ENGINES.values() if engine.format == model_format]
    raise EngineError(
        f"no engine for .{model_format} files is installed: pip install {' or '.join(packages)}"
    )


def named_engine(name: str) -> Engine:
    """Return the engine of that name. Raises UsageError, with the names there are."""
    engine = ENGINES.get(name) if isinstance(name, str) else None
    if engine is None:
        raise UsageError(f"there is no engine {name!r}: choose one of {', '.join(ENGINES)}")
    return engine


def import_library(engine: Engine) -> ModuleType:
    """Import the engine's library. Raises EngineError."""
    return cast(ModuleType, importlib.import_module(engine.module).library())


@contextmanager
def importing(engine: Engine) -> Iterator[None]:
    """Import the engine's library in a thread while the caller does something else.

    What goes wrong with that shows when a session is opened.
    """

    def work() -> None:
        with suppress(EngineError):
            import_library(engine)

    thread = threading.Thread(target=work, daemon=True)
    if engine.library not in sys.modules:
        thread.start()
    try:
        yield
    finally:  # a thread that still imports when the process ends could crash it
        if thread.ident is not None:
            thread.join()


def thread_count(threads: int) -> int:
    """Return ``threads``. Raises UsageError if it isn't a whole number from 1 to `MAX_THREADS`."""
    threads = positive_int("threads", threads)
    if threads > MAX_THREADS:
        raise UsageError(f"threads must be at most {MAX_THREADS}")
    return threads


def open_session(
    path: Path, engine: Engine, threads: int | None = None, digest: str | None = None
) -> Session:
    """Load the model at ``path``; ``threads`` defaults to the fast cores this process may use.

    With the ``digest`` of the file's content, an engine may keep what it makes of the model, and
    load faster next time.

    Raises UsageError for a thread count that isn't 1 to `MAX_THREADS`, EngineError if the engine
    isn't installed or can't load the file, and ModelError if the file's tensors aren't those of
    our models.
    """
    if threads is None:
        from effnet_edge.device import default_threads

        threads = default_threads()
    threads = thread_count(threads)
    return cast(Session, importlib.import_module(engine.module).load(path, threads, digest))
