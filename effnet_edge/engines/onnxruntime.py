"""ONNX Runtime, for .onnx files."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.engines.base import (
    INPUT,
    OUTPUT,
    Session,
    image_and_class_sizes,
    import_engine,
    wrong_tensors,
)
from effnet_edge.errors import EngineError

_ERRORS_ONLY = 3
_CPU_INFO = Path("/proc/cpuinfo")


def load(path: Path, threads: int) -> Session:
    """Load a model from its file. Raises EngineError or ModelError."""
    return _OnnxRuntimeSession(path, threads)


def ask_for_exact_products(options: Any) -> None:
    """Set what keeps int8 models from being garbage on x86 processors before VNNI.

    There ONNX Runtime adds pairs of products in 16 bits, which saturate, unless a session option
    asks for precision. With VNNI it isn't needed, and it would double the time of a model.
    """
    if platform.machine().lower() in ("x86_64", "amd64", "i386", "i686") and not _has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")


def _has_vnni() -> bool:
    """Whether the processor is known to have VNNI; where there is no /proc it isn't."""
    try:
        lines = _CPU_INFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "avx512_vnni" in flags or "avx_vnni" in flags


class _OnnxRuntimeSession(Session):
    def __init__(self, path: Path, threads: int) -> None:
        ort: Any = import_engine("onnxruntime", "onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _ERRORS_ONLY
        ask_for_exact_products(options)
        self._version = ort.__version__
        try:
            # From the path: a model given as bytes stays in memory twice.
            session = ort.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise EngineError(f"onnxruntime {self._version} can't load {path}: {error}") from error
        inputs = {node.name: node for node in session.get_inputs()}
        outputs = {node.name: node for node in session.get_outputs()}
        if list(inputs) != [INPUT] or OUTPUT not in outputs:
            raise wrong_tensors(path, f"inputs {list(inputs)} and outputs {list(outputs)}")
        dtype = np.uint8 if inputs[INPUT].type == "tensor(uint8)" else inputs[INPUT].type
        self.input_shape, self.classes = image_and_class_sizes(
            path, dtype, inputs[INPUT].shape, outputs[OUTPUT].shape
        )
        self.threads = threads
        self._session: Any = session

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        session = self._session  # `close` in another thread doesn't pull it away
        if session is None:
            raise EngineError("the model is closed")
        try:
            (logits,) = session.run([OUTPUT], {INPUT: batch})
        except Exception as error:
            raise EngineError(f"onnxruntime {self._version} failed: {error}") from error
        result: NDArray[np.float32] = logits
        return result

    def close(self) -> None:
        """Let the engine's session go; runs that hold it end first."""
        self._session = None
