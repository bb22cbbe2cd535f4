from __future__ import annotations

import zipfile
from dataclasses import replace

import networks
import numpy as np
import pytest
import reference
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from effnet_edge.converters.tflite_writer import tflite_model
from effnet_edge.errors import ConversionError

TOLERANCE = 1e-4


def load(network):
    data = bytes(tflite_model(network, networks.describe(network)))
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def run(network, images):
    predict = load(network).get_signature_runner("serving_default")
    return np.concatenate([predict(image=image[None])["logits"] for image in images])


def operators(network):
    """Names of the graph's own operators, without what delegates add."""
    interpreter = load(network)
    return [op["op_name"] for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]


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


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("resolution", [(32, 32), (34, 41)])
@pytest.mark.parametrize("activation", ["silu", "relu6"])
@pytest.mark.parametrize("mean", [(0.485, 0.456, 0.406), networks.LITE_MEAN])
def test_xnnpack_takes_the_whole_graph_in_one_partition(padding, resolution, activation, mean):
    arch = networks.small_architecture(activation, squeeze=activation == "silu")
    network = networks.random_network(arch, padding, resolution, mean=mean)
    interpreter = load(network)
    (partition,) = (op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE")
    assert interpreter.get_input_details()[0]["index"] in partition["inputs"]
    outputs = {tensor["index"] for tensor in interpreter.get_output_details()}
    assert set(partition["outputs"]) == outputs


def test_a_mean_of_whole_pixel_values_costs_no_operator():
    network = networks.random_network(mean=networks.LITE_MEAN, std=networks.LITE_STD)
    images = networks.photos(3, network.resolution, 42)
    assert "SUB" not in operators(network)
    assert networks.relative_error(run(network, images), reference.logits(network, images)) < 1e-4


@pytest.mark.parametrize("mean", [(0.485, 0.456, 0.406), (0.0, 1.0, 0.0), (-0.2,) * 3, (1.1,) * 3])
def test_any_mean_gives_the_reference(mean):
    network = networks.random_network(mean=mean, std=(0.2, 0.5, 1.3))
    images = networks.photos(3, network.resolution, 42)
    assert networks.relative_error(run(network, images), reference.logits(network, images)) < 1e-4


def test_padding_is_explicit_only_where_same_would_put_it_elsewhere():
    assert "PAD" not in operators(networks.random_network(padding="same"))
    assert "PAD" not in operators(networks.random_network(padding="symmetric", resolution=(33, 33)))
    assert "PAD" in operators(networks.random_network(padding="symmetric", resolution=(32, 32)))


def test_the_interface_is_pixels_in_and_probabilities_first():
    interpreter = load(networks.random_network(resolution=(40, 56), classes=3))
    (image,) = interpreter.get_input_details()
    assert (image["name"], image["dtype"], list(image["shape"])) == (
        "image",
        np.uint8,
        [1, 40, 56, 3],
    )
    outputs = interpreter.get_output_details()
    assert [out["name"] for out in outputs] == ["probabilities", "logits"]
    assert [list(out["shape"]) for out in outputs] == [[1, 3], [1, 3]]
    signature = interpreter.get_signature_list()["serving_default"]
    assert signature["inputs"] == ["image"]
    assert sorted(signature["outputs"]) == ["logits", "probabilities"]


def test_probabilities_are_the_softmax_of_the_logits():
    network = networks.random_network()
    images = networks.photos(1, network.resolution, 3)
    out = load(network).get_signature_runner("serving_default")(image=images)
    exponentials = np.exp(out["logits"].astype(np.float64) - out["logits"].max())
    np.testing.assert_allclose(out["probabilities"], exponentials / exponentials.sum(), atol=1e-6)


def test_labels_and_description_are_attached_as_plain_files(tmp_path):
    network = networks.random_network(classes=3)
    metadata = networks.describe(network, ("cat", "dög", ""))
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_model(network, metadata))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "cat\ndög\n\n"
        assert archive.read("effnet_edge.json").decode() == metadata.to_json()
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        first = archive.infolist()[0].header_offset
    assert path.read_bytes()[first : first + 4] == b"PK\x03\x04"


def test_standard_metadata_are_entries_of_the_model():
    network = networks.random_network()
    data = tflite_model(network, networks.describe(network))
    model = schema.Model.GetRootAs(data)
    entries = {}
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        entries[entry.Name().decode()] = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert entries["TFLITE_METADATA"][4:8] == b"M001"
    assert entries["min_runtime_version"].rstrip(b"\0") == b"1.14.0"
    assert entries["effnet_edge_seal"].startswith(b"effnet-edge seal")


def test_weights_are_aligned_to_sixteen_bytes():
    network = networks.random_network()
    data = bytes(tflite_model(network, networks.describe(network)))
    weight = network.blocks[1].project.weight.transpose(0, 2, 3, 1).tobytes()
    assert data.count(weight) == 1
    assert data.index(weight) % 16 == 0


def test_a_network_is_written_to_the_same_bytes_twice():
    network = networks.random_network()
    metadata = networks.describe(network)
    assert tflite_model(network, metadata) == tflite_model(network, metadata)


def test_labels_that_do_not_fit_are_refused():
    network = networks.random_network(classes=3)
    with pytest.raises(ConversionError, match="2 labels for a network of 3 classes"):
        tflite_model(network, networks.describe(network, ("a", "b")))
