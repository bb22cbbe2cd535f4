"""OpenVINO: the float .onnx in float32 and bfloat16, and as NNCF quantises it.

NNCF's two presets differ in the signs of activations: one is faster here, the other there. The
overflow fix, which takes a bit of the weights for the sake of x86 without VNNI, costs no time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from speed_worker import Image, Logits, Predict

PACKAGES = ("openvino", "nncf")

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""What is computed in where it isn't int8: float32 unless something else is asked for."""


def make(configuration: str, sources: Path, folder: Path) -> None:
    """Quantise with NNCF, or only convert."""
    model = openvino.convert_model(sources / "fp32.onnx")
    model.reshape([1, *np.load(sources / "image.npy", mmap_mode="r").shape[1:]])
    if configuration.startswith("int8-"):
        import nncf

        images = np.load(sources / "calibration.npy")
        model = nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            preset=nncf.QuantizationPreset(configuration.removeprefix("int8-")),
            subset_size=len(images),
        )
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def load(configuration: str, sources: Path, folder: Path, threads: int) -> Predict:
    """``fp32``, ``bf16``, ``int8-mixed`` or ``int8-performance``."""
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": PRECISIONS.get(configuration, "f32"),
    }
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", options)
    request = compiled.create_infer_request()
    output = compiled.output("logits")

    def predict(image: Image) -> Logits:
        logits: Logits = request.infer([image], share_inputs=True, share_outputs=True)[output]
        return logits

    return predict
