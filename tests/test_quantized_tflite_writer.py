from __future__ import annotations

from collections import Counter
from dataclasses import replace

import networks
import numpy as np
import onnxruntime
import pytest
import quantized_networks
import quantized_reference
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from effnet_edge.converters.quantized_onnx_writer import quantized_onnx_model
from effnet_edge.converters.quantized_tflite_writer import quantized_tflite_model


def write(network):
    return bytes(quantized_tflite_model(network, quantized_networks.describe(network)))


def load(network, interpreter=Interpreter):
    made = interpreter(model_content=write(network), num_threads=1)
    made.allocate_tensors()
    return made


def run(network, images, interpreter=Interpreter):
    predict = load(network, interpreter).get_signature_runner("serving_default")
    return np.concatenate([predict(image=image[None])["logits"] for image in images])


def run_onnx(network, images):
    options = onnxruntime.SessionOptions()
    # x86 without VNNI saturates the sums of U8 times S8 otherwise.
    options.add_session_config_entry("session.x64quantprecision", "1")
    data = bytes(quantized_onnx_model(network, quantized_networks.describe(network)))
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


def codes(network):
    """Operator codes of the file with their versions, once for every operator."""
    model = schema.ModelT.InitFromPackedBuf(write(network))
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    kinds = [(names[code.builtinCode], code.version) for code in model.operatorCodes]
    return Counter(kinds[operator.opcodeIndex] for operator in model.subgraphs[0].operators)


@pytest.mark.parametrize("variant", quantized_networks.VARIANTS)
def test_the_network_gives_the_logits_of_the_reference(variant):
    network = quantized_networks.random_quantized(**variant)
    images = networks.photos(8, network.resolution, 42)
    expected = quantized_reference.logits(network, images)
    assert quantized_networks.snr(run(network, images), expected) > 35


@pytest.mark.parametrize("variant", quantized_networks.VARIANTS)
def test_onnx_and_tflite_differ_less_than_one_integer_in_a_map_would_explain(variant):
    """On most images they are equal but for the last bits of a float."""
    network = quantized_networks.random_quantized(**variant)
    images = networks.photos(8, network.resolution, 42)
    tflite, onnx = run(network, images), run_onnx(network, images)
    equal = np.abs(tflite - onnx).max(axis=1) < 1e-4
    assert equal.mean() > 0.5
    assert quantized_networks.snr(tflite, onnx) > 40


def test_the_other_padding_would_not_pass():
    network = quantized_networks.random_quantized(padding="same", resolution=(34, 34))
    images = networks.photos(8, network.resolution, 42)
    wrong = run(replace(network, padding="symmetric"), images)
    assert quantized_networks.snr(wrong, quantized_reference.logits(network, images)) < 20


@pytest.mark.parametrize("variant", quantized_networks.VARIANTS)
def test_xnnpack_takes_the_whole_graph_in_one_partition(variant):
    interpreter = load(quantized_networks.random_quantized(**variant))
    (partition,) = (op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE")
    assert interpreter.get_input_details()[0]["index"] in partition["inputs"]
    outputs = {tensor["index"] for tensor in interpreter.get_output_details()}
    assert outputs <= set(partition["outputs"])


@pytest.mark.parametrize("scaled", [False, True])
def test_the_old_runtime_gives_the_logits_of_the_reference(scaled):
    """Its own kernels round twice where XNNPACK and the reference round once."""
    old = pytest.importorskip("tflite_runtime.interpreter").Interpreter
    network = quantized_networks.random_quantized(scaled=scaled, padding="symmetric")
    images = networks.photos(8, network.resolution, 42)
    expected = quantized_reference.logits(network, images)
    assert quantized_networks.snr(run(network, images, old), expected) > 18


def test_operators_have_the_versions_that_brought_int8():
    assert set(codes(quantized_networks.random_quantized(scaled=True, padding="symmetric"))) == {
        ("DEQUANTIZE", 1),
        ("SUB", 1),
        ("QUANTIZE", 1),
        ("PAD", 2),
        ("CONV_2D", 3),
        ("DEPTHWISE_CONV_2D", 3),
        ("LOGISTIC", 2),
        ("MUL", 2),
        ("MEAN", 2),
        ("ADD", 2),
        ("DEQUANTIZE", 2),
        ("DEQUANTIZE", 5),
        ("FULLY_CONNECTED", 1),
        ("SOFTMAX", 1),
    }


def test_a_product_that_scales_up_has_the_version_that_brought_that():
    network = quantized_networks.random_quantized()
    silu = network.stem.silu
    fine = replace(silu.output, scale=network.stem.conv.output.scale / 300)
    stem = replace(network.stem, silu=replace(silu, output=fine))
    first = network.blocks[0]
    conv = replace(first.depthwise.conv, input=fine)
    first = replace(first, depthwise=replace(first.depthwise, conv=conv))
    changed = replace(network, stem=stem, blocks=(first, *network.blocks[1:]))
    assert codes(network)[("MUL", 3)] == 0
    assert codes(changed)[("MUL", 3)] == 1


def test_an_offset_of_one_whole_pixel_value_costs_no_operator():
    lite = quantized_networks.random_quantized(mean=networks.LITE_MEAN, std=networks.LITE_STD)
    assert ("SUB", 1) not in codes(lite)
    assert codes(quantized_networks.random_quantized())[("SUB", 1)] == 1


def test_scales_and_biases_have_the_parameters_the_specification_asks_for():
    network = quantized_networks.random_quantized()
    model = schema.ModelT.InitFromPackedBuf(write(network))
    tensors = {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}
    for name, conv, axis in (
        ("blocks.1.expand", network.blocks[1].expand.conv, 0),
        ("blocks.1.depthwise", network.blocks[1].depthwise.conv, 3),
    ):
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        np.testing.assert_array_equal(weight.quantization.scale, conv.weight_scale)
        assert weight.quantization.quantizedDimension == axis
        assert weight.type == schema.TensorType.INT8
        np.testing.assert_allclose(
            bias.quantization.scale, conv.input.scale * conv.weight_scale, rtol=1e-6
        )
        assert bias.type == schema.TensorType.INT32
        for tensor in (weight, bias):
            zeros = np.zeros(conv.out_channels, np.int64)
            np.testing.assert_array_equal(tensor.quantization.zeroPoint, zeros)
        output = tensors[name].quantization
        assert output.scale == np.float32(conv.output.scale)
        assert output.zeroPoint == conv.output.zero_point


def test_b0_takes_little_more_than_a_byte_per_parameter():
    arch = networks.architecture(0)
    network = networks.random_network(arch, resolution=(32, 32), classes=1000)
    quantized = quantized_networks.quantize(network, networks.photos(1, (32, 32)))
    data = quantized_tflite_model(quantized, networks.describe(network))
    assert len(data) <= 1.1 * network.parameters


def test_the_interface_is_the_float_models():
    interpreter = load(quantized_networks.random_quantized(resolution=(40, 56), classes=3))
    (image,) = interpreter.get_input_details()
    assert (image["name"], image["dtype"], list(image["shape"])) == (
        "image",
        np.uint8,
        [1, 40, 56, 3],
    )
    outputs = interpreter.get_output_details()
    assert [out["name"] for out in outputs] == ["probabilities", "logits"]
    assert [out["dtype"] for out in outputs] == [np.float32, np.float32]
    assert [list(out["shape"]) for out in outputs] == [[1, 3], [1, 3]]


def test_probabilities_are_the_softmax_of_the_logits():
    network = quantized_networks.random_quantized()
    images = networks.photos(1, network.resolution, 3)
    out = load(network).get_signature_runner("serving_default")(image=images)
    exponentials = np.exp(out["logits"].astype(np.float64) - out["logits"].max())
    np.testing.assert_allclose(out["probabilities"], exponentials / exponentials.sum(), atol=1e-6)
