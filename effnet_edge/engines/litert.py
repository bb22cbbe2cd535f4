"""LiteRT (ai-edge-litert), for .tflite files."""

from __future__ import annotations

from pathlib import Path

from effnet_edge.device import installed_version
from effnet_edge.engines.base import Session, import_engine
from effnet_edge.engines.tflite import InterpreterSession

_PACKAGE = "ai-edge-litert"


def load(path: Path, threads: int, digest: str | None) -> Session:
    """Load a model from its file; nothing is kept of it. Raises EngineError or ModelError."""
    module = import_engine("ai_edge_litert.interpreter", _PACKAGE)
    engine = f"{_PACKAGE} {installed_version(_PACKAGE) or ''}".rstrip()
    return InterpreterSession(module.Interpreter, path, threads, engine)
