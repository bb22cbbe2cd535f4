"""Running a benchmark: rounds, failures, interruptions, what the device says meanwhile."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import small_models

from effnet_edge.bench import document, running
from effnet_edge.bench.cells import PlannedCell
from effnet_edge.bench.results import MOST_LATENCIES
from effnet_edge.bench.running import Benchmark, Settings
from effnet_edge.bench.spreadsheet import to_csv
from effnet_edge.device import DeviceState
from effnet_edge.measurement import Measurement, MeasurementError
from effnet_edge.metadata import ModelMetadata
from effnet_edge.model_file import read_metadata


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return small_models.write_small_models(tmp_path_factory.mktemp("models"))["onnx"]


@pytest.fixture(scope="module")
def metadata(model) -> ModelMetadata:
    return read_metadata(model)


def a_measurement(latencies=(5.0, 6.0, 7.0)):
    return Measurement(
        latencies_ms=latencies,
        preprocessing_ms=tuple(1.0 for _ in latencies),
        inference_ms=tuple(value - 1 for value in latencies),
        started_s=tuple(0.01 * index for index in range(len(latencies))),
        began=100.0,
        load_ms=50.0,
        peak_bytes=30_000_000,
        warmup_runs=9,
        stopped_early=False,
    )


class Bench:
    """A fake of what measures, and the log of what it was asked for."""

    def __init__(self, monkeypatch, states=()):
        self.tasks, self.plans, self.ceilings = [], [], []
        self.answers = {}
        self.clock = 99.0
        self.states = iter(states)
        monkeypatch.setattr(running, "measure", self.measure)
        monkeypatch.setattr(running.device, "state", self.state, raising=False)
        monkeypatch.setattr(running.device, "available_memory", lambda: 10**9, raising=False)
        monkeypatch.setattr(running.time, "monotonic", self.monotonic)
        monkeypatch.setattr(running.time, "sleep", lambda seconds: None)

    def monotonic(self):
        self.clock += 0.6
        return self.clock

    def state(self):
        return next(self.states, DeviceState(None, (), None, ()))

    def measure(self, task, plan, *, ceiling_bytes, on_progress):
        self.tasks.append(task)
        self.plans.append(plan)
        self.ceilings.append(ceiling_bytes)
        on_progress(0.5)
        on_progress(0.9)
        answer = self.answers.get(task.threads, a_measurement())
        if isinstance(answer, BaseException):
            raise answer
        return answer


def cells(model, metadata, count):
    return [
        PlannedCell(metadata.name, "onnxruntime", threads, model, metadata)
        for threads in range(1, count + 1)
    ]


def test_every_round_takes_every_cell_once_in_another_order(monkeypatch, model, metadata):
    bench = Bench(monkeypatch)
    benchmark = Benchmark(cells(model, metadata, 6), Settings(rounds=4))
    benchmark.run(lambda what, part: None)
    order = [task.threads for task in bench.tasks]
    rounds = [tuple(order[start : start + 6]) for start in range(0, 24, 6)]
    assert all(sorted(each) == [1, 2, 3, 4, 5, 6] for each in rounds)
    assert len(set(rounds)) > 1
    session = benchmark.session()
    assert session.complete
    assert [len(cell.rounds) for cell in session.cells] == [4] * 6


def test_a_cell_that_fails_keeps_its_reason_and_is_not_tried_again(monkeypatch, model, metadata):
    bench = Bench(monkeypatch)
    bench.answers[2] = MeasurementError("it takes more than 10 MB", "memory")
    benchmark = Benchmark(cells(model, metadata, 3), Settings(rounds=3))
    progress = []
    benchmark.run(lambda what, part: progress.append(part))
    assert Counter(task.threads for task in bench.tasks) == {1: 3, 2: 1, 3: 3}
    failed = benchmark.session().cells[1]
    assert (failed.error, failed.reason) == ("it takes more than 10 MB", "memory")
    assert failed.rounds == ()
    assert sum(progress) == pytest.approx(benchmark.measurements)


def test_a_cell_that_the_system_refuses_is_a_row_and_the_others_go_on(monkeypatch, model, metadata):
    bench = Bench(monkeypatch)
    bench.answers[1] = OSError(28, "No space left on device")
    benchmark = Benchmark(cells(model, metadata, 2), Settings(rounds=1))
    benchmark.run(lambda what, part: None)
    failed, other = benchmark.session().cells
    assert (failed.rounds, failed.reason) == ((), "error")
    assert "No space left" in failed.error
    assert len(other.rounds) == 1


def test_a_long_round_has_the_time_it_was_given():
    for seconds in (2.0, 900.0, 5000.0):
        plan = Settings(seconds=seconds).plan
        assert plan.timeout > plan.seconds_limit + plan.warm_up_limit


def test_a_result_holds_no_text_that_terminals_obey_or_files_refuse(monkeypatch, model, metadata):
    bench = Bench(monkeypatch)
    bench.answers[1] = MeasurementError("\x1b[2J" + 9000 * "\udcff", "crash")
    planned = PlannedCell("\udcff\x1b[31m", "onnxruntime", 1, model, metadata)
    missing = PlannedCell("a\nb", "", None, error="\x07 " + 9000 * "x")
    benchmark = Benchmark([planned, missing], Settings(rounds=1))
    said = []
    benchmark.run(lambda what, part: said.append(what))
    session = benchmark.session()
    assert [cell.name for cell in session.cells] == ["??[31m", "a?b"]
    assert session.cells[0].model.name == "??[31m"
    assert not any("\x1b" in what for what in said)
    assert document.from_json(document.to_json(session)).cells == session.cells
    to_csv([session]).encode()


def test_an_interruption_keeps_what_was_measured(monkeypatch, model, metadata):
    bench = Bench(monkeypatch)
    bench.answers[2] = KeyboardInterrupt()
    benchmark = Benchmark(cells(model, metadata, 3), Settings(rounds=3))
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(lambda what, part: None)
    session = benchmark.session()
    assert not session.complete
    assert sum(len(cell.rounds) for cell in session.cells) == len(bench.tasks) - 1


def test_what_cannot_be_run_is_not_run(monkeypatch, model, metadata):
    bench = Bench(monkeypatch)
    missing = PlannedCell("efficientnet-b5", "", None, error="not in the store")
    benchmark = Benchmark([missing, *cells(model, metadata, 1)], Settings(rounds=2))
    benchmark.run(lambda what, part: None)
    assert len(bench.tasks) == 2
    assert benchmark.session().cells[0].reason == "missing"


def test_a_model_may_take_what_the_device_has_left_but_not_all(monkeypatch, model, metadata):
    bench = Bench(monkeypatch)
    Benchmark(cells(model, metadata, 1), Settings(rounds=1)).run(lambda what, part: None)
    assert 0.8e9 < bench.ceilings[0] < 0.96e9


def test_throttling_during_a_round_is_noted(monkeypatch, model, metadata):
    cool = DeviceState(48.0, (2400,), "ondemand", ())
    hot = DeviceState(84.0, (1500,), "ondemand", ("frequency lowered by heat",))
    Bench(monkeypatch, [cool, hot, cool, cool])
    benchmark = Benchmark(cells(model, metadata, 1), Settings(rounds=1))
    benchmark.run(lambda what, part: None)
    (cell,) = benchmark.session().cells
    assert cell.throttling == ("frequency lowered by heat",)
    temperatures = [moment.temperature_c for moment in cell.rounds[0].conditions]
    assert temperatures == [48, 84, 48]
    seconds = [moment.seconds for moment in cell.rounds[0].conditions]
    assert seconds == sorted(seconds)


def test_throttling_that_was_over_before_is_not_blamed_on_the_cell(monkeypatch, model, metadata):
    old = DeviceState(48.0, (2400,), "ondemand", ("under-voltage since start",))
    Bench(monkeypatch, [old] * 10)
    benchmark = Benchmark(cells(model, metadata, 1), Settings(rounds=1))
    benchmark.run(lambda what, part: None)
    assert benchmark.session().cells[0].throttling == ()


def test_a_sustained_run_waits_until_the_device_is_cool_again(monkeypatch, model, metadata):
    def at(celsius):
        return DeviceState(celsius, (2400,), "ondemand", ())

    first = [at(50.0)] * 4
    hot = [at(80.0), at(70.0), at(60.0), at(52.0), at(52.0)]
    bench = Bench(monkeypatch, [*first, *hot, *[at(52.0)] * 20])
    benchmark = Benchmark(cells(model, metadata, 2), Settings(rounds=1, duration_s=60.0))
    said = []
    benchmark.run(lambda what, part: said.append(what))
    assert [text for text in said if "cooling" in text] == [
        "cooling down from 80 \u00b0C",
        "cooling down from 70 \u00b0C",
        "cooling down from 60 \u00b0C",
    ]
    assert bench.plans[0].seconds == 60
    assert benchmark.session().sustained_seconds == 60


def test_of_a_long_run_evenly_many_latencies_are_kept(monkeypatch, model, metadata):
    bench = Bench(monkeypatch)
    runs = 2 * MOST_LATENCIES + 2
    bench.answers[1] = a_measurement((99.0, *range(2, runs), 1.5))
    benchmark = Benchmark(cells(model, metadata, 1), Settings(rounds=1))
    benchmark.run(lambda what, part: None)
    (kept,) = benchmark.session().cells[0].rounds
    assert kept.runs == runs
    assert len(kept.latencies_ms) <= MOST_LATENCIES
    assert len(kept.started_s) == len(kept.inference_ms) == len(kept.latencies_ms)
    assert kept.min_ms == 1.5
    assert kept.started_s[-1] > 0.01 * (runs - 4)


def test_the_session_says_what_was_measured_with_what(monkeypatch, model, metadata):
    Bench(monkeypatch)
    benchmark = Benchmark(cells(model, metadata, 1), Settings(rounds=1))
    benchmark.run(lambda what, part: None)
    session = benchmark.session()
    assert session.tool.startswith("effnet-edge ")
    assert {"effnet-edge", "numpy", "pillow", "python", "kernel"} <= set(session.environment)
    assert session.board
    found = session.cells[0].model
    assert (found.name, found.file, found.phi) == (metadata.name, model.name, metadata.phi)
    assert found.size == model.stat().st_size
    assert len(found.sha256) == 64
