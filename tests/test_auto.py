"""`EdgeClassifier.auto`: from a budget to a loaded model, and what it remembers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import networks
import pytest
from small_models import write_small_models

from effnet_edge import EdgeClassifier, cli, device
from effnet_edge.device import DeviceState
from effnet_edge.engines import ENGINES
from effnet_edge.errors import EngineError, ModelNotFoundError, UsageError
from effnet_edge.measurement import Measurement, MeasurementError
from effnet_edge.metadata import Source
from effnet_edge.selection import candidates, trials
from effnet_edge.selection import choose as choosing
from effnet_edge.selection.asking import Question
from effnet_edge.selection.estimates import CandidateEstimates
from effnet_edge.selection.selection import NothingFitsError, Selection
from effnet_edge.store import ModelStore

PHOTO = networks.photos(1, (90, 120))[0]
# What the made-up models cost and are worth, by name: ms, MB, top-1, phi.
LADDER = {
    "small": (10.0, 20.0, 70.0, 0),
    "middle": (20.0, 40.0, 80.0, 2),
    "large": (40.0, 160.0, 90.0, 4),
}


@pytest.fixture(scope="module")
def ladder_home(tmp_path_factory):
    """Three models that are one tiny network; what they cost is made up by `measured`."""
    home = tmp_path_factory.mktemp("home")
    for name, (_, _, top1, phi) in LADDER.items():
        source = Source("random.pth", "ab" * 32, "timm", top1=top1)
        folder = home / name
        changes = {"name": name, "source": source, "phi": phi, "macs": 10**8 * 2**phi}
        for path in write_small_models(folder, **changes).values():
            target = home / "models" / f"{name}{path.suffix}"
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        folder.rmdir()
    return home


@pytest.fixture
def home(ladder_home, tmp_path, monkeypatch):
    shutil.copytree(ladder_home / "models", tmp_path / "home" / "models")
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(device, "available_memory", lambda: 8_000_000_000)
    engines = tuple(ENGINES[name] for name in ("onnxruntime", "litert"))
    monkeypatch.setattr(candidates, "available_engines", lambda: engines)
    return tmp_path / "home"


@pytest.fixture
def measured(monkeypatch):
    """Replaces measuring by what LADDER says; gives the list of what was measured."""
    calls = []

    def measure(task, plan, *, ceiling_bytes=None, on_progress=None):
        calls.append(task)
        ms, megabytes, *_ = LADDER[task.path.stem]
        ms *= 1.1 if task.engine == "onnxruntime" else 1.0
        if ceiling_bytes is not None and megabytes * 1e6 > ceiling_bytes:
            raise MeasurementError("it takes more", "memory")
        hopeless = plan.give_up_ms is not None and ms > plan.give_up_ms
        hopeless |= plan.give_up_bytes is not None and megabytes * 1e6 > plan.give_up_bytes
        runs = (ms,) * (3 if hopeless else 100)
        return Measurement(runs, runs, runs, runs, 0, 5, int(megabytes * 1e6), 3, hopeless)

    monkeypatch.setattr(trials, "measure", measure)
    return calls


def choose(*limits, strict=True, refresh=False, seconds_limit=120, progress=None, **options):
    """`choosing.choose` for the question that the other arguments are."""
    return choosing.choose(
        Question(*limits, **options),
        strict=strict,
        refresh=refresh,
        seconds_limit=seconds_limit,
        progress=progress,
    )


def chosen(*args, **options) -> str:
    return choose(*args, threads=1, **options).chosen.model


# Choosing


@pytest.mark.parametrize(
    ("budget_ms", "memory_mb", "name"),
    [
        (100, None, "large"),
        (None, None, "large"),
        (30, None, "middle"),
        (100, 100, "middle"),
        (None, 100, "middle"),
        (100, 30, "small"),
        (12, 1000, "small"),
        (1e9, 1e9, "large"),
    ],
)
def test_the_most_accurate_model_within_both_limits_is_chosen(
    home, measured, budget_ms, memory_mb, name
):
    assert chosen(budget_ms, memory_mb) == name


def test_free_memory_limits_what_is_chosen(home, measured, monkeypatch):
    monkeypatch.setattr(device, "available_memory", lambda: 150_000_000)
    selection = choose(100, 1000, threads=1)
    assert selection.chosen.model == "middle"
    assert selection.limits.device_decides and selection.limits.memory_bytes < 150_000_000


def test_nothing_fits_shows_the_table_and_the_nearest(home, measured):
    with pytest.raises(NothingFitsError) as caught:
        choose(1, threads=1)
    text = str(caught.value)
    assert "1 ms at p95" in text and "nearest is small" in text and "--budget-ms" in text
    for name in LADDER:
        assert name in text
    assert caught.value.selection.chosen is None


def test_the_nearest_is_taken_if_asked_for_with_a_warning(home, measured):
    with pytest.warns(UserWarning, match="small is the nearest") as caught:
        classifier = EdgeClassifier.auto(1, threads=1, strict=False)
    assert caught[0].filename == __file__
    assert classifier.metadata.name == "small"
    assert classifier.selection.nearest
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not EdgeClassifier.auto(15, threads=1, strict=False).selection.nearest


def test_the_nearest_in_memory_is_taken_too(home, measured):
    with pytest.warns(UserWarning, match="small is the nearest"):
        assert EdgeClassifier.auto(memory_mb=10, threads=1, strict=False).metadata.name == "small"


def test_what_is_wrong_with_the_store_is_told_when_nothing_fits(home, measured):
    (home / "models" / "large.onnx").write_bytes(b"")
    with pytest.raises(NothingFitsError, match=r"large\.onnx is skipped"):
        choose(1, threads=1)


def test_the_selection_tells_of_every_way_of_running_every_model(home, measured):
    selection = choose(30)
    assert {(row.model, row.engine) for row in selection.rows} == {
        (name, engine) for name in LADDER for engine in ("onnxruntime", "litert")
    }
    row = selection.chosen
    assert row.measured.p50_ms == row.measured.p95_ms == 20.0
    assert row.measured.peak_bytes == 40_000_000
    assert row.predicted.low_ms < row.predicted.ms < row.predicted.high_ms
    assert all(other.reason for other in selection.rows if other.verdict == "not measured")
    assert Selection.from_json(json.loads(json.dumps(selection.to_json()))) == selection


def test_engine_threads_and_models_restrict_the_choice(home, measured):
    selection = choose(100, engine="onnxruntime", threads=3)
    assert {(row.engine, row.threads) for row in selection.rows} == {("onnxruntime", 3)}
    assert chosen(100, models="m*") == "middle"


def test_progress_names_what_is_being_measured(home, measured):
    told = []
    choose(30, threads=1, progress=lambda step, part: told.append((step, part)))
    assert any("middle" in step and "1 thread" in step for step, _ in told)


def test_when_time_is_up_the_best_so_far_is_taken_and_said_so(home, monkeypatch, measured):
    inner = trials.measure

    def slow(*args, **options):
        time.sleep(0.3)
        return inner(*args, **options)

    monkeypatch.setattr(trials, "measure", slow)
    selection = choose(1000, threads=1, seconds_limit=0.2)
    assert selection.chosen.model == "large"
    assert selection.measured_now == 1
    assert any("ended" in note for note in selection.notes)


def test_a_choice_that_was_cut_short_is_not_remembered(home, measured, monkeypatch):
    inner = trials.measure
    monkeypatch.setattr(trials, "measure", lambda *a, **o: (time.sleep(0.3), inner(*a, **o))[1])
    assert choose(30, threads=1, seconds_limit=0.2, strict=False).notes
    assert chosen(30) == "middle"


def test_a_choice_of_a_throttled_device_is_not_remembered(home, measured, monkeypatch):
    hot = DeviceState(90.0, (600,), "ondemand", ("throttled",))
    monkeypatch.setattr(device, "state", lambda: hot)
    assert any("slowed down (throttled)" in note for note in choose(30, threads=1).notes)
    monkeypatch.undo()
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(home))
    assert not list((home / "measurements").glob("*.json"))


def test_waiting_for_another_process_takes_none_of_the_time(home, measured):
    cache = Question(30, threads=1).cache
    with ThreadPoolExecutor() as pool, cache.measuring(device.fingerprint(), lambda: None):
        told = []
        waiting = pool.submit(
            choose, 30, threads=1, seconds_limit=0.5, progress=lambda step, part: told.append(step)
        )
        while not any("waiting" in step for step in told):
            time.sleep(0.01)
        time.sleep(0.6)
        assert not waiting.done()
    assert waiting.result().chosen.model == "middle"


def test_a_second_process_that_fails_leaves_the_first_ones_answer(home, measured, monkeypatch):
    inner, calls = trials.measure, []

    def measure(task, *args, **options):
        calls.append(task)
        if calls.count(task) > 1:
            raise MeasurementError("too late", "timeout")
        return inner(task, *args, **options)

    monkeypatch.setattr(trials, "measure", measure)
    assert chosen(20.5, models="middle") == "middle"
    assert len(calls) == 2


def test_a_latency_near_the_budget_is_measured_three_times_also_without_a_memory(
    home, measured, tmp_path, monkeypatch
):
    monkeypatch.setenv("EFFNET_EDGE_HOME", "/dev/null/home")
    (home / "measurements").write_text("in the way")
    selection = choose(20.5, threads=1, models="middle", engine="litert", store=home)
    assert len(measured) == 3
    assert selection.chosen.measured.processes == 3


# Limits that can't be meant


@pytest.mark.parametrize("name", ["budget_ms", "memory_mb", "percentile"])
@pytest.mark.parametrize(
    "value", [0, -1, float("nan"), float("inf"), -float("inf"), 10**400, "30", True, [30]]
)
def test_limits_that_cannot_be_meant_are_refused_by_name(home, measured, name, value):
    with pytest.raises(UsageError, match=name):
        EdgeClassifier.auto(**{name: value})
    assert not measured


@pytest.mark.parametrize(
    "options",
    [
        {"percentile": 101},
        {"threads": 0},
        {"threads": 10**6},
        {"engine": "tensorrt"},
        {"models": ["a", "b"]},
        {"models": 5},
        {"store": 5},
        *({"seconds_limit": value} for value in (0, -1, float("nan"), "60", None)),
    ],
    ids=str,
)
def test_other_bad_options_are_refused(home, measured, options):
    with pytest.raises(UsageError):
        choose(30, **options)


def test_an_engine_that_is_not_installed_is_named(home, measured, monkeypatch):
    monkeypatch.setattr(candidates, "available_engines", lambda: ())
    with pytest.raises(EngineError, match="pip install"):
        choose(30)


# The store


def test_an_empty_store_says_which_command_fills_it(empty_home):
    with pytest.raises(ModelNotFoundError, match="effnet-edge convert"):
        EdgeClassifier.auto(30)


def test_a_model_with_a_spoilt_description_is_skipped_and_named(home, measured):
    (home / "models" / "large.onnx").write_bytes(b"\x08\x08garbage")
    (home / "models" / "large.tflite").write_bytes(b"")
    selection = choose(100, threads=1)
    assert selection.chosen.model == "middle"
    assert [path.name for path, _ in selection.skipped] == ["large.onnx", "large.tflite"]
    assert sum("large" in note for note in selection.notes) == 2


def test_a_model_with_spoilt_weights_is_found_out_and_named(home, measured):
    for path in (home / "models").glob("large.*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    selection = choose(100, threads=1)
    assert selection.chosen.model == "middle"
    failed = [row for row in selection.rows if row.verdict == "failed"]
    assert {row.model for row in failed} == {"large"}
    assert not any(task.path.stem == "large" for task in measured)


def test_a_model_spoilt_after_it_was_chosen_is_not_loaded(home, measured):
    EdgeClassifier.auto(100, threads=1)
    for path in (home / "models").glob("large.*"):
        status = path.stat()
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert EdgeClassifier.auto(100, threads=1).metadata.name == "middle"


def test_models_of_different_questions_are_not_chosen_between(home, measured, tmp_path):
    labels = tuple(f"flower {index}" for index in range(10))
    for path in write_small_models(tmp_path / "other", name="flowers", labels=labels).values():
        path.rename(home / "models" / f"flowers{path.suffix}")
    with pytest.raises(UsageError, match=r"flowers: 10 classes, flower 0.*") as caught:
        choose(100, threads=1)
    assert "models=" in str(caught.value)
    assert chosen(100, models="[!f]*") == "large"


def test_a_pattern_that_matches_nothing_says_what_there_is(home, measured):
    with pytest.raises(ModelNotFoundError, match="large, middle, small"):
        choose(100, models="flowers")


def test_a_store_is_given_by_path_or_as_an_object(home, measured, monkeypatch, tmp_path):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path / "elsewhere"))
    for store in (home, str(home), ModelStore(home)):
        assert EdgeClassifier.auto(100, threads=1, store=store).metadata.name == "large"


# What is remembered


def test_the_second_time_nothing_is_measured(home, measured):
    first = choose(30, threads=1)
    count = len(measured)
    second = choose(30, threads=1)
    assert len(measured) == count > 0
    assert second.chosen == first.chosen
    assert (first.measured_now > 0, second.measured_now, second.seconds) == (True, 0, 0)
    assert EdgeClassifier.auto(30, threads=1).selection.measured_now == 0


def test_another_budget_uses_the_same_measurements(home, measured):
    choose(1000, threads=1)
    assert [task.path.stem for task in measured] == ["large"]
    assert choose(900, threads=1).measured_now == 0
    assert len(measured) == 1


def test_a_model_given_up_as_too_slow_is_measured_again_for_a_larger_budget(home, measured):
    assert chosen(15) == "small"
    assert chosen(1000) == "large"


def test_refresh_measures_anew(home, measured):
    choose(30, threads=1)
    count = len(measured)
    choose(30, threads=1, refresh=True)
    assert len(measured) > count


@pytest.mark.parametrize(
    "change",
    [
        lambda patch, home: patch.setattr(device, "fingerprint", lambda: "three cores"),
        lambda patch, home: patch.setattr(device, "installed_versions", lambda packages: {}),
    ],
    ids=["device", "version"],
)
def test_what_changes_the_answer_makes_it_be_asked_again(home, measured, monkeypatch, change):
    choose(30, threads=1)
    count = len(measured)
    change(monkeypatch, home)
    selection = choose(30, threads=1)
    assert selection.chosen.model == "middle"
    assert len(measured) > count


def test_a_model_removed_from_the_store_is_no_longer_told_of(home, measured):
    assert len(choose(30, threads=1).rows) == 6
    (home / "models" / "large.onnx").unlink()
    assert len(choose(30, threads=1).rows) == 5


def test_less_free_memory_than_then_makes_it_be_asked_again(home, measured, monkeypatch):
    assert chosen(100) == "large"
    monkeypatch.setattr(device, "available_memory", lambda: 150_000_000)
    assert chosen(100) == "middle"
    monkeypatch.setattr(device, "available_memory", lambda: 8_000_000_000)
    assert chosen(100) == "large"


def test_a_choice_made_while_memory_was_short_is_made_again_with_more(home, measured, monkeypatch):
    inner = CandidateEstimates.chances

    def pessimistic(self, limits):
        found = inner(self, limits)
        return [0.0, 0.0, *found[2:]] if limits.memory_bytes < 1e9 else found

    monkeypatch.setattr(CandidateEstimates, "chances", pessimistic)
    monkeypatch.setattr(CandidateEstimates, "memory_chances", lambda self, limit: [0.0] * 6)
    monkeypatch.setattr(device, "available_memory", lambda: 250_000_000)
    assert chosen(100) == "middle"
    assert not any(task.path.stem == "large" for task in measured)
    monkeypatch.setattr(device, "available_memory", lambda: 8_000_000_000)
    assert chosen(100) == "large"


def test_a_little_more_free_memory_is_no_reason_to_measure_again(home, measured, monkeypatch):
    monkeypatch.setattr(device, "available_memory", lambda: 150_000_000)
    assert chosen(100) == "middle"
    count = len(measured)
    monkeypatch.setattr(device, "available_memory", lambda: 155_000_000)
    assert chosen(100) == "middle"
    assert len(measured) == count


def test_a_kill_by_the_system_is_not_remembered_as_the_models_size(home, measured, monkeypatch):
    inner = trials.measure

    def crowded(task, *args, **options):
        if task.path.stem == "large":
            raise MeasurementError("the system killed it", "memory")
        return inner(task, *args, **options)

    monkeypatch.setattr(trials, "measure", crowded)
    assert chosen(100) == "middle"
    monkeypatch.setattr(trials, "measure", inner)
    assert choose(101, threads=1).chosen.model == "large"


def test_a_choice_from_before_a_device_changed_under_it_is_not_remembered(
    home, measured, monkeypatch
):
    cores = iter([*["two cores"] * 2, *["one core"] * 20])
    monkeypatch.setattr(device, "fingerprint", lambda: next(cores))
    selection = choose(30, threads=1)
    assert any("changed" in note for note in selection.notes)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b"\x00" * 4096),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text(path.read_text().replace('"format":1', '"format":99')),
        lambda path: path.write_text(path.read_text().replace("litert", "litret")),
    ],
    ids=["empty", "truncated", "zeros", "nested", "list", "version", "edited"],
)
def test_a_spoilt_memory_is_as_good_as_none(home, measured, spoil):
    before = choose(1000, threads=1)
    for path in (home / "measurements").glob("*.json"):
        spoil(path)
    assert choose(1000, threads=1).chosen == before.chosen
    assert len(measured) == 2


def test_a_remembered_choice_with_other_fields_is_made_again(home, measured):
    choose(1000, threads=1)
    question = Question(1000, threads=1)
    assert question.recall() is not None
    for value in ({}, [], "x", {"rows": [{}]}, {"peak_bytes": "3", "memory_bytes": 4}):
        question.cache.put(question.key(), value)
        assert chosen(1000) == "large"


def test_where_nothing_can_be_written_it_works_and_says_so(home, measured, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    (home / "measurements").write_text("in the way too")
    selection = choose(30, threads=1, store=home)
    assert selection.chosen.model == "middle"
    assert any("can't be remembered" in note for note in selection.notes)


def test_a_store_that_cannot_be_written_is_remembered_elsewhere(
    home, measured, tmp_path, monkeypatch
):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path / "own"))
    (home / "measurements").write_text("in the way")
    for _ in range(2):
        selection = choose(30, threads=1, store=home)
        count = len(measured)
    assert len(measured) == count and not selection.notes
    assert list((tmp_path / "own" / "measurements").glob("*.json"))


def test_a_clock_that_jumps_back_changes_nothing(home, measured, monkeypatch):
    choose(30, threads=1)
    count = len(measured)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    for path in (home / "measurements").glob("*.json"):
        os.utime(path, (4e9, 4e9))
    choose(30, threads=1)
    assert len(measured) == count


def test_old_measurements_do_not_pile_up(home, measured, monkeypatch):
    from effnet_edge.selection import cache

    monkeypatch.setattr(cache, "MOST_ENTRIES", 5)
    for budget in range(100, 120):
        choose(budget, threads=1)
    assert len(list((home / "measurements").glob("*.json"))) <= 5


# For real


def test_auto_measures_for_real_and_predicts(home):
    with EdgeClassifier.auto(1000, threads=1, models="small") as classifier:
        assert len(classifier.predict(PHOTO, top_k=3)) == 3
        row = classifier.selection.chosen
        assert (classifier.engine, classifier.threads) == (row.engine, row.threads)
        assert 0 < row.measured.p50_ms <= row.measured.p95_ms <= row.measured.p99_ms


def test_a_model_loaded_by_name_has_no_selection(home):
    assert EdgeClassifier.load("small").selection is None


def test_two_processes_at_once_measure_once(home):
    command = [sys.executable, "-m", "effnet_edge", "select", "--budget-ms", "1000", "--json"]
    command += ["--models", "small", "--threads", "1"]
    pair = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in pair]
    assert {answer["chosen"] for answer in answers} == {"small"}
    assert sum(answer["measured_now"] for answer in answers) <= 2  # of the two engines


# The command


def test_the_command_prints_the_table_and_how_to_run_the_choice(home, measured, capsys):
    assert cli.main(["select", "--budget-ms", "30", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "Within 30 ms at p95" in out
    assert "effnet-edge predict PHOTO --model middle --engine litert --threads 1" in out
    (line,) = [line for line in out.splitlines() if line.startswith("*")]
    assert "middle" in line and "20.0" in line and "40 MB" in line


def test_the_command_fails_with_the_table_when_nothing_fits(home, measured, capsys):
    assert cli.main(["select", "--budget-ms", "1", "--threads", "1", "--json"]) == 1
    streams = capsys.readouterr()
    assert json.loads(streams.out)["chosen"] is None
    assert "nearest is small" in streams.err
    assert cli.main(["select", "--budget-ms", "1", "--threads", "1", "--nearest"]) == 0


def test_select_all_shows_every_way(home, measured, capsys):
    cli.main(["select", "--budget-ms", "30", "--threads", "1", "--all"])
    out = capsys.readouterr().out
    assert sum(name in line for line in out.splitlines() for name in LADDER) >= 6


def test_replaced_models_are_asked_for_again(home, measured):
    choose(1000, threads=1)
    metadata = ModelStore().list()[0].metadata
    source = replace(metadata.source, top1=10.0)
    folder = home / "new"
    for path in write_small_models(folder, name="large", source=source).values():
        path.rename(home / "models" / f"large{path.suffix}")
    assert chosen(1000) == "middle"
