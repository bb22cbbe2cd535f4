"""What the cost model predicts, how it learns, and how honest its intervals are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from device_trees import build, phone, pi_5, rock_5b, virtual_machine

from effnet_edge import device
from effnet_edge.models import architecture, costs, phis
from effnet_edge.selection.calibration import KINDS
from effnet_edge.selection.cost_model import (
    Config,
    CoreClass,
    Estimate,
    LatencyModel,
    MemoryModel,
    Speed,
    latency_effects,
    loadings,
    speed_of,
)
from effnet_edge.selection.profiles import shipped_profiles
from effnet_edge.selection.speed import UNKNOWN_SPEED

PI4 = Speed((CoreClass(4, 1800, "arm-out-of-order"),), bandwidth_gb_s=2.3, cache_mb=1)
PI5 = Speed((CoreClass(4, 2400, "arm-out-of-order-dot"),), bandwidth_gb_s=6, cache_mb=2.5)
BIG_LITTLE = Speed(
    (CoreClass(2, 2400, "arm-out-of-order-dot"), CoreClass(4, 1800, "arm-in-order-dot"))
)
ENGINES = ("onnxruntime", "litert", "tflite-runtime")


def config(phi=0, family="standard", precision="int8", engine="litert", threads=1, resolution=None):
    arch = architecture(phi, family)
    size = (resolution or arch.resolution,) * 2
    counted = costs(arch, size)
    return Config(family, phi, size, precision, engine, threads, counted.macs, counted.parameters)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", ["int8", "fp32", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_latency_grows_with_phi_and_with_resolution(kind, precision, engine):
    model = LatencyModel(Speed((CoreClass(4, 1500, kind),)))
    for family in ("standard", "lite"):
        ladder = [config(phi, family, precision, engine) for phi in phis(family)]
        medians = [estimate.median for estimate in model.estimates(ladder)]
        assert medians == sorted(medians)
    sizes = [config(0, precision=precision, engine=engine, resolution=r) for r in (96, 160, 224)]
    medians = [estimate.median for estimate in model.estimates(sizes)]
    assert medians == sorted(medians)


def test_memory_grows_with_phi_and_int8_needs_less():
    model = MemoryModel()
    for engine in ENGINES:
        for family in ("standard", "lite"):
            int8 = model.estimates([config(p, family, "int8", engine) for p in phis(family)])
            fp32 = model.estimates([config(p, family, "fp32", engine) for p in phis(family)])
            assert [e.median for e in int8] == sorted(e.median for e in int8)
            assert all(a.median < b.median for a, b in zip(int8, fp32, strict=True))


def test_more_threads_are_faster_but_not_in_proportion():
    for speed in (PI4, PI5):
        counts = (1, 2, 4)
        estimates = LatencyModel(speed).estimates([config(threads=n) for n in counts])
        times = dict(zip(counts, (e.median for e in estimates), strict=True))
        assert times[1] > times[2] > times[4] > times[1] / 4


def test_threads_help_less_where_memory_is_slow():
    slow, fast = (Speed(PI4.cores, bandwidth_gb_s=gb_s, cache_mb=1) for gb_s in (1.0, 20.0))

    def gain(speed):
        one, four = LatencyModel(speed).estimates(
            [config(precision="fp32", threads=1), config(precision="fp32", threads=4)]
        )
        return one.median / four.median

    assert gain(slow) < 0.8 * gain(fast)


def test_threads_on_slow_cores_add_less_than_on_fast_ones():
    assert BIG_LITTLE.parallel(2) == 2
    assert 2 < BIG_LITTLE.parallel(3) < 2.6
    assert BIG_LITTLE.parallel(12) < BIG_LITTLE.parallel(6)  # there are six


def test_an_observation_is_reproduced_and_narrows_what_it_has_in_common():
    model = LatencyModel(PI5)
    near, far = config(1), config(4, precision="fp32", engine="onnxruntime", threads=4)
    seen = config(0)
    before = model.estimates([seen, near, far])
    model.observe(seen, 1.2 * before[0].median)
    after = model.estimates([seen, near, far])
    assert after[0].median == pytest.approx(1.2 * before[0].median, rel=0.02)
    moved = [math.log(b.median / a.median) for a, b in zip(before, after, strict=True)]
    narrowed = [b.spread / a.spread for a, b in zip(before, after, strict=True)]
    assert moved[0] > moved[1] > moved[2] > 0
    assert narrowed[0] < narrowed[1] < narrowed[2] < 1


def test_an_observation_far_from_what_was_expected_makes_the_rest_less_sure():
    def spread_of_the_rest(factor):
        model = LatencyModel(PI5)
        (before,) = model.estimates([config(0)])
        model.observe(config(0), factor * before.median)
        return model.estimates([config(4, precision="fp32")])[0].spread

    assert spread_of_the_rest(4.0) > 1.3 * spread_of_the_rest(1.1)


def test_observations_of_another_engine_teach_about_the_device():
    model = LatencyModel(PI5)
    ours = config(0, threads=4)
    (before,) = model.estimates([ours])
    published = config(0, precision="fp16", engine="ncnn", threads=4)
    (expected,) = model.estimates([published], inference_only=True)
    model.observe(published, expected.median / 2, inference_only=True, spread=0.1)
    (after,) = model.estimates([ours])
    assert before.median / 2 < after.median < 0.95 * before.median


def test_a_vague_observation_moves_less():
    def moved(spread):
        model = LatencyModel(PI5)
        (before,) = model.estimates([config(0)])
        model.observe(config(0), 2 * before.median, spread=spread)
        return model.estimates([config(0)])[0].median / before.median

    assert moved(0.0) > moved(0.3) > moved(1.0) > 1


def test_a_whole_prediction_takes_longer_than_inference():
    model = LatencyModel(PI4)
    assert (
        model.estimates([config(0)])[0].median
        > model.estimates([config(0)], inference_only=True)[0].median
    )


def test_a_network_of_ones_own_resolution_and_classes_is_estimated():
    arch = architecture(0)
    counted = costs(arch, (160, 320), classes=3)
    own = Config("standard", 0, (160, 320), "int8", "litert", 2, counted.macs, counted.parameters)
    (latency,) = LatencyModel(PI4).estimates([own])
    usual, large = LatencyModel(PI4).estimates([config(0, threads=2), config(1, threads=2)])
    assert 0.8 * usual.median < latency.median < large.median
    (memory,) = MemoryModel().estimates([own])
    assert memory.median < MemoryModel().estimates([config(0, threads=2)])[0].median


def test_memory_learns_and_does_not_depend_on_threads():
    model = MemoryModel()
    one, two = model.estimates([config(0), config(0, threads=4)])
    assert one == two
    model.observe(config(0, threads=4), 1.5 * one.median)
    (after,) = model.estimates([config(0)])
    assert after.median == pytest.approx(1.5 * one.median, rel=0.05)
    assert after.spread < one.spread


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_an_observation_must_be_a_positive_number(value):
    with pytest.raises(ValueError):
        LatencyModel(PI4).observe(config(0), value)
    with pytest.raises(ValueError):
        MemoryModel().observe(config(0), value)


def test_a_device_nothing_is_known_of_is_estimated_with_a_wide_interval():
    (unknown,) = LatencyModel(UNKNOWN_SPEED).estimates([config(0)])
    (known,) = LatencyModel(PI4).estimates([config(0)])
    assert unknown.spread > 1.5 * known.spread


def test_arithmetic_that_nobody_published_on_a_kind_of_core_is_called_guessed_and_less_sure():
    published = {
        (profile.speed.cores[0].kind, point.config.arithmetic)
        for profile in shipped_profiles()
        for point in profile.points
    }
    measured = {("x86-avx512-vnni", "int8")}  # the reference core, on which the engines were fitted
    for name, kind in KINDS.items():
        for arithmetic in ("float", "int8"):
            known = (name, arithmetic) in published | measured
            assert (arithmetic in kind.guessed) == (not known and name != "unknown")
    guessed, known = (
        LatencyModel(Speed((CoreClass(4, 2000, kind),))).estimates([config(0)])[0]
        for kind in ("arm-wide", "arm-out-of-order-dot")
    )
    assert guessed.spread > 1.2 * known.spread


def test_probability_is_a_half_at_the_median_and_grows_with_the_limit():
    estimate = Estimate(20.0, 0.3)
    assert estimate.probability_at_most(20.0) == pytest.approx(0.5)
    chances = [estimate.probability_at_most(limit) for limit in (-1, 0, 5, 20, 40, math.inf)]
    assert chances == sorted(chances)
    assert chances[:2] == [0.0, 0.0]
    assert chances[-1] == 1.0


def test_an_interval_holds_its_level_of_probability():
    estimate = Estimate(20.0, 0.3)
    low, high = estimate.interval(0.9)
    assert low < 20 < high
    inside = estimate.probability_at_most(high) - estimate.probability_at_most(low)
    assert inside == pytest.approx(0.9, abs=1e-6)


def test_intervals_after_observations_hold_what_they_claim():
    """Devices drawn from the model itself: of what wasn't observed, 90 % lie in the intervals."""
    asked = [
        config(phi, family, precision, engine, threads)
        for family in ("standard", "lite")
        for phi in (0, 2, 4)
        for precision in ("int8", "fp32")
        for engine in ("onnxruntime", "litert")
        for threads in (1, 4)
    ]
    effects = loadings([latency_effects(each, PI4) for each in asked])
    priors = np.array([estimate.median for estimate in LatencyModel(PI4).estimates(asked)])
    random = np.random.default_rng(4)
    inside = []
    for _ in range(60):
        truth = priors * np.exp(effects @ random.standard_normal(effects.shape[1]))
        noisy = truth * np.exp(0.03 * random.standard_normal(len(truth)))
        model = LatencyModel(PI4)
        seen = set(random.choice(len(asked), 3, replace=False).tolist())
        for index in seen:
            model.observe(asked[index], float(noisy[index]))
        for index, estimate in enumerate(model.estimates(asked)):
            if index not in seen:
                low, high = estimate.interval(0.9)
                inside.append(low <= noisy[index] <= high)
    assert 0.86 < np.mean(inside) < 0.94


def test_published_latencies_fall_in_the_intervals_of_the_facts_alone():
    inside, errors = [], []
    for profile in shipped_profiles():
        model = LatencyModel(profile.speed)
        for point in profile.points:
            (found,) = model.estimates([point.config], inference_only=point.covers == "inference")
            estimate = Estimate(found.median, math.hypot(found.spread, point.spread))
            low, high = estimate.interval(0.9)
            inside.append(low <= point.ms <= high)
            errors.append(abs(math.log(point.ms / estimate.median)))
    assert len(inside) > 50
    assert np.mean(inside) >= 0.9
    assert np.median(errors) < math.log(1.3)


def test_the_published_speed_up_of_four_threads_is_explained_by_memory():
    """ncnn, B0: a Raspberry Pi 4 gains 1.75 from four threads, an RK3588 3.5."""
    for name, gain in (("pi4", 1.75), ("pi5", 1.96), ("rock-5b", 3.5)):
        profile = next(each for each in shipped_profiles() if each.name == name)
        precision = "fp32" if name == "pi4" else "fp16"
        one, four = LatencyModel(profile.speed).estimates(
            [config(0, precision=precision, engine="ncnn", threads=n) for n in (1, 4)],
            inference_only=True,
        )
        assert one.median / four.median == pytest.approx(gain, rel=0.45)


def test_devices_are_read_as_the_kinds_of_their_cores(tmp_path, monkeypatch):
    def kinds(tree, name):
        speed = speed_of(device.inspect(build(tree, tmp_path / name, monkeypatch)))
        return [(each.count, each.kind) for each in speed.cores], speed.known

    assert kinds(pi_5(), "pi5") == ([(4, "arm-out-of-order-dot")], True)
    assert kinds(rock_5b(), "rock") == (
        [(4, "arm-out-of-order-dot"), (4, "arm-in-order-dot")],
        True,
    )
    assert kinds(phone(), "phone") == (
        [(1, "arm-wide"), (3, "arm-i8mm"), (4, "arm-in-order-dot")],
        True,
    )
    # A virtual machine doesn't tell its clock.
    assert kinds(virtual_machine(), "vm") == ([(2, "x86-avx512-vnni")], False)


def test_this_device_has_a_speed():
    speed = speed_of(device.inspect())
    assert speed.cores
    assert LatencyModel(speed).estimates([config(0)])[0].median > 0
