"""A factor for every channel of a SiLU."""

from __future__ import annotations

import numpy as np
import pytest

from effnet_edge.converters.balancing import balance
from effnet_edge.converters.observation import Observed
from effnet_edge.converters.ranges import best_quantization
from effnet_edge.models.quantized import SIGMOID


def observed(samples):
    samples = np.asarray(samples, np.float32)
    return Observed(samples, samples.min(axis=1), samples.max(axis=1))


def channels(spreads, count=3000, seed=0):
    noise = np.random.default_rng(seed).normal(0.3, 1, (len(spreads), count))
    return (noise * np.asarray(spreads)[:, None]).astype(np.float32)


def rounded(x, by):
    integers = np.clip(np.rint(x / by.scale) + by.zero_point, -128, 127)
    return by.scale * (integers - by.zero_point)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def silu(x):
    return x * sigmoid(x)


def inverse_factors(made):
    argument = made.argument
    by = argument.factors_quantization
    return by.scale * (argument.factors.astype(np.float64) - by.zero_point)


def balanced_silu(x, made):
    """What the quantized operators make of x [channels, n], the factors undone."""
    u = rounded(x.astype(np.float64) * made.factors[:, None], made.convolved)
    argument = rounded(u * inverse_factors(made)[:, None], made.argument.output)
    product = u * rounded(sigmoid(argument), SIGMOID)
    return rounded(product, made.activated) / made.factors[:, None]


def plain_silu(x, tensor, importance):
    values = x.astype(np.float64)
    before = best_quantization(tensor, importance, lambda x: x * sigmoid(x))
    u = rounded(values, before)
    after = best_quantization(observed(silu(values)), importance)
    return rounded(u * rounded(sigmoid(u), SIGMOID), after)


def error(found, x, importance):
    return np.mean(importance[:, None] * (found - silu(x.astype(np.float64))) ** 2)


def test_the_integers_of_the_argument_undo_the_factors_exactly():
    made = balance(observed(channels([0.05, 1, 5, 20])), np.ones(4))
    np.testing.assert_allclose(inverse_factors(made) * made.factors, 1, rtol=1e-6)
    assert made.factors.dtype == np.float32
    assert np.all(made.factors > 0)


def test_without_rounding_it_is_silu_with_a_factor_per_channel():
    x = channels([0.05, 1, 5, 20]).astype(np.float64)
    made = balance(observed(x), np.ones(4))
    u = x * made.factors[:, None]
    expected = made.factors[:, None] * silu(x)
    np.testing.assert_allclose(u * sigmoid(u * inverse_factors(made)[:, None]), expected, rtol=1e-5)


def test_channels_that_differ_a_hundredfold_lose_far_less_than_with_one_scale():
    x = channels(np.geomspace(0.1, 10, 12))
    tensor = observed(x)
    # The weights that follow make the most of the smallest channels.
    importance = 1 / x.std(axis=1) ** 2
    balanced = balanced_silu(x, balance(tensor, importance))
    plain = plain_silu(x, tensor, importance)
    assert error(balanced, x, importance) < 0.2 * error(plain, x, importance)


def test_channels_that_are_all_alike_lose_little():
    x = channels(np.ones(8))
    tensor, importance = observed(x), np.ones(8)
    balanced = balanced_silu(x, balance(tensor, importance))
    assert error(balanced, x, importance) < 2 * error(
        plain_silu(x, tensor, importance), x, importance
    )


@pytest.mark.parametrize("level", [-0.5, -2.0, -5.0])
def test_a_channel_that_is_never_positive_keeps_its_value(level):
    x = channels([1, 1, 4])
    x[1] = level + 0.1 * np.tanh(x[1])
    found = balanced_silu(x, balance(observed(x), np.ones(3)))
    np.testing.assert_allclose(found[1], silu(x[1]), atol=0.03)


@pytest.mark.parametrize("level", [0.0, 1e-20, -1e-3, 3.0, 1e6])
def test_a_constant_channel_among_others_is_no_trouble(level):
    x = channels([1, 1, 2])
    x[0] = level
    with np.errstate(all="raise", under="ignore"):
        made = balance(observed(x), np.ones(3))
        found = balanced_silu(x, made)
    assert np.all(np.isfinite(made.factors) & (made.factors > 0))
    np.testing.assert_allclose(found[0], silu(np.float64(level)), rtol=0.01, atol=0.02)


def test_a_tensor_of_zeros_is_no_trouble():
    x = np.zeros((3, 50), np.float32)
    made = balance(observed(x), np.ones(3))
    assert not balanced_silu(x, made).any()


@pytest.mark.parametrize("largest", [1.0, 1e3, 1e6])
def test_scales_stay_within_what_xnnpack_takes_for_products(largest):
    """Its MUL wants left * right / output between 2^-16 and 2^8."""
    made = balance(observed(channels([0.1, 1, largest])), np.ones(3))
    argument = made.argument
    ratio = made.convolved.scale * argument.factors_quantization.scale / argument.output.scale
    assert 2**-16 <= ratio < 256
    assert 2**-16 <= made.convolved.scale * SIGMOID.scale / made.activated.scale < 256
