"""ncnn: the float .onnx through pnnx, in half precision, which is ncnn's own choice, and in float.

ncnn takes pixels in its own way: the network starts after the subtraction of the mean. pnnx's
Python package would import torch; its program doesn't need it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import ncnn
import numpy as np
from speed_worker import Image, Logits, Predict

PACKAGES = ("ncnn", "pnnx")

_INPUT = "input.centred"


def make(configuration: str, sources: Path, folder: Path) -> None:
    """Convert what follows the input's normalisation; keep the mean beside it.

    Raises NotImplementedError for ``int8``.
    """
    import onnx
    from onnx import numpy_helper

    if configuration == "int8":
        raise NotImplementedError("its tools that quantise are not on PyPI")
    part = folder / "model.onnx"
    onnx.utils.extract_model(sources / "fp32.onnx", part, [_INPUT], ["logits"])
    for constant in onnx.load(sources / "fp32.onnx").graph.initializer:
        if constant.name == "input.mean":
            np.save(folder / "mean.npy", numpy_helper.to_array(constant).reshape(-1))
    height, width = np.load(sources / "image.npy", mmap_mode="r").shape[1:3]
    (program,) = Path(ncnn.__file__).parents[1].glob("pnnx/pnnx*")
    half = int(configuration == "fp16")
    options = (f"inputshape=[1,3,{height},{width}]f32", f"fp16={half}")
    subprocess.run([program, part, *options], check=True, cwd=folder)


def load(configuration: str, sources: Path, folder: Path, threads: int) -> Predict:
    """``fp16`` or ``fp32``."""
    network = ncnn.Net()
    network.opt.num_threads = threads
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = configuration == "fp16"
    network.opt.use_fp16_arithmetic = configuration == "fp16"
    network.load_param(str(folder / "model.ncnn.param"))
    network.load_model(str(folder / "model.ncnn.bin"))
    mean = [float(value) for value in np.load(folder / "mean.npy")]

    def predict(image: Image) -> Logits:
        _, height, width, _ = image.shape
        pixels = ncnn.Mat.from_pixels(image[0], ncnn.Mat.PixelType.PIXEL_RGB, width, height)
        pixels.substract_mean_normalize(mean, [])
        with network.create_extractor() as extractor:
            extractor.input("in0", pixels)
            _, logits = extractor.extract("out0")
            return np.array(logits, np.float32)[None]

    return predict
