"""Optimised models: the same answers sooner, and never needed."""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

import networks
import numpy as np
import pytest
from small_models import write_small_models

from effnet_edge import EdgeClassifier
from effnet_edge.engines import onnxruntime as engine
from effnet_edge.engines import optimised
from effnet_edge.errors import EngineError

PHOTOS = networks.photos(3, (60, 80))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_small_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home where small models are worth it too."""
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(optimised, "LEAST_MODEL_BYTES", 1)
    return tmp_path / "home"


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The files that ONNX Runtime was given."""
    ort = pytest.importorskip("onnxruntime")
    real, files = ort.InferenceSession, []

    def session(path, **options):
        files.append(Path(path).parent.name if path.endswith("model.onnx") else "original")
        return real(path, **options)

    monkeypatch.setattr(ort, "InferenceSession", session)
    return files


def entries(home: Path) -> list[Path]:
    folder = home / "optimised"
    return sorted(folder.iterdir()) if folder.exists() else []


def logits(path: Path):
    with EdgeClassifier.load(path, threads=1) as classifier:
        return np.array([classifier.logits(photo) for photo in PHOTOS])


def test_the_second_load_takes_what_the_first_one_left(models, home, opened):
    first = logits(models["onnx"])
    (entry,) = entries(home)
    assert opened == ["original"]
    assert sorted(file.name for file in entry.iterdir()) == ["crc32", "model.onnx", "weights.bin"]
    assert (logits(models["onnx"]) == first).all()
    assert opened == ["original", entry.name]


def test_a_batch_gives_the_same_from_the_optimised_form(models, home, opened):
    results = []
    for _ in range(2):
        with EdgeClassifier.load(models["onnx"], threads=2) as classifier:
            results.append(classifier.predict_batch(PHOTOS, batch_size=3))
    assert opened[1] != "original"
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin", "crc32"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_a_spoilt_entry_is_thrown_away_and_made_again(models, home, opened, name, damage):
    expected = logits(models["onnx"])
    (entry,) = entries(home)
    data = bytearray((entry / name).read_bytes())
    data[len(data) // 2] ^= 1
    spoilt = {"flip": data, "cut": data[:-1], "empty": b""}
    if damage == "missing":
        (entry / name).unlink()
    else:
        (entry / name).write_bytes(spoilt[damage])
    assert (logits(models["onnx"]) == expected).all()
    assert opened == ["original", "original"]
    assert entries(home) == [entry]
    logits(models["onnx"])
    assert opened[2] == entry.name


def test_an_entry_that_onnx_runtime_refuses_is_made_again(models, home, opened):
    expected = logits(models["onnx"])
    (entry,) = entries(home)
    (entry / "model.onnx").write_bytes(b"something else")
    (entry / "crc32").write_text(optimised._checksums(entry), "ascii")
    assert (logits(models["onnx"]) == expected).all()
    assert opened == ["original", entry.name, "original"]


@pytest.mark.parametrize("change", ["model", "engine", "processor", "machine"])
def test_another_model_engine_or_processor_gets_its_own(
    models, home, opened, change, tmp_path, monkeypatch
):
    logits(models["onnx"])
    if change == "model":
        models = write_small_models(tmp_path / "other", labels=tuple("abcdefghij"))
    elif change == "engine":
        monkeypatch.setattr("onnxruntime.__version__", "9.9.9")
    elif change == "processor":
        (tmp_path / "proc").mkdir()
        cpuinfo = tmp_path / "proc/cpuinfo"
        cpuinfo.write_text("processor : 0\nFeatures : fp asimd asimddp\n\n")
        monkeypatch.setattr(engine, "_ROOT", tmp_path)
    else:
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    logits(models["onnx"])
    assert len(entries(home)) == 2 and opened == ["original", "original"]


def test_a_copy_of_the_model_elsewhere_shares_it(models, home, opened, tmp_path):
    logits(models["onnx"])
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(models["onnx"].read_bytes())
    logits(copy)
    assert len(entries(home)) == 1 and opened[1] != "original"


def test_where_nothing_can_be_written_models_load_as_they_are(models, home, opened):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file, where the folder would be")
    expected = logits(models["onnx"])
    assert (logits(models["onnx"]) == expected).all()
    assert opened == ["original", "original"]


def test_a_full_disk_is_left_alone(models, home, opened, monkeypatch):
    monkeypatch.setattr(optimised, "_free_bytes", lambda folder: optimised.SPARE_BYTES)
    logits(models["onnx"])
    assert entries(home) == []


@pytest.mark.parametrize("failing", ["checksums", "session"])
def test_what_fails_while_it_is_made_leaves_nothing(models, home, opened, failing, monkeypatch):
    ort = pytest.importorskip("onnxruntime")
    real = ort.InferenceSession

    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    def refuse_to_write(path, sess_options, providers):
        if sess_options.optimized_model_filepath:
            fail()
        return real(path, sess_options=sess_options, providers=providers)

    if failing == "checksums":
        monkeypatch.setattr(optimised, "_checksums", fail)
    else:
        monkeypatch.setattr(ort, "InferenceSession", refuse_to_write)
    assert np.isfinite(logits(models["onnx"])).all()
    assert entries(home) == []


def test_a_model_that_onnx_runtime_refuses_is_an_error_as_ever(home, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x07broken")
    with pytest.raises(EngineError, match=r"can't load .*broken\.onnx"):
        engine.load(path, 1, "ab" * 32)
    assert entries(home) == []


def test_small_and_huge_models_are_not_kept(models, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path / "home"))
    size = models["onnx"].stat().st_size
    assert size < optimised.LEAST_MODEL_BYTES
    assert optimised.optimised_model(models["onnx"], "a", "b") is None
    monkeypatch.setattr(optimised, "LEAST_MODEL_BYTES", 1)
    assert optimised.optimised_model(models["onnx"], "a", "b") is not None
    monkeypatch.setattr(optimised, "MOST_BYTES", 2 * size - 2)
    assert optimised.optimised_model(models["onnx"], "a", "b") is None


def make(home: Path, name: str, size: int, age: float = 0.0) -> Path:
    folder = home / "optimised" / name
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(size))
    os.utime(folder, (time.time() - age,) * 2)
    return folder


def test_the_least_recently_used_make_room(models, home, monkeypatch):
    day = 86400.0
    old, older, recent = (
        make(home, name, 4000, age) for name, age in (("a", 2 * day), ("b", 3 * day), ("c", day))
    )
    logits(models["onnx"])
    made = next(each for each in entries(home) if each not in (old, older, recent))
    size = sum(file.stat().st_size for file in made.iterdir())
    optimised.OptimisedModel(made, 1).discard()
    monkeypatch.setattr(optimised, "MOST_BYTES", max(size + 8000, 2 * size))
    kept = (optimised.MOST_BYTES - size) // 4000
    logits(models["onnx"])
    assert entries(home) == sorted([made, *[recent, old, older][:kept]])


@pytest.mark.skipif(sys.platform == "win32", reason="folders' times are the file system's there")
def test_using_an_entry_makes_it_recent_once_an_hour(models, home):
    logits(models["onnx"])
    (entry,) = entries(home)
    hour = 3600.0
    for age, is_noted in ((0.5 * hour, False), (2 * hour, True)):
        before = time.time() - age
        os.utime(entry, (before, before))
        logits(models["onnx"])
        assert (entry.stat().st_mtime > before + 60) == is_noted


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(models, home):
    abandoned = make(home, ".x.1234", 10, age=2 * 3600.0)
    busy = make(home, ".y.1234", 10)
    logits(models["onnx"])
    assert busy in entries(home) and abandoned not in entries(home)


def test_two_processes_that_make_the_same_entry_both_succeed(models, home, monkeypatch):
    path = models["onnx"]
    place = optimised.optimised_model(path, "a", "b")
    with place.making() as first, place.making() as second:
        assert first != second
        for graph in (first, second):
            graph.write_bytes(b"graph")
            (graph.parent / "weights.bin").write_bytes(b"weights")
    assert place.find().read_bytes() == b"graph"
    assert len(entries(home)) == 1
