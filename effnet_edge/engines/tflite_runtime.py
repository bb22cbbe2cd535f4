"""tflite-runtime, for .tflite files: LiteRT's predecessor, and what 32-bit ARM has wheels of."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from effnet_edge.engines.base import Session, import_engine
from effnet_edge.engines.tflite import InterpreterSession

_PACKAGE = "tflite-runtime"


def load(path: Path, threads: int) -> Session:
    """Load a model from its file. Raises EngineError or ModelError."""
    module = import_engine("tflite_runtime.interpreter", _PACKAGE)
    return InterpreterSession(module.Interpreter, path, threads, f"{_PACKAGE} {version(_PACKAGE)}")
