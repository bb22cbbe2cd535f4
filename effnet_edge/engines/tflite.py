"""What LiteRT and tflite-runtime share: the interpreter's interface, for .tflite files."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.engines.base import (
    INPUT,
    OUTPUT,
    Session,
    check_logits,
    image_and_class_sizes,
    wrong_tensors,
)
from effnet_edge.errors import EngineError

_STDERR = 2
_NOTICE = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
_redirecting = threading.Lock()


class InterpreterSession(Session):
    """A model in an interpreter; ``engine`` is its name and version for error messages.

    The model's batch is 1 and an interpreter computes one thing at a time, so images go through
    one after the other, whichever thread they come from.
    """

    def __init__(self, interpreter_class: Any, path: Path, threads: int, engine: str) -> None:
        try:
            with _without_notice():
                interpreter = interpreter_class(model_path=str(path), num_threads=threads)
                interpreter.allocate_tensors()
        except Exception as error:
            raise EngineError(f"{engine} can't load {path}: {error}") from error
        inputs = {_name(detail): detail for detail in interpreter.get_input_details()}
        outputs = {_name(detail): detail for detail in interpreter.get_output_details()}
        if list(inputs) != [INPUT] or OUTPUT not in outputs:
            raise wrong_tensors(path, f"inputs {list(inputs)} and outputs {list(outputs)}")
        self.input_shape, self.classes = image_and_class_sizes(
            path,
            inputs[INPUT]["dtype"],
            inputs[INPUT]["shape"].tolist(),
            outputs[OUTPUT]["shape"].tolist(),
        )
        self.threads = threads
        self._engine = engine
        self._input: int = inputs[INPUT]["index"]
        self._output: int = outputs[OUTPUT]["index"]
        self._interpreter: Any = interpreter
        self._lock = threading.Lock()

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = np.empty((len(batch), self.classes), np.float32)
        for index in range(len(batch)):
            with self._lock:
                if self._interpreter is None:
                    raise EngineError("the model is closed")
                try:
                    self._interpreter.set_tensor(self._input, batch[index : index + 1])
                    self._interpreter.invoke()
                    result = self._interpreter.get_tensor(self._output)
                except Exception as error:
                    raise EngineError(f"{self._engine} failed: {error}") from error
            check_logits(result, (1, self.classes))
            logits[index] = result[0]
        return logits

    def close(self) -> None:
        """Free the interpreter, after the image that is in it."""
        with self._lock:
            self._interpreter = None


@contextmanager
def _without_notice() -> Iterator[None]:
    """Keep the engine's C++ from greeting every user of a command line on stderr.

    All else that is written to stderr meanwhile arrives there, a little later. Nothing is done
    unless stderr is a terminal: a file or another program gets all of it, the last words of an
    engine that aborts too.
    """
    if not os.isatty(_STDERR):
        yield
        return
    with _redirecting, ExitStack() as stack:
        try:
            real = os.dup(_STDERR)
            stack.callback(os.close, real)
            caught = stack.enter_context(tempfile.TemporaryFile())
            os.dup2(caught.fileno(), _STDERR)
        except OSError:
            yield
            return
        try:
            yield
        finally:
            os.dup2(real, _STDERR)
            caught.seek(0)
            lines = caught.read().splitlines(keepends=True)
            rest = b"".join(line for line in lines if line.strip() != _NOTICE)
            with suppress(OSError):  # a full disk or a closed pipe
                while rest:
                    rest = rest[os.write(_STDERR, rest) :]


def _name(detail: dict[str, Any]) -> str:
    name: str = detail["name"]
    return name
