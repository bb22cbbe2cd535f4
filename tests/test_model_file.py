from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace

import networks
import onnx
import pytest
from onnx import TensorProto

from effnet_edge.converters.onnx_writer import onnx_model
from effnet_edge.converters.tflite_writer import tflite_model
from effnet_edge.errors import ModelError, ModelNotFoundError
from effnet_edge.metadata import ModelMetadata
from effnet_edge.model_file import (
    check_self_contained,
    decode_labels,
    encode_labels,
    model_format,
    read_metadata,
)

WRITERS = {"onnx": onnx_model, "tflite": tflite_model}
LABELS = ("tench", "", "crème brûlée", "日本語", "a, b", " spaced ", "six", "7", "eight", "")


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


# Descriptions of the wrong types


def _description(network, **changes):
    data = json.loads(networks.describe(network).to_json())
    data["source"] |= changes.pop("source", {})
    return json.dumps({**data, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        *({name: value} for name in ("name", "precision", "tool") for value in (None, 3, ["a"])),
        *({name: "other"} for name in ("family", "padding")),
        *({name: value} for name in ("phi", "parameters", "macs") for value in (True, "1", 1.0)),
        *({"macs": value} for value in (-1, 10**400, None)),
        *({"source": {name: 3}} for name in ("file", "sha256", "dialect", "weights")),
        *({"source": {"top1": value}} for value in ("80", True, 10**400, float("nan"))),
        *({"fidelity": value} for value in (None, [], {"a": "b"}, {"a": True}, {"a": 10**400})),
        *({"format": value} for value in (True, 1.0, "1", None)),
        *({"name": f"a{bad}b"} for bad in "\x1b\a\n\x9b\ud800"),
        {"source": {"weights": "\x1b[2J"}},
        {"unknown": 1},
    ],
    ids=repr,
)
def test_a_description_with_a_field_of_another_kind_is_malformed(network, changes):
    with pytest.raises(ModelError, match="malformed"):
        ModelMetadata.from_json(_description(network, **changes), LABELS)


@pytest.mark.parametrize("number", ["1e999", "1" + "0" * 400, "1" + "0" * 5000, "NaN"])
@pytest.mark.parametrize("field", ["top1", "macs", "mean", "resolution"])
def test_absurd_numbers_in_a_description_are_malformed(network, number, field):
    text = _description(network, source={"top1": 71.0})
    old = {"top1": "71.0", "mean": "0.485", "resolution": "[32, 32]"}
    old["macs"] = str(networks.describe(network).macs)
    assert old[field] in text
    new = f"[{number}, 32]" if field == "resolution" else number
    with pytest.raises(ModelError, match="malformed"):
        ModelMetadata.from_json(text.replace(old[field], new), LABELS)


@pytest.mark.parametrize("bad", ["\x1b[2J", "bell\a", "a\rb", "\x9b1m", "a\u2028b"])
def test_labels_that_terminals_obey_are_refused(network, bad):
    with pytest.raises(ModelError, match=r"label 1.*control character"):
        ModelMetadata.from_json(_description(network), ("a", bad))


def test_a_checkpoints_strange_file_name_is_written_so_that_it_can_be_shown(network):
    metadata = networks.describe(network)
    metadata = replace(metadata, source=replace(metadata.source, file="a\x1bb\udcff.pth"))
    read = ModelMetadata.from_json(metadata.to_json(), metadata.labels)
    assert read.source.file == "a?b?.pth"


# Weights in other files


def _holders():
    """Models that hide a tensor in every place where onnx.proto has one."""

    def tensor():
        return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])

    def graph():
        return onnx.GraphProto(initializer=[tensor()])

    def node(kind):
        attribute = onnx.AttributeProto(name="a")
        if kind in ("t", "g"):
            getattr(attribute, kind).CopyFrom(tensor() if kind == "t" else graph())
        elif kind == "sparse_tensor":
            attribute.sparse_tensor.indices.CopyFrom(tensor())
        elif kind == "sparse_tensors":
            attribute.sparse_tensors.add().values.CopyFrom(tensor())
        else:
            getattr(attribute, kind).append(tensor() if kind == "tensors" else graph())
        return onnx.NodeProto(attribute=[attribute])

    yield "initializer", onnx.ModelProto(graph=graph())
    sparse = onnx.SparseTensorProto(values=tensor())
    yield "sparse", onnx.ModelProto(graph=onnx.GraphProto(sparse_initializer=[sparse]))
    for kind in ("t", "g", "tensors", "graphs", "sparse_tensor", "sparse_tensors"):
        yield kind, onnx.ModelProto(graph=onnx.GraphProto(node=[node(kind)]))
    yield "function", onnx.ModelProto(functions=[onnx.FunctionProto(node=[node("t")])])
    default = onnx.FunctionProto(attribute_proto=node("t").attribute)
    yield "default", onnx.ModelProto(functions=[default])
    training = onnx.TrainingInfoProto(algorithm=graph())
    yield "training", onnx.ModelProto(training_info=[training])


@pytest.mark.parametrize("how", ["location", "entries"])
@pytest.mark.parametrize("place", [place for place, _ in _holders()])
def test_weights_in_another_file_are_found_wherever_they_hide(place, how, tmp_path):
    model = dict(_holders())[place]
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08" + model.SerializeToString())
    check_self_contained(path)

    tensor = _only_tensor(model)
    if how == "location":
        tensor.data_location = TensorProto.EXTERNAL
    else:
        tensor.external_data.add(key="location", value="weights.bin")
    path.write_bytes(b"\x08\x08" + model.SerializeToString())
    with pytest.raises(ModelError, match="another file, which its seal doesn't cover"):
        check_self_contained(path)


def _only_tensor(message):
    """The one tensor named w below a message, by protobuf's own account of its fields."""
    if isinstance(message, TensorProto):
        return message if message.name == "w" else None
    for field, value in message.ListFields():
        if field.message_type is not None:
            several = not hasattr(value, "ListFields")
            for inner in value if several else [value]:
                if (found := _only_tensor(inner)) is not None:
                    return found
    return None


def test_a_model_as_written_is_self_contained(models, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(models["onnx"])
    check_self_contained(path)
    model = onnx.load_from_string(models["onnx"])
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(ModelError, match="another file"):
        check_self_contained(path)


def test_a_graph_of_endless_depth_or_length_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    nested = b""
    for _ in range(60):  # a graph in an attribute in a node in a graph in ...
        nested = _message(1, _message(5, _message(6, nested)))
    path.write_bytes(b"\x08\x08" + _message(7, nested))
    with pytest.raises(ModelError, match="nested too deep"):
        check_self_contained(path)
    path.write_bytes(b"\x08\x08" + _message(7, b"\x08\x00" * 1_000_000))
    with pytest.raises(ModelError, match="too many fields"):
        check_self_contained(path)


@pytest.mark.parametrize(
    "graph",
    [
        b"\x2a\x7f\x70\x01",  # a tensor longer than its graph
        b"\x2a\x01\x10\x01",  # whose last number reaches over its end
        b"\x2a\x07\xea\x80\x80\x80\x40\x01a",  # external_data, if cut to 32 bits
        b"\x2b\x2c",  # a group
    ],
)
def test_a_graph_that_readers_might_read_differently_is_damaged(tmp_path, graph):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08" + _message(7, graph))
    with pytest.raises(ModelError, match="damaged"):
        check_self_contained(path)


def test_no_damage_makes_the_check_raise_anything_but_model_error(models, tmp_path):
    path = tmp_path / "model.onnx"
    rng = random.Random(2)
    for _ in range(200):
        damaged = bytearray(models["onnx"])
        for _ in range(3):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(ModelError):
            check_self_contained(path)


def test_the_check_reads_no_weights(tmp_path):
    """An initializer of 256 MB (a hole in the file) costs no memory."""
    size = 256 << 20
    path = tmp_path / "model.onnx"
    tensor = b"\x4a" + _varint(size)  # raw_data
    graph = b"\x2a" + _varint(len(tensor) + size) + tensor
    with path.open("wb") as file:
        file.write(b"\x08\x08\x3a" + _varint(len(graph) + size) + graph)
        file.truncate(file.tell() + size)
    tracemalloc.start()
    try:
        check_self_contained(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_model_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    for read in (model_format, read_metadata, check_self_contained):
        with pytest.raises(ModelError, match="a pipe or a device"):
            read(tmp_path / "pipe.onnx")


def _message(number, content):
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


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
