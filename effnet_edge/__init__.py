"""EfficientNet at the edge: a thin runtime that labels images, and converters for its models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from effnet_edge.classifier import EdgeClassifier, Prediction
from effnet_edge.errors import (
    EffnetEdgeError,
    EngineError,
    ImageError,
    ModelError,
    ModelNotFoundError,
)

if TYPE_CHECKING:
    __version__: str

__all__ = [
    "EdgeClassifier",
    "EffnetEdgeError",
    "EngineError",
    "ImageError",
    "ModelError",
    "ModelNotFoundError",
    "Prediction",
    "__version__",
]


def __getattr__(name: str) -> str:
    # Reading the version from the installed package takes longer than all the rest of the import.
    if name == "__version__":
        from importlib.metadata import version

        return version("effnet-edge")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
