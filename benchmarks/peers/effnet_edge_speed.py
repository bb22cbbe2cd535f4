"""effnet-edge itself: our runtime's session, on the engine that is asked for."""

from __future__ import annotations

from pathlib import Path

from speed_worker import Predict

from effnet_edge.engines import ENGINES, Engine, import_library, open_session
from effnet_edge.kernels import find_kernels

PACKAGES = ("effnet-edge", "onnxruntime")


def imports(configuration: str) -> None:
    """The runtime imports an engine when it is chosen."""
    import_library(_engine(configuration))


def load(configuration: str, sources: Path, folder: Path, threads: int) -> Predict:
    """The name of an engine, or ``portable``: what is loaded besides is the runtime's choice."""
    return open_session(sources / "int8.onnx", _engine(configuration), threads).run


def note() -> str:
    """Whose kernels it ran on."""
    found = find_kernels()
    return f"kernels for {found.isa}" if found.isa else f"no kernels of ours: {found.error}"


def _engine(configuration: str) -> Engine:
    """Portable is ONNX Runtime in a process that is told to do without our kernels."""
    return ENGINES["onnxruntime" if configuration == "portable" else configuration]
