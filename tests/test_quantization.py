"""Whole quantized networks: do they follow the float one, in both engines, whatever it is?"""

from __future__ import annotations

import functools
from dataclasses import replace

import networks
import numpy as np
import pytest
import quantized_networks
import quantized_reference
import reference
from quantized_networks import snr
from test_quantized_tflite_writer import load, run, run_onnx, write

from effnet_edge.converters.quantization import quantize
from effnet_edge.errors import ConversionError
from effnet_edge.fidelity import fidelity

LITE = {
    "arch": networks.small_architecture("relu6", squeeze=False),
    "mean": networks.LITE_MEAN,
    "std": networks.LITE_STD,
}
KINDS = {
    "silu same": {},
    "silu symmetric": {"padding": "symmetric", "resolution": (33, 50), "seed": 2},
    "relu6 same": LITE,
    "relu6 symmetric": {**LITE, "padding": "symmetric", "resolution": (34, 46)},
    "relu6, another mean a channel": {"arch": LITE["arch"]},
}
ARCH = networks.small_architecture()
SHORT = replace(ARCH, blocks=ARCH.blocks[:3])
"""Three blocks: without an expansion, with stride 2, and with both an expansion and a residual."""
ENGINES_AGREE_DB = 40
"""Equal integers give 120 dB; one that is rounded otherwise, next to the middle of two integers,
costs half of that on these small networks. An error of a writer leaves less than 20 dB."""


def quantized(network, images=None, **options):
    """The quantized network and its report, looking at 16 images."""
    images = networks.photos(16, network.resolution, 1) if images is None else images
    return quantize(network, images, calibration="photos", **options)


@functools.cache
def example(kind):
    """A float network, the quantized one, its report, and 8 other images' logits: the float
    network's, ONNX Runtime's and LiteRT's."""
    network = networks.random_network(**KINDS[kind])
    made, report = quantized(network)
    images = networks.photos(8, network.resolution, 42)
    logits = reference.logits(network, images), run_onnx(made, images), run(made, images)
    return network, made, report, logits


def is_one_partition(network):
    interpreter = load(network)
    partitions = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    inputs = {interpreter.get_input_details()[0]["index"]}
    outputs = {tensor["index"] for tensor in interpreter.get_output_details()}
    return (
        len(partitions) == 1
        and inputs <= set(partitions[0]["inputs"])
        and outputs <= set(partitions[0]["outputs"])
    )


def changed(network, where, change):
    """``network`` with ``change`` applied to one convolution: ``stem``, ``head``, or a block's
    index and the convolution's name."""
    if where == "stem":
        return replace(network, stem=change(network.stem))
    if where == "head":
        return replace(network, head=replace(network.head, conv=change(network.head.conv)))
    index, name = where
    blocks = list(network.blocks)
    block = blocks[index]
    if name in ("reduce", "gate"):
        field = "reduce" if name == "reduce" else "expand"
        gate = block.squeeze_excite
        blocks[index] = replace(
            block, squeeze_excite=replace(gate, **{field: change(getattr(gate, field))})
        )
    else:
        blocks[index] = replace(block, **{name: change(getattr(block, name))})
    return replace(network, blocks=tuple(blocks))


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_follow_the_float_networks_on_images_never_seen(kind):
    _, _, _, (wanted, onnx, tflite) = example(kind)
    for found in (onnx, tflite):
        assert fidelity(wanted, found).snr_db > 18
        assert fidelity(wanted, found).agreement >= 75


@pytest.mark.parametrize("kind", KINDS)
def test_both_engines_give_the_same_logits_for_the_same_integers(kind):
    _, made, _, (_, onnx, tflite) = example(kind)
    assert snr(tflite, onnx) > ENGINES_AGREE_DB
    images = networks.photos(8, made.resolution, 42)
    assert snr(onnx, quantized_reference.logits(made, images)) > ENGINES_AGREE_DB


def test_it_beats_plain_ranges_and_nearest_integers_on_every_kind():
    gains = []
    for kind in KINDS:
        network, made, _, _ = example(kind)
        images = networks.photos(16, network.resolution, 1)
        plain = quantized_networks.quantize(network, images)
        wanted = reference.logits(network, images)
        ours, theirs = (fidelity(wanted, run_onnx(each, images)).snr_db for each in (made, plain))
        gains.append(ours - theirs)
    assert min(gains) > -0.5
    assert np.mean(gains) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_xnnpack_takes_the_whole_model(kind):
    assert is_one_partition(example(kind)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_is_about_these_images_and_all_parts(kind):
    network, made, report, _ = example(kind)
    assert [part.name for part in report.parts] == [
        "stem",
        *(f"blocks.{index}" for index in range(5)),
        "head",
    ]
    assert (report.images, report.calibration) == (16, "photos")
    images = networks.photos(16, network.resolution, 1)
    measured = fidelity(reference.logits(network, images), run_onnx(made, images))
    assert report.fidelity.snr_db == pytest.approx(measured.snr_db, abs=0.5)
    assert report.fidelity.agreement == pytest.approx(measured.agreement)
    assert report.fidelity.kl == pytest.approx(measured.kl, rel=0.1)
    assert report.parts[-1].snr_db == pytest.approx(report.fidelity.snr_db)
    for part in report.parts:
        assert part.own_snr_db >= part.snr_db - 3  # others' noise seldom makes up for one's own


@pytest.mark.parametrize("kind", ["silu same", "relu6 symmetric"])
def test_the_same_images_give_the_same_integers_twice(kind):
    network, made, report, _ = example(kind)
    again, second_report = quantized(network)
    assert write(again) == write(made)
    assert second_report.to_json() == report.to_json()


def test_images_decide_the_ranges():
    network, made, _, _ = example("silu same")
    dark = networks.photos(16, network.resolution, 1) // 4
    assert write(quantized(network, dark)[0]) != write(made)


def test_rounding_leaves_no_mean_error_in_any_part():
    """Each part by itself, on the float network's tensors: its error has no mean left."""
    network, made, _, _ = example("relu6 same")
    images = networks.photos(16, network.resolution, 1)
    activation = network.architecture.activation
    x = reference.normalise(images, network.mean, network.std)
    x = reference.activate(reference.convolve(x, network.stem, network.padding), activation)
    for float_block, block in zip(network.blocks, made.blocks, strict=True):
        integers = quantized_reference.to_integers(x, block.input)
        x = reference.mbconv(x, float_block, network.padding, activation)
        found = quantized_reference.to_real(
            quantized_reference.mbconv(integers, block, network.padding), block.output
        )
        error = found - x
        mean, spread = error.mean(axis=(0, 1, 2)), error.std(axis=(0, 1, 2))
        assert np.abs(mean).max() < 0.15 * spread.mean()


def test_where_speed_is_preferred_no_product_is_added():
    network = networks.random_network()
    made, report = quantized(network, prefer="speed")
    activated = [made.stem, made.head.conv]
    for block in made.blocks:
        activated += [block.expand, block.depthwise] if block.expand else [block.depthwise]
    assert all(part.silu.argument is None for part in activated)
    assert all("balanced" not in part.notes for part in report.parts)
    images = networks.photos(8, network.resolution, 42)
    assert fidelity(reference.logits(network, images), run_onnx(made, images)).snr_db > 18


def test_channels_of_very_different_ranges_are_worth_a_product_where_accuracy_is_preferred():
    network = networks.random_network(SHORT)
    factors = np.geomspace(0.02, 2, 48).astype(np.float32)

    def spread(conv):
        shape = (-1, 1, 1, 1)
        return replace(conv, weight=conv.weight * factors.reshape(shape), bias=conv.bias * factors)

    def undo(conv):
        return replace(conv, weight=conv.weight / factors[:, None, None])

    network = changed(network, (1, "depthwise"), spread)
    network = changed(network, (1, "project"), undo)
    accurate, report = quantized(network)
    _, quick = quantized(network, prefer="speed")
    assert accurate.blocks[1].depthwise.silu.argument is not None
    assert "balanced" in report.parts[2].notes
    assert report.parts[2].own_snr_db > quick.parts[2].own_snr_db + 3
    assert is_one_partition(accurate)


@pytest.mark.parametrize(("classes", "kind"), [(1, "silu symmetric"), (2, "relu6 same")])
def test_a_head_of_one_or_two_classes_is_as_sound(kind, classes):
    network = networks.random_network(classes=classes, **KINDS[kind])
    made, report = quantized(network)
    images = networks.photos(8, network.resolution, 42)
    onnx = run_onnx(made, images)
    assert snr(onnx, reference.logits(network, images)) > 15
    assert snr(run(made, images), onnx) > ENGINES_AGREE_DB
    assert report.to_json()["fidelity"]["agreement"] >= 90


@pytest.mark.parametrize("count", [1, 3])
def test_few_images_are_enough_to_run(count):
    network = networks.random_network(SHORT)
    made, report = quantized(network, networks.photos(count, network.resolution, 1))
    assert report.images == count
    assert np.isfinite(run_onnx(made, networks.photos(4, network.resolution, 42))).all()


def test_progress_names_every_part_in_order():
    told = []
    network = networks.random_network(SHORT)
    quantized(network, progress=lambda *step: told.append(step))
    names = ["stem", "blocks.0", "blocks.1", "blocks.2", "head"]
    assert told == [(name, index, 5) for index, name in enumerate(names)]


def _first_channel(weight=None, bias=None):
    """Replace the first channel's weights, all of them, and its bias."""

    def change(conv):
        weights, biases = conv.weight.copy(), conv.bias.copy()
        if weight is not None:
            weights[0] = weight
        if bias is not None:
            biases[0] = bias
        return replace(conv, weight=weights, bias=biases)

    return change


def _one_weight(value):
    def change(conv):
        weight = conv.weight.copy()
        weight.flat[0] = value
        return replace(conv, weight=weight)

    return change


def _times(factor):
    def change(conv):
        return replace(
            conv,
            weight=(conv.weight * np.float32(factor)).astype(np.float32),
            bias=(conv.bias * np.float32(factor)).astype(np.float32),
        )

    return change


def _bias(value):
    return lambda conv: replace(conv, bias=conv.bias + np.float32(value))


HOSTILE = {
    "a dead stem": ("stem", _times(0)),
    "a dead depthwise": ((2, "depthwise"), _times(0)),
    "a constant channel": ((1, "expand"), _first_channel(0, 3)),
    "a constant channel far below zero": ("stem", _first_channel(0, -1000)),
    "a stem that is never positive": ("stem", _bias(-50)),
    "closed gates": ((2, "gate"), _bias(-50)),
    "a squeeze that is never positive": ((2, "reduce"), _bias(-50)),
    "a head that is never positive": ("head", _bias(-50)),
    "weights below what float32 holds well": ((2, "depthwise"), _times(1e-42)),
    "weights ten thousand times too large": ((0, "depthwise"), _times(1e4)),
    "a projection ten thousand times too large": ((2, "project"), _times(1e4)),
    "one weight of a million": ((2, "expand"), _one_weight(1e6)),
    "one projection weight of a million": ((2, "project"), _one_weight(1e6)),
    "a bias of ten million": ((2, "depthwise"), _first_channel(None, 1e7)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_network_gives_a_sound_model(name):
    where, change = HOSTILE[name]
    network = changed(networks.random_network(SHORT), where, change)
    with np.errstate(invalid="raise", divide="raise"):
        made, report = quantized(network, networks.photos(8, network.resolution, 1))
    images = networks.photos(4, network.resolution, 42)
    onnx, tflite = run_onnx(made, images), run(made, images)
    assert np.isfinite(onnx).all()
    assert snr(tflite, onnx) > 25
    assert is_one_partition(made)
    assert report.fidelity.snr_db > 15
    with np.errstate(over="ignore"):
        assert snr(onnx, reference.logits(network, images)) > 8


@pytest.mark.parametrize("where", ["stem", (0, "depthwise"), (2, "gate"), (2, "project"), "head"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(where, value):
    network = changed(networks.random_network(SHORT), where, _one_weight(value))
    with np.errstate(all="ignore"), pytest.raises(ConversionError, match="aren't finite"):
        quantized(network, networks.photos(2, network.resolution, 1))
