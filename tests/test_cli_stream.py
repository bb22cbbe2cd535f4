"""``effnet-edge predict --stream``, as a person or a script would run it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import networks
import numpy as np
import pytest
from fake_camera import FakeCamera
from PIL import Image
from small_models import NAME, write_small_models

from effnet_edge import EdgeClassifier, camera
from effnet_edge.cli import main

PHOTOS = networks.photos(6, (60, 80))


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_small_models(home / "models")
    return home


@pytest.fixture
def store(home, monkeypatch) -> None:
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(home))


@pytest.fixture
def folder(tmp_path) -> Path:
    for index, photo in enumerate(PHOTOS):
        Image.fromarray(photo).save(tmp_path / f"{index}.png")
    return tmp_path


def motion_jpeg(count: int) -> bytes:
    file = io.BytesIO()
    for index in range(count):
        Image.fromarray(PHOTOS[index % 6]).save(file, "JPEG")
    return file.getvalue()


def command(home: Path, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "effnet_edge", "predict", "--stream", *arguments],
        env={**os.environ, "EFFNET_EDGE_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=False,
        **options,
    )


def test_a_folder_gets_a_line_for_each_file_and_a_report(store, folder, capsys):
    assert main(["predict", "--stream", str(folder)]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        str(folder / f"{index}.png") for index in range(6)
    ]
    assert all("% class " in line for line in lines)
    assert captured.err.startswith("6 frames in ") and "0 dropped" in captured.err


def test_json_is_an_object_on_a_line_for_each_frame(store, folder, home, capsys):
    assert main(["predict", "--stream", str(folder), "--json", "--top-k", "2"]) == 0
    frames = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [frame["frame"] for frame in frames] == list(range(6))
    with EdgeClassifier.load(NAME) as classifier:
        for frame, photo in zip(frames, PHOTOS, strict=True):
            assert set(frame) == {
                "frame",
                "image",
                "age_ms",
                "latency_ms",
                "dropped",
                "predictions",
            }
            expected = classifier.predict(photo, top_k=2)
            assert frame["predictions"] == [vars(prediction) for prediction in expected]


def test_so_many_frames_end_it(store, folder, capsys):
    assert main(["predict", "--stream", str(folder), "--frames", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="a reader of a pipe can't be woken there")
@pytest.mark.parametrize("kind", ["silent", "damaged"])
def test_so_many_seconds_end_it_though_no_frame_is_labelled(store, kind, monkeypatch, capsys):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as file, os.fdopen(writing, "wb", 0) as other:
        monkeypatch.setattr("effnet_edge.cli.predict_stream._standard_input", lambda: file)
        if kind == "damaged":
            other.write(b"\xff\xd8\xff\xe0\0\x04no\xff\xd9" * 9)
        assert main(["predict", "--stream", "-", "--seconds", "0.2"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("0 frames in ")


def test_an_unreadable_file_is_named_and_the_others_are_labelled(store, folder, capsys):
    (folder / "2.png").write_bytes(b"no image")
    assert main(["predict", "--stream", str(folder)]) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 5
    assert "2.png: not an image" in captured.err and "5 frames" in captured.err


def test_a_camera_gets_a_line_whenever_it_shows_something_else(store, monkeypatch, capsys):
    fake = FakeCamera(formats=["GREY"], size=(80, 60), bytesperline=80)
    monkeypatch.setattr(camera, "_open", lambda path: fake)
    grey = [photo[:, :, 0] for photo in PHOTOS]
    with EdgeClassifier.load(NAME) as classifier:
        best = [classifier.predict(image)[0] for image in grey]
    other = next(index for index in range(6) if best[index].index != best[0].index)
    shown = iter([0, 0, 0, other, other, 0])

    def wait(seconds):
        index = next(shown, None)
        if index is not None:
            fake.send(grey[index].tobytes())
        return bool(fake.filled)

    # Each frame is made only when the one before was labelled.
    monkeypatch.setattr(fake, "wait", wait)
    monkeypatch.setattr("effnet_edge.camera.Camera.live", False)
    assert main(["predict", "--stream", "0", "--frames", "6"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split("% ")[1] for line in lines] == [
        f"{best[index].label} ({best[index].index})" for index in (0, other, 0)
    ]
    assert "6 frames" in captured.err
    assert fake.closed


def test_motion_jpeg_is_read_from_a_pipe_as_it_comes(home):
    run = command(home, "-", "--json", stdin=subprocess.PIPE)
    image = motion_jpeg(1)
    for count in range(3):
        run.stdin.write(image)
        run.stdin.flush()
        frame = json.loads(run.stdout.readline())  # before the next one is sent
        assert frame["frame"] == count and frame["dropped"] == 0
    run.stdin.close()
    assert run.wait(timeout=30) == 0
    assert run.stdout.read() == b"" and b"3 frames" in run.stderr.read()


def test_live_frames_that_are_too_many_are_dropped_and_reported(home):
    run = command(home, "-", "--json", stdin=subprocess.PIPE)
    out, err = run.communicate(motion_jpeg(600), timeout=60)
    frames = [json.loads(line) for line in out.splitlines()]
    last = frames[-1]
    assert run.returncode == 0
    assert last["frame"] == 599 and last["dropped"] == 600 - len(frames) > 0
    assert f"{last['dropped']} dropped" in err.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_ctrl_c_ends_with_the_report_while_a_pipe_is_silent(home):
    run = command(home, "-", "--json", stdin=subprocess.PIPE)
    run.stdin.write(motion_jpeg(1))
    run.stdin.flush()
    run.stdout.readline()
    time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=30) == 130
    said = run.stderr.read().decode()
    assert "1 frames in" in said and "interrupted" in said and "Traceback" not in said


def test_a_reader_that_leaves_ends_it_quietly(home, folder):
    for index in range(300):
        (folder / f"more{index}.png").write_bytes((folder / "0.png").read_bytes())
    run = command(home, str(folder), "--json")
    run.stdout.readline()
    run.stdout.close()
    assert run.wait(timeout=30) == 1
    assert b"Traceback" not in run.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        ([], "give images", 2),
        (["--stream", "0", "photo.jpg"], "either images or --stream", 2),
        (["photo.jpg", "--percentile", "99"], "--percentile is about limits", 2),
        (["--stream", "0", "--percentile", "95"], "--percentile is about limits", 2),
        (["photo.jpg", "--nearest"], "--nearest is about limits", 2),
        (["photo.jpg", "--frames", "2"], "for --stream", 2),
        (["photo.jpg", "--seconds", "2"], "for --stream", 2),
        (["--stream", ""], "variable unset", 2),
        (["--stream", "rtsp://door"], "ffmpeg", 2),
        (["--stream", "/dev/video4000"], "no camera /dev/video4000", 1),
        (["--stream", "nowhere"], "nowhere", 1),
    ],
)
def test_wrong_usage_says_what_to_do(store, capsys, arguments, said, status):
    assert main(["predict", *arguments]) == status
    captured = capsys.readouterr()
    assert said in captured.err and captured.out == ""


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x"])
def test_seconds_must_be_a_positive_number(store, capsys, seconds):
    with pytest.raises(SystemExit):
        main(["predict", "--stream", "0", "--seconds", seconds])
    assert "isn't a number" in capsys.readouterr().err


def test_a_budget_chooses_the_model(store, folder, monkeypatch, capsys):
    asked = {}

    def auto(budget_ms, memory_mb, **options):
        asked.update(options, budget_ms=budget_ms, memory_mb=memory_mb)
        return EdgeClassifier.load(NAME)

    monkeypatch.setattr(EdgeClassifier, "auto", auto)
    photo = str(folder / "0.png")
    assert main(["predict", photo, "--budget-ms", "30", "--memory-mb", "200"]) == 0
    assert (asked["budget_ms"], asked["memory_mb"], asked["strict"]) == (30, 200, True)
    assert "percentile" not in asked  # as `auto` has it
    assert f"using {NAME}" in capsys.readouterr().err
    limits = ["--budget-ms", "30", "--percentile", "99", "--nearest"]
    assert main(["predict", photo, *limits]) == 0
    assert (asked["percentile"], asked["strict"]) == (99, False)
    asked.clear()
    assert main(["predict", photo]) == 0
    assert not asked


def test_arrays_from_python_are_streamed_as_the_command_does(store, folder, capsys):
    assert main(["predict", "--stream", str(folder), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    with EdgeClassifier.load(NAME) as classifier:
        frames = classifier.stream(np.stack(PHOTOS), top_k=1)
        for line, frame in zip(lines, frames, strict=True):
            assert json.loads(line)["predictions"][0]["index"] == frame.predictions[0].index
