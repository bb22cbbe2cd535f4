from __future__ import annotations

import contextlib
import io
import random
import subprocess
import sys
import tracemalloc
import zipfile

import networks
import onnx
import pytest

from effnet_edge.converters.onnx_writer import onnx_model
from effnet_edge.converters.tflite_writer import tflite_model
from effnet_edge.errors import ModelError, ModelNotFoundError
from effnet_edge.model_file import decode_labels, encode_labels, model_format, read_metadata

WRITERS = {"onnx": onnx_model, "tflite": tflite_model}
LABELS = ("tench", "", "crème brûlée", "日本語", "a, b", "\tspaced ", "six", "7", "eight", "")


@pytest.fixture(scope="module")
def network():
    return networks.random_network()


@pytest.fixture(scope="module")
def models(network):
    metadata = networks.describe(network, LABELS)
    return {name: bytes(write(network, metadata)) for name, write in WRITERS.items()}


@pytest.fixture(params=["onnx", "tflite"])
def model(request, models, tmp_path):
    path = tmp_path / f"model.{request.param}"
    path.write_bytes(models[request.param])
    return path


def test_what_was_written_is_read_back(model, network):
    assert read_metadata(model) == networks.describe(network, LABELS)


def test_the_format_is_told_by_content_not_by_name(model):
    expected = model.suffix[1:]
    renamed = model.rename(model.with_suffix(".bin"))
    assert model_format(renamed) == expected
    assert read_metadata(renamed).labels == LABELS


@pytest.mark.parametrize("labels", [("one",), ("",), ("", ""), ("a", ""), ("a", "b\r")])
def test_labels_survive_as_text(labels):
    assert decode_labels(encode_labels(labels)) == labels


def test_a_label_of_two_lines_is_refused():
    with pytest.raises(ValueError, match="label 1 has more than one line"):
        encode_labels(("a", "b\nc"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"<html>", "neither"), (b"PK\x03\x04 a zip", "neither")],
)
def test_what_is_no_model_is_said_to_be_none(tmp_path, content, message):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    for read in (model_format, read_metadata):
        with pytest.raises(ModelError, match=message):
            read(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for read in (model_format, read_metadata):
        with pytest.raises(ModelNotFoundError, match=r"absent\.onnx"):
            read(tmp_path / "absent.onnx")
        with pytest.raises(ModelError, match="can't be read"):
            read(tmp_path)


def test_an_onnx_from_elsewhere_is_refused_with_advice(models, tmp_path):
    model = onnx.load_from_string(models["onnx"])
    del model.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"no effnet-edge description.*effnet-edge convert"):
        read_metadata(path)


def test_a_tflite_from_elsewhere_is_refused_with_advice(models, tmp_path):
    path = tmp_path / "foreign.tflite"
    path.write_bytes(models["tflite"][: models["tflite"].index(b"PK\x03\x04")])
    with pytest.raises(ModelError, match=r"no effnet-edge description.*effnet-edge convert"):
        read_metadata(path)


def test_a_description_of_a_later_version_says_to_upgrade(model, models):
    data = models[model.suffix[1:]]
    if model.suffix == ".tflite":
        data = _with_files(data, {"effnet_edge.json": b'{"format": 99}', "labels.txt": b"a"})
    else:
        data = _with_properties(data, effnet_edge='{"format": 99}')
    model.write_bytes(data)
    with pytest.raises(ModelError, match=f"{model.name}.*upgrade effnet-edge"):
        read_metadata(model)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"format": 1}', "[" * 100_000])
def test_a_malformed_description_is_a_model_error(models, tmp_path, text):
    path = tmp_path / "model.onnx"
    path.write_bytes(_with_properties(models["onnx"], effnet_edge=text))
    with pytest.raises(ModelError, match="malformed"):
        read_metadata(path)


def test_a_file_cut_anywhere_is_a_model_error(model):
    data = model.read_bytes()
    sizes = [*range(0, len(data), 997), *range(len(data) - 3000, len(data), 7)]
    for size in sizes:
        model.write_bytes(data[:size])
        with pytest.raises(ModelError):
            read_metadata(model)


def test_damage_anywhere_gives_metadata_or_a_model_error(model):
    """Whatever happens to the bytes, nothing but ModelError comes out."""
    rng = random.Random(1)
    data = model.read_bytes()
    tail = len(data) - 3000
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(tail, len(data)) if rng.random() < 0.8 else rng.randrange(200)
            damaged[at] = rng.randrange(256)
        model.write_bytes(damaged)
        with contextlib.suppress(ModelError):
            read_metadata(model)


def test_a_field_longer_than_the_file_is_not_read(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08" + b"\x72" + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"abc")
    with pytest.raises(ModelError, match="middle of a field"):
        read_metadata(path)


def test_an_endless_number_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08" + b"\xff" * 1000)
    with pytest.raises(ModelError, match="protocol buffer"):
        read_metadata(path)


def test_an_onnx_of_a_million_empty_fields_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08" * 1_000_000)
    with pytest.raises(ModelError, match="too many fields"):
        read_metadata(path)


def test_a_description_of_many_megabytes_is_refused(models, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(_with_properties(models["onnx"], labels="x" * (17 << 20)))
    with pytest.raises(ModelError, match="too large"):
        read_metadata(path)


def test_a_zip_bomb_is_not_inflated(models, tmp_path):
    path = tmp_path / "model.tflite"
    files = {"effnet_edge.json": b"0" * (64 << 20), "labels.txt": b"a"}
    path.write_bytes(_with_files(models["tflite"], files, zipfile.ZIP_DEFLATED))
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match="isn't stored"):
            read_metadata(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_huge_zip_directory_is_not_loaded(models, tmp_path):
    path = tmp_path / "model.tflite"
    files = {f"{number:0100}": b"" for number in range(20_000)}
    path.write_bytes(_with_files(models["tflite"], files))
    with pytest.raises(ModelError, match="no effnet-edge description"):
        read_metadata(path)


def test_the_weights_are_not_read(models, tmp_path):
    """A graph of 256 MB (a hole in the file) before the description costs no memory."""
    size = 256 << 20
    path = tmp_path / "model.onnx"
    properties = onnx.load_from_string(models["onnx"])
    properties.ClearField("graph")
    with path.open("wb") as file:
        file.write(b"\x08\x08" + b"\x3a" + _varint(size))
        file.seek(size, io.SEEK_CUR)
        file.write(properties.SerializeToString())
    tracemalloc.start()
    try:
        assert read_metadata(path).labels == LABELS
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_reading_needs_no_library_of_the_format(model):
    code = (
        "import pathlib, sys; from effnet_edge.model_file import read_metadata;"
        "read_metadata(pathlib.Path(sys.argv[1]));"
        "print([m for m in ('onnx', 'google.protobuf', 'flatbuffers',"
        "'effnet_edge.converters') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def _with_properties(data, **changes):
    model = onnx.load_from_string(data)
    for entry in model.metadata_props:
        entry.value = changes.get(entry.key, entry.value)
    return model.SerializeToString()


def _with_files(data, files, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO(data[: data.index(b"PK\x03\x04")])
    with zipfile.ZipFile(stream, "a", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
