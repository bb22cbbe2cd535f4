"""The int8 models of a whole EfficientNet against the float logits of the library it came from.

The weights are random, so that there are no labels to get right: it is the logits that count.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

import calibrated  # noqa: E402

from effnet_edge import EdgeClassifier  # noqa: E402
from effnet_edge.converters.convert import QuantizationSettings, convert, plan  # noqa: E402
from effnet_edge.converters.overrides import Overrides  # noqa: E402
from effnet_edge.fidelity import fidelity  # noqa: E402
from effnet_edge.kernels import ISA, PORTABLE  # noqa: E402
from effnet_edge.store import ModelStore  # noqa: E402

pytestmark = pytest.mark.oracle

CLASSES = 50
SIDE = 96


def tame(model, images):
    """Let residual branches add little to their shortcuts, as training does: where each doubles
    its input, any error doubles with it."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    last = [
        [module for module in block.modules() if isinstance(module, torch.nn.BatchNorm2d)][-1]
        for block in model.modules()
        if type(block).__name__ == "MBConv"
    ]

    def calibrate(norm, inputs):
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance + calibrated.FLOOR * variance.mean())

    hooks = [norm.register_forward_pre_hook(calibrate) for norm in norms]
    with torch.no_grad():
        for norm in last:
            norm.weight.mul_(0.1)
        model(calibrated._normalised(images, calibrated.MEAN, calibrated.STD).float())
    for hook in hooks:
        hook.remove()


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Both int8 files, 20 photos of the model's size, and the library's float logits of them.

    All that the converter sees are the checkpoint and 16 of the photos.
    """
    model, save = calibrated.calibrated_model("torchvision", 0, classes=CLASSES, resolution=SIDE)
    folder = tmp_path_factory.mktemp("b0")
    images = calibrated.photos((SIDE, SIDE))
    tame(model, images)
    (folder / "photos").mkdir()
    for index, pixels in enumerate(images[:16]):
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
    overrides = Overrides((SIDE, SIDE), 1.0, None, calibrated.MEAN, calibrated.STD)
    (job,) = plan(
        str(save(folder / "model.pth")),
        None,
        overrides=overrides,
        precision="int8",
        quantization=QuantizationSettings(folder / "photos"),
    )
    made = convert(job, ModelStore(folder / "home"))
    return made, images, calibrated.logits(model, images)


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_int8_follows_the_librarys_own_logits(case, engine):
    made, images, wanted = case
    path = made.files["onnx" if engine == "onnxruntime" else "tflite"]
    with EdgeClassifier.load(path, engine=engine) as classifier:
        found = np.stack([classifier.logits(image) for image in images])
    measured, unseen = fidelity(wanted, found), fidelity(wanted[16:], found[16:])
    # An error of the conversion, of a border or a scale, leaves nothing above the noise.
    assert unseen.snr_db > 8
    assert measured.agreement >= 75
    assert measured.kl < 0.3


def test_the_report_tells_what_the_library_would_confirm(case, monkeypatch):
    made, images, wanted = case
    # What is reported is the file's own arithmetic, which this network shows any change of.
    monkeypatch.setenv(ISA, PORTABLE)
    with EdgeClassifier.load(made.files["onnx"], engine="onnxruntime") as classifier:
        found = np.stack([classifier.logits(image) for image in images[:16]])
    measured = fidelity(wanted[:16], found)
    assert made.report.images == 16
    assert made.report.fidelity.snr_db == pytest.approx(measured.snr_db, abs=0.5)


def test_the_file_takes_little_more_than_a_byte_per_parameter(case):
    made, _, _ = case
    for path in made.files.values():
        assert path.stat().st_size <= 1.15 * made.metadata.parameters
