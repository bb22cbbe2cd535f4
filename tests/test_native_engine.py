"""Our kernels without an engine: the same logits from the file alone, and no crash from any file.

On x86 every stage gives the integers of the functions' bodies but for SiLUs with factors ("scaled")
and the rounding of gates and sums, of which a network of random weights makes the most.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kernel_models
import networks
import numpy as np
import onnx
import pytest
import quantized_networks
from kernel_models import kernel_library

from effnet_edge import EdgeClassifier, classifier, engines, kernels, seal
from effnet_edge.engines import ENGINES, NATIVE, open_session
from effnet_edge.engines.onnx_graph import read_graph
from effnet_edge.errors import EffnetEdgeError, EngineError, ModelError, UsageError
from effnet_edge.kernels import find_kernels
from effnet_edge.protocol_buffer import ProtocolBuffer
from effnet_edge.selection.candidates import candidates
from effnet_edge.store import ModelStore

SIZE = (33, 50)


@pytest.fixture(autouse=True)
def _kernels() -> None:
    kernel_library()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    kernel_library()
    return kernel_models.write(tmp_path_factory.mktemp("int8"), resolution=SIZE)


def opened(path: Path, threads: int = 1, engine: str = NATIVE):
    return open_session(path, ENGINES[engine], threads)


def portable(path: Path, images, monkeypatch):
    """What ONNX Runtime makes of the functions' bodies."""
    with monkeypatch.context() as patch:
        patch.setenv(kernels.ISA, kernels.PORTABLE)
        with opened(path, engine="onnxruntime") as session:
            assert session.isa is None
            return session.run(images)


# What it computes


@pytest.mark.parametrize("variant", quantized_networks.VARIANTS)
def test_logits_are_those_of_the_functions_bodies(variant, tmp_path, monkeypatch):
    path = kernel_models.write(tmp_path, **variant)
    images = networks.photos(4, variant["resolution"], 42)
    with opened(path) as session:
        assert session.isa == find_kernels().isa
        assert session.input_shape == variant["resolution"]
        got = session.run(images)
    assert quantized_networks.snr(got, portable(path, images, monkeypatch)) > 16


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_onnxruntime_gets_the_same_bits_from_the_same_kernels(model, threads):
    images = networks.photos(5, SIZE, 3)
    with opened(model, threads) as ours, opened(model, threads, "onnxruntime") as theirs:
        assert ours.isa == theirs.isa is not None
        assert np.array_equal(ours.run(images), theirs.run(images))


def test_a_stored_model_gives_the_labels_of_the_bodies_but_for_a_close_call(
    lite0_int8, photos, monkeypatch
):
    path = lite0_int8.find("efficientnet-lite0-int8")
    with EdgeClassifier.load("efficientnet-lite0-int8") as loaded:
        assert (loaded.engine, loaded.path) == (NATIVE, path)
        got = np.stack([loaded.logits(file) for file, _ in photos])
    monkeypatch.setenv(kernels.ISA, kernels.PORTABLE)
    with EdgeClassifier.load("efficientnet-lite0-int8") as loaded:
        assert loaded.engine == "onnxruntime"
        expected = np.stack([loaded.logits(file) for file, _ in photos])
    assert np.sum(got.argmax(axis=1) == expected.argmax(axis=1)) >= 19
    assert quantized_networks.snr(got, expected) > 22


@pytest.fixture(scope="session")
def lite0_int8_home(tmp_path_factory) -> Path:
    from effnet_edge.converters.convert import convert, plan

    home = tmp_path_factory.mktemp("lite0-int8")
    (job,) = plan("lite", [0], precision="int8")
    convert(job, ModelStore(home))
    return home


@pytest.fixture
def lite0_int8(lite0_int8_home, monkeypatch) -> ModelStore:
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(lite0_int8_home))
    return ModelStore()


def test_normalisation_in_standard_operators_is_the_same(model, tmp_path):
    """As files have it that were made before there was a function for it."""

    def spell_out(made: onnx.ModelProto) -> None:
        pixels = call(made, "Pixels")
        image, offset, scale, zero_point = pixels.input
        nodes = [
            onnx.helper.make_node("Cast", [image], ["real"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Sub", ["real", offset], ["centred"]),
            onnx.helper.make_node("QuantizeLinear", ["centred", scale, zero_point], pixels.output),
        ]
        nodes += list(made.graph.node)[1:]
        made.graph.ClearField("node")
        made.graph.node.extend(nodes)

    images = networks.photos(3, SIZE, 9)
    with opened(model) as session, opened(changed(model, tmp_path, spell_out)) as other:
        assert np.array_equal(session.run(images), other.run(images))


# How it is used


def test_neither_onnxruntime_nor_onnx_is_imported(model):
    program = f"""
import sys
import numpy as np
from effnet_edge import EdgeClassifier
with EdgeClassifier.load({str(model)!r}) as classifier:
    assert classifier.engine == "native", classifier.engine
    classifier.predict(np.zeros((40, 40, 3), np.uint8))
assert not {{"onnx", "onnxruntime", "google.protobuf"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_sessions_in_several_threads_do_not_disturb_each_other(model):
    images = networks.photos(6, SIZE, 5)
    with opened(model, 2) as session, opened(model, 1) as other:
        expected = session.run(images)

        def run(index: int):
            return (session if index % 3 else other).run(images[index % 6][None])[0]

        with ThreadPoolExecutor(4) as pool:
            for index, got in enumerate(pool.map(run, range(200))):
                assert np.array_equal(got, expected[index % 6])


def test_a_run_that_is_under_way_when_the_model_is_closed_ends_well(model):
    images = np.repeat(networks.photos(1, SIZE, 6), 200, axis=0)
    session = opened(model, 2)
    expected = session.run(images[:1])
    started = threading.Event()

    def run():
        started.set()
        return session.run(images)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        started.wait()
        session.close()
        try:
            assert np.array_equal(running.result(), np.repeat(expected, 200, axis=0))
        except EngineError as error:  # it hadn't begun
            assert "closed" in str(error)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_child_process_may_let_go_of_what_its_parent_loaded(model):
    program = f"""
import os, sys
from pathlib import Path
from effnet_edge.engines import ENGINES, open_session
session = open_session(Path({str(model)!r}), ENGINES["native"], 2)
if os.fork() == 0:
    session.close()
    sys.exit(0)
assert os.wait()[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_what_kernels_refuse_is_loaded_by_onnxruntime_unless_it_was_asked_for(model, tmp_path):
    def two_strides(made: onnx.ModelProto) -> None:
        blocks = (node for node in made.graph.node if node.op_type.startswith("MBConv"))
        block = next(node for node in blocks if not node.op_type.endswith("Residual"))
        next(each for each in block.attribute if each.name == "strides").ints[:] = [1, 2]

    path = changed(model, tmp_path, two_strides, sealed=True)
    with EdgeClassifier.load(path) as loaded:
        assert loaded.engine == "onnxruntime"
    with pytest.raises(EngineError, match="strides"):
        EdgeClassifier.load(path, engine=NATIVE)


def test_a_float_model_is_refused_by_name_and_left_to_others_by_default(lite0_store):
    with pytest.raises(UsageError, match="native runs int8 models, not fp32"):
        EdgeClassifier.load("efficientnet-lite0-fp32", engine=NATIVE)
    with EdgeClassifier.load("efficientnet-lite0-fp32") as loaded:
        assert loaded.engine == "onnxruntime"


def test_it_is_a_way_of_running_int8_models_only(lite0_int8_home, lite0_home):
    def engines_of(home: Path) -> list[str]:
        found, _ = candidates(ModelStore(home), tuple(ENGINES.values()), [1], None)
        return [each.engine for each in found if each.path.suffix == ".onnx"]

    assert engines_of(lite0_int8_home) == [NATIVE, "onnxruntime"]
    assert engines_of(lite0_home) == ["onnxruntime"]


def test_a_stored_float_model_is_run_as_tflite_where_nothing_else_runs_it(
    lite0_store, lite0_int8_home, monkeypatch
):
    """As on 32-bit ARM, for which there is no onnxruntime."""
    there = (ENGINES[NATIVE], ENGINES["litert"])
    for module in (engines, classifier):
        monkeypatch.setattr(module, "available_engines", lambda: there)
    with EdgeClassifier.load("efficientnet-lite0-fp32") as loaded:
        assert loaded.engine == "litert"
    with pytest.raises(EngineError, match="pip install onnxruntime"):
        EdgeClassifier.load(lite0_store.folder / "efficientnet-lite0-fp32.onnx")
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(lite0_int8_home))
    with EdgeClassifier.load("efficientnet-lite0-int8") as loaded:
        assert loaded.engine == NATIVE


# Reading


def test_the_graph_is_what_the_library_of_the_format_reads(model):
    made = onnx.load(model).graph
    with model.open("rb") as file:
        message = ProtocolBuffer(file)
        graph = read_graph(message)
        for node, expected in zip(graph.nodes, made.node, strict=True):
            assert (node.name, node.operator) == (expected.name, expected.op_type)
            assert node.domain == expected.domain
            assert node.inputs == tuple(expected.input)
            assert node.outputs == tuple(expected.output)
            for each in expected.attribute:
                values = each.ints if each.type == onnx.AttributeProto.INTS else [each.i]
                assert node.attributes[each.name] == tuple(values)
        assert list(graph.constants) == [each.name for each in made.initializer]
        for tensor in made.initializer:
            constant = graph.constants[tensor.name]
            assert (constant.kind, constant.shape) == (tensor.data_type, tuple(tensor.dims))
            assert message.read(constant.position, constant.bytes) == tensor.raw_data
            assert constant.data in (None, tensor.raw_data)
    assert [(each.name, each.shape) for each in graph.inputs] == [("image", (None, *SIZE, 3))]
    assert [each.name for each in graph.outputs] == ["logits", "probabilities"]


# Files that aren't right


def changed(
    model: Path, folder: Path, change: Callable[[onnx.ModelProto], object], *, sealed: bool = False
) -> Path:
    made = onnx.load(model)
    change(made)
    data = bytearray(made.SerializeToString())
    if sealed:
        at = data.index(seal.MARKER)
        data[at : at + len(seal.PLACEHOLDER)] = seal.PLACEHOLDER
        seal.seal(data)
    path = folder / "changed.onnx"
    path.write_bytes(data)
    return path


def constant(made: onnx.ModelProto, ending: str) -> onnx.TensorProto:
    return next(each for each in made.graph.initializer if each.name.endswith(ending))


def call(made: onnx.ModelProto, start: str) -> onnx.NodeProto:
    return next(node for node in made.graph.node if node.op_type.startswith(start))


def sizes(ending: str, *dims: int):
    def change(made: onnx.ModelProto) -> None:
        constant(made, ending).dims[:] = dims

    return change


def smaller(ending: str, axis: int):
    """A constant that is right in itself, with one row less than its neighbours expect."""

    def change(made: onnx.ModelProto) -> None:
        tensor = constant(made, ending)
        array = onnx.numpy_helper.to_array(tensor)
        less = np.ascontiguousarray(np.delete(array, 0, axis))
        tensor.CopyFrom(onnx.numpy_helper.from_array(less, tensor.name))

    return change


def attribute(name: str, *values: int):
    def change(made: onnx.ModelProto) -> None:
        next(a for a in call(made, "MBConv").attribute if a.name == name).ints[:] = values

    return change


def set_type(made: onnx.ModelProto) -> None:
    constant(made, "depthwise_weight").data_type = onnx.TensorProto.UINT8


def double(made: onnx.ModelProto) -> None:
    constant(made, "conv_weight_scale").data_type = onnx.TensorProto.DOUBLE


def outside(made: onnx.ModelProto) -> None:
    tensor = constant(made, "project_weight")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def without(made: onnx.ModelProto) -> None:
    made.graph.initializer.remove(constant(made, "project_bias"))


def twice(made: onnx.ModelProto) -> None:
    made.graph.initializer.add().CopyFrom(constant(made, "project_bias"))


def renamed(name: str):
    def change(made: onnx.ModelProto) -> None:
        call(made, "MBConv").op_type = name

    return change


def pop_input(made: onnx.ModelProto) -> None:
    call(made, "Head").input.pop()


def add_input(made: onnx.ModelProto) -> None:
    call(made, "Head").input.append(made.graph.initializer[0].name)


def foreign(made: onnx.ModelProto) -> None:
    call(made, "MBConv").domain = "someone"


def unchained(made: onnx.ModelProto) -> None:
    call(made, "MBConv").input[0] = "image"


def no_calls(made: onnx.ModelProto) -> None:
    del made.graph.node[:]


def infinite(made: onnx.ModelProto) -> None:
    constant(made, "project_scale").raw_data = np.array(np.inf, np.float32).tobytes()


CHANGES = [
    pytest.param(sizes("depthwise_weight", 1 << 40, 1, 3, 3), "bytes", id="huge"),
    pytest.param(sizes("depthwise_weight", -1, 1, 3, 3), "bytes", id="negative"),
    pytest.param(sizes("depthwise_weight", 0, 1 << 60), "bytes", id="empty"),
    pytest.param(sizes("project_bias"), "bytes", id="too short"),
    pytest.param(smaller("depthwise_weight", 0), "shape", id="channels"),
    pytest.param(smaller("depthwise_weight", 2), "shape", id="not square"),
    pytest.param(smaller("project_weight", 1), "fit", id="inputs"),
    pytest.param(smaller("project_bias", 0), "shape", id="biases"),
    pytest.param(smaller("project_weight_scale", 0), "shape", id="scales"),
    pytest.param(smaller("classifier_weight", 1), "shape", id="features"),
    pytest.param(smaller("classifier_bias", 0), "shape", id="classes"),
    pytest.param(attribute("strides", 1, 2), "strides", id="strides differ"),
    pytest.param(attribute("strides", 1 << 40, 1 << 40), "out of range", id="strides"),
    pytest.param(attribute("pads", 0, 0, 0), "padding", id="three pads"),
    pytest.param(attribute("pads", -1, 0, 0, 0), "out of range", id="negative pads"),
    pytest.param(attribute("pads", 30000, 0, 0, 0), "padding", id="pads"),
    pytest.param(set_type, "type", id="type"),
    pytest.param(double, "which our models don't use", id="double"),
    pytest.param(outside, "another file", id="external"),
    pytest.param(without, "is missing", id="missing constant"),
    pytest.param(twice, "two constants", id="two constants"),
    pytest.param(renamed("MBConvDepthwiseTanh"), "no operator", id="operator"),
    pytest.param(renamed("HeadSilu"), "input|type|shape", id="other operator"),
    pytest.param(pop_input, "too few inputs", id="few inputs"),
    pytest.param(add_input, "too many inputs", id="many inputs"),
    pytest.param(foreign, "someone::MBConv.*isn't one of ours", id="foreign operator"),
    pytest.param(unchained, "doesn't follow", id="unchained"),
    pytest.param(no_calls, "isn't one of ours", id="no calls"),
    pytest.param(infinite, "scale", id="infinite scale"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_a_model_that_does_not_fit_itself_is_refused(model, tmp_path, change, message):
    path = changed(model, tmp_path, change)
    with pytest.raises((EngineError, ModelError), match=message):
        opened(path)


def test_a_file_that_ends_anywhere_is_refused(model, tmp_path):
    data = model.read_bytes()
    path = tmp_path / "cut.onnx"
    ends = np.linspace(0, len(data) - 1, 120).astype(int)
    whole = 0
    for end in ends:
        path.write_bytes(data[:end])
        try:
            opened(path).close()
            whole += 1  # what is after the graph isn't looked at
        except (EngineError, ModelError):
            pass
    assert whole < len(ends) / 4


def test_a_file_with_changed_bytes_gives_logits_or_an_error(model, tmp_path):
    data, rng = model.read_bytes(), np.random.default_rng(0)
    path = tmp_path / "spoilt.onnx"
    images = networks.photos(1, SIZE)
    for _ in range(150):
        spoilt = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            spoilt[at] = rng.integers(0, 256)
        path.write_bytes(spoilt)
        try:
            with opened(path) as session:
                if session.input_shape == SIZE:
                    session.run(images)
        except EffnetEdgeError:
            pass
