"""MNN: the float .onnx through its converter, in float32, in low precision and as it quantises.

The converter is called in its extension module: the package's own ``mnnconvert`` installs and
starts a telemetry client when it is imported, in whatever environment it finds itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import MNN
import numpy as np
from MNN import expr
from speed_worker import Image, Logits, Predict

PACKAGES = ("MNN",)

_PRECISIONS = {"fp32": "high", "low": "low", "int8": "high"}


def make(configuration: str, sources: Path, folder: Path) -> None:
    """Convert what follows the input's normalisation; quantise if it is ``int8``."""
    import _tools
    import onnx
    from onnx import numpy_helper

    part = folder / "model.onnx"
    onnx.utils.extract_model(sources / "fp32.onnx", part, ["input.centred"], ["logits"])
    graph = onnx.load(sources / "fp32.onnx").graph
    (mean,) = (each for each in graph.initializer if each.name == "input.mean")
    centre = numpy_helper.to_array(mean).reshape(3, 1, 1)
    np.save(folder / "mean.npy", centre)
    model = folder / ("fp32.mnn" if configuration == "int8" else "model.mnn")
    options = {"-f": "ONNX", "--modelFile": part, "--MNNModel": model, "--bizCode": "speed"}
    _tools.mnnconvert(["mnnconvert", *(str(word) for pair in options.items() for word in pair)])
    if configuration == "int8":
        recipe = folder / "quantisation.json"
        recipe.write_text(json.dumps(_recipe(sources, folder, centre)), encoding="utf-8")
        files = (model, folder / "model.mnn", recipe)
        _tools.mnnquant(["mnnquant", *(str(file) for file in files)])


def _recipe(sources: Path, folder: Path, centre: np.ndarray) -> dict[str, object]:
    """What mnnquant wants to know; it reads images from files."""
    from PIL import Image as Picture

    images = np.load(sources / "calibration.npy")
    photos = folder / "photos"
    photos.mkdir()
    for index, image in enumerate(images):
        Picture.fromarray(image).save(photos / f"{index}.png")
    return {
        "format": "RGB",
        "mean": [float(value) for value in centre.reshape(-1)],
        "normal": [1.0, 1.0, 1.0],
        "width": images.shape[2],
        "height": images.shape[1],
        "path": f"{photos}/",
        "used_image_num": len(images),
        "feature_quantize_method": "KL",
        "weight_quantize_method": "MAX_ABS",
    }


def load(configuration: str, sources: Path, folder: Path, threads: int) -> Predict:
    """``fp32``, ``low`` (half precision where the CPU has it) or ``int8``."""
    options = {
        "backend": "CPU",
        "numThread": threads,
        "precision": _PRECISIONS[configuration],
        "memory": "normal",
    }
    manager = MNN.nn.create_runtime_manager((options,))
    network = MNN.nn.load_module_from_file(
        str(folder / "model.mnn"), ["input.centred"], ["logits"], runtime_manager=manager
    )
    mean = np.load(folder / "mean.npy")
    _, height, width, _ = np.load(sources / "image.npy", mmap_mode="r").shape

    def predict(image: Image) -> Logits:
        pixels = expr.placeholder([1, 3, height, width], expr.NCHW, expr.float)
        pixels.write(np.ascontiguousarray(image.transpose(0, 3, 1, 2)) - mean)
        (logits,) = network.forward([pixels])
        return np.array(logits.read(), np.float32)

    return predict
