"""Inference engines: one file each, imported only when chosen."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import cast

from effnet_edge.engines.base import Session, positive_int
from effnet_edge.errors import EngineError, UsageError
from effnet_edge.kernels import ISA, LIBRARY, find_kernels
from effnet_edge.model_file import ModelFormat

__all__ = [
    "ENGINES",
    "KEEPING",
    "NATIVE",
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
    "to_install",
    "wrong_precision",
]


@dataclass(frozen=True)
class Engine:
    """``module`` here runs files of ``format`` with ``library``, which pip calls ``package``.

    ``precisions`` are those of the models that it runs, None for any.
    """

    name: str
    module: str
    format: ModelFormat
    library: str
    package: str
    precisions: tuple[str, ...] | None = None

    def runs(self, model_format: ModelFormat | None, precision: str | None) -> bool:
        """Whether it runs models of this kind, where it can be used; None: of any precision."""
        return model_format == self.format and self.computes(precision)

    def computes(self, precision: str | None) -> bool:
        """Whether it runs models of this precision, in its own format."""
        return self.precisions is None or precision in self.precisions

    def obstacle(self) -> str | None:
        """Why it can't be used here, as far as that shows without importing its library."""
        if self.name == NATIVE:
            return _kernels_error(os.environ.get(ISA), os.environ.get(LIBRARY))
        if find_spec(self.library) is None:
            return f"{self.package} is not installed: pip install {self.package}"
        return None


NATIVE = "native"
"""The engine that is our own kernels: the package always has it, and a processor may not."""

ENGINES = {
    NATIVE: Engine(
        NATIVE, "effnet_edge.engines.native", "onnx", "effnet_edge", "effnet-edge", ("int8",)
    ),
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
    """The engines that can be used here, none of which this imports."""
    return tuple(engine for engine in ENGINES.values() if engine.obstacle() is None)


def choose_engine(
    model_format: ModelFormat, asked: str | None = None, precision: str | None = None
) -> Engine:
    """Return the engine called ``asked``, or else the first usable one for models of this kind.

    ``precision`` is the model's; if it isn't told, only engines that run any are taken.
    Raises UsageError for an unknown engine or one that doesn't run this format or precision, and
    EngineError if none that does is installed.
    """
    if asked is not None:
        engine = named_engine(asked)
        if engine.format != model_format:
            raise UsageError(
                f"{engine.name} runs .{engine.format} files, not .{model_format}: "
                f"leave the engine out, or give the .{engine.format} file"
            )
        if precision is not None and not engine.computes(precision):
            raise UsageError(wrong_precision(engine, precision))
        return engine
    for engine in available_engines():
        if engine.runs(model_format, precision):
            return engine
    raise EngineError(
        f"no engine for .{model_format} files is installed: {to_install(model_format)}"
    )


def wrong_precision(engine: Engine, precision: str) -> str:
    """Why an engine that doesn't compute ``precision`` doesn't run a model."""
    return (
        f"{engine.name} runs {' and '.join(engine.precisions or ())} models, not {precision}: "
        "leave the engine out, or give another model"
    )


def to_install(*model_formats: ModelFormat | None) -> str:
    """The command that installs an engine for any model of these formats."""
    packages = [
        engine.package
        for engine in ENGINES.values()
        if engine.format in model_formats and engine.name != NATIVE
    ]
    return f"pip install {' or '.join(packages)}"


@lru_cache
def _kernels_error(isa: str | None, library: str | None) -> str | None:
    """Why there are no kernels, in the environment that the arguments tell.

    Of one that asks for what can't be, who opens a session hears.
    """
    with suppress(UsageError):
        error = find_kernels().error
        return None if error is None else f"there are no kernels: {error}"
    return None


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
