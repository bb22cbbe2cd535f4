"""Figures of cells, and what can be said of a change."""

from __future__ import annotations

from dataclasses import replace

import bench_sessions as sessions
import numpy as np
import pytest

from effnet_edge.bench import student, words
from effnet_edge.bench.comparison import compare, holm
from effnet_edge.bench.results import pareto_front
from effnet_edge.bench.statistics import summarise, supported_percentile
from effnet_edge.bench.sustained import slowing, stretches
from effnet_edge.errors import BenchmarkError


@pytest.mark.parametrize(
    ("level", "freedom", "expected"),
    # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, two-sided.
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 4, 2.776), (0.99, 10, 3.169), (0.95, 1e7, 1.960)],
)
def test_students_t_has_the_quantiles_of_printed_tables(level, freedom, expected):
    assert student.quantile(level, freedom) == pytest.approx(expected, abs=6e-4)
    assert student.two_sided_p(expected, freedom) == pytest.approx(1 - level, rel=2e-3)


def test_students_t_with_one_degree_of_freedom_is_cauchys_distribution():
    for t in (0.0, 0.1, 1.0, 30.0):
        expected = 1 - 2 * np.arctan(t) / np.pi
        assert student.two_sided_p(t, 1) == pytest.approx(expected, rel=1e-9)


def test_holm_corrects_as_in_a_worked_example():
    # Smallest times 4, next times 3, ...; never below an earlier one.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_a_percentile_takes_enough_runs_to_have_one_beyond_it():
    assert supported_percentile(range(1, 100), 99) is None
    assert supported_percentile(range(1, 101), 99) == 99
    assert supported_percentile(range(1, 20), 95) is None
    assert supported_percentile(range(1, 21), 95) == 19


def test_rounds_are_pooled_and_their_disagreement_is_told():
    rng = np.random.default_rng(0)
    one = replace(
        sessions.a_round(rng, 10),
        latencies_ms=(10.0,) * 150, mean_ms=10.0, min_ms=9.0, max_ms=10.0, load_ms=50.0,
    )  # fmt: skip
    other = replace(
        one, latencies_ms=(12.0,) * 50, runs=50, mean_ms=12.0, max_ms=13.0, peak_bytes=7, load_ms=70
    )
    summary = summarise([one, other])
    assert (summary.runs, summary.p50, summary.p90) == (200, 10, 12)
    assert (summary.min, summary.max, summary.mean) == (9, 13, 10.5)
    assert summary.load == 60
    assert summary.peak_bytes == one.peak_bytes
    assert summary.disagreement == pytest.approx(0.2)
    assert summarise([one]).disagreement is None


def a_pair(ratio, seed, cells=20, rounds=3, spread=0.01):
    """An older and a newer session of ``cells`` cells; the first becomes ``ratio`` as slow."""
    rng = np.random.default_rng(seed)

    def run(ratio):
        return sessions.a_session(
            sessions.a_cell(
                rng,
                20.0 * (ratio if index == 0 else 1),
                sessions.facts(name=f"model-{index}"),
                rounds=rounds,
                spread=spread,
            )
            for index in range(cells)
        )

    return run(1.0), run(ratio)


def test_a_planted_slowdown_of_ten_percent_is_found_and_measured():
    found, covered, wrong = 0, 0, 0
    for seed in range(20):
        comparison = compare(*a_pair(1.1, seed, cells=4, spread=0.004))
        change = comparison.changes[0]
        found += change.verdict == "slower"
        covered += change.low <= 1.1 <= change.high
        wrong += any(other.verdict != "no clear change" for other in comparison.changes[1:])
    assert wrong <= 2
    assert found >= 18
    assert covered >= 17


def test_nothing_is_found_in_noise():
    # Each of 20 comparisons has 20 chances to be wrong; Holm's correction allows one or so.
    wrong = 0
    for seed in range(20):
        comparison = compare(*a_pair(1.0, seed))
        wrong += any(change.verdict in ("slower", "faster") for change in comparison.changes)
    assert wrong <= 2


def test_an_improvement_is_called_faster():
    change = compare(*a_pair(0.8, 1, cells=1, spread=0.003)).changes[0]
    assert change.verdict == "faster"
    assert change.high < 0.9


def test_one_round_cannot_tell():
    change = compare(*a_pair(3.0, 1, rounds=1)).changes[0]
    assert change.verdict == "can't tell"
    assert change.low is change.high is change.p is None
    assert change.ratio == pytest.approx(3, rel=0.1)


def test_identical_rounds_give_an_interval_all_the_same():
    old, _ = a_pair(1.0, 1, cells=1, spread=0)
    same = replace(old.cells[0], rounds=(old.cells[0].rounds[0],) * 3)
    change = compare(replace(old, cells=(same,)), replace(old, cells=(same,))).changes[0]
    assert change.verdict == "no clear change"
    assert change.low < 1 < change.high


def test_only_a_significant_regression_beyond_the_limit_fails():
    comparison = compare(*a_pair(1.1, 3, cells=3, spread=0.003))
    assert [change.cell.name for change in comparison.regressions(5)] == ["model-0"]
    assert comparison.regressions(20) == ()
    assert compare(*a_pair(1.1, 3, rounds=1)).regressions(5) == ()


def test_a_comparison_names_what_else_differs():
    old, new = a_pair(1.0, 1, cells=3)
    first = replace(new.cells[0], model=replace(new.cells[0].model, sha256="cd" * 32))
    new = replace(
        new,
        board="Raspberry Pi 4",
        facts={**new.facts, "governor": "powersave"},
        environment={**new.environment, "onnxruntime": "1.32.0", "ai-edge-litert": "2.3.0"},
        cells=(first, replace(new.cells[1], threads=1)),
    )
    comparison = compare(old, new)
    told = "\n".join(comparison.differences)
    assert "device: Raspberry Pi 5 Model B Rev 1.0, now Raspberry Pi 4" in told
    assert "governor: not known, now powersave" in told
    assert "onnxruntime: 1.31.1, now 1.32.0" in told
    assert "ai-edge-litert: none, now 2.3.0" in told
    assert "model-0 is another file" in told
    assert [change.cell.name for change in comparison.changes] == ["model-0"]
    assert [words.title(cell) for cell in comparison.only_new] == [
        "model-1 on onnxruntime, 1 thread"
    ]
    assert len(comparison.only_old) == 2


def test_sessions_without_a_common_cell_are_refused():
    old, new = a_pair(1.0, 1, cells=1)
    other = replace(new.cells[0], engine="litert")
    with pytest.raises(BenchmarkError, match="no cell in common"):
        compare(old, replace(new, cells=(other,)))


def test_the_front_is_what_no_other_beats():
    points = [(10, 75.0), (12, 74.0), (9, 70.0), (30, 80.0), (30, 79.0), (30, 80.0), (40, 80.0)]
    assert pareto_front(points) == (2, 0, 3)
    assert pareto_front([]) == ()


def test_a_model_that_does_not_follow_its_float_network_has_no_place_on_the_front():
    rng = np.random.default_rng(0)
    cells = [
        sessions.a_cell(rng, 20.0, sessions.facts(phi=0)),
        sessions.a_cell(rng, 10.0, sessions.facts(phi=4, faithful=False)),
    ]
    session = sessions.a_session(cells)
    assert cells[1].accuracy is None
    assert session.front == {cells[0].key}
    assert words.remarks(cells[1], sustained=False) == ["follows its float network badly"]


def test_a_hot_device_is_seen_to_slow_down():
    hot, cool = sessions.a_hot_board(seconds=60).cells
    assert slowing(hot.rounds[0]).ratio > 1.15
    assert slowing(cool.rounds[0]).ratio == pytest.approx(1, abs=0.01)


def test_a_sustained_run_is_told_second_by_second():
    run = replace(
        sessions.a_round(np.random.default_rng(0), 10),
        started_s=(0.0, 0.4, 2.0, 2.9),
        latencies_ms=(10.0, 20.0, 30.0, 40.0),
    )
    found = stretches(run)
    assert [(each.start, each.low, each.high) for each in found] == [(0, 10, 20), (2, 30, 40)]


def test_an_hour_is_told_in_as_many_stretches_as_a_chart_can_show():
    run = replace(
        sessions.a_round(np.random.default_rng(0), 10),
        started_s=tuple(float(second) for second in range(3600)),
        latencies_ms=(10.0,) * 3600,
    )
    found = stretches(run)
    assert len(found) == 600
    assert found[1].start == found[0].seconds == 6
