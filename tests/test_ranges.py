"""The range of an activation."""

from __future__ import annotations

import numpy as np
import pytest

from effnet_edge.converters.observation import Observed
from effnet_edge.converters.ranges import best_quantization, fake_quantize, quantization
from effnet_edge.models.quantized import Quantization


def observed(samples):
    samples = np.asarray(samples, np.float32)
    return Observed(samples, samples.min(axis=1), samples.max(axis=1))


def heavy_tailed(channels=8, count=2000, seed=0):
    return np.random.default_rng(seed).standard_t(2.5, (channels, count)).astype(np.float32)


def silu(x):
    return x / (1 + np.exp(-x))


def rounded(x, by):
    """By the definition of a quantization, in float64."""
    integers = np.clip(np.rint(x / by.scale) + by.zero_point, -128, 127)
    return by.scale * (integers - by.zero_point)


def mean_error(x, by, function=lambda x: x, weights=1.0):
    x = x.astype(np.float64)
    return np.mean(weights * (function(rounded(x, by)) - function(x)) ** 2)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 6), (-1, 1), (-0.28, 40), (-7, -3), (2, 9), (0, 0), (-1e9, 1e-9)]
)
def test_zero_is_exact_and_the_range_is_covered(low, high):
    by = quantization(low, high)
    assert fake_quantize(np.zeros(1, np.float32), by) == 0
    assert -128 <= by.zero_point <= 127
    assert by.scale > 0
    assert by.low <= low + by.scale  # zero moves the ends by less than a step
    assert by.high >= high - by.scale
    assert by.scale == np.float32(by.scale)  # as files hold it


def test_zero_to_six_takes_all_the_integers():
    assert quantization(0, 6) == Quantization(float(np.float32(6 / 255)), -128)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-6, 3.0, -3.0, 1e6, -1e6])
def test_a_constant_tensor_gets_a_sound_range(level):
    values = np.full((4, 100), level, np.float32)
    by = best_quantization(observed(values))
    assert np.isfinite(by.scale)
    assert by.scale > 0
    assert rounded(values[0, :1], by) == pytest.approx(level, rel=0.01, abs=1e-4)


@pytest.mark.parametrize("function", [None, silu])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_range_is_never_worse_than_the_widest(seed, function):
    values = heavy_tailed(seed=seed) * np.float32(10.0**seed)
    apply = function or (lambda x: x)
    widest = quantization(float(values.min()), float(values.max()))
    with np.errstate(over="ignore"):
        best = best_quantization(observed(values), None, function)
        assert mean_error(values, best, apply) <= 1.001 * mean_error(values, widest, apply)


def test_a_value_that_was_left_out_of_the_samples_counts_by_the_exact_range():
    samples = np.random.default_rng(0).normal(0, 1, (1, 50)).astype(np.float32)
    known = Observed(samples, samples.min(axis=1), np.array([20], np.float32))
    assert best_quantization(known).high > 2 * best_quantization(observed(samples)).high


def test_silus_flat_tail_costs_no_integers():
    values = np.linspace(-40, 10, 4000, dtype=np.float32)[None]
    with_silu, plain = (best_quantization(observed(values), None, f) for f in (silu, None))
    assert plain.low < -35
    assert with_silu.low > -15
    assert mean_error(values, with_silu, silu) < 0.3 * mean_error(values, plain, silu)


def test_important_channels_decide():
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(0, 0.1, 3000), rng.normal(0, 3, 3000)]).astype(np.float32)
    fine = best_quantization(observed(values), np.array([1e6, 1.0]))
    coarse = best_quantization(observed(values), np.array([1.0, 1e6]))
    assert fine.scale < 0.5 * coarse.scale
    assert mean_error(values[:1], fine) < mean_error(values[:1], coarse)
    assert mean_error(values[1:], coarse) < mean_error(values[1:], fine)


def test_what_is_rounded_already_stays_as_it_is():
    by = quantization(-1.5, 4)
    values = rounded(heavy_tailed().astype(np.float64), by).astype(np.float32)
    np.testing.assert_array_equal(fake_quantize(values, by), values)
