"""The commands that look at photos and at the store, as a person or a script would run them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image
from small_models import write_small_models

from effnet_edge.cli import main
from effnet_edge.metadata import Source
from effnet_edge.store import ModelStore

LITE0 = "efficientnet-lite0-fp32"
COMMANDS = [
    ["convert"],
    ["predict"],
    ["evaluate"],
    ["bench"],
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
        (["a" * 300], "File name too long", 1),
    ],
)
def test_predict_errors_say_what_to_do(lite0_store, capsys, arguments, said, status):
    assert main(["predict", *arguments]) == status
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_predict_takes_the_model_that_is_expected_to_label_best(empty_home, tmp_path, capsys):
    """By the same merit as `select`: weights of one's own count as their architecture's usual ones,
    and a quantized model that doesn't follow its float network as none."""
    source = Source("weights.pth", "ab" * 32, "timm")
    changes = {
        "published": {"phi": 0, "source": replace(source, top1=77.7)},
        "own": {"phi": 3, "source": source},
        "broken": {"phi": 5, "source": source, "fidelity": {"snr_db": 3.0}},
    }
    store = ModelStore()
    for name, change in changes.items():
        model = write_small_models(tmp_path / name, name=name, **change)["onnx"]
        store.write(name, "onnx", model.read_bytes())
    photo = tmp_path / "photo.png"
    Image.new("RGB", (60, 50)).save(photo)
    assert main(["predict", str(photo)]) == 0
    assert "using own (choose with --model)" in capsys.readouterr().err


def test_predict_in_an_empty_store_says_how_to_begin(empty_home, capsys):
    assert main(["predict", "photo.jpg"]) == 1
    assert "effnet-edge demo" in capsys.readouterr().err


def test_a_folder_without_images_is_named_and_the_others_are_labelled(
    lite0_store, photos, tmp_path, capsys
):
    assert main(["predict", str(tmp_path), str(photos[0][0])]) == 1
    captured = capsys.readouterr()
    assert "no image files" in captured.err
    assert str(photos[0][0]) in captured.out


def test_hidden_files_and_folders_are_left_alone(lite0_store, photos, tmp_path, capsys):
    for name in ("a.jpg", ".b.jpg", ".trash/c.jpg", "d/.e/f.jpg", "d/g.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(photos[0][0].read_bytes())
    assert main(["predict", str(tmp_path), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["image"] for result in results] == [
        str(tmp_path / "a.jpg"),
        str(tmp_path / "d/g.jpg"),
    ]


def test_an_empty_name_is_no_folder(lite0_store, capsys):
    assert main(["predict", ""]) == 2
    assert "empty" in capsys.readouterr().err


def test_predict_chooses_among_what_the_engine_can_run(
    lite0_store, photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path))
    onnx = lite0_store.find(LITE0, ["onnx"]).read_bytes()
    ModelStore().write(LITE0, "onnx", onnx)
    assert main(["predict", str(photos[0][0]), "--engine", "litert"]) == 1
    assert "no model of the store runs on litert" in capsys.readouterr().err
    assert main(["predict", str(photos[0][0]), "--engine", "onnxruntime"]) == 0


@pytest.mark.parametrize("arguments", [["models"], ["predict", "x.jpg", "--top-k", "0"], ["fly"]])
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
    store.write(LITE0, "onnx", lite0_store.find(LITE0, ["onnx"]).read_bytes())
    assert main(["models", "remove", LITE0, "efficientnet-b0-fp32"]) == 1
    assert len(store.list()) == 1
    store.remove(LITE0)
    assert main(["models", "remove", LITE0]) == 1
    assert main(["models", "list"]) == 0
    assert "is empty" in capsys.readouterr().out


def test_the_demo_labels_its_photo_espresso(lite0_store, capsys):
    assert main(["demo"]) == 0
    assert "espresso" in capsys.readouterr().out.splitlines()[2]
    assert main(["demo", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["predictions"][0]
    assert best["label"] == "espresso" and best["probability"] > 0.9


def run_shell(line, home, **environment):
    """Run a shell line in which ``$EE`` is the command; return status, stdout and stderr."""
    done = subprocess.run(
        ["sh", "-c", line],
        env={
            **os.environ,
            "EFFNET_EDGE_HOME": str(home),
            "EE": f"{sys.executable} -m effnet_edge",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout, done.stderr


def test_a_closed_pipe_is_no_error_message(empty_home):
    assert run_shell("$EE scale --phi 0-7 --json | head -c 1", empty_home) == (0, "[", "")


def test_a_full_disk_under_the_output_is_an_error_message(empty_home):
    status, _, complaint = run_shell("$EE scale > /dev/full", empty_home)
    assert status == 1
    assert "No space left" in complaint and "Traceback" not in complaint


def test_closed_streams_are_no_tracebacks(lite0_home):
    assert run_shell("$EE predict - <&-", lite0_home)[0] == 1
    assert "Traceback" not in run_shell("$EE predict - <&-", lite0_home)[2]
    assert run_shell("$EE models list >&-", lite0_home)[::2] == (0, "")


def test_a_name_that_the_terminal_cannot_show_is_escaped(lite0_home, photos, tmp_path):
    (tmp_path / "\u65e5\u672c.jpg").write_bytes(photos[0][0].read_bytes())
    status, shown, _ = run_shell(
        f"$EE predict --top-k 1 {tmp_path}", lite0_home, PYTHONIOENCODING="ascii"
    )
    assert status == 0
    assert "\\u65e5\\u672c.jpg" in shown
