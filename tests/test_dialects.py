"""Dialects: which network a set of names and shapes is, and how it is folded and fed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import (
    keras_variables,
    state_dict,
    write_keras_legacy,
    write_keras_numbered,
    write_torch_zip,
)

from effnet_edge.converters.checkpoint import Checkpoint, read_checkpoint
from effnet_edge.converters.dialects import DIALECTS, default_recipe, read_network
from effnet_edge.converters.dialects.recognition import expected_shapes, recognise
from effnet_edge.converters.keras_file import KerasLayer, KerasModel
from effnet_edge.converters.labels import default_labels
from effnet_edge.converters.overrides import Overrides
from effnet_edge.errors import CheckpointError, UsageError
from effnet_edge.models import architecture, costs, phis
from effnet_edge.recipe import IMAGENET_MEAN, IMAGENET_STD

MEMBERS = [(phi, family) for family in ("standard", "lite") for phi in phis(family)]
TORCH_DIALECTS = ("torchvision", "timm", "tf", "efficientnet-pytorch")
B0 = architecture(0)


def checkpoint(tensors, hint=None, keras=None):
    return Checkpoint(Path("file.pth"), "0" * 64, dict(tensors), hint, keras=keras)


def refusal(tensors, hint=None, **options):
    with pytest.raises(CheckpointError) as caught:
        read_network(checkpoint(tensors, hint), **options)
    assert "file.pth" in str(caught.value)
    return str(caught.value)


def dialects_of(family):
    return TORCH_DIALECTS[1:] if family == "lite" else TORCH_DIALECTS


@pytest.mark.parametrize(("phi", "family"), MEMBERS)
def test_every_member_is_recognised_in_every_dialect(phi, family):
    arch = architecture(phi, family)
    for dialect in dialects_of(family):
        tensors = shapes_only(dialect, arch)
        assert recognise(tensors, DIALECTS[dialect].names, "file.pth") == arch


def test_the_first_of_each_family_is_read_in_every_dialect():
    for arch in (B0, architecture(0, "lite")):
        for dialect in dialects_of(arch.family):
            hint = {"timm": "efficientnet_b0", "tf": "tf_efficientnet_lite0"}.get(dialect)
            read = read_network(checkpoint(state_dict(dialect, arch), hint))
            assert read.dialect == dialect
            assert read.network.architecture == arch


def shapes_only(dialect, arch):
    """Tensors of the right shapes that take no memory."""
    names = DIALECTS[dialect].names(arch)
    shapes = dict(expected_shapes(arch, names))
    shapes[names.classifier[0]] = (7, arch.head_channels)
    shapes[names.classifier[1]] = (7,)
    return {name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(("phi", "family"), MEMBERS)
def test_parameters_are_counted_as_published(phi, family):
    arch = architecture(phi, family)
    shapes = shapes_only("tf", arch)
    trained = [v.size for name, v in shapes.items() if "running" not in name]
    assert sum(trained) == costs(arch, classes=7).parameters


def test_folding_equals_convolution_then_batch_norm():
    tensors = state_dict("efficientnet-pytorch", B0)
    network = read_network(checkpoint(tensors)).network
    rng = np.random.default_rng(1)
    patch = rng.standard_normal(27)
    raw = tensors["_conv_stem.weight"].reshape(32, 27).astype(np.float64) @ patch
    variance = tensors["_bn0.running_var"].astype(np.float64)
    normed = (raw - tensors["_bn0.running_mean"]) / np.sqrt(variance + 1e-3)
    expected = normed * tensors["_bn0.weight"] + tensors["_bn0.bias"]
    folded = network.stem.weight.reshape(32, 27) @ patch + network.stem.bias
    np.testing.assert_allclose(folded, expected, rtol=1e-5, atol=1e-5)
    statistics = network.stem.statistics
    assert statistics is not None
    np.testing.assert_array_equal(statistics.mean, tensors["_bn0.bias"])
    scale = np.abs(tensors["_bn0.weight"]) * np.sqrt(variance / (variance + 1e-3))
    np.testing.assert_allclose(statistics.std, scale, rtol=1e-6)


def test_strides_groups_and_residuals_follow_the_architecture():
    network = read_network(checkpoint(state_dict("torchvision", B0))).network
    assert network.padding == "symmetric"
    assert network.stem.stride == 2
    for block, spec in zip(network.blocks, B0.blocks, strict=True):
        assert block.depthwise.stride == spec.stride
        assert block.depthwise.groups == spec.expanded_channels
        assert block.residual == spec.has_residual
        assert (block.expand is not None) == spec.has_expand


def test_torchvision_epsilon_changes_at_b5():
    epsilons = [DIALECTS["torchvision"].epsilon(architecture(phi)) for phi in range(8)]
    assert epsilons == [1e-5] * 5 + [1e-3] * 3


@pytest.mark.parametrize(
    ("hint", "dialect", "padding"),
    [
        ("efficientnet_b0", "timm", "symmetric"),
        ("tf_efficientnet_b0.ns_jft_in1k", "tf", "same"),
        ("hf_hub:timm/tf_efficientnet_b0.aa_in1k", "tf", "same"),
        ("timm/efficientnet_b0.ra_in1k", "timm", "symmetric"),
    ],
)
def test_a_stored_model_name_tells_timm_from_tf(hint, dialect, padding):
    read = read_network(checkpoint(state_dict("timm", B0), hint))
    assert (read.dialect, read.network.padding) == (dialect, padding)
    assert read.notes == (f"read as {dialect}: the checkpoint's own model name is {hint}",)


def test_a_stored_model_name_cannot_play_with_the_terminal():
    (note,) = read_network(checkpoint(state_dict("timm", B0), "efficientnet_b0 \x1b[2J")).notes
    assert note.isprintable()


def test_another_timm_network_is_called_so_before_its_dialect_is_asked_for():
    grey = shapes_only("timm", B0)
    grey["conv_stem.weight"] = np.broadcast_to(np.float32(1), (32, 1, 3, 3))
    assert "conv_stem.weight is 32 x 1 x 3 x 3, not 32 x 3 x 3 x 3" in refusal(grey)
    stem = {"conv_stem.weight": np.ones((16, 3, 3, 3), np.float32)}
    message = refusal(stem)
    assert "isn't one of EfficientNet" in message
    assert "--dialect" not in message


@pytest.mark.parametrize("hint", [None, "my_model", "resnet50", "not_tf_efficientnet_b0"])
def test_timm_names_alone_are_refused_with_both_options(hint):
    message = refusal(state_dict("timm", B0), hint)
    assert "--dialect timm" in message
    assert "--dialect tf" in message
    assert "1e-5" in message
    assert "1e-3" in message


def test_the_two_readings_of_timm_names_differ():
    tensors = state_dict("timm", B0)
    timm, tf = (read_network(checkpoint(tensors), dialect=name).network for name in ("timm", "tf"))
    assert (timm.padding, tf.padding) == ("symmetric", "same")
    assert np.abs(timm.stem.weight - tf.stem.weight).max() > 1e-4


def test_a_dialect_that_contradicts_the_names_is_refused_naming_both():
    message = refusal(state_dict("torchvision", B0), dialect="tf")
    assert "--dialect tf" in message
    assert "torchvision" in message
    with pytest.raises(UsageError, match="pytorch"):
        read_network(checkpoint(state_dict("torchvision", B0)), dialect="tensorflow")


def test_a_phi_that_contradicts_the_file_is_refused_naming_both():
    message = refusal(shapes_only("torchvision", architecture(2)), phi=3)
    assert message == "--phi 3 was given, but file.pth holds EfficientNet-B2"
    assert "Lite0" in refusal(shapes_only("tf", B0), dialect="tf", family="lite")


def test_missing_unexpected_and_misshapen_tensors_are_listed():
    tensors = state_dict("torchvision", B0)
    del tensors["features.3.1.block.0.0.weight"]
    tensors["aux.weight"] = np.ones(3, np.float32)
    tensors["features.8.0.weight"] = np.ones((1280, 300, 1, 1), np.float32)
    message = refusal(tensors)
    assert "EfficientNet-B0" in message
    assert "missing: features.3.1.block.0.0.weight" in message
    assert "unexpected: aux.weight" in message
    assert "features.8.0.weight is 1280 x 300 x 1 x 1, not 1280 x 320 x 1 x 1" in message


def test_long_lists_are_cut():
    tensors = state_dict("torchvision", B0)
    for name in list(tensors)[-40:-10]:
        del tensors[name]
    assert "and 20 more" in refusal(tensors)


@pytest.mark.parametrize(
    "tensors",
    [
        {"conv1.weight": np.ones((64, 3, 7, 7), np.float32), "fc.weight": np.ones((10, 2048))},
        {
            "features.0.0.weight": np.ones((32, 3, 3, 3), np.float32),
            "classifier.0.weight": np.ones((10, 1280)),
            "classifier.3.weight": np.ones((10, 1280)),
        },
        {name: v for name, v in shapes_only("timm", B0).items() if "blocks" not in name},
    ],
)
def test_another_architecture_is_called_so_in_one_line(tensors):
    message = refusal(tensors, "efficientnet_b0")
    assert "isn't one of EfficientNet-B0..B7 or -Lite0..4" in message
    assert len(message) < 300


def test_a_wider_network_than_b7_is_called_another_architecture():
    b7 = architecture(7)
    wider = replace(
        b7,
        blocks=tuple(replace(b, expanded_channels=b.expanded_channels * 2) for b in b7.blocks),
    )
    assert "isn't one of" in refusal(shapes_only("timm", wider), dialect="tf")


@pytest.mark.parametrize("classes", [2, 37, 21843])
def test_the_classifier_may_have_any_number_of_classes(classes):
    read = read_network(checkpoint(state_dict("torchvision", B0, classes)))
    assert read.network.classes == classes
    assert read.notes == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_single_output_becomes_two_classes_whose_softmax_is_its_sigmoid(dialect):
    tensors = state_dict(dialect, B0, classes=1)
    weight, bias = (tensors[name].copy() for name in DIALECTS[dialect].names(B0).classifier)
    if dialect == "keras":
        saved = keras_tensors(classes=1)
        model = keras_layers(rescaling(1 / 255), end={"activation": "sigmoid", "units": 1})
        read = read_network(checkpoint(saved, keras=model))
    else:
        read = read_network(checkpoint(tensors), dialect=dialect)
    head = read.network.head
    assert read.network.classes == 2
    assert (head.weight.dtype, head.bias.dtype) == (np.float32, np.float32)
    assert read.notes == (
        "one output: read as a yes/no head; class 1 is its sigmoid, class 0 the rest",
    )
    features = np.random.default_rng(0).uniform(0, 0.1, B0.head_channels)
    z = weight[0] @ features + bias[0]
    logits = head.weight @ features + head.bias
    softmax = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(softmax[1], 1 / (1 + np.exp(-z)), rtol=1e-6)


@pytest.mark.parametrize(
    ("end", "after", "notes"),
    [
        ({"activation": "sigmoid", "units": 1}, "linear", 0),
        ({"activation": "linear", "units": 1}, "sigmoid", 0),
        ({"activation": "linear", "units": 3}, "softmax", 0),
        ({"activation": "linear", "units": 3}, "sigmoid", 1),
        ({"activation": "sigmoid", "units": 3}, "linear", 1),
    ],
)
def test_keras_sigmoids_over_several_classes_are_told(keras_b0, end, after, notes):
    base = keras_layers(rescaling(1 / 255), end=end)
    last = KerasLayer("last", "Activation", {"activation": after})
    read = read_network(checkpoint(keras_b0, keras=KerasModel((*base.layers, last))))
    assert sum("sigmoid" in note for note in read.notes) == notes


def test_a_single_output_gets_two_labels():
    network = read_network(checkpoint(state_dict("torchvision", B0, classes=1))).network
    assert default_labels(network.classes)[0] == ("class 0", "class 1")


@pytest.mark.parametrize(
    ("dialect", "own", "replaced"),
    [
        ("torchvision", "classifier.1", "classifier"),
        ("torchvision", "classifier.1", "classifier.1.1"),
        ("efficientnet-pytorch", "_fc", "_fc.1"),
        ("tf", "classifier", "classifier.0"),
    ],
)
def test_a_replaced_classifier_is_found(dialect, own, replaced):
    tensors = state_dict(dialect, B0)
    for kind in ("weight", "bias"):
        tensors[f"{replaced}.{kind}"] = tensors.pop(f"{own}.{kind}")
    read = read_network(checkpoint(tensors), dialect=dialect)
    np.testing.assert_array_equal(read.network.head.weight, tensors[f"{replaced}.weight"])
    del tensors[f"{replaced}.bias"]
    assert not read_network(checkpoint(tensors), dialect=dialect).network.head.bias.any()


def test_a_classifier_of_two_layers_or_none_is_refused():
    tensors = state_dict("torchvision", B0)
    tensors["classifier.4.weight"] = np.ones((3, 3), np.float32)
    assert "2 linear layers, classifier.1 and classifier.4" in refusal(tensors)
    none = {k: v for k, v in state_dict("torchvision", B0).items() if "classifier" not in k}
    assert "no classifier" in refusal(none)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "name", ["features.2.0.block.1.0.weight", "features.0.1.running_var", "classifier.1.bias"]
)
def test_weights_that_are_not_finite_are_refused_by_name(name, value):
    tensors = state_dict("torchvision", B0)
    tensors[name].reshape(-1)[0] = value
    message = refusal(tensors)
    assert name in message
    assert "finite" in message


def test_negative_variances_and_integers_are_refused_by_name():
    tensors = state_dict("torchvision", B0)
    tensors["features.0.1.running_var"][3] = -1
    message = refusal(tensors)
    assert "features.0.1.running_var" in message
    assert "negative" in message
    tensors = state_dict("torchvision", B0)
    tensors["classifier.1.weight"] = tensors["classifier.1.weight"].astype(np.int8)
    assert "classifier.1.weight is int8" in refusal(tensors)


def test_recipes_are_those_of_the_published_weights():
    def sizes(dialect, family="standard"):
        recipes = [default_recipe(dialect, architecture(p, family)) for p in phis(family)]
        return [(recipe.resolution[0], recipe.resize[0]) for recipe in recipes]

    assert sizes("torchvision")[:4] == [(224, 256), (240, 256), (288, 288), (300, 320)]
    assert sizes("tf")[0] == (224, 256)
    assert [size for size, _ in sizes("tf")] == [224, 240, 260, 300, 380, 456, 528, 600]
    assert sizes("timm")[1:4] == [(256, 256), (288, 288), (320, 320)]
    lite = [(224, 256), (240, 272), (260, 292), (280, 312), (300, 332)]
    assert sizes("efficientnet-pytorch", "lite") == lite
    assert default_recipe("tf", architecture(4, "lite")).interpolation == "bilinear"
    assert not default_recipe("keras", B0).antialias
    recipe = default_recipe("efficientnet-pytorch", architecture(0, "lite"))
    assert recipe.mean == (127 / 255,) * 3
    assert recipe.std == (128 / 255,) * 3


def test_overrides_reach_network_and_recipe_and_keep_the_crop():
    read = read_network(
        checkpoint(state_dict("torchvision", B0)),
        overrides=Overrides(resolution=(112, 196), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    )
    assert read.recipe.resize == (128, 224)
    assert read.network.resolution == read.recipe.resolution == (112, 196)
    assert read.network.mean == read.recipe.mean == (0.5, 0.5, 0.5)
    assert read.network.std == read.recipe.std == (0.25, 0.25, 0.25)
    for wrong in (
        Overrides(std=(0.0, 1.0, 1.0)),
        Overrides(crop=1e-320),
        Overrides(resolution=(10**400, 224)),
    ):
        with pytest.raises(UsageError, match="can't be fed like this"):
            wrong.apply(read.recipe)


@pytest.fixture(scope="module")
def keras_reference():
    layers = (KerasLayer("rescaling", "Rescaling", {"scale": 1 / 255}),)
    return read_network(checkpoint(keras_tensors(), keras=KerasModel(layers))).network


@pytest.fixture(scope="module")
def keras_b0():
    return keras_tensors()


def keras_tensors(classes=3):
    return {
        f"{layer}/{name}": values
        for layer, variables in keras_variables(B0, classes).items()
        for name, values in variables.items()
    }


@pytest.mark.parametrize("form", ["legacy", "named", "numbered only"])
def test_keras_files_of_every_age_give_the_same_network(tmp_path, keras_reference, form):
    layers = keras_variables(B0)
    path = tmp_path / "model.h5"
    if form == "legacy":
        write_keras_legacy(path, layers)
    else:
        write_keras_numbered(path, layers, names=form == "named")
    network = read_network(read_checkpoint(path)).network
    for (name, got), (_, expected) in zip(network.arrays(), keras_reference.arrays(), strict=True):
        np.testing.assert_array_equal(got, expected, err_msg=name)


def test_keras_kernels_are_turned_to_output_channels_first():
    tensors = state_dict("keras", B0)
    network = read_network(checkpoint(keras_tensors(), keras=KerasModel(None))).network
    scale = tensors["block1a_bn/gamma"] / np.sqrt(tensors["block1a_bn/moving_variance"] + 1e-3)
    expected = tensors["block1a_dwconv/kernel"] * scale[:, None, None, None]
    np.testing.assert_allclose(network.blocks[0].depthwise.weight, expected, rtol=1e-5)
    np.testing.assert_array_equal(network.head.weight, tensors["predictions/kernel"])


@pytest.mark.parametrize(
    ("mean", "variance", "expected"),
    [
        ((0, 0, 0), (1, 1, 1), ((0, 0, 0), (1, 1, 1))),
        (IMAGENET_MEAN, np.square(IMAGENET_STD), (IMAGENET_MEAN, IMAGENET_STD)),
        (IMAGENET_MEAN, IMAGENET_STD, (IMAGENET_MEAN, IMAGENET_STD)),
        ((0.3, 0.4, 0.5), (0.04, 0.09, 0.16), ((0.3, 0.4, 0.5), (0.2, 0.3, 0.4))),
    ],
    ids=["not adapted", "adapted", "released", "own data"],
)
def test_keras_weights_say_how_they_are_fed(tmp_path, mean, variance, expected):
    layers = keras_variables(B0, mean=mean, variance=variance)
    read = read_network(read_checkpoint(write_keras_legacy(tmp_path / "a.h5", layers)))
    np.testing.assert_allclose((read.recipe.mean, read.recipe.std), expected, atol=1e-6)


def keras_layers(*before, size=(224, 224), after=(), stem=(), end=()):
    """A configuration with the layers that matter, as read_checkpoint lists them."""
    return KerasModel(
        (
            KerasLayer("input", "InputLayer", {"batch_shape": [None, *size, 3]}),
            *before,
            KerasLayer("stem_conv", "Conv2D", {"strides": [2, 2], **dict(stem)}),
            KerasLayer("stem_bn", "BatchNormalization", {"epsilon": 1e-3}),
            KerasLayer("stem_activation", "Activation", {"activation": "swish"}),
            *after,
            KerasLayer("predictions", "Dense", {"activation": "softmax", **dict(end)}),
        )
    )


def rescaling(scale, offset=0.0):
    return KerasLayer("rescaling", "Rescaling", {"scale": scale, "offset": offset})


def normalization(mean, variance):
    return KerasLayer("norm", "Normalization", {"mean": mean, "variance": variance})


@pytest.mark.parametrize(
    ("before", "mean", "std"),
    [
        ([rescaling(1 / 255)], (0, 0, 0), (1, 1, 1)),
        ([rescaling(1 / 127.5, -1.0)], (0.5,) * 3, (0.5,) * 3),
        (
            [
                rescaling(1 / 255),
                normalization(list(IMAGENET_MEAN), list(IMAGENET_STD)),
                rescaling([1 / s**0.5 for s in IMAGENET_STD]),
            ],
            IMAGENET_MEAN,
            IMAGENET_STD,
        ),
    ],
)
def test_keras_layers_before_the_stem_become_mean_and_std(before, mean, std):
    tensors = keras_tensors()
    read = read_network(checkpoint(tensors, keras=keras_layers(*before)))
    np.testing.assert_allclose((read.recipe.mean, read.recipe.std), (mean, std), atol=1e-6)


def test_keras_input_size_sets_the_resolution():
    model = keras_layers(rescaling(1 / 255), size=(128, 160))
    read = read_network(checkpoint(keras_tensors(), keras=model))
    assert read.recipe.resolution == (128, 160)
    assert read.recipe.crop == pytest.approx(0.875, abs=0.005)


def test_keras_padding_that_was_built_for_another_size_is_refused():
    pad = KerasLayer("stem_conv_pad", "ZeroPadding2D", {"padding": [[0, 1], [0, 1]]})
    model = keras_layers(rescaling(1 / 255), pad, stem={"padding": "valid"})
    tensors = keras_tensors()
    read_network(checkpoint(tensors, keras=model))
    with pytest.raises(CheckpointError, match="another input size"):
        read_network(checkpoint(tensors, keras=model), overrides=Overrides(resolution=(225, 225)))


@pytest.mark.parametrize(
    "layer",
    [
        KerasLayer("pool", "GlobalMaxPooling2D", {}),
        KerasLayer("flat", "Flatten", {}),
        KerasLayer("custom", "Lambda", {}),
        KerasLayer("act", "Activation", {"activation": "relu"}),
        KerasLayer("conv", "Conv2D", {"data_format": "channels_first"}),
        KerasLayer("block1a_se_reduce", "Conv2D", {"activation": "relu"}),
        KerasLayer("block1a_se_reduce_1", "Conv2D", {"activation": "relu"}),
        KerasLayer("block1a_se_reduce", "Conv2D", {}),
        KerasLayer("block1a_se_expand", "Conv2D", {"activation": "hard_sigmoid"}),
        KerasLayer("top_conv", "Conv2D", {"activation": "relu"}),
        KerasLayer("block1a_dwconv", "DepthwiseConv2D", {"activation": "swish"}),
        KerasLayer("block1a_dwconv", "DepthwiseConv2D", {"dilation_rate": [2, 2]}),
        KerasLayer("block1a_dwconv", "DepthwiseConv2D", {"strides": [2, 2]}),
        KerasLayer("block2a_dwconv", "DepthwiseConv2D", {"strides": [1, 1]}),
        KerasLayer("block2a_dwconv", "DepthwiseConv2D", {"strides": [2, 1]}),
        KerasLayer("block2a_dwconv", "DepthwiseConv2D", {"strides": 2, "padding": "valid"}),
        KerasLayer("top_conv", "Conv2D", {"strides": [2, 2]}),
        KerasLayer("again", "Rescaling", {"scale": 2.0}),
        KerasLayer("again", "Normalization", {}),
        KerasLayer("random", "RandomThing>MyLayer", {}),
        KerasLayer("random", "RandomThing", {}),
        KerasLayer("random", "RandomCrop", {}),
        KerasLayer("pad", "ZeroPadding2D", {"padding": [[1, 1], [1, 1]]}),
        KerasLayer("block1a_dwconv_pad", "ZeroPadding2D", {"padding": [[1, 1], [1, 1]]}),
        KerasLayer("extra", "Activation", {"activation": "swish"}),
        KerasLayer("extra", "Add", {}),
        KerasLayer("extra", "Softmax", {}),
    ],
)
def test_keras_models_that_do_something_else_are_refused(layer, keras_b0):
    model = keras_layers(rescaling(1 / 255), after=(layer,))
    with pytest.raises(CheckpointError, match=r"file\.pth"):
        read_network(checkpoint(keras_b0, keras=model))


def test_keras_parts_as_they_should_be_are_read(keras_b0):
    after = (
        KerasLayer("block1a_se_reduce", "Conv2D", {"activation": "silu", "strides": (1, 1)}),
        KerasLayer("block1a_se_expand", "Conv2D", {"activation": "sigmoid"}),
        KerasLayer("block2a_dwconv_pad", "ZeroPadding2D", {"padding": [[0, 1], [0, 1]]}),
        KerasLayer("block2a_dwconv", "DepthwiseConv2D", {"strides": 2, "padding": "valid"}),
        KerasLayer("block1a_se_excite", "Multiply", {}),
        KerasLayer("shake", "RandomContrast", {}),
        KerasLayer("top_conv", "Conv2D", {"activation": "linear", "dilation_rate": [1, 1]}),
    )
    read = read_network(checkpoint(keras_b0, keras=keras_layers(rescaling(1 / 255), after=after)))
    assert read.notes == ()


def test_keras_classes_of_other_packages_are_not_taken_for_keras_own(tmp_path):
    def refused(**layer):
        layers = [{"config": {"name": "x"}, **layer}]
        config = {"class_name": "Functional", "config": {"name": "m", "layers": layers}}
        path = write_keras_legacy(tmp_path / "a.h5", keras_variables(B0), config)
        with pytest.raises(CheckpointError) as caught:
            read_network(read_checkpoint(path))
        return str(caught.value)

    own = {"class_name": "Dropout", "module": "keras.layers", "registered_name": None}
    assert "of class" not in refused(**own)
    assert "class Mine>Dropout" in refused(**own | {"registered_name": "Mine>Dropout"})
    assert "class mine.Dropout" in refused(**own | {"module": "mine"})
    model = {"class_name": "MyModel", "config": {"name": "x", "layers": []}}
    assert "class MyModel" in refused(**model)


@pytest.mark.parametrize(
    "model",
    [
        keras_layers(KerasLayer("r", "Rescaling", {"scale": "much"})),
        keras_layers(KerasLayer("r", "Rescaling", {"scale": {"config": 3}})),
        keras_layers(KerasLayer("r", "Rescaling", {})),
        keras_layers(rescaling(-1)),
        keras_layers(rescaling(1e400)),
        keras_layers(rescaling(10**400)),
        keras_layers(rescaling(1), size=(10**400, 224)),
        keras_layers(rescaling(1), size=(0, 224)),
        keras_layers(rescaling(1), after=(KerasLayer("b", "BatchNormalization", {"epsilon": -1}),)),
        keras_layers(
            rescaling(1), after=(KerasLayer("b", "BatchNormalization", {"epsilon": 10**400}),)
        ),
        keras_layers(normalization([0, 0, 0], [-1, -1, -1])),
        keras_layers(rescaling(1), after=(KerasLayer("b", "BatchNormalization", {"epsilon": {}}),)),
        keras_layers(
            KerasLayer("stem_conv_pad", "ZeroPadding2D", {}),
            rescaling(1),
            stem={"padding": "valid"},
        ),
        keras_layers(
            KerasLayer("stem_conv_pad", "ZeroPadding2D", {"padding": [1, 1]}),
            rescaling(1),
            stem={"padding": "valid"},
        ),
    ],
)
def test_keras_configurations_that_make_no_sense_are_refused(model, keras_b0):
    with pytest.raises(CheckpointError, match=r"file\.pth"):
        read_network(checkpoint(keras_b0, keras=model))


def test_keras_weights_normalised_by_nonsense_are_refused(tmp_path):
    layers = keras_variables(B0, variance=(-1, 1, 1))
    with pytest.raises(CheckpointError, match="nonsense"):
        read_network(read_checkpoint(write_keras_legacy(tmp_path / "a.h5", layers)))


def test_keras_without_normalization_asks_how_it_was_fed():
    tensors = {k: v for k, v in keras_tensors().items() if "normalization" not in k}
    weights = checkpoint(tensors, keras=KerasModel(None))
    with pytest.raises(CheckpointError, match="--mean and --std"):
        read_network(weights)
    read = read_network(weights, overrides=Overrides(mean=IMAGENET_MEAN, std=IMAGENET_STD))
    assert read.recipe.std == IMAGENET_STD


def test_a_batch_norm_before_the_keras_classifier_is_folded_into_it():
    plain = keras_tensors()
    rng = np.random.default_rng(5)
    norm = {
        name: rng.uniform(0.5, 1.5, 1280).astype(np.float32)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    tensors = {**plain, **{f"batch_normalization/{name}": v for name, v in norm.items()}}
    head = read_network(checkpoint(tensors, keras=KerasModel(None))).network.head
    x = rng.standard_normal(1280)
    scaled = (x - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3)
    features = scaled * norm["gamma"] + norm["beta"]
    expected = features @ plain["predictions/kernel"] + plain["predictions/bias"]
    np.testing.assert_allclose(head.weight @ x + head.bias, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("part", ["gamma", "beta", "moving_mean"])
def test_a_keras_batch_norm_whose_parts_do_not_fit_is_refused(keras_b0, part):
    norm = {name: np.ones(1280, np.float32) for name in ("gamma", "beta", "moving_mean")}
    norm |= {"moving_variance": np.ones(1280, np.float32), part: np.ones(7, np.float32)}
    tensors = {**keras_b0, **{f"batch_normalization/{name}": v for name, v in norm.items()}}
    with pytest.raises(CheckpointError, match="batch_normalization and predictions"):
        read_network(checkpoint(tensors, keras=KerasModel(None)))
    tensors[f"batch_normalization/{part}"] = np.ones(1280, np.float32)
    tensors["predictions/bias"] = np.ones(7, np.float32)
    with pytest.raises(CheckpointError, match="batch_normalization and predictions"):
        read_network(checkpoint(tensors, keras=KerasModel(None)))


def test_keras_without_a_classifier_or_with_two_is_refused():
    tensors = keras_tensors()
    two = {**tensors, "dense_1/kernel": np.ones((3, 3)), "dense_1/bias": np.ones(3)}
    with pytest.raises(CheckpointError, match="2 dense layers, predictions and dense_1"):
        read_network(checkpoint(two, keras=KerasModel(None)))
    none = {k: v for k, v in tensors.items() if "predictions" not in k}
    with pytest.raises(CheckpointError, match="include_top"):
        read_network(checkpoint(none, keras=KerasModel(None)))


def test_half_precision_in_a_wrapper_reaches_the_network(tmp_path):
    tensors = {f"module.{k}": v.astype(np.float16) for k, v in state_dict("tf", B0).items()}
    path = write_torch_zip(tmp_path / "a.pt", {"arch": "tf_efficientnet_b0", "state_dict": tensors})
    read = read_network(read_checkpoint(path))
    assert read.dialect == "tf"
    assert read.network.head.weight.dtype == np.float32
