from __future__ import annotations

from collections import Counter
from dataclasses import replace

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
import quantized_networks
import quantized_reference

from effnet_edge.converters.quantized_onnx_writer import (
    quantized_onnx_model,
    quantized_part_model,
)

INTEGER_OPERATORS = {
    "QLinearConv",
    "QLinearSigmoid",
    "QLinearMul",
    "QLinearAdd",
    "QLinearGlobalAveragePool",
    "QGemm",
}


def options(**settings):
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = 1
    made.log_severity_level = 3
    # x86 without VNNI saturates the sums of U8 times S8 otherwise.
    made.add_session_config_entry("session.x64quantprecision", "1")
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def session(data, **settings):
    return onnxruntime.InferenceSession(
        bytes(data), options(**settings), providers=["CPUExecutionProvider"]
    )


def write(network):
    return bytes(quantized_onnx_model(network, quantized_networks.describe(network)))


def run(network, images, **settings):
    return session(write(network), **settings).run(["logits"], {"image": images})[0]


@pytest.mark.parametrize("variant", quantized_networks.VARIANTS)
def test_each_part_gives_the_integers_of_the_reference(variant):
    network = quantized_networks.random_quantized(**variant)
    x = networks.photos(8, network.resolution, 42)
    for index, (part, forward) in enumerate(quantized_reference.parts(network)):
        expected = forward(x)
        stored = x if index == 0 else (x + np.int16(128)).astype(np.uint8)
        offset = network.offset if index == 0 else None
        model = quantized_part_model(part, network.padding, x.shape[1:3], offset)
        (got,) = session(model).run(["y"], {"x": stored})
        if part is network.head:
            assert networks.relative_error(got, expected) < 1e-5
        else:
            steps = np.abs(got.astype(np.int16) - 128 - expected)
            assert steps.max() <= 1 and np.mean(steps > 0) < 1e-3
        x = expected


@pytest.mark.parametrize("variant", quantized_networks.VARIANTS)
def test_the_network_gives_the_logits_of_the_reference(variant):
    network = quantized_networks.random_quantized(**variant)
    images = networks.photos(8, network.resolution, 42)
    expected = quantized_reference.logits(network, images)
    assert quantized_networks.snr(run(network, images), expected) > 35


def test_the_other_padding_would_not_pass():
    network = quantized_networks.random_quantized(padding="same", resolution=(34, 34))
    images = networks.photos(8, network.resolution, 42)
    wrong = run(replace(network, padding="symmetric"), images)
    assert quantized_networks.snr(wrong, quantized_reference.logits(network, images)) < 20


@pytest.mark.parametrize("variant", quantized_networks.VARIANTS)
def test_onnx_runtime_fuses_all_to_integer_kernels(variant, tmp_path):
    network = quantized_networks.random_quantized(**variant)
    path = tmp_path / "optimised.onnx"
    session(write(network), optimized_model_filepath=str(path))
    counts = Counter(node.op_type for node in onnx.load(path).graph.node)
    rest = {name: n for name, n in counts.items() if name not in INTEGER_OPERATORS}
    assert rest.pop("Transpose", 0) <= 2
    assert (rest.pop("Flatten"), rest.pop("Softmax")) == (1, 1)
    whole = variant.get("mean") == networks.LITE_MEAN
    assert rest == ({} if whole else {"Cast": 1, "Sub": 1, "QuantizeLinear": 1})
    assert counts["QLinearConv"] == len(list(network.convs()))


def test_unfused_the_operators_mean_the_same():
    network = quantized_networks.random_quantized(scaled=True)
    images = networks.photos(4, network.resolution, 42)
    plain = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    unfused = run(network, images, graph_optimization_level=plain)
    assert quantized_networks.snr(unfused, quantized_reference.logits(network, images)) > 35


def test_each_part_is_one_call_and_each_structure_one_function():
    network = quantized_networks.random_quantized()
    model = onnx.load_from_string(write(network))
    onnx.checker.check_model(model)
    calls = [node.op_type for node in model.graph.node if node.domain == "effnet_edge"]
    block = "MBConvExpandSiluDepthwiseSiluGateSilu"
    assert calls == [
        "Pixels",
        "StemSilu",
        "MBConvDepthwiseSiluGateSiluResidual",
        block,
        f"{block}Residual",
        block,
        f"{block}Residual",
        "HeadSilu",
    ]
    assert sorted(function.name for function in model.functions) == sorted(set(calls))


def test_names_say_what_is_left_out():
    relu6 = networks.small_architecture("relu6", squeeze=False)
    names = {
        function.name
        for variant in ({"arch": relu6}, {"scaled": True})
        for function in onnx.load_from_string(
            write(quantized_networks.random_quantized(**variant))
        ).functions
    }
    assert names == {
        "Pixels",
        "Stem",
        "MBConvDepthwiseResidual",
        "MBConvExpandDepthwise",
        "MBConvExpandDepthwiseResidual",
        "Head",
        "StemSilu",
        "MBConvDepthwiseScaledSiluGateScaledSiluResidual",
        "MBConvExpandScaledSiluDepthwiseScaledSiluGateScaledSilu",
        "MBConvExpandScaledSiluDepthwiseScaledSiluGateScaledSiluResidual",
        "HeadScaledSilu",
    }


def conv(name):
    return [f"{name}_{what}" for what in ("weight", "weight_scale", "bias", "scale", "zero_point")]


def activated(name, scaled=False):
    factor = [f"{name}_factor", *quantization(f"{name}_factor"), *quantization(f"{name}_argument")]
    return [*conv(name), *(factor if scaled else []), *quantization(f"{name}_silu")]


def quantization(name):
    return [f"{name}_scale", f"{name}_zero_point"]


@pytest.mark.parametrize("scaled", [False, True])
def test_functions_take_their_inputs_in_the_documented_order(scaled):
    network = quantized_networks.random_quantized(scaled=scaled)
    model = onnx.load_from_string(write(network))
    inputs = {function.name: list(function.input) for function in model.functions}
    act = "ScaledSilu" if scaled else "Silu"
    x = ["x", *quantization("x")]
    assert inputs[f"MBConvExpand{act}Depthwise{act}Gate{act}Residual"] == [
        *x,
        *activated("expand", scaled),
        *activated("depthwise", scaled),
        *quantization("pool"),
        *activated("reduce", scaled),
        *conv("gate"),
        *quantization("gated"),
        *conv("project"),
        *quantization("y"),
    ]
    assert inputs["StemSilu"] == [*x, *activated("conv")]
    assert inputs[f"Head{act}"] == [
        *x,
        *activated("conv", scaled),
        *quantization("features"),
        *conv("classifier")[:3],
    ]
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.domain == "effnet_edge":
            assert len(node.input) == len(inputs[node.op_type])
            assert constants.issuperset(node.input[1:])


def test_weights_have_zero_points_which_old_versions_read_even_where_there_is_none():
    """They abort otherwise, with `session.x64quantprecision` on a processor without VNNI."""
    model = onnx.load_from_string(write(quantized_networks.random_quantized()))
    for function in model.functions:
        for node in function.node:
            if node.op_type == "DequantizeLinear" and not node.output[0].endswith("bias_real"):
                assert len(node.input) == 3


def test_b0_takes_little_more_than_a_byte_per_parameter():
    arch = networks.architecture(0)
    network = networks.random_network(arch, resolution=(32, 32), classes=1000)
    quantized = quantized_networks.quantize(network, networks.photos(1, (32, 32)))
    data = quantized_onnx_model(quantized, networks.describe(network))
    assert len(data) <= 1.1 * network.parameters


def test_a_batch_is_its_images_one_by_one():
    network = quantized_networks.random_quantized()
    images = networks.photos(3, network.resolution, 42)
    single = np.concatenate([run(network, image[None]) for image in images])
    np.testing.assert_allclose(run(network, images), single, rtol=1e-5, atol=1e-5)


def test_the_interface_is_the_float_models():
    model = session(write(quantized_networks.random_quantized(resolution=(40, 56), classes=3)))
    (image,) = model.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["N", 40, 56, 3])
    assert [(out.name, out.shape) for out in model.get_outputs()] == [
        ("logits", ["N", 3]),
        ("probabilities", ["N", 3]),
    ]
    assert "effnet_edge" in model.get_modelmeta().custom_metadata_map
