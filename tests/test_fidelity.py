from __future__ import annotations

import math

import numpy as np
import pytest

from effnet_edge.fidelity import Fidelity, FidelityMeter, decibels, fidelity


def random_logits(images=40, classes=10, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (images, classes))


def test_identical_logits_are_faithful_without_limit():
    logits = random_logits().astype(np.float32)
    result = fidelity(logits, logits.copy())
    assert result == Fidelity(images=40, agreement=100, kl=0, snr_db=math.inf)
    assert result.finite() == {"images": 40, "agreement": 100, "kl": 0}


def test_the_figures_equal_their_definitions():
    f = random_logits()
    q = f + random_logits(seed=1) / 10
    p, other = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (f, q))
    result = fidelity(f, q)
    assert result.kl == pytest.approx(np.mean(np.sum(p * np.log(p / other), 1)), rel=1e-9)
    assert result.agreement == 100 * np.mean(f.argmax(1) == q.argmax(1))
    f, q = f - f.mean(1, keepdims=True), q - q.mean(1, keepdims=True)
    assert result.snr_db == pytest.approx(10 * np.log10(np.sum(f**2) / np.sum((f - q) ** 2)))
    assert result.snr_db == pytest.approx(20, abs=1)


def test_the_divergence_is_from_the_reference():
    certain, unsure = np.array([[10.0, 0.0]]), np.array([[1.0, 0.0]])
    p = 1 / (1 + math.exp(-10))
    q = 1 / (1 + math.exp(-1))
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert fidelity(certain, unsure).kl == pytest.approx(expected)
    assert fidelity(unsure, certain).kl > 2 * expected


def test_a_shift_of_all_logits_is_no_noise():
    f = random_logits()
    result = fidelity(f, f + np.linspace(-5, 5, len(f))[:, None])
    assert result.snr_db > 250 and result.kl < 1e-12 and result.agreement == 100


def test_image_by_image_equals_all_at_once():
    f, q = random_logits(), random_logits(seed=1)
    meter = FidelityMeter()
    for one, other in zip(f, q, strict=True):
        meter.add(one, other)
    together = fidelity(f, q)
    for name, value in vars(meter.result()).items():
        assert value == pytest.approx(getattr(together, name))


def test_huge_logits_stay_finite():
    f = np.array([[3e38, -3e38, 0.0]], np.float32)
    result = fidelity(f, -f)
    assert all(math.isfinite(value) for value in vars(result).values())
    assert result.agreement == 0


@pytest.mark.parametrize(
    ("f", "q"),
    [
        (np.zeros(3), np.zeros(4)),
        (np.zeros((2, 3)), np.zeros(3)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.array([1.0, np.nan]), np.zeros(2)),
        (np.zeros(2), np.array([np.inf, 0])),
        (np.float64(1), np.float64(1)),
    ],
)
def test_what_can_not_be_compared_is_refused(f, q):
    with pytest.raises(ValueError):
        fidelity(f, q)


def test_no_images_have_no_fidelity():
    with pytest.raises(ValueError, match="no images"):
        FidelityMeter().result()


def test_decibels_of_nothing():
    assert decibels(100, 1) == pytest.approx(20)
    assert decibels(1, 0) == math.inf == decibels(0, 0)
    assert decibels(0, 1) == -math.inf
