"""LiteRT (TensorFlow Lite) with XNNPACK, which it takes by itself: our .tflite files."""

from __future__ import annotations

from pathlib import Path

from ai_edge_litert.interpreter import Interpreter
from speed_worker import Image, Logits, Predict

PACKAGES = ("ai-edge-litert",)


def load(configuration: str, sources: Path, folder: Path, threads: int) -> Predict:
    """``int8`` or ``fp32``."""
    interpreter = Interpreter(str(sources / f"{configuration}.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    (image_details,) = interpreter.get_input_details()
    image_index = image_details["index"]
    outputs = interpreter.get_signature_runner("serving_default").get_output_details()
    logits_index = outputs["logits"]["index"]

    def predict(image: Image) -> Logits:
        interpreter.set_tensor(image_index, image)
        interpreter.invoke()
        logits: Logits = interpreter.get_tensor(logits_index)
        return logits

    return predict
