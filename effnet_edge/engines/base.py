"""What every inference engine offers: a session that turns uint8 images into logits."""

from __future__ import annotations

import importlib
import operator
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from effnet_edge.errors import EngineError, ModelError, UsageError

INPUT = "image"
OUTPUT = "logits"
"""Names of the tensors in a model file; outputs are found by name, for the formats order them
differently."""


class Session(ABC):
    """A loaded model. May be used from several threads.

    ``input_shape`` is the image's (height, width) in pixels, ``classes`` the number of logits,
    ``threads`` how many the engine computes with. ``isa`` is the instruction set of our own kernels
    if the model runs on these, None if on those of the engine.
    """

    input_shape: tuple[int, int]
    classes: int
    threads: int
    isa: str | None = None

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits ``[N, classes]`` of RGB images ``[N, height, width, 3]``, any N.

        Raises EngineError for a batch of another shape or type, or if the engine fails, and
        ModelError if what the model gives isn't such logits.
        """
        expected = (*self.input_shape, 3)
        if batch.dtype != np.uint8 or batch.shape[1:] != expected:
            raise EngineError(
                f"the model takes uint8 images of {expected}, not {batch.dtype} of "
                f"{batch.shape[1:]}"
            )
        if len(batch) == 0:
            return np.empty((0, self.classes), np.float32)
        logits = self._run(np.ascontiguousarray(batch))
        check_logits(logits, (len(batch), self.classes))
        return logits

    @abstractmethod
    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`run` for a batch that was checked, isn't empty and is C-contiguous.

        The result is checked afterwards.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the model. A run that another thread is in ends well; later ones raise."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def import_engine(module: str, package: str) -> ModuleType:
    """Import an engine's Python module; ``package`` is what pip calls it.

    Raises EngineError that says how to install it, or why what is installed doesn't load.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == module.split(".")[0]:
            raise EngineError(f"{package} is not installed: pip install {package}") from None
        raise EngineError(f"{package} is installed but doesn't load: {error}") from error
    except Exception as error:
        # A binary made for another numpy, Python or C library fails in many ways.
        raise EngineError(f"{package} is installed but doesn't load: {error}") from error


def image_and_class_sizes(
    path: Path, dtype: Any, input_shape: Any, output_shape: Any
) -> tuple[tuple[int, int], int]:
    """Return ((height, width), classes) of a model whose tensors were found by their names.

    Raises ModelError unless it takes uint8 images [N, height, width, 3] and gives [N, classes].
    """
    image, logits = list(input_shape), list(output_shape)
    sizes = [*image[1:], *logits[1:]]
    if len(image) != 4 or len(logits) != 2 or not all(isinstance(size, int) for size in sizes):
        raise wrong_tensors(path, f"shapes {image} and {logits}")
    if dtype != np.uint8 or image[3] != 3 or min(sizes) < 1:
        raise wrong_tensors(path, f"{dtype} images of {image[1:]}")
    return (image[1], image[2]), logits[1]


def check_logits(logits: object, shape: tuple[int, int]) -> None:
    """Raise ModelError unless ``logits`` is a float32 array of ``shape``."""
    if not isinstance(logits, np.ndarray):
        found = type(logits).__name__
    elif logits.dtype != np.float32 or logits.shape != shape:
        found = f"{logits.dtype} {list(logits.shape)}"
    else:
        return
    raise ModelError(
        f"the model gives {found} where float32 {list(shape)} is expected: convert it again"
    )


def positive_int(name: str, value: object) -> int:
    """Return ``value`` if it is an integer from 1; UsageError, calling it ``name``, if not."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise UsageError(f"{name} must be a whole number, not {value!r}")
    number = operator.index(value)
    if number < 1:
        raise UsageError(f"{name} must be 1 or more, not {number}")
    return number


def wrong_tensors(path: Path, found: str) -> ModelError:
    """The error for a file whose tensors aren't those that this package writes."""
    return ModelError(
        f"{path} has {found}, where effnet-edge models take a uint8 {INPUT!r} [N, height, width, "
        f"3] and give {OUTPUT!r} [N, classes]: make one with 'effnet-edge convert'"
    )
