"""LiteRT (ai-edge-litert), for .tflite files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from effnet_edge.device import installed_version
from effnet_edge.engines.base import Session, import_engine
from effnet_edge.engines.tflite import InterpreterSession

_PACKAGE = "ai-edge-litert"


def library() -> ModuleType:
    """Import the engine. Raises EngineError."""
    return import_engine("ai_edge_litert.interpreter", _PACKAGE)


def load(path: Path, threads: int, digest: str | None) -> Session:
    """Load a model from its file; nothing is kept of it. Raises EngineError or ModelError."""
    engine = f"{_PACKAGE} {installed_version(_PACKAGE) or ''}".rstrip()
    return InterpreterSession(library().Interpreter, path, threads, engine)
