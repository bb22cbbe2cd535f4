"""A store with the whole ladder, B0..B7 and Lite0..2 in int8 and fp32, to measure what they take.

Lite has its trained weights; B0..B7 are as a library initialises them, which costs as much to run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from safetensors.numpy import save_file

from effnet_edge.converters.dialects.recognition import expected_shapes
from effnet_edge.converters.dialects.timm import names
from effnet_edge.models.architecture import architecture, phis
from effnet_edge.store import ModelStore

LITE_PHIS = range(3)
CLASSES = 1000
PRECISIONS = ("fp32", "int8")
_OPTIONS = ("--dialect", "tf", "--mean", "0.5", "--std", "0.5")
_IMAGES = 16


def ensure_ladder(store: ModelStore) -> None:
    """Convert what ``store`` lacks of the ladder; about ten minutes on two cores for all of it."""
    present = {path.stem for path in store.folder.glob("*.tflite")}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        _write_images(images)
        for precision in PRECISIONS:
            int8 = ("--int8", "--calibration", str(images)) if precision == "int8" else ()
            for phi in LITE_PHIS:
                if f"efficientnet-lite{phi}-{precision}" not in present:
                    _convert(store, "--weights", "lite", "--phi", str(phi), *int8)
            for phi in phis("standard"):
                name = f"efficientnet-b{phi}-{precision}"
                if name not in present:
                    checkpoint = Path(folder, f"b{phi}.safetensors")
                    if not checkpoint.exists():
                        _write_checkpoint(phi, checkpoint)
                    weights = ("--weights", str(checkpoint), *_OPTIONS)
                    _convert(store, *weights, "--name", name, *int8)


def _convert(store: ModelStore, *options: str) -> None:
    environment = {**os.environ, "EFFNET_EDGE_HOME": str(store.home)}
    command = [sys.executable, "-m", "effnet_edge", "convert", *options]
    subprocess.run(command, env=environment, check=True)


def _write_checkpoint(phi: int, path: Path) -> None:
    """Convolutions as He et al. 2015 (fan out), batch norms that change nothing."""
    arch = architecture(phi)
    rng = np.random.default_rng(phi)
    spread = np.float32(1 / np.sqrt(arch.head_channels))
    tensors = {
        "classifier.weight": rng.standard_normal((CLASSES, arch.head_channels), np.float32)
        * spread,
        "classifier.bias": np.zeros(CLASSES, np.float32),
    }
    for name, shape in expected_shapes(arch, names(arch)):
        if len(shape) == 4:
            depthwise = shape[1] == 1 and shape[2] > 1
            fan_out = shape[2] * shape[3] * (1 if depthwise else shape[0])
            values = rng.normal(0, np.sqrt(2 / fan_out), shape)
        elif name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight")):
            values = np.ones(shape)
        else:
            values = np.zeros(shape)
        tensors[name] = values.astype(np.float32)
    save_file(tensors, path)


def _write_images(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(_IMAGES):
        noise = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8))
        image = noise.resize((640, 480), Image.Resampling.BICUBIC)
        image.filter(ImageFilter.GaussianBlur(index / 4)).save(folder / f"{index}.png")
