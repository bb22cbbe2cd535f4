"""The whole road on really trained weights: package file, model files, photo, label."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from synthetic import state_dict, write_torch_zip

from effnet_edge import EdgeClassifier
from effnet_edge.cli import main
from effnet_edge.converters.convert import convert, plan
from effnet_edge.converters.overrides import Overrides
from effnet_edge.converters.self_check import check_models
from effnet_edge.errors import ConversionError, UsageError
from effnet_edge.models import architecture
from effnet_edge.recipe import Recipe
from effnet_edge.store import ModelStore

LITE0 = "efficientnet-lite0-fp32"


def b0_checkpoint(path, classes):
    """A torchvision B0 with random weights and a head of ``classes``."""
    tensors = state_dict("torchvision", architecture(0), classes)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        write_torch_zip(path, {"state_dict": tensors})
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_lite0_labels_18_of_20_imagenet_photos(lite0_store, photos, engine):
    with EdgeClassifier.load(LITE0, engine=engine) as classifier:
        hits = sum(classifier.predict(path, 1)[0].index == label for path, label in photos)
    assert hits == 18


def test_onnx_and_tflite_agree_on_photos(lite0_store, photos):
    with (
        EdgeClassifier.load(LITE0, engine="onnxruntime") as onnx,
        EdgeClassifier.load(LITE0, engine="litert") as tflite,
    ):
        for path, _ in photos[:5]:
            expected = onnx.logits(path)
            error = np.abs(tflite.logits(path) - expected).max() / np.abs(expected).max()
            assert error < 1e-5


def test_the_model_says_where_it_came_from(lite0_store):
    (onnx, tflite) = lite0_store.list()
    assert onnx.metadata == tflite.metadata
    source = onnx.metadata.source
    assert source.sha256.startswith("57934424")
    assert source.weights == "lite" and source.dialect == "efficientnet-pytorch"
    assert onnx.metadata.padding == "same"
    assert onnx.metadata.labels[967] == "espresso"
    assert onnx.metadata.recipe.mean == pytest.approx([127 / 255] * 3)


def test_conversion_is_repeatable_to_the_byte(lite0_store, tmp_path):
    (job,) = plan("lite", [0])
    again = convert(job, ModelStore(tmp_path))
    for model_format, path in again.files.items():
        assert path.read_bytes() == lite0_store.find(LITE0, [model_format]).read_bytes()


def test_one_line_converts_several_phis(empty_home, capsys):
    assert main(["convert", "--weights", "lite", "--phi", "0-1", "--format", "onnx"]) == 0
    out = capsys.readouterr().out
    assert "efficientnet-lite0-fp32" in out and "efficientnet-lite1-fp32" in out
    assert "4.65 M parameters, 0.39 G MACs, input 224 x 224, 1000 classes" in out
    assert f"effnet-edge predict PHOTO --model {LITE0}" in out
    assert sorted(path.name for path in (empty_home / "models").iterdir()) == [
        "efficientnet-lite0-fp32.onnx",
        "efficientnet-lite1-fp32.onnx",
    ]


def test_a_fine_tuned_head_gets_its_labels_name_and_recipe(empty_home, tmp_path, capsys):
    checkpoint = b0_checkpoint(tmp_path / "flowers.pth", classes=3)
    labels = tmp_path / "flowers.txt"
    labels.write_text("daisy\nrose\ntulip\n")
    assert (
        main(
            f"convert --weights {checkpoint} --labels {labels} --name flowers --mean 0.5 "
            "--std 0.25 0.25 0.25 --resolution 96x128 --crop 0.9 --interpolation bilinear".split()
        )
        == 0
    )
    for engine in ("onnxruntime", "litert"):
        with EdgeClassifier.load("flowers", engine=engine) as classifier:
            predictions = classifier.predict(np.zeros((50, 60, 3), np.uint8))
            assert sorted(p.label for p in predictions) == ["daisy", "rose", "tulip"]
            assert sum(p.probability for p in predictions) == pytest.approx(1)
            assert classifier.metadata.recipe == Recipe(
                (96, 128), (106, 142), "bilinear", True, (0.5,) * 3, (0.25,) * 3
            )
            assert classifier.metadata.source.top1 is None


def test_a_grey_mean_equals_three_equal_ones(empty_home, tmp_path):
    checkpoint = b0_checkpoint(tmp_path / "b0.safetensors", classes=2)
    line = f"convert --weights {checkpoint} --format onnx --output"
    assert main([*line.split(), str(tmp_path / "a"), "--mean", "0.4"]) == 0
    assert main([*line.split(), str(tmp_path / "b"), "--mean", "0.4,0.4,0.4"]) == 0
    one, three = (next((tmp_path / folder).iterdir()).read_bytes() for folder in "ab")
    assert one == three
    assert not empty_home.exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--weights torchvision", "--phi"),
        ("--weights lite --phi 3", "phi 3"),
        ("--weights imagenet --phi 0", "no known weights"),
        ("--weights missing.pth", "missing.pth"),
        ("--weights ~nosuchuser/b0.pth", "~nosuchuser"),
        (f"--weights {'a' * 300} --phi 0", "no known weights"),
        ("--weights {b0} --phi 0-1", "one --phi"),
        ("--weights {b0} --phi 3", "EfficientNet-B0"),
        ("--weights lite --phi 0 --dialect tf", "--dialect"),
        ("--weights lite --phi 0,1 --name x", "--name"),
        ("--weights {b0} --name ../x", "can't be a model's name"),
        ("--weights {b0} --mean 1 2", "--mean"),
        ("--weights {b0} --mean 123.7", "divide by 255"),
        ("--weights {b0} --std 0", "std"),
        ("--weights {b0} --crop 1.5", "crop"),
        ("--weights {b0} --resolution 99999", "resolution"),
        ("--weights {b0} --labels {b0}", "UTF-8"),
        ("--weights {b0} --dialect keras", "keras"),
    ],
)
def test_wrong_usage_is_named_and_leaves_nothing(empty_home, tmp_path, capsys, line, said):
    b0 = b0_checkpoint(tmp_path / "b0.pth", classes=4)
    assert main(["convert", *line.format(b0=b0).split()]) in (1, 2)
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert not list(empty_home.rglob("*.onnx"))


def test_a_known_recipe_that_was_overridden_claims_no_published_accuracy(tmp_path):
    (job,) = plan("lite", [0], overrides=Overrides(crop=1.0), formats=("onnx",))
    assert convert(job, ModelStore(tmp_path)).metadata.source.top1 is None


def test_models_that_disagree_are_refused(lite0_store, tmp_path):
    (job,) = plan("lite", [0], formats=("tflite",), overrides=Overrides(mean=(0.4, 0.4, 0.4)))
    other = convert(job, ModelStore(tmp_path)).files["tflite"]
    models = {"onnx": lite0_store.find(LITE0, ["onnx"]), "tflite": other}
    with pytest.raises(ConversionError, match="disagree"):
        check_models(models, (224, 224), "fp32")


def test_plan_refuses_a_phi_that_one_of_a_list_lacks_before_any_work():
    with pytest.raises(UsageError, match="phi 4"):
        plan("lite", [0, 4])


def _convert_lite0(home, **options):
    command = [sys.executable, "-m", "effnet_edge", "convert", "--weights", "lite", "--phi", "0"]
    environment = {**os.environ, "EFFNET_EDGE_HOME": str(home)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, **options)


def test_two_conversions_of_one_model_at_once_both_succeed(tmp_path, lite0_store):
    for process in [_convert_lite0(tmp_path), _convert_lite0(tmp_path)]:
        process.communicate(timeout=120)
        assert process.returncode == 0
    verified = ModelStore(tmp_path).verify()
    assert [model.error for model in verified] == [None, None]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        f"{LITE0}.onnx",
        f"{LITE0}.tflite",
    ]


KILLED = """
import os, signal, sys
from effnet_edge.cli import main
from effnet_edge.files import StagedFile
commit, calls = StagedFile.commit, []
def commit_or_die(self):
    calls.append(self)
    if len(calls) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self)
StagedFile.commit = commit_or_die
main(["convert", "--weights", "lite", "--phi", "0"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("commit", [1, 2])
def test_a_conversion_that_is_killed_leaves_only_whole_models(tmp_path, commit):
    environment = {**os.environ, "EFFNET_EDGE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(commit)], env=environment)
    assert done.returncode == -signal.SIGKILL
    left = list((tmp_path / "models").iterdir())
    assert len([path for path in left if path.suffix in (".onnx", ".tflite")]) == commit - 1
    assert len(left) == 2
    assert all(model.error is None for model in ModelStore(tmp_path).verify())
    (job,) = plan("lite", [0])
    convert(job, ModelStore(tmp_path))
    assert sorted(path.suffix for path in (tmp_path / "models").iterdir()) == [".onnx", ".tflite"]


def test_one_name_never_stands_for_two_models(empty_home, tmp_path, capsys):
    first = b0_checkpoint(tmp_path / "first.pth", classes=2)
    second = b0_checkpoint(tmp_path / "second.pth", classes=3)
    line = ["convert", "--name", "m", "--weights"]
    assert main([*line, str(first)]) == 0
    capsys.readouterr()
    assert main([*line, str(second), "--format", "tflite"]) == 2
    assert "another model of the same name, made from first.pth" in capsys.readouterr().err
    assert main([*line, str(second)]) == 0
    assert "replaced m.onnx, which was made from first.pth" in capsys.readouterr().err
    assert [model.metadata.classes for model in ModelStore().list()] == [3, 3]


def test_what_the_reader_noticed_is_said(empty_home, tmp_path, capsys):
    tensors = state_dict("torchvision", architecture(0), 2)
    path = tmp_path / "both.pth"
    averaged = {f"module.{name}": values.copy() for name, values in tensors.items()}
    write_torch_zip(path, {"model": tensors, "model_ema": averaged})
    assert main(["convert", "--weights", str(path), "--format", "onnx", "--json"]) == 0
    captured = capsys.readouterr()
    assert "averaged (EMA)" in captured.err
    assert "averaged (EMA)" in json.loads(captured.out)[0]["notes"][0]


def test_ctrl_c_ends_with_status_130_and_nothing_half_written(empty_home, capsys, monkeypatch):
    def interrupted(models, resolution, precision):
        raise KeyboardInterrupt

    monkeypatch.setattr("effnet_edge.converters.convert.check_models", interrupted)
    assert main(["convert", "--weights", "lite", "--phi", "0"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not list(empty_home.rglob("*.onnx"))
