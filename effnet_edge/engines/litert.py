"""LiteRT (ai-edge-litert), for .tflite files."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from effnet_edge.engines.base import Session, import_engine
from effnet_edge.engines.tflite import InterpreterSession

_PACKAGE = "ai-edge-litert"


def load(path: Path, threads: int) -> Session:
    """Load a model from its file. Raises EngineError or ModelError."""
    module = import_engine("ai_edge_litert.interpreter", _PACKAGE)
    return InterpreterSession(module.Interpreter, path, threads, f"{_PACKAGE} {version(_PACKAGE)}")
