"""What is seen of the float network, against a forward pass in plain numpy."""

from __future__ import annotations

from dataclasses import replace

import networks
import numpy as np
import pytest
import reference

from effnet_edge.converters.input_folding import fold_input
from effnet_edge.converters.observation import (
    PATCHES,
    SAMPLES,
    observe_block,
    observe_head,
    observe_stem,
)
from effnet_edge.errors import ConversionError
from effnet_edge.models.network import MBConv

SIZES = [("same", (16, 16)), ("symmetric", (16, 16)), ("same", (13, 18)), ("symmetric", (13, 18))]
RELU6 = networks.small_architecture("relu6", squeeze=False)


def maps(channels, size, count=3, seed=0):
    """Float32 [N, C, H, W], smooth enough that neighbours are alike."""
    x = np.random.default_rng(seed).normal(0, 1, (count, channels, *size))
    return (x + np.roll(x, 1, axis=2) + np.roll(x, 1, axis=3)).astype(np.float32)


def expected_tensors(block: MBConv, x, activation, padding):
    """Every tensor of a block by the name `observe_block` gives it, NHWC."""
    found = {"input": x}
    wide = x
    if block.expand is not None:
        found["expand"] = reference.convolve(x, block.expand, padding)
        wide = reference.activate(found["expand"], activation)
    found["depthwise"] = reference.convolve(wide, block.depthwise, padding)
    narrow = reference.activate(found["depthwise"], activation)
    if block.squeeze_excite is not None:
        found["pool"] = narrow.mean(axis=(1, 2), keepdims=True)
        found["reduce"] = reference.convolve(found["pool"], block.squeeze_excite.reduce, "same")
        squeezed = reference.activate(found["reduce"], "silu")
        found["gate"] = reference.convolve(squeezed, block.squeeze_excite.expand, "same")
        narrow = narrow * reference.sigmoid(found["gate"])
    found["project_input"] = narrow
    found["project"] = reference.convolve(narrow, block.project, padding)
    if block.residual:
        found["output"] = found["project"] + x
    return found, wide


def naive_moments(x, conv, padding):
    """E[x x^T] over all windows of ``x`` NHWC, one window after the other."""
    pads = [reference.pads(padding, side, conv.kernel, conv.stride) for side in x.shape[1:3]]
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    k, total, count = conv.kernel, 0.0, 0
    for image in x:
        for top in range(0, image.shape[0] - k + 1, conv.stride):
            for left in range(0, image.shape[1] - k + 1, conv.stride):
                window = image[top : top + k, left : left + k].transpose(2, 0, 1)
                if conv.groups == 1:
                    total = total + np.outer(window, window)
                else:
                    flat = window.reshape(len(window), -1)
                    total = total + flat[:, :, None] * flat[:, None, :]
                count += 1
    return total / count


def blocks():
    for activation, squeeze in (("silu", True), ("relu6", False)):
        network = networks.random_network(networks.small_architecture(activation, squeeze))
        for index in (0, 1, 2, 3):  # without expansion, strides 1 and 2, kernels 3 and 5
            yield pytest.param(network.blocks[index], activation, id=f"{activation}-{index}")


@pytest.mark.parametrize(("padding", "size"), SIZES)
@pytest.mark.parametrize(("block", "activation"), list(blocks()))
def test_tensors_ranges_and_moments_of_a_block_are_the_references(block, activation, padding, size):
    first = block.expand or block.depthwise
    channels = first.weight.shape[0 if block.expand is None else 1]
    inputs = maps(channels, size)
    seen = observe_block(block, inputs, activation, padding)
    nhwc = inputs.transpose(0, 2, 3, 1).astype(np.float64)
    expected, wide = expected_tensors(block, nhwc, activation, padding)
    assert set(seen.tensors) == set(expected)
    for name, values in expected.items():
        found, flat = seen.tensors[name], values.reshape(-1, values.shape[-1]).T
        tolerance = {"rtol": 1e-4, "atol": 1e-4 * np.abs(flat).max()}
        np.testing.assert_allclose(found.low, flat.min(axis=1), err_msg=name, **tolerance)
        np.testing.assert_allclose(found.high, flat.max(axis=1), err_msg=name, **tolerance)
        # The maps are small, so that all of their positions are kept.
        assert found.samples.shape == flat.shape
        np.testing.assert_allclose(np.sort(found.samples), np.sort(flat), err_msg=name, **tolerance)
        np.testing.assert_allclose(found.moment(), flat @ flat.T / flat.shape[1], rtol=0.01, atol=1)
    moments = naive_moments(wide, block.depthwise, padding)
    scale = np.abs(moments).max()
    np.testing.assert_allclose(seen.moments["depthwise"], moments, atol=1e-4 * scale)
    result = expected["output" if block.residual else "project"].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(seen.output, result, atol=1e-4 * np.abs(result).max())


@pytest.mark.parametrize(("padding", "size"), SIZES)
def test_the_stems_windows_hold_the_borders_that_the_network_sees(padding, size):
    network = networks.random_network(padding=padding, resolution=size)
    offset, stem = fold_input(network)
    images = networks.photos(3, size, 4)
    centred = (images - offset).astype(np.float32)
    seen = observe_stem(stem, centred.transpose(0, 3, 1, 2), "silu", padding)
    moments = naive_moments(centred.astype(np.float64), stem, padding)
    np.testing.assert_allclose(seen.moments["stem"], moments, atol=1e-5 * np.abs(moments).max())
    expected = reference.normalise(images, network.mean, network.std)
    expected = reference.activate(reference.convolve(expected, network.stem, padding), "silu")
    np.testing.assert_allclose(seen.output.transpose(0, 2, 3, 1), expected, atol=1e-4)


@pytest.mark.parametrize("arch", [networks.small_architecture(), RELU6])
def test_the_heads_features_and_logits_are_the_references(arch):
    network = networks.random_network(arch)
    inputs = maps(24, (5, 4))
    seen = observe_head(network.head, inputs, arch.activation, "same")
    x = reference.convolve(inputs.transpose(0, 2, 3, 1), network.head.conv, "same")
    features = reference.activate(x, arch.activation).mean(axis=(1, 2))
    np.testing.assert_allclose(
        np.sort(seen.tensors["features"].samples), np.sort(features.T), atol=1e-5
    )
    logits = features @ network.head.weight.T + network.head.bias
    np.testing.assert_allclose(seen.output, logits, atol=1e-4)


def test_of_a_large_map_some_positions_are_kept_and_the_exact_range():
    network = networks.random_network()
    block = network.blocks[0]
    inputs = maps(8, (120, 130), count=2)
    seen = observe_block(block, inputs, "silu", "same").tensors["input"]
    flat = inputs.transpose(1, 0, 2, 3).reshape(8, -1)
    assert seen.samples.shape == (8, SAMPLES)
    positions = {column.tobytes() for column in np.ascontiguousarray(flat.T)}
    chosen = [column.tobytes() for column in np.ascontiguousarray(seen.samples.T)]
    assert set(chosen) <= positions
    assert len(set(chosen)) == SAMPLES  # none twice
    np.testing.assert_array_equal(seen.low, flat.min(axis=1))
    np.testing.assert_array_equal(seen.high, flat.max(axis=1))


def test_a_choice_of_windows_has_nearly_the_moments_of_all():
    network = networks.random_network()
    block = network.blocks[0]
    inputs = maps(8, (60, 70), count=1)
    assert inputs[0, 0].size > PATCHES
    seen = observe_block(block, inputs, "silu", "same")
    expected = naive_moments(inputs.transpose(0, 2, 3, 1), block.depthwise, "same")
    assert np.abs(seen.moments["depthwise"] - expected).max() < 0.2 * expected.max()


def test_the_same_images_are_seen_the_same_twice():
    block = networks.random_network().blocks[1]
    inputs = maps(8, (80, 90))
    first, second = (observe_block(block, inputs, "silu", "same") for _ in range(2))
    np.testing.assert_array_equal(first.moments["depthwise"], second.moments["depthwise"])
    for name, tensor in first.tensors.items():
        np.testing.assert_array_equal(tensor.samples, second.tensors[name].samples)


def test_scaled_channels_have_scaled_samples_and_ranges():
    block = networks.random_network().blocks[1]
    seen = observe_block(block, maps(8, (9, 9)), "silu", "same").tensors["input"]
    factors = np.geomspace(0.1, 10, 8).astype(np.float32)
    scaled = seen.scaled(factors)
    np.testing.assert_array_equal(scaled.samples, seen.samples * factors[:, None])
    np.testing.assert_allclose(scaled.low, scaled.samples.min(axis=1))
    np.testing.assert_allclose(scaled.high, scaled.samples.max(axis=1))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_network_that_overflows_is_refused_by_name(value):
    block = networks.random_network().blocks[1]
    weight = block.depthwise.weight.copy()
    weight[3] = value
    broken = replace(block, depthwise=replace(block.depthwise, weight=weight))
    with pytest.raises(ConversionError, match="depthwise gives values that aren't finite"):
        observe_block(broken, 100 * maps(8, (9, 9)), "silu", "same")
