"""``effnet-edge evaluate``: hits, intervals, and two models side by side."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import networks
import numpy as np
import pytest
import small_models
from PIL import Image

from effnet_edge import EdgeClassifier, seal
from effnet_edge.cli import main
from effnet_edge.converters.onnx_writer import onnx_model
from effnet_edge.converters.tflite_writer import tflite_model
from effnet_edge.evaluation import Evaluation, choice, rank, wilson_interval
from effnet_edge.fidelity import fidelity
from effnet_edge.recipe import Recipe

IMAGES = 24


def write_other(folder, seed=1, classes=small_models.CLASSES, **changes):
    """Another network than `small_models`' as ``other.onnx`` and ``other.tflite``."""
    size = small_models.RESOLUTION
    network = networks.random_network(resolution=size, classes=classes, seed=seed)
    recipe = Recipe(size, (50, 60), mean=network.mean, std=network.std)
    metadata = replace(networks.describe(network), **{"name": "other", "recipe": recipe, **changes})
    paths = {}
    for kind, write in (("onnx", onnx_model), ("tflite", tflite_model)):
        data = write(network, metadata)
        seal.seal(data)
        paths[kind] = folder / f"other.{kind}"
        paths[kind].write_bytes(data)
    return paths


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return small_models.write_small_models(folder) | {
        f"other.{kind}": path for kind, path in write_other(folder).items()
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Photos in folders 0 to 9, more in the first."""
    folder = tmp_path_factory.mktemp("data")
    for index, pixels in enumerate(networks.photos(IMAGES, (60, 70), 5)):
        label = folder / str(index % 10)
        label.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(label / f"{index:02}.png")
    return folder


def evaluate(capsys, *arguments, status=0):
    assert main(["evaluate", *map(str, arguments), "--json", "--threads", "1"]) == status
    return json.loads(capsys.readouterr().out)


def all_logits(path, data):
    with EdgeClassifier.load(path, threads=1) as classifier:
        images = sorted(data.rglob("*.png"))
        return np.array([classifier.logits(image) for image in images])


def true_classes(data):
    return np.array([int(path.parent.name) for path in sorted(data.rglob("*.png"))])


def test_hits_are_what_sorting_the_logits_gives(files, data, capsys):
    result = evaluate(capsys, files["onnx"], "--data", data, "--top", "1,3,5")
    order = np.argsort(-all_logits(files["onnx"], data), axis=1)
    truth = true_classes(data)[:, None]
    for k, top in result["model"]["top"].items():
        assert top["hits"] == int((order[:, : int(k)] == truth).any(axis=1).sum())
        assert top["percent"] == pytest.approx(100 * top["hits"] / IMAGES)
        low, high = top["interval_95"]
        assert low < top["percent"] < high
    assert list(result["model"]["top"]) == ["1", "3", "5"]
    assert (result["images"], result["found"], result["complete"]) == (IMAGES, IMAGES, True)
    assert result["model"]["engine"] == "onnxruntime" and result["model"]["threads"] == 1
    assert "against" not in result


def test_a_comparison_is_that_of_all_logits_at_once(files, data, capsys):
    ours, other = files["onnx"], files["other.onnx"]
    result = evaluate(capsys, ours, "--data", data, "--against", other)
    logits, reference = all_logits(ours, data), all_logits(other, data)
    expected = fidelity(reference, logits)
    for name in ("agreement", "kl", "snr_db"):
        assert result["fidelity"][name] == pytest.approx(getattr(expected, name))
    differing = np.flatnonzero(logits.argmax(1) != reference.argmax(1))
    paths = sorted(data.rglob("*.png"))
    assert [d["image"] for d in result["differences"]] == [str(paths[i]) for i in differing]
    assert len(differing) > 0
    first, index = result["differences"][0], differing[0]
    p = np.exp(logits[index]) / np.exp(logits[index]).sum()
    assert first["model"]["index"] == p.argmax()
    assert first["model"]["label"] == f"class {p.argmax()}"
    assert first["model"]["probability"] == pytest.approx(p.max(), rel=1e-5)
    assert first["against"]["index"] == reference[index].argmax()
    assert first["class"]["index"] == true_classes(data)[index]
    for k in ("1", "5"):
        change = result["model"]["top"][k]["hits"] - result["against"]["top"][k]["hits"]
        assert change == result["gained"][k] - result["lost"][k]


def test_the_reference_is_the_other_model(files, data, capsys):
    there = evaluate(capsys, files["onnx"], "--data", data, "--against", files["other.onnx"])
    back = evaluate(capsys, files["other.onnx"], "--data", data, "--against", files["onnx"])
    assert there["fidelity"]["kl"] != pytest.approx(back["fidelity"]["kl"])
    assert there["lost"] == back["gained"]


def test_a_model_agrees_with_itself_without_limit(files, data, capsys):
    line = [files["onnx"], "--data", data, "--against", files["onnx"]]
    result = evaluate(capsys, *line)
    assert result["fidelity"] == {"agreement": 100, "kl": 0, "snr_db": None}
    assert result["differences"] == []
    assert main(["evaluate", *map(str, line)]) == 0
    out = capsys.readouterr().out
    assert "identical" in out and "differ" not in out


def test_both_formats_of_one_model_in_the_store(tmp_path, monkeypatch, data, capsys):
    small_models.write_small_models(tmp_path / "models")
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path))
    name = small_models.NAME
    line = [name, "--data", data, "--engine", "litert", "--against", name]
    result = evaluate(capsys, *line, "--against-engine", "onnxruntime")
    assert result["model"]["engine"] == "litert"
    assert result["against"]["engine"] == "onnxruntime"
    assert result["fidelity"]["agreement"] == 100
    assert result["fidelity"]["snr_db"] > 80


def test_people_get_a_table_and_the_first_differences(files, data, capsys):
    line = f"evaluate {files['onnx']} --data {data} --against {files['other.onnx']}"
    assert main(line.split()) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith(f"{IMAGES} images of {data}, ")
    assert " ".join(lines[2].split()) == "model engine top-1 (95 % interval) top-5 (95 % interval)"
    assert lines[4].startswith(f"{small_models.NAME}  onnxruntime")
    assert lines[5].startswith("other")
    assert "agreement of top-1" in captured.out and " nats" in captured.out
    differences = [line for line in lines if ".png" in line]
    assert 0 < len(differences) <= 20
    assert differences == sorted(differences)
    assert captured.err == ""


def test_unlabelled_photos_need_another_model(files, data, tmp_path, capsys):
    for path in data.rglob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert main(["evaluate", str(files["onnx"]), "--data", str(tmp_path)]) == 2
    assert "--against OTHER" in capsys.readouterr().err
    line = [files["onnx"], "--data", tmp_path, "--against", files["other.onnx"]]
    result = evaluate(capsys, *line)
    assert result["images"] == IMAGES
    assert "top" not in result["model"] and "lost" not in result
    assert result["differences"][0]["class"] is None
    assert main(["evaluate", *map(str, line)]) == 0
    assert "hits" not in capsys.readouterr().out


def test_a_label_file_gives_the_same_as_folders(files, data, tmp_path, capsys):
    paths = sorted(data.rglob("*.png"))
    lines = [f"{path.name},{path.parent.name}" for path in reversed(paths)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["name,class", *lines]))
    by_file = evaluate(capsys, files["onnx"], "--data", data, "--labels-file", labels)
    by_folder = evaluate(capsys, files["onnx"], "--data", data)
    assert by_file["model"] == by_folder["model"]


def test_broken_images_are_named_and_counted_and_the_rest_evaluated(files, data, tmp_path, capsys):
    for path in data.rglob("*.png"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "3" / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    (tmp_path / "4" / "empty.png").write_bytes(b"")
    line = [str(files["onnx"]), "--data", str(tmp_path)]
    assert main(["evaluate", *line]) == 1
    captured = capsys.readouterr()
    assert "broken.jpg" in captured.err and "empty.png" in captured.err
    assert "2 more couldn't be read" in captured.out
    result = evaluate(capsys, *line, status=1)
    assert result["images"] == IMAGES and result["complete"]
    unreadable = {Path(each["image"]).name: each["error"] for each in result["unreadable"]}
    assert set(unreadable) == {"broken.jpg", "empty.png"}
    assert "is empty" in unreadable["empty.png"]


def test_nothing_but_broken_images_is_an_error(files, tmp_path, capsys):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.jpg").write_bytes(b"no photo")
    assert main(["evaluate", str(files["onnx"]), "--data", str(tmp_path), "--json"]) == 1
    captured = capsys.readouterr()
    assert "no image in" in captured.err and captured.out == ""


def test_a_limit_takes_the_same_sample_every_time(files, data, capsys):
    line = [files["onnx"], "--data", data, "--against", files["other.onnx"], "--limit", 7]
    first, second = evaluate(capsys, *line), evaluate(capsys, *line)
    assert first | {"seconds": 0} == second | {"seconds": 0}
    assert (first["images"], first["found"]) == (7, IMAGES)
    assert main(["evaluate", *map(str, line)]) == 0
    assert f"(a sample of {IMAGES})" in capsys.readouterr().out


def test_ctrl_c_shows_what_is_known_so_far(files, data, capsys, monkeypatch):
    original = Evaluation.add

    def interrupted(self, *arguments):
        if self.images == 9:
            raise KeyboardInterrupt
        original(self, *arguments)

    monkeypatch.setattr(Evaluation, "add", interrupted)
    result = evaluate(capsys, files["onnx"], "--data", data, status=130)
    assert result["images"] == 9 and not result["complete"]
    assert main(["evaluate", str(files["onnx"]), "--data", str(data)]) == 130
    captured = capsys.readouterr()
    assert f"sample of the {IMAGES} images" in captured.out and "interrupted" in captured.err


def test_models_of_other_classes_or_labels_are_refused(files, data, tmp_path, capsys):
    line = ["evaluate", str(files["onnx"]), "--data", str(data), "--against"]
    fewer = write_other(tmp_path, classes=9)["onnx"]
    assert main([*line, str(fewer)]) == 2
    assert "have 10 and 9 classes" in capsys.readouterr().err
    renamed = write_other(tmp_path, labels=("x", *(f"class {i}" for i in range(1, 10))))["onnx"]
    assert main([*line, str(renamed)]) == 2
    assert "class 0 is 'class 0' and 'x'" in capsys.readouterr().err


def test_models_that_are_fed_differently_each_get_their_own_pixels(files, data, tmp_path, capsys):
    resize = Recipe(small_models.RESOLUTION, (80, 96), "bilinear")
    other = write_other(tmp_path, recipe=resize)["onnx"]
    line = [files["onnx"], "--data", data, "--against", other]
    assert main(["evaluate", *map(str, line)]) == 0
    assert "40 x 48 of 80 x 96, bilinear" in capsys.readouterr().err
    expected = fidelity(all_logits(other, data), all_logits(files["onnx"], data))
    assert evaluate(capsys, *line)["fidelity"]["kl"] == pytest.approx(expected.kl)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--top", "11"], "--top 11 is more than the model's 10 classes"),
        (["--against-engine", "litert"], "--against"),
        (["--engine", "litert"], "runs .tflite files, not .onnx"),
        (["--labels-file", "missing.txt"], "there is no label file missing.txt"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(files, data, capsys, arguments, said):
    assert main(["evaluate", str(files["onnx"]), "--data", str(data), *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("top", ["0", "1,,5", "x", ""])
def test_a_top_that_is_no_list_of_counts_is_refused(files, data, top):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(files["onnx"]), "--data", str(data), "--top", top])
    assert stop.value.code == 2


def test_wilsons_interval_has_its_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    for hits, images, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(hits, images) == pytest.approx((low, high), abs=6e-5)
    assert wilson_interval(20, 20)[1] == 1
    assert wilson_interval(0, 0) == (0, 1)


def test_equal_logits_go_to_the_lower_index():
    logits = np.array([1, 2, 2, 0], np.float32)
    assert [rank(logits, label) for label in range(4)] == [3, 1, 2, 4]
    assert choice(logits).index == 1
    assert choice(np.array([3e38, -3e38], np.float32)).probability == 1
    assert math.isclose(choice(np.zeros(4, np.float32)).probability, 0.25)
