"""The table of known weights: complete, consistent, and true to the files that are here."""

from __future__ import annotations

import re

import pytest

from effnet_edge.converters.download import fetch
from effnet_edge.errors import UsageError
from effnet_edge.models import architecture
from effnet_edge.models.weights import DEFAULT_WEIGHTS, KNOWN_WEIGHTS, known, weight_names

PHIS = {
    "torchvision": range(8),
    "torchvision-v2": range(1, 2),
    "lite": range(3),
    "tf-lite": range(5),
    "tf": range(8),
    "noisy-student": range(8),
    "advprop": range(8),
    "timm": range(5),
    "efficientnet-pytorch": range(8),
    "keras": range(8),
}


def test_every_name_has_the_phis_that_were_published():
    assert weight_names()[0] == DEFAULT_WEIGHTS
    assert {name: [row.phi for row in KNOWN_WEIGHTS if row.name == name] for name in PHIS} == {
        name: list(phis) for name, phis in PHIS.items()
    }
    assert set(weight_names()) == set(PHIS)


@pytest.mark.parametrize("row", KNOWN_WEIGHTS, ids=lambda row: f"{row.name}-{row.phi}")
def test_a_row_is_sound(row):
    architecture(row.phi, row.family)
    assert known(row.name, row.phi) is row
    lengths = {"sha256": (8, 64), "md5": (32,)}
    assert len(row.digest) in lengths[row.algorithm]
    assert re.fullmatch("[0-9a-f]+", row.digest)
    if row.file.endswith(".pth"):
        assert row.file.endswith(f"-{row.digest[:8]}.pth")
    if row.package is None:
        assert row.url.startswith("https://")
        assert row.url.endswith(f"/{row.file}")
    else:
        assert row.url is None
        assert row.module.isidentifier()
    assert re.fullmatch(r"[\w.-]+", row.file)
    assert row.top1 is None or 70 < row.top1 < 90
    assert row.top5 is None or row.top1 < row.top5 < 100
    assert row.recipe.resolution <= row.recipe.resize
    assert row.source.startswith("https://")


def test_no_file_stands_twice():
    files = [row.file for row in KNOWN_WEIGHTS]
    assert len(files) == len(set(files))


def test_recipes_that_differ_inside_one_publisher_are_kept_apart():
    assert known("torchvision", 1).recipe.resize == (256, 256)
    assert known("torchvision-v2", 1).recipe.resize == (255, 255)
    assert known("torchvision-v2", 1).recipe.interpolation == "bilinear"
    assert known("torchvision", 2).recipe.resolution == (288, 288)
    assert known("advprop", 0).recipe.mean == (0.5, 0.5, 0.5)
    assert known("noisy-student", 0).recipe.mean == (0.485, 0.456, 0.406)
    assert known("lite", 0).recipe.std == (128 / 255,) * 3


def test_an_unknown_name_is_answered_with_the_names():
    with pytest.raises(UsageError, match=r"torchvision, .*lite.*or give the path"):
        known("torchvison", 0)


def test_a_phi_that_a_name_lacks_is_answered_with_what_there_is():
    with pytest.raises(UsageError, match=r"Lite0, .*Lite2; EfficientNet-Lite3 has .* tf-lite"):
        known("lite", 3)
    with pytest.raises(UsageError, match="only EfficientNet-B1; EfficientNet-B2 has"):
        known("torchvision-v2", 2)
    with pytest.raises(UsageError, match="no phi 8"):
        known("torchvision", 8)


@pytest.mark.parametrize("phi", range(3))
def test_the_installed_lite_package_holds_the_file_of_the_table(phi, tmp_path):
    row = known("lite", phi)
    pytest.importorskip(row.module)
    path = fetch(row, tmp_path)
    assert path.name == row.file
    assert path.parent.name == "models"
    assert not any(tmp_path.iterdir())
