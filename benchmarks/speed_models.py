"""The models of `speed.py`: one float network in all the forms that engines start from."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from random_network import OPTIONS, write_checkpoint

from effnet_edge.converters.calibration import calibration_images
from effnet_edge.converters.synthetic_images import synthetic_images
from effnet_edge.engines import choose_engine, open_session
from effnet_edge.images import open_image
from effnet_edge.model_file import read_metadata
from effnet_edge.preprocessing import preprocess

FILES = ("int8.onnx", "int8.tflite", "fp32.onnx", "fp32.tflite")
CALIBRATION = 32
"""Images for the peers that quantise on their own: few, for time hardly depends on ranges."""
RANDOM_PHOTOS = 16
PHOTO = Path(__file__).parents[1] / "effnet_edge" / "data" / "espresso.jpg"


@dataclass(frozen=True)
class Model:
    """A network and the folder with its `FILES`, as far as there are, ``image.npy`` and
    ``calibration.npy``. ``weights`` says what kind they are."""

    name: str
    weights: str
    folder: Path

    def float_logits(self) -> NDArray[np.float32] | None:
        """The float model's for the image, [1, classes], or None without one."""
        path = self.folder / "fp32.onnx"
        if not path.exists():
            return None
        with open_session(path, choose_engine("onnx")) as session:
            return session.run(np.load(self.folder / "image.npy"))


def given(files: Mapping[str, Path], folder: Path, calibration: Path | None) -> Model:
    """A model whose files there are already: ``files`` by their names in `FILES`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
        if name in files:
            (folder / name).symlink_to(files[name].resolve())
    metadata = read_metadata(next(iter(files.values())))
    _write_inputs(folder, calibration)
    return Model(metadata.name, "given files", folder)


def converted(
    name: str, weights: str, arguments: Sequence[str], folder: Path, calibration: Path | None
) -> Model:
    """What ``effnet-edge convert`` makes of its ``arguments``, in float and in int8."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "arguments.txt"
    photos = () if calibration is None else ("--calibration", str(calibration))
    wanted = shlex.join((*arguments, *photos))
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        for precision, options in {"fp32": (), "int8": ("--int8", *photos)}.items():
            _convert(*arguments, *options, "--name", precision, "--output", str(folder))
        _write_inputs(folder, calibration)
        stamp.write_text(wanted, encoding="utf-8")
    return Model(name, weights, folder)


def random_checkpoint(phi: int, folder: Path, calibration: Path | None) -> tuple[str, ...]:
    """Convert's arguments for a random B0..B7 with batch norms of photos, or of synthetic ones."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "random.safetensors"
    if not path.exists():
        photos = _synthetic(folder) if calibration is None else sorted(calibration.iterdir())
        write_checkpoint(phi, photos[:RANDOM_PHOTOS], path)
    return ("--weights", str(path), *OPTIONS)


def _synthetic(folder: Path) -> list[Path]:
    paths = [folder / f"synthetic-{index}.png" for index in range(RANDOM_PHOTOS)]
    for path, image in zip(paths, synthetic_images(RANDOM_PHOTOS, (480, 640)), strict=True):
        Image.fromarray(image).save(path)
    return paths


def _write_inputs(folder: Path, calibration: Path | None) -> None:
    file = next(folder / name for name in FILES if (folder / name).exists())
    recipe = read_metadata(file).recipe
    np.save(folder / "image.npy", preprocess(open_image(PHOTO), recipe)[None])
    images = calibration_images(calibration, recipe, samples=CALIBRATION)
    np.save(folder / "calibration.npy", images.pixels[:CALIBRATION])


def _convert(*arguments: str) -> None:
    command = [sys.executable, "-m", "effnet_edge", "convert", *arguments]
    process = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ)
    if process.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{process.stderr}")
