"""Run inside the emulator: marks one inference of a model, after warm-up, for the counting plugin.

python inference.py plain-onnxruntime MODEL.onnx
python inference.py plain-litert MODEL.tflite
python inference.py ENGINE MODEL      with effnet-edge's engine of that name, and its kernels
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WARM_UP_RUNS = 2
_MARKER = 0xEFF0  # see markers.h
_BEGIN, _END = 1, 2


def main() -> None:
    engine, model = sys.argv[1], Path(sys.argv[2])
    infer = _PLAIN[engine](model) if engine in _PLAIN else _ours(engine, model)
    mark = ctypes.CDLL(None).getpriority
    for _ in range(_WARM_UP_RUNS):
        infer()
    mark(_MARKER, _BEGIN)
    infer()
    mark(_MARKER, _END)


def _ours(engine: str, model: Path) -> Callable[[], Any]:
    from effnet_edge.engines import named_engine, open_session

    session = open_session(model, named_engine(engine), threads=1)
    image = _image((1, *session.input_shape, 3))
    return lambda: session.run(image)


def _onnxruntime(model: Path) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    image = _image([size if isinstance(size, int) else 1 for size in node.shape])
    return lambda: session.run(["logits"], {node.name: image})


def _litert(model: Path) -> Callable[[], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    (node,) = interpreter.get_input_details()
    interpreter.set_tensor(node["index"], _image(node["shape"]))
    return lambda: interpreter.invoke()


_PLAIN = {"plain-onnxruntime": _onnxruntime, "plain-litert": _litert}


def _image(shape: Sequence[int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


if __name__ == "__main__":
    main()
