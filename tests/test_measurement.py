"""Measuring a model in a process of its own."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from small_models import write_small_models

from effnet_edge import measurement
from effnet_edge.errors import EngineError
from effnet_edge.measurement import MeasurementError, Plan, Task, measure, percentile

QUICK = Plan(warm_up=0, warm_up_limit=0.05, runs=20, seconds=0.05, seconds_limit=0.5)
SAYS = "import json, sys, os, time; sys.stdin.readline(); "
BASELINE = SAYS + "print(json.dumps({'baseline': 0}), flush=True); "


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_small_models(tmp_path_factory.mktemp("home") / "models")


@pytest.fixture(scope="module")
def task(models):
    return Task(models["onnx"], "onnxruntime", 1)


def children(parent: int) -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.add(path.parent.name)
    return found


@pytest.mark.parametrize(("kind", "engine"), [("onnx", "onnxruntime"), ("tflite", "litert")])
def test_every_run_is_told_apart_into_preprocessing_engine_and_labels(models, kind, engine):
    found = measure(Task(models[kind], engine, 1), QUICK)
    assert len(found.latencies_ms) >= 20
    assert len(found.latencies_ms) == len(found.preprocessing_ms) == len(found.inference_ms)
    for whole, *parts in zip(
        found.latencies_ms, found.preprocessing_ms, found.inference_ms, strict=True
    ):
        assert 0 < sum(parts) <= whole + 1e-3
    assert found.started_s[0] == 0 and list(found.started_s) == sorted(found.started_s)
    assert 0 <= time.monotonic() - found.began < 60
    assert found.load_ms > 0 and found.warmup_runs > 0 and not found.stopped_early


def test_memory_is_what_engine_and_model_add_to_a_python_without_them(task):
    peak = measure(task, QUICK).peak_bytes
    assert 5e6 < peak < 200e6  # the engine's code is most of it for so small a model


def test_a_model_that_outgrows_its_ceiling_is_ended(task):
    with pytest.raises(MeasurementError, match="more than 3 MB") as caught:
        measure(task, QUICK, ceiling_bytes=3_000_000)
    assert caught.value.reason == "memory" and caught.value.over_ceiling


def test_a_model_too_large_for_the_limit_is_given_up_after_its_first_run(task):
    found = measure(task, Plan(give_up_bytes=3_000_000))
    assert found.stopped_early and len(found.latencies_ms) == 1
    assert found.peak_bytes > 3_000_000


def test_when_time_is_short_the_runs_so_far_are_the_answer(task, monkeypatch):
    slow = "import effnet_edge.classifier as c, time; inner = c.EdgeClassifier.predict; "
    slow += "c.EdgeClassifier.predict = lambda *a: (time.sleep(0.5), inner(*a))[1]; "
    child = measurement._CHILD.replace(
        "from effnet_edge.measurement_worker", slow + "\nfrom effnet_edge.measurement_worker"
    )
    monkeypatch.setattr(measurement, "_CHILD", child)
    found = measure(task, Plan(timeout=8, seconds=60, seconds_limit=60))
    assert 1 <= len(found.latencies_ms) <= 12
    assert not found.stopped_early


def test_what_the_engine_keeps_while_measuring_is_removed_and_no_one_elses(task, monkeypatch):
    home = Path(os.environ["EFFNET_EDGE_HOME"])
    (home / "optimised").mkdir(parents=True, exist_ok=True)
    before = sorted(home.rglob("*"))
    measure(task, QUICK)
    assert sorted(home.rglob("*")) == before


def test_modules_of_the_current_folder_are_not_run(task, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert measure(task, QUICK).latencies_ms


def test_where_no_temporary_file_can_be_made_it_measures_all_the_same(task, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    monkeypatch.setenv("EFFNET_EDGE_HOME", "/dev/null/home")
    assert measure(task, QUICK).latencies_ms


def test_a_frozen_program_says_that_it_cannot_measure(task, monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(EngineError, match="interpreter"):
        measure(task, QUICK)


def test_a_runaway_is_ended_while_it_grows(task, monkeypatch):
    monkeypatch.setattr(
        measurement, "_CHILD", BASELINE + "x = [bytearray(b'x' * 10**7) for _ in range(10**5)]"
    )
    with pytest.raises(MeasurementError) as caught:
        measure(task, QUICK, ceiling_bytes=200_000_000)
    assert caught.value.reason == "memory"


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        ("os.kill(os.getpid(), 9)", "memory", "not enough memory"),
        ("os.abort()", "crash", "SIGABRT"),
        ("os.write(2, b'std::bad_alloc'); os.abort()", "memory", "not enough memory"),
        ("os.write(2, b'no\\nfault'); sys.exit(3)", "crash", "exit status 3.*fault"),
        ("os.kill(os.getpid(), 15)", "crash", "terminated"),
        ("print('{broken', flush=True); sys.exit(1)", "crash", "exit status 1"),
        ("print('[1]\\n7', flush=True); os.kill(os.getpid(), 40)", "crash", "signal 40"),
        ("os.close(1); time.sleep(60)", "crash", "silent"),
        ("time.sleep(60)", "timeout", "wasn't done after"),
    ],
)
def test_how_the_process_ended_is_told(task, monkeypatch, body, reason, words):
    monkeypatch.setattr(measurement, "_CHILD", BASELINE + body)
    monkeypatch.setattr(measurement, "_SECONDS_TO_DIE", 1.0)
    with pytest.raises(MeasurementError, match=words) as caught:
        measure(task, Plan(timeout=0.5 if reason == "timeout" else 30))
    assert caught.value.reason == reason
    assert not caught.value.over_ceiling


def test_a_spoilt_model_is_refused_with_the_ordinary_error(models, tmp_path):
    data = bytearray(models["onnx"].read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "spoilt.onnx"
    path.write_bytes(data)
    with pytest.raises(MeasurementError, match=r"spoilt\.onnx") as caught:
        measure(Task(path, "onnxruntime", 1), QUICK)
    assert caught.value.reason == "error"


def test_a_model_far_over_the_budget_is_given_up_early(task):
    found = measure(task, Plan(give_up_ms=1e-3))
    assert found.stopped_early
    assert len(found.latencies_ms) > 1


def test_progress_rises_to_the_end(task):
    parts = []
    measure(task, Plan(warm_up=0, warm_up_limit=0, seconds=0.8), on_progress=parts.append)
    assert len(parts) >= 2 and all(0 <= part <= 1 for part in parts)


def test_sustained_runs_last_as_long_as_asked(task):
    found = measure(task, Plan.sustained(0.5))
    assert 0.4 < found.started_s[-1] < 5
    assert found.warmup_runs == 1


def test_no_process_is_left_behind(task, monkeypatch):
    before = children(os.getpid())
    measure(task, QUICK)
    monkeypatch.setattr(measurement, "_CHILD", BASELINE + "time.sleep(60)")
    with pytest.raises(MeasurementError):
        measure(task, Plan(timeout=0.2))
    assert children(os.getpid()) <= before


def test_ctrl_c_ends_the_process_too(task, monkeypatch):
    monkeypatch.setattr(measurement, "_CHILD", BASELINE + "time.sleep(60)")
    before = children(os.getpid())
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        measure(task, Plan(timeout=30))
    assert children(os.getpid()) <= before


def test_the_process_goes_when_its_parent_is_killed(models, tmp_path):
    script = (
        "from pathlib import Path; from effnet_edge.measurement import *\n"
        f"measure(Task(Path({str(models['onnx'])!r}), 'onnxruntime', 1), Plan.sustained(60),"
        " on_progress=lambda part: print(part, flush=True))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    parent.stdout.readline()
    (child,) = children(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not Path(f"/proc/{child}/cmdline").exists():
            return
        time.sleep(0.05)
    pytest.fail("it still runs")


def test_a_script_without_a_main_guard_can_measure(models, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom effnet_edge.measurement import *\n"
        f"m = measure(Task(Path({str(models['onnx'])!r}), 'onnxruntime', 1), Plan(runs=1,"
        " seconds=0))\nprint(len(m.latencies_ms) > 0)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr


def test_a_percentile_is_a_latency_that_was_seen():
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, p) for p in (50, 90, 95, 99, 100)] == [50, 90, 95, 99, 100]
    assert percentile([3.0, 1.0, 2.0], 95) == 3
    assert percentile([7.0], 1) == 7
    assert percentile(values, math.ulp(0)) == 1
