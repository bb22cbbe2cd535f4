"""The table of known weights against what the installed publishers' packages say."""

from __future__ import annotations

import sys
import types

import pytest

from effnet_edge.converters.labels import imagenet_labels
from effnet_edge.models.weights import KNOWN_WEIGHTS, known

pytestmark = pytest.mark.oracle

# Importing torchvision's operator registrations fails where its wheel has no compiled operators.
sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("unused"))


@pytest.mark.parametrize(
    ("name", "phi", "entry"),
    [("torchvision", phi, "IMAGENET1K_V1") for phi in range(8)]
    + [("torchvision-v2", 1, "IMAGENET1K_V2")],
)
def test_torchvision_rows_equal_the_weight_entries(name, phi, entry):
    models = pytest.importorskip("torchvision.models")
    theirs = getattr(models, f"EfficientNet_B{phi}_Weights")[entry]
    ours = known(name, phi)
    preset = theirs.transforms()
    assert ours.url == theirs.url
    assert ours.recipe.resolution == tuple(preset.crop_size) * 2
    assert ours.recipe.resize == tuple(preset.resize_size) * 2
    assert ours.recipe.interpolation == preset.interpolation.value
    assert ours.recipe.antialias == preset.antialias
    assert (ours.recipe.mean, ours.recipe.std) == (tuple(preset.mean), tuple(preset.std))
    metrics = theirs.meta["_metrics"]["ImageNet-1K"]
    assert (ours.top1, ours.top5) == (metrics["acc@1"], metrics["acc@5"])


TIMM_TAGS = {
    "tf": "tf_efficientnet_b{}.aa_in1k",
    "noisy-student": "tf_efficientnet_b{}.ns_jft_in1k",
    "advprop": "tf_efficientnet_b{}.ap_in1k",
    "tf-lite": "tf_efficientnet_lite{}.in1k",
}
TIMM_EXCEPTIONS = {
    ("tf", 5): "tf_efficientnet_b5.ra_in1k",
    ("tf", 7): "tf_efficientnet_b7.ra_in1k",
    ("timm", 0): "efficientnet_b0.ra_in1k",
    ("timm", 1): "efficientnet_b1.ft_in1k",
    ("timm", 2): "efficientnet_b2.ra_in1k",
    ("timm", 3): "efficientnet_b3.ra2_in1k",
    ("timm", 4): "efficientnet_b4.ra2_in1k",
}


@pytest.mark.parametrize(
    "row",
    [row for row in KNOWN_WEIGHTS if row.name in (*TIMM_TAGS, "timm")],
    ids=lambda row: f"{row.name}-{row.phi}",
)
def test_timm_rows_equal_the_pretrained_cfgs(row):
    timm = pytest.importorskip("timm")
    tag = TIMM_EXCEPTIONS.get((row.name, row.phi)) or TIMM_TAGS[row.name].format(row.phi)
    cfg = timm.get_pretrained_cfg(tag)
    assert cfg.url.rsplit("/", 1)[1] == row.file
    # timm's validate.py evaluates at the test size where there is one.
    size = (cfg.test_input_size or cfg.input_size)[1]
    crop = (cfg.test_crop_pct or cfg.crop_pct) if cfg.test_input_size else cfg.crop_pct
    assert row.recipe.resolution == (size, size)
    assert row.recipe.resize == (int(size / crop),) * 2
    assert row.recipe.interpolation == cfg.interpolation
    assert row.recipe.mean == pytest.approx(cfg.mean)
    assert row.recipe.std == pytest.approx(cfg.std)


@pytest.mark.parametrize("phi", range(8))
def test_efficientnet_pytorch_rows_equal_its_url_map(phi):
    utils = pytest.importorskip("efficientnet_pytorch.utils")
    ours = known("efficientnet-pytorch", phi)
    assert ours.url == utils.url_map[f"efficientnet-b{phi}"]
    resolution = utils.efficientnet_params(f"efficientnet-b{phi}")[2]
    assert ours.recipe.resize == ours.recipe.resolution == (resolution, resolution)


@pytest.mark.parametrize("phi", range(8))
def test_keras_rows_equal_its_hashes(phi, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras.src.applications.efficientnet")
    ours = known("keras", phi)
    assert ours.digest == keras.WEIGHTS_HASHES[f"b{phi}"][0]
    assert ours.url == f"{keras.BASE_WEIGHTS_PATH}efficientnetb{phi}.h5"


def test_the_labels_are_torchvisions_but_for_the_second_cardigan():
    meta = pytest.importorskip("torchvision.models._meta")
    differences = {
        index: (ours, theirs)
        for index, (ours, theirs) in enumerate(
            zip(imagenet_labels(), meta._IMAGENET_CATEGORIES, strict=True)
        )
        if ours != theirs
    }
    assert differences == {264: ("Cardigan Welsh corgi", "Cardigan")}
