"""ONNX Runtime by itself: our .onnx files through their portable bodies, without our kernels."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from speed_worker import Image, Logits, Predict

PACKAGES = ("onnxruntime",)


def load(configuration: str, sources: Path, folder: Path, threads: int) -> Predict:
    """``int8`` or ``fp32``, with ONNX Runtime's own defaults, which are its fastest."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        sources / f"{configuration}.onnx", options, providers=["CPUExecutionProvider"]
    )

    def predict(image: Image) -> Logits:
        logits: Logits = session.run(["logits"], {"image": image})[0]
        return logits

    return predict
