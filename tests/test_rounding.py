"""Rounding weights for what a layer computes of its inputs."""

from __future__ import annotations

import numpy as np
import pytest

from effnet_edge.converters.rounding import round_weights

SMALL = 1e-9


def weights(out, *shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (out, *shape)).astype(np.float32)


def moment(inputs):
    """E[x x^T] of ``inputs`` [..., K, n]."""
    return inputs @ np.swapaxes(inputs, -1, -2) / inputs.shape[-1]


def positive_inputs(*shape, seed=1):
    """Never negative and much alike, as after an activation."""
    rng = np.random.default_rng(seed)
    shared = rng.uniform(0, 2, (*shape[:-2], 1, shape[-1]))
    return np.maximum(shared + rng.normal(0, 0.4, shape), 0)


def rounded(weight, moments, least=SMALL):
    return round_weights(weight, moments, np.full(len(weight), least, np.float32))


def in_steps(weight, scale):
    return weight.reshape(len(weight), -1).astype(np.float64) / scale[:, None].astype(np.float64)


def nearest(weight, scale):
    return np.clip(np.rint(in_steps(weight, scale)), -127, 127)


def error(steps, weight, scale, moments):
    """E|(q - w) x|^2 of every row."""
    difference = (steps.reshape(len(weight), -1) - in_steps(weight, scale)) * scale[:, None]
    if moments.ndim == 2:
        return np.einsum("ci,ij,cj->c", difference, moments, difference)
    return np.einsum("ci,cij,cj->c", difference, moments, difference)


@pytest.mark.parametrize("inputs", [24, 200])  # fewer and more than one block of columns
def test_on_correlated_inputs_the_error_is_far_less_than_that_of_nearest_integers(inputs):
    weight, moments = weights(32, inputs, 1, 1), moment(positive_inputs(inputs, 4000))
    integers, scale = rounded(weight, moments)
    found = error(integers, weight, scale, moments)
    assert found.sum() < 0.5 * error(nearest(weight, scale), weight, scale, moments).sum()
    assert np.any(integers.reshape(32, -1) != nearest(weight, scale))


def test_a_depthwise_kernel_gains_as_well():
    weight, moments = weights(40, 1, 3, 3), moment(positive_inputs(40, 9, 3000))
    integers, scale = rounded(weight, moments)
    found = error(integers, weight, scale, moments)
    assert found.sum() < 0.5 * error(nearest(weight, scale), weight, scale, moments).sum()


@pytest.mark.parametrize("seed", range(4))
def test_no_depthwise_kernel_gets_worse_by_more_than_a_caution_against_unseen_inputs(seed):
    """Every channel by itself; a hundredth of the inputs is taken to be white noise."""
    kernel = (3, 5)[seed % 2]
    weight = weights(30, 1, kernel, kernel, seed=seed)
    moments = moment(positive_inputs(30, kernel * kernel, 500, seed=seed))
    integers, scale = rounded(weight, moments)
    plain = nearest(weight, scale)
    white = np.stack([np.diag(np.diag(one)) for one in moments])
    allowed = error(plain, weight, scale, moments) + 0.011 * error(plain, weight, scale, white)
    assert np.all(error(integers, weight, scale, moments) <= allowed)


@pytest.mark.parametrize("shape", [(8, 50, 1, 1), (8, 1, 5, 5), (4, 3, 3, 3)])
def test_for_white_inputs_the_nearest_integers_are_taken(shape):
    weight = weights(*shape)
    count = int(np.prod(shape[1:]))
    moments = np.diag(np.random.default_rng(2).uniform(0.1, 10, count))
    if shape[1] == 1:
        moments = np.broadcast_to(moments, (shape[0], count, count))
    integers, scale = rounded(weight, moments)
    np.testing.assert_array_equal(integers.reshape(len(weight), -1), nearest(weight, scale))


@pytest.mark.parametrize("depthwise", [False, True])
def test_no_weight_moves_further_than_two_steps(depthwise):
    """A faint copy of the first input could make up for its error only by some 25 steps."""
    inputs = np.random.default_rng(3).normal(0, 1, (25, 2000))
    inputs[24] = 0.02 * inputs[0]
    moments = moment(inputs)
    weight = weights(40, 1, 5, 5) if depthwise else weights(40, 25, 1, 1)
    if depthwise:
        moments = np.broadcast_to(moments, (40, 25, 25))
    integers, scale = rounded(weight, moments)
    within = np.clip(in_steps(weight, scale), -127, 127)
    moved = np.abs(integers.reshape(40, -1) - within)
    assert 1.5 < moved.max() <= 2.5  # two, and the rounding


@pytest.mark.parametrize("depthwise", [False, True])
def test_inputs_that_were_never_seen_to_differ_from_zero_change_nothing(depthwise):
    weight = weights(6, 1, 3, 3) if depthwise else weights(6, 9, 1, 1)
    zeros = np.zeros((6, 9, 9)) if depthwise else np.zeros((9, 9))
    integers, scale = rounded(weight, zeros)
    np.testing.assert_array_equal(integers.reshape(6, 9), nearest(weight, scale))
    assert np.abs(integers).max() > 60


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_dead_channel_gets_zeros_and_the_least_scale(depthwise):
    weight = weights(5, 1, 3, 3) if depthwise else weights(5, 9, 1, 1)
    weight[2] = 0
    inputs = positive_inputs(5, 9, 300) if depthwise else positive_inputs(9, 300)
    integers, scale = rounded(weight, moment(inputs), least=1e-4)
    assert not integers[2].any()
    assert scale[2] == np.float32(1e-4)
    assert np.all(scale >= np.float32(1e-4))
    assert np.all(np.abs(integers[[0, 1, 3, 4]]).max(axis=(1, 2, 3)) > 60)


def test_one_huge_weight_is_kept_and_spoils_no_other_channel():
    weight, moments = weights(6, 40, 1, 1), moment(positive_inputs(40, 1000))
    alone, alone_scale = rounded(weight, moments)
    weight[3, 7] = 1e6
    integers, scale = rounded(weight, moments)
    assert integers[3, 7] * scale[3] == pytest.approx(1e6, rel=0.01)
    others = [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(integers[others], alone[others])
    np.testing.assert_array_equal(scale[others], alone_scale[others])


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e12])
def test_weights_of_any_size_stay_symmetric_integers(size, depthwise):
    shape = (6, 1, 3, 3) if depthwise else (6, 9, 1, 1)
    inputs = positive_inputs(6, 9, 300) if depthwise else positive_inputs(9, 300)
    integers, scale = rounded(weights(*shape) * np.float32(size), moment(inputs), least=1e-9)
    assert integers.dtype == np.int8
    assert integers.shape == shape
    assert integers.min() >= -127  # -128 has no counterpart
    assert scale.dtype == np.float32
    assert np.all(np.isfinite(scale) & (scale > 0))


def test_two_inputs_that_are_always_equal_are_no_trouble():
    inputs = positive_inputs(20, 400)
    inputs[11] = inputs[4]
    weight, moments = weights(8, 20, 1, 1), moment(inputs)
    integers, scale = rounded(weight, moments)
    plain = error(nearest(weight, scale), weight, scale, moments)
    assert error(integers, weight, scale, moments).sum() < plain.sum()


def test_the_same_weights_are_rounded_the_same_twice():
    weight, moments = weights(16, 150, 1, 1), moment(positive_inputs(150, 1000))
    (first, first_scale), (second, second_scale) = (rounded(weight, moments) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first_scale, second_scale)
