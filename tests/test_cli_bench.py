"""``effnet-edge bench`` as a person or a script runs it, on a model that takes a millisecond."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import bench_sessions as sessions
import numpy as np
import pytest
import small_models

from effnet_edge.bench import document, running
from effnet_edge.cli import main
from effnet_edge.engines import available_engines
from effnet_edge.selection.profiles import find_profile

QUICK = ["--threads", "1", "--rounds", "2", "--seconds", "0.02"]


@pytest.fixture(scope="module")
def store_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    small_models.write_small_models(home / "models")
    return home


@pytest.fixture
def store(store_home, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(store_home))


@pytest.fixture
def boards(tmp_path):
    """Two sessions of one board, B2 int8 on LiteRT slower by a quarter in the second."""
    old = sessions.a_board(seed=9)
    slow = sessions.a_cell(
        np.random.default_rng(5), 1.25 * 24 * 2.3, sessions.facts(phi=2), "litert"
    )
    new = replace(old, cells=tuple(slow if c.key == slow.key else c for c in old.cells))
    for name, session in (("old", old), ("new", new)):
        document.write(session, tmp_path / f"{name}.json")
    return tmp_path


def test_bench_measures_the_store_and_writes_what_was_asked_for(store, tmp_path, capsys):
    outputs = [
        option
        for kind in ("json", "csv", "html")
        for option in (f"--{kind}", str(tmp_path / f"out.{kind}"))
    ]
    assert main(["bench", *QUICK, *outputs]) == 0
    printed = capsys.readouterr().out
    session = document.read(tmp_path / "out.json")
    assert session.complete
    assert {(cell.engine, len(cell.rounds)) for cell in session.cells} == {
        (engine.name, 2) for engine in available_engines() if engine.computes("fp32")
    }
    for cell in session.cells:
        assert small_models.NAME in printed
        summary = cell.summary
        assert summary.min <= summary.p50 <= summary.max
        assert 0 < summary.inference < summary.max
        assert summary.preprocessing > 0
        assert summary.load > 0
        assert summary.peak_bytes > 1_000_000
    lines = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [line["engine"] for line in lines] == [cell.engine for cell in session.cells]
    assert "<!DOCTYPE html>" in (tmp_path / "out.html").read_text()


def test_json_on_standard_output_is_nothing_but_json(store, capsys):
    assert main(["bench", "--engine", "onnxruntime", *QUICK, "--json", "-"]) == 0
    session = document.from_json(capsys.readouterr().out)
    assert len(session.cells) == 1


def test_a_missing_model_is_a_row_and_the_others_are_measured(store, capsys):
    names = [small_models.NAME, "efficientnet-b7-int8"]
    assert main(["bench", "--models", *names, "--engine", "litert", *QUICK]) == 1
    printed = capsys.readouterr().out
    assert "not measured:\n  efficientnet-b7-int8: not in the store" in printed
    assert "effnet-edge convert --phi 7 --int8" in printed
    assert "p50" in printed


def test_want_of_memory_is_a_finding_and_no_failure(store, monkeypatch, capsys):
    real = running.measure

    def measure(task, plan, **options):
        ceiling = 1000 if task.engine == "litert" else None
        return real(task, plan, **{**options, "ceiling_bytes": ceiling})

    monkeypatch.setattr(running, "measure", measure)
    assert main(["bench", *QUICK]) == 0
    assert "litert, 1 thr.: it takes more than" in capsys.readouterr().out


def test_ctrl_c_keeps_and_writes_what_was_measured(store, tmp_path, monkeypatch, capsys):
    real, calls = running.measure, []

    def measure(*task, **options):
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*task, **options)

    monkeypatch.setattr(running, "measure", measure)
    path = tmp_path / "part.json"
    assert main(["bench", *QUICK, "--json", str(path)]) == 130
    captured = capsys.readouterr()
    assert "interrupted: rounds or cells are missing" in captured.out
    session = document.read(path)
    assert not session.complete
    assert sum(len(cell.rounds) for cell in session.cells) == 2


def test_a_sustained_run_says_how_much_it_slows_down(store, tmp_path, capsys):
    path = tmp_path / "hot.json"
    assert main(
        ["bench", "--engine", "litert", "--threads", "1", "--duration", "1", "--json", str(path)]
    ) == 0  # fmt: skip
    assert re.search(r"first 0\.\d+ s", capsys.readouterr().out)
    (cell,) = document.read(path).cells
    (run,) = cell.rounds
    assert run.warmup_runs <= 1
    assert 0.5 < run.started_s[-1] < 30


def test_compare_says_what_became_slower(boards, store, monkeypatch, capsys):
    fresh = document.read(boards / "new.json")
    monkeypatch.setattr("effnet_edge.cli.bench._measured", lambda args: fresh)
    arguments = ["bench", "--compare", str(boards / "old.json")]
    html = boards / "page.html"
    assert main([*arguments, "--html", str(html)]) == 1  # for the two cells that are missing
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.endswith("slower")]
    assert line.startswith("efficientnet-b2-int8")
    assert "1 slower, 31 no clear change" in printed
    assert "Changes since 2026-11-20" in html.read_text()
    assert main([*arguments, "--fail-on-regression", "10"]) == 1
    assert "efficientnet-b2-int8 on litert, 4 threads became slower by 2" in capsys.readouterr().err


def test_a_regression_within_the_limit_passes(boards, store, monkeypatch, capsys):
    fresh = document.read(boards / "new.json")
    fresh = replace(fresh, cells=fresh.measured)
    monkeypatch.setattr("effnet_edge.cli.bench._measured", lambda args: fresh)
    old = str(boards / "old.json")
    assert main(["bench", "--compare", old, "--fail-on-regression", "50"]) == 0
    assert main(["bench", "--compare", old, "--fail-on-regression", "5"]) == 1


GATE = ["--threads", "4", "--fail-on-regression", "50"]


@pytest.mark.parametrize("gone", ["from the store", "its measurement"])
def test_a_cell_that_is_measured_no_more_is_a_regression(boards, store, monkeypatch, capsys, gone):
    old = document.read(boards / "old.json")
    lost = old.cells[0]
    now = [cell for cell in old.measured if cell is not lost]
    if gone == "its measurement":
        now.append(replace(lost, rounds=(), error="it takes more than 90 MB", reason="memory"))
    monkeypatch.setattr(
        "effnet_edge.cli.bench._measured", lambda args: replace(old, cells=tuple(now))
    )
    compared = ["bench", "--compare", str(boards / "old.json")]
    assert main([*compared, *GATE]) == 1
    said = capsys.readouterr().err
    assert f"{lost.name} on {lost.engine}, 4 threads was measured then and is not" in said
    # What wasn't asked for this time has not vanished.
    other = {"standard": [], "lite": ["--lite"]}[old.cells[-2].model.family]
    assert main([*compared, *GATE, *other, "--phi", "4"]) == 0


def test_a_cell_of_one_round_does_not_stand_a_test_for_regressions(
    boards, store, monkeypatch, capsys
):
    old = document.read(boards / "old.json")
    first = replace(old.cells[0], rounds=old.cells[0].rounds[:1])
    session = replace(old, cells=(first, *old.measured[1:]))
    monkeypatch.setattr("effnet_edge.cli.bench._measured", lambda args: session)
    assert main(["bench", "--compare", str(boards / "old.json"), *GATE]) == 1
    assert "can't tell a change from chance" in capsys.readouterr().err


def test_a_test_for_regressions_that_could_never_fail_is_refused_at_once(
    boards, store, monkeypatch, capsys
):
    monkeypatch.setattr("effnet_edge.cli.bench._measured", pytest.fail)
    document.write(sessions.a_hot_board(seconds=5), boards / "once.json")
    assert main(["bench", "--compare", str(boards / "once.json"), *GATE]) == 1
    assert "could never fail" in capsys.readouterr().err


def test_the_older_benchmark_is_read_before_anything_is_measured(store, monkeypatch, capsys):
    monkeypatch.setattr("effnet_edge.cli.bench._measured", pytest.fail)
    assert main(["bench", "--compare", "none.json"]) == 1
    assert "there is no benchmark none.json" in capsys.readouterr().err


def test_several_boards_make_one_page(boards, capsys):
    document.write(sessions.a_board(board="Raspberry Pi 4", speed=3), boards / "pi4.json")
    html = boards / "all.html"
    merged = ["--merge", str(boards / "old.json"), str(boards / "pi4.json")]
    assert main(["bench", *merged, "--html", str(html), "--csv", str(boards / "all.csv")]) == 0
    assert "Raspberry Pi 4" in html.read_text()
    assert "Raspberry Pi 5" in html.read_text()
    assert len((boards / "all.csv").read_text().splitlines()) == 1 + 2 * 34
    printed = capsys.readouterr().out
    assert "Raspberry Pi 4, 2026-11-20" in printed


def test_a_measured_profile_can_be_planned_with(store, tmp_path, capsys):
    path = tmp_path / "my-board.json"
    engine = ["--engine", "litert"]
    assert main(["bench", *engine, *QUICK, "--save-profile", str(path)]) == 0
    profile = find_profile(path)
    (point,) = profile.points
    assert (point.engine, point.threads, point.covers) == ("litert", 1, "predict")
    assert point.ms > 0
    assert profile.sources[point.source].title.startswith("measured by effnet-edge bench")


def test_ctrl_c_before_the_first_measurement_is_no_fault_of_the_profile(
    store, tmp_path, monkeypatch, capsys
):
    def measure(*task, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "measure", measure)
    path = tmp_path / "my-board.json"
    assert main(["bench", *QUICK, "--save-profile", str(path)]) == 130
    assert not path.exists()


@pytest.mark.parametrize("name", ["My Board!", "none/board.json"])
def test_a_profile_that_cannot_be_saved_is_refused_at_once(store, monkeypatch, capsys, name):
    monkeypatch.setattr("effnet_edge.cli.bench._measured", pytest.fail)
    assert main(["bench", "--save-profile", name]) == 2
    assert name.split("/")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "-", "--csv", "-"], "would mix"),
        (["--merge", "a.json", "--phi", "0"], "--phi doesn't go with it"),
        (["--merge", "a.json", "--json", "b.json"], "--json doesn't go with it"),
        (["--duration", "5", "--rounds", "2"], "one long round"),
        (["--fail-on-regression", "5"], "needs --compare"),
        (
            ["--fail-on-regression", "5", "--compare", "a", "--duration", "9"],
            "leave --duration out",
        ),
        (["--fail-on-regression", "5", "--compare", "a", "--rounds", "1"], "leave --rounds 1 out"),
        (["--rounds", "1001"], "at most 1000"),
        (["--html", "none/page.html"], "no folder"),
        (["--json", "."], "name of a file"),
        (["--csv", ""], "name of a file"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(
    store, monkeypatch, capsys, arguments, said
):
    monkeypatch.setattr("effnet_edge.cli.bench._measured", pytest.fail)
    assert main(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--precision", "int4"],
        ["--engine", "tensorrt"],
        ["--threads", "0"],
        ["--threads", "1,x"],
        ["--seconds", "nan"],
        ["--duration", "inf"],
        ["--rounds", "0"],
        ["--phi", "x"],
    ],
    ids=" ".join,
)
def test_values_that_make_no_sense_are_usage_errors(store, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_an_empty_store_says_how_to_begin(empty_home, capsys):
    assert main(["bench"]) == 1
    assert "effnet-edge convert --phi 0" in capsys.readouterr().err
