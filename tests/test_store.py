"""The model store: finding, listing, verifying, removing; broken files and hostile names."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from effnet_edge import seal
from effnet_edge.errors import ModelError, ModelNotFoundError, StoreError, UsageError
from effnet_edge.metadata import ModelMetadata, Source
from effnet_edge.recipe import Recipe
from effnet_edge.store import ModelStore, default_home

METADATA = ModelMetadata(
    name="efficientnet-b0-fp32",
    family="standard",
    phi=0,
    precision="fp32",
    recipe=Recipe((224, 224), (256, 256)),
    source=Source("weights.pth", "0" * 64, "torchvision", "torchvision", 77.692),
    parameters=5288548,
    macs=400_000_000,
    padding="symmetric",
    tool="a test",
    labels=("cat", "dog"),
)


def _field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while True:
        size, low = size >> 7, size & 0x7F
        length += bytes([low | 0x80 if size else low])
        if not size:
            return bytes([number << 3 | 2]) + length + content


def onnx_file(name: str, ballast: int = 1000) -> bytes:
    """The smallest protocol buffer that describes itself: no graph, only an ignored string."""
    properties = {
        "effnet_edge": replace(METADATA, name=name).to_json().encode(),
        "labels": "\n".join(METADATA.labels).encode(),
        "effnet_edge_seal": seal.PLACEHOLDER,
    }
    data = bytearray(b"\x08\x08" + _field(6, bytes(ballast)))
    for key, value in properties.items():
        data += _field(14, _field(1, key.encode()) + _field(2, value))
    seal.seal(data)
    return bytes(data)


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(tmp_path / "home")


def put(store: ModelStore, name: str) -> Path:
    return store.write(name, "onnx", onnx_file(name))


def test_a_written_model_is_found_listed_and_verified(store):
    path = put(store, "efficientnet-b0-fp32")
    assert path == store.home / "models" / "efficientnet-b0-fp32.onnx"
    assert store.find("efficientnet-b0-fp32") == path
    (model,) = store.list()
    assert (model.name, model.format, model.path) == ("efficientnet-b0-fp32", "onnx", path)
    assert model.size == path.stat().st_size
    assert model.error is None
    assert model.metadata == METADATA
    assert store.verify() == store.verify("efficientnet-b0-fp32") == (model,)


def test_reading_an_absent_store_creates_nothing(store):
    assert store.list() == store.verify() == ()
    with pytest.raises(ModelNotFoundError, match="which is empty"):
        store.find("efficientnet-b0-fp32")
    assert not store.home.exists()


def test_a_missing_model_is_answered_with_what_there_is_and_the_command_that_makes_it(store):
    put(store, "efficientnet-b0-fp32")
    put(store, "flowers")
    with pytest.raises(ModelNotFoundError) as caught:
        store.find("efficientnet-b2-fp32")
    assert "did you mean efficientnet-b0-fp32?" in str(caught.value)
    assert "effnet-edge convert --phi 2" in str(caught.value)
    with pytest.raises(ModelNotFoundError, match="convert --phi 1 --weights lite --int8"):
        store.find("efficientnet-lite1-int8")
    with pytest.raises(ModelNotFoundError, match="which has efficientnet-b0-fp32, flowers"):
        store.find("zebra")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("efficientnet-b7", "--phi 7"),
        ("efficientnet-b0-fp32", "--phi 0"),
        ("efficientnet-b2-fp16", "--phi 2 --fp16"),
        ("efficientnet-b2-int8", "--phi 2 --int8"),
        ("efficientnet-lite0-fp32", "--phi 0 --weights lite"),
        ("efficientnet-lite2-fp16", "--phi 2 --weights lite --fp16"),
        ("efficientnet-lite3-int8", "--phi 3 --weights tf-lite --int8"),
    ],
)
def test_a_released_model_that_is_missing_comes_with_its_command(store, name, options):
    with pytest.raises(ModelNotFoundError) as caught:
        store.find(name)
    assert str(caught.value).splitlines()[-1] == f"to make it: effnet-edge convert {options}"


@pytest.mark.parametrize(
    "name",
    [
        "flowers",
        "efficientnet-b8-int8",
        "efficientnet-lite5-fp32",
        "efficientnet-b2-flowers",
        "efficientnet-b2-int4",
        "my-efficientnet-b2-int8",
    ],
)
def test_nobody_is_told_to_make_a_model_that_convert_would_not_name_so(store, name):
    with pytest.raises(ModelNotFoundError) as caught:
        store.find(name)
    assert "convert" not in str(caught.value)


def test_a_model_in_another_format_is_named(store):
    put(store, "flowers")
    with pytest.raises(ModelNotFoundError, match=r"as \.onnx, not as \.tflite"):
        store.find("flowers", ("tflite",))


def test_the_first_of_the_wanted_formats_wins(store):
    path = put(store, "flowers")
    assert store.find("flowers", ("tflite", "onnx")) == path


def test_broken_files_are_listed_with_their_error_and_hide_no_other(store):
    put(store, "good")
    (store.folder / "empty.onnx").write_bytes(b"")
    (store.folder / "noise.tflite").write_bytes(os.urandom(1000))
    (store.folder / "folder.onnx").mkdir()
    (store.folder / "readme.txt").write_text("not a model")
    models = {model.name: model for model in store.list()}
    assert sorted(models) == ["empty", "folder", "good", "noise"]
    assert models["good"].error is None
    for name in ("empty", "noise", "folder"):
        assert models[name].metadata is None
        assert str(models[name].path) in models[name].error


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"macs": 400000000', b'"macs": "4000000"'),
        (b'"phi": 0', b'"phi": []'),
        (b'"top1": 77.692', b'"top1": 1e9999'),
        (b'"parameters": 5288548', b'"parameters": 1' + b"0" * 5000),
        (b'"family": "standard"', b'"family": {"a": [1]} '),
        (b"0.485", b"1e999"),
    ],
)
def test_a_file_with_a_wrong_description_is_listed_as_broken(store, old, new):
    put(store, "good")
    text = METADATA.to_json().encode()
    assert text.count(old) == 1
    wrong = b"\x08\x08"
    for key, value in (("effnet_edge", text.replace(old, new)), ("labels", b"cat\ndog")):
        wrong += _field(14, _field(1, key.encode()) + _field(2, value))
    store.write("wrong", "onnx", wrong)
    good, bad = store.list()
    assert good.error is None
    assert "malformed" in bad.error


def test_verify_finds_weights_that_are_in_another_file(store):
    tensor = _field(5, b"\x70\x01")  # an initializer whose data_location is external
    data = bytearray(onnx_file("flowers"))
    at = data.index(seal.MARKER) + len(seal.MARKER)
    data[at : at + 64] = b"0" * 64
    data += _field(7, tensor)
    seal.seal(data)
    store.write("flowers", "onnx", data)
    assert "another file" in store.verify()[0].error


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes there")
def test_a_pipe_in_the_store_is_listed_as_broken(store):
    put(store, "good")
    os.mkfifo(store.folder / "pipe.onnx")
    for models in (store.list(), store.verify()):
        assert [model.error is None for model in models] == [True, False]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_dangling_link_is_listed_as_broken(store):
    put(store, "good")
    (store.folder / "gone.onnx").symlink_to(store.home / "nowhere")
    assert {model.name: model.error is None for model in store.list()} == {
        "good": True,
        "gone": False,
    }


def test_verify_finds_one_flipped_bit_that_list_does_not_look_for(store):
    path = put(store, "flowers")
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    assert store.list()[0].error is None
    assert "changed or damaged" in store.verify("flowers")[0].error


def test_a_file_that_says_it_is_another_model_is_refused(store):
    path = put(store, "flowers")
    path.rename(store.folder / "birds.onnx")
    with pytest.raises(ModelError, match="says that it is flowers, not birds"):
        store.find("birds")
    assert "flowers" in store.verify("birds")[0].error


def test_a_format_that_contradicts_the_name_is_refused(store):
    path = put(store, "flowers")
    path.rename(store.folder / "flowers.tflite")
    with pytest.raises(ModelError, match=r"named \.tflite but holds a \.onnx model"):
        store.find("flowers")


def test_remove_takes_one_format_or_both(store):
    put(store, "flowers")
    (store.folder / "flowers.tflite").write_bytes(b"broken models can be removed too")
    assert store.remove("flowers", "tflite") == (store.folder / "flowers.tflite",)
    assert store.remove("flowers") == (store.folder / "flowers.onnx",)
    with pytest.raises(ModelNotFoundError, match="no model 'flowers'"):
        store.remove("flowers")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../flowers",
        "a/b",
        "a\\b",
        "C:flowers",
        ".hidden",
        "-option",
        "Flowers",
        "flow ers",
        "flowers.",
        "flowers\n",
        "bl\u00fcten",
        "nul",
        "con.v2",
        "com1",
        "x" * 101,
        "flowers.onnx",
        "a\0b",
    ],
)
def test_names_that_are_no_plain_file_name_are_refused(store, name):
    for use in (store.find, store.remove, store.verify):
        with pytest.raises(UsageError):
            use(name)
    with pytest.raises(UsageError):
        store.write(name, "onnx", b"")
    assert not store.home.exists()


def test_an_unknown_format_is_refused(store):
    with pytest.raises(UsageError, match="onnx or tflite"):
        store.path_for("flowers", "pt")


def test_a_home_that_is_a_file_is_a_store_error(tmp_path):
    (tmp_path / "home").write_bytes(b"")
    store = ModelStore(tmp_path / "home")
    with pytest.raises(StoreError, match="can't read"):
        store.list()
    with pytest.raises(StoreError, match="can't write"):
        put(store, "flowers")


def test_a_store_that_can_only_be_read_can_be_listed_and_verified(store, monkeypatch):
    put(store, "flowers")
    open_file = os.open

    def read_only(path, flags, *rest, **more):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system")
        return open_file(path, flags, *rest, **more)

    def refuse(*arguments, **more):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert store.find("flowers").is_file()
    assert store.verify()[0].error is None
    with pytest.raises(StoreError, match="read-only"):
        put(store, "flowers")
    with pytest.raises(StoreError, match="read-only"):
        store.remove("flowers")
    assert store.list()[0].error is None


def test_the_home_is_taken_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path / "mine"))
    assert default_home() == ModelStore().home == tmp_path / "mine"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("EFFNET_EDGE_HOME", "~/models of mine")
    assert default_home() == tmp_path / "models of mine"
    monkeypatch.setenv("EFFNET_EDGE_HOME", "relative")
    assert default_home().is_absolute()
    monkeypatch.setenv("EFFNET_EDGE_HOME", "~nobody-of-that-name/x")
    with pytest.raises(StoreError, match="EFFNET_EDGE_HOME"):
        default_home()


def test_without_the_variable_the_home_is_the_platforms_folder(monkeypatch, tmp_path):
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("EFFNET_EDGE_HOME", raising=False)
        else:
            monkeypatch.setenv("EFFNET_EDGE_HOME", value)
        assert default_home().name == "effnet-edge"
        assert default_home().is_absolute()


def _write_often(home: str, marker: int) -> None:
    store = ModelStore(Path(home))
    for _ in range(20):
        store.write("flowers", "onnx", onnx_file("flowers", ballast=100_000 + marker))


def test_two_processes_that_write_one_model_at_once_leave_it_whole(store):
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_often, args=(str(store.home), marker)) for marker in (1, 2)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        for model in store.verify():
            assert model.error is None
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [path.name for path in store.folder.iterdir()] == ["flowers.onnx"]
