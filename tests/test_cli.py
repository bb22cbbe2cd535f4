"""The commands that look at photos and at the store, as a person or a script would run them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from effnet_edge.cli import main
from effnet_edge.store import ModelStore

LITE0 = "efficientnet-lite0-fp32"
COMMANDS = [
    ["convert"],
    ["predict"],
    ["scale"],
    ["demo"],
    ["models"],
    ["models", "list"],
    ["models", "show"],
    ["models", "verify"],
    ["models", "remove"],
]


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_every_help_shows_an_example(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    body = capsys.readouterr().out.split("usage:")[1].split("\n", 1)[1]
    assert " ".join(["effnet-edge", *command]) in body


def test_predict_labels_files_and_folders(lite0_store, photos, tmp_path, capsys):
    for index, (path, _) in enumerate(photos[:3]):
        target = tmp_path / "holiday" / str(index) / "photo.jpg"
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "holiday" / "notes.txt").write_text("no photo")
    single = photos[3][0]
    assert main(["predict", str(single), str(tmp_path), "--top-k", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == str(single)
    assert len(out) == 2 * 4
    assert out[1].split()[0].endswith("%")


def test_predict_json_holds_what_python_gives(lite0_store, photos, capsys):
    path, label = photos[0]
    assert main(["predict", str(path), "--top-k", "3", "--json", "--threads", "1"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["model"] == LITE0
    assert data["engine"] == "onnxruntime"
    assert data["threads"] == 1
    (result,) = data["results"]
    assert result["image"] == str(path)
    assert len(result["predictions"]) == 3
    assert result["predictions"][0]["index"] == label
    assert set(result["predictions"][0]) == {"index", "label", "probability"}


def test_predict_reads_standard_input(lite0_home, photos):
    path, label = photos[0]
    done = subprocess.run(
        [sys.executable, "-m", "effnet_edge", "predict", "-", "--json"],
        input=path.read_bytes(),
        env={**os.environ, "EFFNET_EDGE_HOME": str(lite0_home)},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["results"][0]["predictions"][0]["index"] == label


def test_an_unreadable_image_is_named_and_the_others_are_labelled(
    lite0_store, photos, tmp_path, capsys
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photos[0][0].read_bytes()[:5000])
    assert main(["predict", str(broken), str(photos[1][0]), "--json"]) == 1
    captured = capsys.readouterr()
    assert "broken.jpg" in captured.err
    first, second = json.loads(captured.out)["results"]
    assert "error" in first and "predictions" not in first
    assert second["predictions"]


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["photo.jpg", "--model", "efficientnet-b0-fp32"], "effnet-edge convert --phi 0", 1),
        (["photo.jpg", "--model", "missing.onnx"], "missing.onnx", 1),
        (["missing.jpg"], "missing.jpg: no such file", 1),
    ],
)
def test_predict_errors_say_what_to_do(lite0_store, capsys, arguments, said, status):
    assert main(["predict", *arguments]) == status
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_predict_in_an_empty_store_says_how_to_begin(empty_home, capsys):
    assert main(["predict", "photo.jpg"]) == 1
    assert "effnet-edge demo" in capsys.readouterr().err


def test_a_folder_without_images_is_an_error(lite0_store, tmp_path, capsys):
    assert main(["predict", str(tmp_path)]) == 2
    assert "no image files" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["predict"], ["predict", "x.jpg", "--top-k", "0"], ["fly"]])
def test_what_argparse_refuses_exits_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_models_list_show_and_verify(lite0_store, capsys):
    assert main(["models", "list"]) == 0
    out = capsys.readouterr().out
    assert out.count(LITE0) == 2 and str(lite0_store.home) in out
    assert main(["models", "show", LITE0]) == 0
    out = capsys.readouterr().out
    assert "224 x 224" in out and "sha256 57934424" in out
    assert main(["models", "show", LITE0, "--format", "tflite", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert model["format"] == "tflite"
    assert model["metadata"]["source"]["dialect"] == "efficientnet-pytorch"
    assert main(["models", "verify"]) == 0
    assert capsys.readouterr().out.count("ok") == 2


def test_a_flipped_bit_is_found_and_the_model_refused(lite0_store, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path))
    data = bytearray(lite0_store.find(LITE0, ["onnx"]).read_bytes())
    data[len(data) // 2] ^= 1
    path = ModelStore().write(LITE0, "onnx", data)
    assert main(["models", "verify"]) == 1
    assert f"BROKEN  {path}" in capsys.readouterr().out
    photo = io.BytesIO()
    Image.new("RGB", (10, 10)).save(photo, "PNG")
    (tmp_path / "photo.png").write_bytes(photo.getvalue())
    assert main(["predict", str(tmp_path / "photo.png")]) == 1
    assert "changed or damaged" in capsys.readouterr().err


def test_models_remove_takes_one_format_or_all(lite0_store, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path))
    store = ModelStore()
    for model_format in ("onnx", "tflite"):
        store.write(LITE0, model_format, lite0_store.find(LITE0, [model_format]).read_bytes())
    assert main(["models", "remove", LITE0, "--format", "onnx"]) == 0
    assert [model.format for model in store.list()] == ["tflite"]
    assert main(["models", "remove", LITE0]) == 0
    assert store.list() == ()
    assert main(["models", "remove", LITE0]) == 1
    assert main(["models", "list"]) == 0
    assert "is empty" in capsys.readouterr().out


def test_the_demo_labels_its_photo_espresso(lite0_store, capsys):
    assert main(["demo"]) == 0
    assert "espresso" in capsys.readouterr().out.splitlines()[2]
    assert main(["demo", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["predictions"][0]
    assert best["label"] == "espresso" and best["probability"] > 0.9


def test_a_closed_pipe_is_no_error_message(lite0_home, photos):
    command = [sys.executable, "-m", "effnet_edge", "scale", "--phi", "0-7", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait(timeout=60)
