"""Errors for the person who made the mistake: what was wrong, where, and what to do next.

Everything that this package raises on purpose is an `EffnetEdgeError`; the command line prints
its message and exits with its ``exit_code``. Anything else that escapes is a bug.
"""

from __future__ import annotations


class EffnetEdgeError(Exception):
    """Base of all errors that a caller may want to catch."""

    exit_code = 1


class UsageError(EffnetEdgeError):
    """Options that contradict each other or lack something."""

    exit_code = 2


class ImageError(EffnetEdgeError, ValueError):
    """An image that can't be read or used."""


class CameraError(EffnetEdgeError):
    """A camera, or another source of frames, that can't be opened or fails."""


class ModelError(EffnetEdgeError):
    """A model file that is damaged, foreign or doesn't match what it says of itself."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """No model of that name or path."""


class EngineError(EffnetEdgeError):
    """An inference engine that isn't installed, or can't load or run a model."""


class StoreError(EffnetEdgeError, OSError):
    """The model store can't be read or written."""


class CheckpointError(EffnetEdgeError):
    """A checkpoint that can't be read, or isn't an EfficientNet this package knows."""


class DownloadError(EffnetEdgeError):
    """Known weights that could not be fetched or verified."""


class ConversionError(EffnetEdgeError):
    """A network that was read but gives no sound model."""


class BenchmarkError(EffnetEdgeError):
    """Results of a benchmark that can't be read, or don't allow what was asked of them."""
