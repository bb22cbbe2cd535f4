"""tflite-runtime, for .tflite files: LiteRT's predecessor, and what 32-bit ARM has wheels of."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from effnet_edge.device import installed_version
from effnet_edge.engines.base import Session, import_engine
from effnet_edge.engines.tflite import InterpreterSession

_PACKAGE = "tflite-runtime"


def library() -> ModuleType:
    """Import the engine. Raises EngineError."""
    return import_engine("tflite_runtime.interpreter", _PACKAGE)


def load(path: Path, threads: int, digest: str | None) -> Session:
    """Load a model from its file; nothing is kept of it. Raises EngineError or ModelError."""
    engine = f"{_PACKAGE} {installed_version(_PACKAGE) or ''}".rstrip()
    return InterpreterSession(library().Interpreter, path, threads, engine)
