"""Planning for a device that isn't here."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from effnet_edge.cli.output import table
from effnet_edge.errors import UsageError
from effnet_edge.models import phis
from effnet_edge.selection.planning import (
    AMBITIOUS,
    RECOMMENDABLE,
    device_rows,
    header,
    plan,
    rows,
    scatter,
    summary,
    to_json,
)
from effnet_edge.selection.profile import Point
from effnet_edge.selection.profiles import find_profile, shipped_profiles

PI5, PI4, ZERO = find_profile("pi5"), find_profile("pi4"), find_profile("pi-zero-2-w")


def test_the_whole_ladder_is_planned_the_most_accurate_first():
    planned = plan(PI5, 30)
    assert len(planned.models) == 2 * (len(phis("standard")) + len(phis("lite")))
    accuracies = [model.top1 for model in planned.models]
    assert accuracies == sorted(accuracies, reverse=True)


def test_the_recommended_model_is_the_most_accurate_that_probably_fits():
    planned = plan(PI5, 30)
    fitting = [model for model in planned.models if model.probability >= RECOMMENDABLE]
    assert planned.recommended == fitting[0]
    assert planned.ambitious is not None
    assert AMBITIOUS <= planned.ambitious.probability < RECOMMENDABLE
    assert planned.ambitious.top1 >= planned.recommended.top1
    assert planned.recommended.command.startswith("effnet-edge convert --phi")


@pytest.mark.parametrize("profile", shipped_profiles(), ids=lambda profile: profile.name)
def test_a_larger_budget_never_buys_a_less_accurate_model(profile):
    found = [plan(profile, budget).recommended for budget in (1, 10, 30, 100, 300, 1000, 10_000)]
    accuracies = [0.0 if model is None else model.top1 for model in found]
    assert accuracies == sorted(accuracies)


def test_a_faster_board_affords_more():
    best = [plan(profile, 60).recommended for profile in (ZERO, PI4, PI5)]
    accuracies = [0.0 if model is None else model.top1 for model in best]
    assert accuracies[0] < accuracies[1] < accuracies[2]


def test_nothing_fits_an_impossible_budget_and_it_says_so():
    planned = plan(ZERO, 1)
    assert planned.recommended is None
    assert planned.ambitious is None
    assert {model.verdict for model in planned.models} == {"no"}
    assert "Nothing of the family" in summary(planned)[0]


def test_memory_defaults_to_half_of_the_device_and_can_be_set():
    assert plan(ZERO, None).limits.memory_bytes == 256 * 2**20
    assert "half of the device's" in "\n".join(summary(plan(ZERO, None)))
    assert "half of the device's" not in "\n".join(summary(plan(ZERO, None, 60)))
    assert plan(ZERO, None, 60).limits.memory_bytes == 60_000_000
    small = plan(PI5, None, 60)
    assert small.recommended is not None
    assert small.recommended.memory.median < 60e6
    assert any(model.verdict == "no" for model in small.models)


def test_a_32_bit_system_is_planned_for_the_engine_it_has():
    pi2 = find_profile("pi2b")
    assert {model.engine for model in plan(pi2, 500).models} == {"tflite-runtime"}
    with pytest.raises(UsageError, match="32 bits"):
        plan(pi2, 500, engine="onnxruntime")
    assert {m.engine for m in plan(PI5, 30, engine="onnxruntime").models} == {"onnxruntime"}


def test_threads_and_precisions_can_be_fixed():
    planned = plan(PI5, 30, threads=1, precisions=("fp32",))
    assert {model.threads for model in planned.models} == {1}
    assert {model.precision for model in planned.models} == {"fp32"}


def test_a_higher_percentile_is_slower_and_less_sure():
    low, high = plan(PI5, 30, percentile=50), plan(PI5, 30, percentile=99)
    for model in low.models:
        other = next(each for each in high.models if each.name == model.name)
        assert other.latency.median > model.latency.median
        assert other.latency.spread > model.latency.spread
    assert scatter(50).median == 1


def test_a_measured_profile_is_planned_with_narrow_intervals():
    point = Point(
        "standard", 0, (224, 224), "int8", "litert", 4, 15.0, "predict", "measured", "p50", 0.02,
        peak_bytes=50_000_000,
    )  # fmt: skip
    measured = replace(PI5, points=(point,))
    (b0,) = [model for model in plan(measured, 30).models if model.name == "efficientnet-b0-int8"]
    (unmeasured,) = [
        model for model in plan(replace(PI5, points=()), 30).models if model.name == b0.name
    ]
    assert b0.latency.spread < 0.35 * unmeasured.latency.spread
    assert b0.latency.median == pytest.approx(15 * scatter(95).median, rel=0.06)
    assert b0.memory.median == pytest.approx(50e6, rel=0.05)


def test_a_plan_is_shown_as_a_table_with_advice_and_as_json():
    planned = plan(PI5, 30)
    shown = table(header(planned), rows(planned))
    assert "efficientnet-b0-int8" in shown
    assert "p95 ms" in shown
    advice = "\n".join(summary(planned))
    assert planned.recommended.name in advice
    assert "2 latencies" in advice
    data = json.loads(json.dumps(to_json(planned)))
    assert data["recommended"]["name"] == planned.recommended.name
    assert data["models"][0]["latency_ms"]["low"] < data["models"][0]["latency_ms"]["high"]


def test_profiles_are_listed_for_people():
    listed = device_rows([PI5])
    assert listed == [("pi5", "Raspberry Pi 5", "A76 2.4 GHz (4)", "2")]


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf"), "30", True])
def test_a_budget_that_cannot_be_meant_is_refused(budget):
    with pytest.raises(UsageError, match="budget_ms"):
        plan(PI5, budget)


@pytest.mark.parametrize(
    "wrong", [{"engine": "tensorrt"}, {"precisions": ("int4",)}, {"threads": 0}]
)
def test_what_the_package_does_not_have_is_refused(wrong):
    with pytest.raises(UsageError):
        plan(PI5, 30, **wrong)
