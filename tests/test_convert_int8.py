"""``convert --int8``: what it writes, says and refuses, and what is left when it fails."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import networks
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from safetensors.numpy import save_file

from effnet_edge import EdgeClassifier
from effnet_edge.cli import main
from effnet_edge.converters import convert as convert_module
from effnet_edge.converters import self_check
from effnet_edge.converters.convert import QuantizationSettings, convert, plan
from effnet_edge.converters.dialects import ReadNetwork
from effnet_edge.errors import ModelError
from effnet_edge.fidelity import fidelity
from effnet_edge.metadata import ModelMetadata
from effnet_edge.model_file import read_metadata
from effnet_edge.recipe import Recipe
from effnet_edge.store import ModelStore

NAME = "efficientnet-b0-int8"
QUANTIZATION = {"calibration", "images", "images_sha256", "prefer", "balanced"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty photos, ``photos/00.png`` and so on, and a checkpoint."""
    folder = tmp_path_factory.mktemp("input")
    (folder / "photos").mkdir()
    for index, pixels in enumerate(networks.photos(20, (40, 44), 5)):
        Image.fromarray(pixels).save(folder / "photos" / f"{index:02}.png")
    save_file({"weight": np.zeros(1, np.float32)}, folder / "weights.safetensors")
    return folder


@pytest.fixture
def small_network(monkeypatch):
    """Whatever checkpoint is read, a network comes of it that runs in a millisecond."""
    network = networks.random_network()

    def be(other):
        recipe = Recipe(other.resolution, other.resolution, mean=other.mean, std=other.std)
        read = ReadNetwork(other, "timm", recipe)
        monkeypatch.setattr(convert_module, "read_network", lambda *_, **__: read)
        return other

    be.network = be(network)
    return be


def run(folder, *options):
    return main(["convert", "--weights", str(folder / "weights.safetensors"), "--int8", *options])


def left_behind(home: Path):
    return [path for path in home.rglob("*") if path.is_file() and "efficientnet" in path.name]


@pytest.mark.usefixtures("small_network")
def test_photos_and_all_three_reports_in_one_command(empty_home, folder, tmp_path, capsys):
    reports = [str(tmp_path / "report.json"), str(tmp_path / "report.svg")]
    status = run(
        *(folder, "--calibration", str(folder / "photos"), "--calibration-samples", "18"),
        *("--report", "--report", reports[0], "--report", reports[1]),
    )
    captured = capsys.readouterr()
    assert status == 0
    assert "WARNING" not in captured.err
    report = json.loads(Path(reports[0]).read_text())
    assert report["model"] == NAME
    assert (report["images"], report["calibration"]) == (18, "photos")
    for part in report["parts"]:
        assert f"\n{part['name']}" in captured.out
    assert [part["name"] for part in report["parts"]][1:3] == ["blocks.0", "blocks.1"]
    assert f"{report['fidelity']['agreement']:.1f} %" in captured.out
    assert "18 calibration photos" in captured.out
    assert ElementTree.parse(reports[1]).getroot().tag.endswith("svg")
    models = [empty_home / "models" / f"{NAME}.{suffix}" for suffix in ("onnx", "tflite")]
    onnx, tflite = (read_metadata(path) for path in models)
    assert onnx == tflite
    assert (onnx.name, onnx.precision) == (NAME, "int8")
    assert set(onnx.quantization) == QUANTIZATION
    assert onnx.quantization["calibration"] == "photos"
    assert onnx.quantization["images"] == 18
    assert onnx.quantization["prefer"] == "accuracy"
    assert len(onnx.quantization["images_sha256"]) == 64
    assert onnx.fidelity == pytest.approx(report["fidelity"])


@pytest.mark.usefixtures("small_network")
def test_without_photos_there_is_a_model_and_json_holds_its_report(empty_home, folder, capsys):
    assert run(folder, "--json", "--prefer", "speed", "--report", "--format", "onnx") == 0
    (made,) = json.loads(capsys.readouterr().out)
    assert made["quantization"]["calibration"] == "synthetic"
    assert made["quantization"]["prefer"] == made["report"]["settings"]["prefer"] == "speed"
    assert made["quantization"]["balanced"] == ""
    assert made["report"]["parts"][0]["name"] == "stem"
    assert made["warnings"] == []
    assert list(made["files"]) == ["onnx"]


@pytest.mark.usefixtures("small_network")
def test_the_same_photos_give_the_same_bytes(empty_home, folder, tmp_path):
    files = []
    for name in ("a", "b"):
        options = ("--calibration", str(folder / "photos"), "--output", str(tmp_path / name))
        assert run(folder, *options) == 0
        files.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert len(files[0]) == 2
    assert files[0] == files[1]


@pytest.mark.usefixtures("small_network")
def test_a_model_under_the_floor_is_made_with_a_loud_warning(
    empty_home, folder, monkeypatch, capsys
):
    monkeypatch.setattr(convert_module, "SNR_FLOOR_DB", 99.0)
    assert run(folder, "--calibration", str(folder / "photos"), "--json") == 0
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("WARNING: ")]
    assert "follows the float one badly" in line
    assert "the worst parts are" in line
    assert "effnet-edge evaluate" in line
    (made,) = json.loads(captured.out)
    assert f"WARNING: {made['warnings'][0]}" == line
    assert len(left_behind(empty_home)) == 2


@pytest.mark.usefixtures("small_network")
def test_one_name_does_not_hold_two_int8_models_made_from_different_images(
    empty_home, folder, capsys
):
    assert run(folder) == 0
    other = ("--calibration", str(folder / "photos"))
    assert run(folder, *other, "--format", "onnx") == 2
    assert "another model of the same name" in capsys.readouterr().err
    assert run(folder, *other) == 0
    assert "int8 by 64 synthetic" in capsys.readouterr().err
    models = [empty_home / "models" / f"{NAME}.{suffix}" for suffix in ("onnx", "tflite")]
    assert [read_metadata(path).quantization["images"] for path in models] == [20, 20]


def test_a_network_that_gives_one_label_for_all_is_made_with_a_warning(
    empty_home, folder, small_network, capsys
):
    network = small_network.network
    bias = network.head.bias.copy()
    bias[3] += 1000
    small_network(replace(network, head=replace(network.head, bias=bias)))
    assert run(folder, "--calibration", str(folder / "photos")) == 0
    assert "the same label" in capsys.readouterr().err


def test_a_dead_network_is_made_with_a_warning(empty_home, folder, small_network, capsys):
    head = small_network.network.head
    small_network(
        replace(
            small_network.network, head=replace(head, weight=0 * head.weight, bias=0 * head.bias)
        )
    )
    assert run(folder, "--calibration", str(folder / "photos")) == 0
    assert "WARNING" in capsys.readouterr().err


@pytest.mark.usefixtures("small_network")
def test_photos_that_were_passed_over_are_named(empty_home, folder, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (folder / "photos").iterdir():
        (photos / path.name).write_bytes(path.read_bytes())
    (photos / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    assert run(folder, "--calibration", str(photos)) == 0
    assert "torn.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--int8 --fp16", "not allowed with"),
        ("--calibration {photos}", "need --int8"),
        ("--fp16 --calibration {photos}", "need --int8"),
        ("--calibration-samples 9", "need --int8"),
        ("--prefer speed", "need --int8"),
        ("--report", "need --int8"),
        ("--int8 --report report.png", ".json or .svg"),
        ("--int8 --report --report report", ".json or .svg"),
        ("--int8 --calibration-samples 0", "--calibration-samples"),
        ("--int8 --calibration-samples many", "--calibration-samples"),
        ("--int8 --prefer size", "--prefer"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(
    empty_home, folder, monkeypatch, capsys, line, said
):
    def work(*_, **__):
        raise AssertionError("it should have been refused by now")

    monkeypatch.setattr(convert_module, "read_checkpoint", work)
    weights = str(folder / "weights.safetensors")
    arguments = line.format(photos=folder / "photos").split()
    try:
        status = main(["convert", "--weights", weights, *arguments])
    except SystemExit as stop:  # argparse's own way
        status = stop.code
    assert status == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_report_file_is_for_one_model(empty_home, capsys):
    line = "convert --weights lite --phi 0,1 --int8 --report both.json"
    assert main(line.split()) == 2
    assert "one by one" in capsys.readouterr().err


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nothing", "no image files"),
        ("missing", "doesn't exist"),
        ("weights.safetensors", "folder"),
    ],
)
def test_a_folder_without_photos_is_refused_and_leaves_nothing(
    empty_home, folder, capsys, path, said
):
    (folder / "nothing").mkdir(exist_ok=True)
    assert run(folder, "--calibration", str(folder / path)) == 2
    assert said in capsys.readouterr().err
    assert left_behind(empty_home) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["stem", "head"])
def test_weights_that_are_not_finite_are_named_and_leave_nothing(
    empty_home, folder, small_network, capsys, where, value
):
    network = small_network.network
    conv = network.stem if where == "stem" else network.head.conv
    weight = conv.weight.copy()
    weight.flat[7] = value
    conv = replace(conv, weight=weight)
    if where == "stem":
        small_network(replace(network, stem=conv))
    else:
        small_network(replace(network, head=replace(network.head, conv=conv)))
    assert run(folder, "--calibration", str(folder / "photos")) == 1
    name = "stem.weight" if where == "stem" else "head.conv.weight"
    assert f"{name} has values that aren't finite" in capsys.readouterr().err
    assert left_behind(empty_home) == []


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("where", ["stem", "classifier"])
def test_a_network_that_overflows_on_its_way_is_refused_and_leaves_nothing(
    empty_home, folder, small_network, capsys, where
):
    network, factor = small_network.network, np.float32(3e37)
    if where == "stem":
        stem = replace(network.stem, weight=network.stem.weight * factor)
        small_network(replace(network, stem=stem))
    else:
        head = replace(network.head, weight=network.head.weight * factor)
        small_network(replace(network, head=head))
    assert run(folder, "--calibration", str(folder / "photos")) == 1
    assert "aren't finite" in capsys.readouterr().err
    assert left_behind(empty_home) == []


@pytest.mark.usefixtures("small_network")
def test_ctrl_c_in_the_middle_leaves_nothing(empty_home, folder, monkeypatch, capsys):
    quantize = convert_module.quantize

    def interrupted(*arguments, progress, **options):
        def told(name, index, count):
            progress(name, index, count)
            if name == "blocks.2":
                raise KeyboardInterrupt

        return quantize(*arguments, progress=told, **options)

    monkeypatch.setattr(convert_module, "quantize", interrupted)
    assert run(folder, "--calibration", str(folder / "photos")) == 130
    assert "interrupted" in capsys.readouterr().err
    assert left_behind(empty_home) == []


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("sound", [True, False])
def test_formats_that_disagree_are_refused_unless_the_model_is_warned_of_anyway(
    empty_home, folder, monkeypatch, capsys, sound
):
    """A network that is all noise makes much of one integer that two engines round otherwise."""
    write = convert_module.quantized_tflite_model

    def other(network, metadata):
        return write(replace(network, padding="symmetric"), metadata)

    monkeypatch.setattr(convert_module, "quantized_tflite_model", other)
    monkeypatch.setitem(self_check.MAX_DISAGREEMENT, "int8", 0.02)
    monkeypatch.setattr(convert_module, "SNR_FLOOR_DB", 10.0 if sound else 99.0)
    status = run(folder, "--calibration", str(folder / "photos"))
    said = capsys.readouterr().err
    if sound:
        assert status == 1
        assert "disagree" in said
        assert left_behind(empty_home) == []
    else:
        assert status == 0
        assert "WARNING" in said
        assert len(left_behind(empty_home)) == 2


@pytest.mark.parametrize(
    "quantization",
    [
        *(None, [], "photos", {"a": {}}),
        *({"images": value} for value in (1.5, True, None, float("nan"))),
        *({"prefer": "speed\x1b[2J"}, {"line\nbreak": "x"}),
    ],
    ids=repr,
)
def test_a_recipe_of_another_kind_in_a_model_file_is_malformed(quantization):
    metadata = networks.describe(networks.random_network())
    data = {**json.loads(metadata.to_json()), "quantization": quantization}
    with pytest.raises(ModelError, match="malformed"):
        ModelMetadata.from_json(json.dumps(data), metadata.labels)


def test_a_recipe_survives_the_way_into_a_file_and_back():
    made = {"calibration": "photos", "images": 100, "balanced": ""}
    metadata = replace(networks.describe(networks.random_network()), quantization=made)
    assert ModelMetadata.from_json(metadata.to_json(), metadata.labels) == metadata


@pytest.fixture(scope="module")
def lite0_int8(tmp_path_factory, photos):
    """The real Lite0, quantized by 16 of foolbox's 20 photos."""
    home = tmp_path_factory.mktemp("lite0-int8")
    settings = QuantizationSettings(photos[0][0].parent, samples=16)
    (job,) = plan("lite", [0], precision="int8", quantization=settings)
    return convert(job, ModelStore(home))


def test_lite0_in_int8_takes_at_most_1_15_bytes_per_parameter(lite0_int8):
    for path in lite0_int8.files.values():
        assert path.stat().st_size <= 1.15 * lite0_int8.metadata.parameters


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_lite0_in_int8_follows_float_on_photos(lite0_int8, lite0_home, photos, engine):
    suffix = "onnx" if engine == "onnxruntime" else "tflite"
    logits = []
    for path in (
        lite0_home / "models" / f"efficientnet-lite0-fp32.{suffix}",
        lite0_int8.files[suffix],
    ):
        with EdgeClassifier.load(path, engine=engine) as classifier:
            logits.append([classifier.logits(photo) for photo, _ in photos])
    found = fidelity(np.array(logits[0]), np.array(logits[1]))
    assert found.agreement >= 90
    assert found.snr_db > 19
    assert found.kl < 0.1


def test_lite0_in_int8_runs_wholly_in_xnnpack(lite0_int8):
    interpreter = Interpreter(model_path=str(lite0_int8.files["tflite"]), num_threads=1)
    interpreter.allocate_tensors()
    assert [op["op_name"] for op in interpreter._get_ops_details()].count("DELEGATE") == 1


def test_lite0s_report_has_no_warning_and_names_its_photos(lite0_int8):
    assert lite0_int8.warnings == ()
    assert lite0_int8.report.images == 16
    assert lite0_int8.metadata.fidelity["snr_db"] == lite0_int8.report.fidelity.snr_db


def test_a_store_keeps_float_and_int8_side_by_side(lite0_int8, lite0_home):
    assert lite0_int8.metadata.name == "efficientnet-lite0-int8"
    float_model = read_metadata(lite0_home / "models" / "efficientnet-lite0-fp32.onnx")
    assert lite0_int8.metadata.source == float_model.source
    assert lite0_int8.metadata.recipe == float_model.recipe
