"""ONNX Runtime, for .onnx files."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from types import ModuleType
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
from effnet_edge.engines.optimised import WEIGHTS, optimised_model
from effnet_edge.errors import EngineError, ModelError
from effnet_edge.kernels import Kernels, find_kernels
from effnet_edge.model_file import read_metadata

_ERRORS_ONLY = 3
_EXTERNAL = "session.optimized_model_external_initializers"
_ROOT = Path("/")


def library() -> ModuleType:
    """Import the engine. Raises EngineError."""
    return import_engine("onnxruntime", "onnxruntime")


def load(path: Path, threads: int, digest: str | None) -> Session:
    """Load a model from its file. Raises EngineError or ModelError.

    An int8 model runs on our kernels, if those can be used (see `kernels`). Otherwise, with the
    ``digest`` of its content, its optimised form is kept (see `optimised`).
    """
    return _OnnxRuntimeSession(path, threads, digest)


def ask_for_exact_products(options: Any) -> None:
    """Set what keeps int8 models from being garbage on x86 processors before VNNI.

    There ONNX Runtime adds pairs of products in 16 bits, which saturate, unless a session option
    asks for precision. With VNNI it isn't needed, and it would double the time of a model.
    """
    if platform.machine().lower() in ("x86_64", "amd64", "i386", "i686") and not _has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")


def _has_vnni() -> bool:
    """Whether the processor is known to have VNNI; where there is no /proc it isn't."""
    (flags,) = _first_processor("flags")
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags.split())


def _first_processor(*fields: str) -> list[str]:
    """Fields of /proc/cpuinfo for the first processor, empty where it doesn't tell."""
    from effnet_edge.device.cpuinfo import processors

    found = processors(_ROOT, brief=True)
    first = min(found.records, default=0)
    return [found.field(first, name) or "" for name in fields]


def _maker(ort: Any) -> str:
    """All that the optimised form of a model depends on, besides the model."""
    build = getattr(ort, "get_build_info", str)()
    return "\n".join(
        (
            f"onnxruntime {ort.__version__} {build}",
            f"{platform.system()} {platform.machine()}",
            os.environ.get("PROCESSOR_IDENTIFIER", ""),  # on Windows, which has no /proc
            *_first_processor(
                "model name", "CPU implementer", "CPU part", "flags", "Features", "isa"
            ),
        )
    )


def _options(ort: Any, threads: int) -> Any:
    """Session options; docs/small-machines.md has what each is worth."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    options.enable_mem_pattern = False
    # Threads wait for work in a busy loop: within a run that is fast, between runs it is heat.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    ask_for_exact_products(options)
    return options


def _session(ort: Any, path: Path, options: Any) -> Any:
    # From the path: a model given as bytes stays in memory twice.
    return ort.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])


def _has_our_operators(path: Path) -> bool:
    try:
        return read_metadata(path).precision == "int8"
    except ModelError:
        return False


def _open_with(kernels: Kernels, ort: Any, path: Path, threads: int) -> Any:
    """An ``InferenceSession`` that runs the model's functions as our operators.

    Little is left to optimise, and nothing to keep: an optimised form would be without the
    functions, and loads no faster.
    """
    options = _options(ort, threads)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("effnet_edge.threads", str(threads))
    options.register_custom_ops_library(kernels.library)
    return _session(ort, path, options)


def _open(ort: Any, path: Path, threads: int, digest: str | None) -> Any:
    """An ``InferenceSession``, of the model's optimised form if there is one."""
    kept = None if digest is None else optimised_model(path, digest, _maker(ort))
    if kept is not None:
        if (graph := kept.find()) is not None:
            options = _options(ort, threads)
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            try:
                return _session(ort, graph, options)
            except Exception:
                kept.discard()
        with suppress(Exception), kept.making() as graph:
            if graph is not None:
                options = _options(ort, threads)
                options.optimized_model_filepath = str(graph)
                options.add_session_config_entry(f"{_EXTERNAL}_file_name", WEIGHTS)
                options.add_session_config_entry(f"{_EXTERNAL}_min_size_in_bytes", "1024")
                return _session(ort, path, options)
    return _session(ort, path, _options(ort, threads))


class _OnnxRuntimeSession(Session):
    def __init__(self, path: Path, threads: int, digest: str | None) -> None:
        ort: Any = library()
        self._version = ort.__version__
        session = None
        if _has_our_operators(path) and (kernels := find_kernels()).library is not None:
            try:
                session = _open_with(kernels, ort, path, threads)
                self.isa = kernels.isa
            except Exception as error:
                # Whatever they refuse, the functions' own bodies do; but not behind the back of
                # who asked for these kernels.
                if kernels.forced:
                    raise EngineError(
                        f"the {kernels.isa} kernels can't load {path}: {error}"
                    ) from error
        try:
            session = session or _open(ort, path, threads, digest)
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
