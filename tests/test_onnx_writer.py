from __future__ import annotations

from dataclasses import replace

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
import reference

from effnet_edge.converters.onnx_writer import onnx_model
from effnet_edge.errors import ConversionError

TOLERANCE = 1e-4


def load(network):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = bytes(onnx_model(network, networks.describe(network)))
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(network, images):
    return load(network).run(["logits"], {"image": images})[0]


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("resolution", [(32, 32), (33, 33), (34, 34), (31, 46), (50, 37), (7, 5)])
@pytest.mark.parametrize("activation", ["silu", "relu6"])
def test_logits_equal_the_reference(padding, resolution, activation):
    arch = networks.small_architecture(activation, squeeze=activation == "silu")
    network = networks.random_network(arch, padding, resolution)
    images = networks.photos(3, resolution, 42)
    expected = reference.logits(network, images)
    assert networks.relative_error(run(network, images), expected) < TOLERANCE


@pytest.mark.parametrize("resolution", [(32, 32), (34, 50)])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_the_other_padding_would_not_pass(padding, resolution):
    network = networks.random_network(padding=padding, resolution=resolution)
    images = networks.photos(3, resolution, 42)
    wrong = replace(network, padding="same" if padding == "symmetric" else "symmetric")
    error = networks.relative_error(run(wrong, images), reference.logits(network, images))
    assert error > 100 * TOLERANCE


def test_a_border_of_black_instead_of_mean_pixels_would_not_pass():
    """What folding the mean into the stem's bias, and padding pixels with 0, would do."""
    network = networks.random_network(resolution=(34, 34))
    images = networks.photos(3, (34, 34), 42)
    mean, std = (np.asarray(value, np.float32) for value in (network.mean, network.std))
    weight = network.stem.weight
    shift = (weight * (mean / std)[:, None, None]).sum(axis=(1, 2, 3))
    folded = replace(
        network,
        mean=(0.0, 0.0, 0.0),
        stem=replace(network.stem, bias=network.stem.bias - shift),
    )
    error = networks.relative_error(run(folded, images), reference.logits(network, images))
    assert error > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("family", "phi"), [("standard", 0), ("standard", 3), ("lite", 0), ("lite", 4)]
)
def test_members_of_the_family_equal_the_reference(family, phi):
    resolution = (66, 51)
    network = networks.random_network(
        networks.architecture(phi, family), "symmetric", resolution, classes=5, seed=phi
    )
    images = networks.photos(2, resolution, phi + 1)
    expected = reference.logits(network, images)
    assert networks.relative_error(run(network, images), expected) < TOLERANCE


def test_a_batch_is_its_images_one_by_one():
    network = networks.random_network()
    images = networks.photos(5, network.resolution, 3)
    session = load(network)
    together = session.run(["logits"], {"image": images})[0]
    single = [session.run(["logits"], {"image": image[None]})[0][0] for image in images]
    np.testing.assert_allclose(together, single, rtol=1e-4, atol=1e-4)


def test_the_interface_is_pixels_in_and_logits_and_probabilities_out():
    session = load(networks.random_network(resolution=(40, 56), classes=3))
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["N", 40, 56, 3])
    outputs = [(out.name, out.type, out.shape) for out in session.get_outputs()]
    assert outputs == [
        ("logits", "tensor(float)", ["N", 3]),
        ("probabilities", "tensor(float)", ["N", 3]),
    ]


def test_probabilities_are_the_softmax_of_the_logits():
    network = networks.random_network()
    images = networks.photos(2, network.resolution, 3)
    logits, probabilities = load(network).run(None, {"image": images})
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("activation", ["silu", "relu6"])
def test_the_checker_of_onnx_accepts_the_file(activation):
    arch = networks.small_architecture(activation, squeeze=activation == "silu")
    network = networks.random_network(arch, "symmetric", (34, 41))
    model = onnx.load_from_string(bytes(onnx_model(network, networks.describe(network))))
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    assert model.producer_name == "effnet-edge"
    names = [node.name for node in model.graph.node]
    assert "blocks.3.depthwise" in names
    assert len(names) == len(set(names))


def test_a_network_is_written_to_the_same_bytes_twice():
    network = networks.random_network()
    metadata = networks.describe(network)
    assert onnx_model(network, metadata) == onnx_model(network, metadata)


def test_labels_that_do_not_fit_are_refused():
    network = networks.random_network(classes=3)
    with pytest.raises(ConversionError, match="2 labels for a network of 3 classes"):
        onnx_model(network, networks.describe(network, ("a", "b")))
    with pytest.raises(ConversionError, match="more than one line"):
        onnx_model(network, networks.describe(network, ("a", "b\nc", "d")))
