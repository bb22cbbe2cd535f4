"""``convert --fp16``: half the bytes, the same speed, the same answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
import reference
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from synthetic import state_dict, write_torch_zip

from effnet_edge import EdgeClassifier
from effnet_edge.cli import main
from effnet_edge.converters.half_precision import to_half
from effnet_edge.converters.onnx_writer import onnx_model
from effnet_edge.converters.tflite_writer import tflite_model
from effnet_edge.errors import ConversionError
from effnet_edge.fidelity import FidelityMeter
from effnet_edge.models import architecture
from effnet_edge.models.network import Conv
from effnet_edge.store import ModelStore

LITE0 = "efficientnet-lite0-fp16"


def small_network(activation="silu", padding="same"):
    arch = networks.small_architecture(activation, squeeze=activation == "silu")
    return networks.random_network(
        arch, padding, (34, 41), mean=networks.LITE_MEAN, std=networks.LITE_STD
    )


def describe(network):
    return replace(networks.describe(network), precision="fp16")


def onnx_logits(data, images):
    session = onnxruntime.InferenceSession(bytes(data), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


def tflite_logits(data, images):
    interpreter = Interpreter(model_content=bytes(data), num_threads=1)
    predict = interpreter.get_signature_runner("serving_default")
    return np.concatenate([predict(image=image[None])["logits"] for image in images])


def rounded(part):
    """``part`` of a network, or all of it, with every array rounded to float16's grid."""
    if isinstance(part, np.ndarray):
        return part.astype(np.float16).astype(np.float32)
    if isinstance(part, tuple):
        return tuple(rounded(each) for each in part)
    if part is None or isinstance(part, bool):
        return part
    names = ("weight", "bias") if isinstance(part, Conv) else tuple(vars(part))
    return replace(part, **{name: rounded(getattr(part, name)) for name in names})


@pytest.mark.parametrize("activation", ["silu", "relu6"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_logits_equal_those_of_the_rounded_network(activation, padding):
    network = small_network(activation, padding)
    images = networks.photos(4, network.resolution, 3)
    # Lite's std folds a power of two into the stem, so that rounding before is rounding after.
    parts = {name: rounded(getattr(network, name)) for name in ("stem", "blocks", "head")}
    expected = reference.logits(replace(network, **parts), images)
    unrounded = reference.logits(network, images)
    assert networks.relative_error(unrounded, expected) > 1e-4
    for write, run in ((onnx_model, onnx_logits), (tflite_model, tflite_logits)):
        logits = run(write(network, describe(network)), images)
        assert networks.relative_error(logits, expected) < 2e-5


def test_onnx_runtime_folds_the_casts_and_runs_the_same_operators(tmp_path):
    network = small_network()
    graphs = {}
    for metadata in (networks.describe(network), describe(network)):
        path = tmp_path / f"{metadata.precision}.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            bytes(onnx_model(network, metadata)), options, providers=["CPUExecutionProvider"]
        )
        graphs[metadata.precision] = onnx.load(path).graph
    half, full = graphs["fp16"], graphs["fp32"]
    assert Counter(n.op_type for n in half.node) == Counter(n.op_type for n in full.node)
    assert onnx.TensorProto.FLOAT16 not in {each.data_type for each in half.initializer}


@pytest.mark.parametrize("activation", ["silu", "relu6"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_xnnpack_takes_the_whole_graph_in_one_partition(activation, padding):
    network = small_network(activation, padding)
    data = bytes(tflite_model(network, describe(network)))
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (partition,) = (op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE")
    assert interpreter.get_input_details()[0]["index"] in partition["inputs"]
    outputs = {tensor["index"] for tensor in interpreter.get_output_details()}
    assert set(partition["outputs"]) == outputs


def test_every_weight_and_bias_is_float16_in_both_formats():
    network = small_network()
    model = onnx.load_from_string(bytes(onnx_model(network, describe(network))))
    onnx.checker.check_model(model, full_check=True)
    large = [each for each in model.graph.initializer if np.prod(each.dims) > 3]
    assert {each.data_type for each in large} == {onnx.TensorProto.FLOAT16}
    data = tflite_model(network, describe(network))
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data)).subgraphs[0]
    names = {t.name.decode() for t in graph.tensors if t.type == schema.TensorType.FLOAT16}
    assert names == {f"{name}.half" for name, _ in network.arrays()}


def test_the_tflite_file_states_the_operator_version_that_it_needs():
    network = small_network()
    model = schema.ModelT.InitFromObj(
        schema.Model.GetRootAs(tflite_model(network, describe(network)))
    )
    versions = {code.builtinCode: code.version for code in model.operatorCodes}
    assert versions[schema.BuiltinOperator.DEQUANTIZE] == 3
    assert set(versions.values()) == {1, 3}


def test_what_float16_can_not_hold_is_refused():
    assert to_half("w", np.array([65504, -65504], np.float32)).tolist() == [65504, -65504]
    with pytest.raises(ConversionError, match=r"stem\.bias reaches 7e\+04.*--fp16"):
        to_half("stem.bias", np.array([1, -7e4], np.float32))


def test_tiny_weights_become_subnormal_or_zero():
    assert to_half("w", np.array([6e-8, 1e-9, -0.0], np.float32)).tolist() == [2**-24, 0, 0]


def test_an_overflow_leaves_no_file(empty_home, tmp_path, capsys):
    tensors = state_dict("torchvision", architecture(0), 2)
    tensors["classifier.1.weight"][0, 0] = 1e6
    path = tmp_path / "b0.pth"
    write_torch_zip(path, {"state_dict": tensors})
    assert main(["convert", "--weights", str(path), "--fp16"]) == 1
    assert "head.classifier.weight reaches 1e+06" in capsys.readouterr().err
    assert not list(empty_home.rglob("*.onnx"))


def test_lite0_is_half_as_large_and_labels_photos_alike(lite0_store, photos, tmp_path, capsys):
    line = ["convert", "--weights", "lite", "--phi", "0", "--fp16", "--output", str(tmp_path)]
    assert main(line) == 0
    assert LITE0 in capsys.readouterr().out
    for model_format, engine in (("onnx", "onnxruntime"), ("tflite", "litert")):
        full = lite0_store.find("efficientnet-lite0-fp32", [model_format])
        half = tmp_path / f"{LITE0}.{model_format}"
        assert half.stat().st_size < 0.51 * full.stat().st_size
        meter = FidelityMeter()
        with (
            EdgeClassifier.load(full, engine=engine) as one,
            EdgeClassifier.load(half, engine=engine) as other,
        ):
            assert (other.metadata.name, other.metadata.precision) == (LITE0, "fp16")
            for path, _ in photos:
                meter.add(one.logits(path), other.logits(path))
        result = meter.result()
        assert result.agreement == 100 and result.kl < 1e-4 and result.snr_db > 40


def test_one_name_never_stands_for_two_precisions(empty_home, capsys):
    line = ["convert", "--weights", "lite", "--phi", "0", "--name", "m"]
    assert main(line) == 0
    assert main([*line, "--fp16", "--format", "onnx"]) == 2
    assert "(fp32): convert to both formats" in capsys.readouterr().err
    assert main([*line, "--fp16"]) == 0
    assert "(fp32)" in capsys.readouterr().err
    assert {model.metadata.precision for model in ModelStore().list()} == {"fp16"}
