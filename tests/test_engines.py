"""Engines: chosen by name or format, alike in what they compute, clear about what goes wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import networks
import numpy as np
import onnx
import pytest
from kernel_models import write
from onnx import TensorProto, helper
from small_models import CLASSES, RESOLUTION, write_small_models

from effnet_edge import engines, kernels
from effnet_edge.device import default_threads
from effnet_edge.engines import (
    ENGINES,
    NATIVE,
    available_engines,
    choose_engine,
    open_session,
)
from effnet_edge.engines.base import import_engine
from effnet_edge.engines.onnxruntime import ask_for_exact_products
from effnet_edge.errors import EngineError, ModelError, UsageError
from effnet_edge.kernels import find_kernels

INSTALLED = [engine.name for engine in available_engines()]
FOREIGN = [name for name in INSTALLED if name != NATIVE]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files by their format, and by the name of an engine for its own kind of model."""
    folder = tmp_path_factory.mktemp("engines")
    written = write_small_models(folder)
    by_engine = {name: written[ENGINES[name].format] for name in FOREIGN}
    return {**written, **by_engine, NATIVE: write(folder, resolution=RESOLUTION, classes=CLASSES)}


@pytest.fixture(params=INSTALLED)
def session(request, models):
    with open_session(models[request.param], ENGINES[request.param], threads=2) as session:
        yield session


def test_both_formats_have_an_engine_here():
    assert {"onnxruntime", "litert"} <= set(INSTALLED)


def test_a_session_says_what_it_takes_and_gives(session):
    assert session.input_shape == RESOLUTION
    assert session.classes == CLASSES
    assert session.threads == 2
    logits = session.run(networks.photos(1, RESOLUTION))
    assert logits.shape == (1, CLASSES) and logits.dtype == np.float32


def test_engines_agree_on_a_batch_of_any_size(models):
    images = networks.photos(5, RESOLUTION)
    results = []
    for name in FOREIGN:
        with open_session(models[name], ENGINES[name]) as session:
            results.append(session.run(images))
            assert np.allclose(session.run(images[3:4]), results[-1][3:4], atol=1e-4)
            assert session.run(images[:0]).shape == (0, CLASSES)
    for result in results[1:]:
        assert networks.relative_error(result, results[0]) < 1e-4


def test_logits_come_out_and_not_probabilities(session):
    logits = session.run(networks.photos(1, RESOLUTION))[0]
    assert logits.min() < 0 and abs(logits.sum() - 1) > 0.1


def test_a_view_of_an_array_gives_what_its_copy_gives(session):
    images = networks.photos(4, RESOLUTION)
    assert (session.run(images[::2, :, ::-1]) == session.run(images[::2, :, ::-1].copy())).all()


def test_an_earlier_result_stays_when_the_session_runs_again(session):
    images = networks.photos(2, RESOLUTION)
    first = session.run(images[:1])
    kept = first.copy()
    session.run(images[1:])
    assert (first == kept).all()


def test_threads_may_share_a_session(session):
    images = networks.photos(8, RESOLUTION)
    expected = [session.run(image[None])[0] for image in images]
    start = threading.Barrier(8)

    def work(index):
        start.wait()
        return [session.run(images[(index + i) % 8][None])[0] for i in range(12)]

    with ThreadPoolExecutor(8) as pool:
        for index, results in enumerate(pool.map(work, range(8))):
            for i, result in enumerate(results):
                assert np.allclose(result, expected[(index + i) % 8], atol=1e-5)


@pytest.mark.parametrize("bad", ["float", "size", "one image"])
def test_a_batch_of_another_kind_is_refused(session, bad):
    images = networks.photos(1, RESOLUTION)
    batch = {"float": images.astype(np.float32), "size": images[:, 1:], "one image": images[0]}[bad]
    with pytest.raises(EngineError, match="takes uint8 images"):
        session.run(batch)


@pytest.mark.parametrize("session", sorted({"onnxruntime", NATIVE} & set(INSTALLED)), indirect=True)
def test_threads_do_not_spin_between_runs(session):
    """They would heat the device, and take the cores from whatever else runs there."""
    images = networks.photos(1, RESOLUTION)
    spent = []
    for _ in range(3):
        session.run(images)
        started = time.process_time()
        time.sleep(0.1)
        spent.append(time.process_time() - started)
    assert min(spent) < 0.02


def test_a_closed_session_says_so_and_may_be_closed_again(session):
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run(networks.photos(1, RESOLUTION))


def test_closing_while_others_run_ends_in_results_or_errors(models):
    images = networks.photos(1, RESOLUTION)
    for name in INSTALLED:
        session = open_session(models[name], ENGINES[name])

        def work(session=session):
            try:
                while True:
                    assert session.run(images).shape == (1, CLASSES)
            except EngineError as error:
                return str(error)

        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(work) for _ in range(3)]
            session.close()
            assert all("closed" in future.result(timeout=30) for future in running)


def test_threads_default_to_the_fast_cores_of_this_process(models):
    with open_session(models["onnx"], ENGINES["onnxruntime"]) as session:
        assert session.threads == default_threads() >= 1


def test_no_threads_is_refused(models):
    with pytest.raises(UsageError, match="1 or more, not 0"):
        open_session(models["onnx"], ENGINES["onnxruntime"], threads=0)


@pytest.mark.parametrize("session", FOREIGN, indirect=True)
@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, CLASSES)),
        np.zeros((1, CLASSES), np.int64),
        np.zeros(CLASSES, np.float32),
        np.zeros((1, CLASSES + 1), np.float32),
        np.zeros((2, CLASSES), np.float32),
        [[0.0] * CLASSES],
        None,
    ],
    ids=lambda wrong: f"{getattr(wrong, 'dtype', '')}{np.shape(wrong)}",
)
def test_logits_of_another_kind_are_a_model_error(session, wrong):
    class Fake:
        def run(self, *args):
            return [wrong]

        def set_tensor(self, *args):
            pass

        def invoke(self):
            pass

        def get_tensor(self, index):
            return wrong

    session._session = session._interpreter = Fake()
    with pytest.raises(ModelError, match=r"where float32 \[1, 10\] is expected"):
        session.run(networks.photos(1, RESOLUTION))


def test_a_model_that_computes_integers_is_a_model_error(tmp_path):
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
            helper.make_node("Cast", ["means"], ["logits"], to=TensorProto.INT64),
        ],
        "integers",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.INT64, ["N", 3])],
    )
    path = tmp_path / "integers.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    with (
        open_session(path, ENGINES["onnxruntime"]) as session,
        pytest.raises(ModelError, match=r"int64 \[2, 3\]"),
    ):
        session.run(np.zeros((2, 8, 8, 3), np.uint8))


# What the engines write to stderr


def stderr_of(program: str) -> str:
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stderr


def shown_by(program: str) -> str:
    """What a person sees whose terminal is the program's stderr."""
    pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", 0) as screen:
        try:
            run = subprocess.Popen([sys.executable, "-c", program], stderr=theirs)
        finally:
            os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # Linux says EIO once nobody has it open
            while data := screen.read(1 << 10):
                said += data
        assert run.wait(timeout=60) == 0, said
    return said.decode().replace("\r\n", "\n")


def test_a_model_is_loaded_without_a_word_on_a_terminal(models):
    assert "tflite" in models
    for name in INSTALLED:
        path = models[name]
        said = shown_by(f"""
from pathlib import Path
from effnet_edge.engines import ENGINES, open_session
open_session(Path({str(path)!r}), ENGINES[{name!r}])
""")
        assert said == "", name


NOISY = """
import os, sys
from pathlib import Path
from effnet_edge.engines.tflite import InterpreterSession

class Noisy:
    def __init__(self, model_path, num_threads):
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\\nWARNING: old\\n")
        print("from Python", file=sys.stderr, flush=True)
    def allocate_tensors(self):
        os.write(2, b"ERROR: no kernel")
        raise ValueError("broken")

try:
    InterpreterSession(Noisy, Path("model"), 1, "an engine")
except Exception as error:
    assert "broken" in str(error)
else:
    sys.exit("no error")
"""


def test_all_but_the_one_known_line_reaches_a_terminal():
    said = shown_by(NOISY + "print('after', file=sys.stderr)")
    assert said == "WARNING: old\nfrom Python\nERROR: no kernelafter\n"


def test_the_last_words_of_an_engine_that_aborts_reach_a_file():
    program = NOISY.replace('raise ValueError("broken")', "os.abort()")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode != 0
    assert "WARNING: old\nfrom Python\nERROR: no kernel" in run.stderr


def test_a_model_is_loaded_where_stderr_is_closed(models):
    stderr_of(f"""
import os
os.close(2)
from pathlib import Path
from effnet_edge.engines import ENGINES, open_session
open_session(Path({str(models["tflite"])!r}), ENGINES["litert"])
try:
    os.fstat(2)
except OSError:
    os._exit(0)
os._exit(1)
""")


# Choosing


def test_the_format_picks_the_engine():
    assert choose_engine("onnx").name == choose_engine("onnx", None, "fp32").name == "onnxruntime"
    assert choose_engine("tflite").name == "litert"
    assert choose_engine("tflite", "tflite-runtime").name == "tflite-runtime"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_our_kernels_are_chosen_for_int8_models_where_there_are_any(precision, monkeypatch):
    ours = precision == "int8" and find_kernels().error is None
    assert choose_engine("onnx", None, precision).name == (NATIVE if ours else "onnxruntime")
    assert choose_engine("tflite", None, precision).name == "litert"
    monkeypatch.setenv(kernels.ISA, kernels.PORTABLE)
    assert choose_engine("onnx", None, precision).name == "onnxruntime"
    assert NATIVE not in [engine.name for engine in available_engines()]


def test_a_model_that_our_kernels_do_not_compute_is_refused():
    assert choose_engine("onnx", NATIVE, "int8").name == NATIVE
    with pytest.raises(UsageError, match="native runs int8 models, not fp32: leave the engine out"):
        choose_engine("onnx", NATIVE, "fp32")


def test_an_instruction_set_that_cannot_be_is_an_error_of_who_opens_a_session(models, monkeypatch):
    monkeypatch.setenv(kernels.ISA, "mmx")
    engine = choose_engine("onnx", None, "int8")
    assert engine.name == NATIVE
    with pytest.raises(UsageError, match="mmx"):
        open_session(models[NATIVE], engine)


def test_an_unknown_engine_is_refused_with_the_list():
    with pytest.raises(UsageError, match=r"'ort'.*native, onnxruntime, litert, tflite-runtime"):
        choose_engine("onnx", "ort")
    for name in (3, ["litert"], ""):
        with pytest.raises(UsageError, match="there is no engine"):
            choose_engine("onnx", name)


def test_an_engine_of_the_other_format_is_refused():
    with pytest.raises(UsageError, match=r"litert runs \.tflite files, not \.onnx"):
        choose_engine("onnx", "litert")


def test_tflite_runtime_stands_in_for_litert(monkeypatch):
    present = importlib.util.find_spec

    def find_spec(name):
        if name == "ai_edge_litert":
            return None
        return present("json") if name == "tflite_runtime" else present(name)

    monkeypatch.setattr(engines, "find_spec", find_spec)
    assert choose_engine("tflite").name == "tflite-runtime"


def test_without_an_engine_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="pip install ai-edge-litert or tflite-runtime"):
        choose_engine("tflite")
    with pytest.raises(EngineError, match=r"no engine for \.onnx files.*install onnxruntime$"):
        choose_engine("onnx", None, "fp32")


@pytest.mark.skipif("tflite-runtime" in INSTALLED, reason="tflite-runtime is installed")
def test_an_engine_asked_for_but_not_installed_says_how_to_install_it(models):
    with pytest.raises(EngineError, match="pip install tflite-runtime"):
        open_session(models["tflite"], choose_engine("tflite", "tflite-runtime"))


def test_an_engine_that_is_installed_but_broken_says_why(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_engine_one.py").write_text("import a_library_that_is_missing")
    (tmp_path / "broken_engine_two.py").write_text("raise AttributeError('numpy is too new')")
    with pytest.raises(EngineError, match=r"doesn't load.*a_library_that_is_missing"):
        import_engine("broken_engine_one", "broken")
    with pytest.raises(EngineError, match=r"doesn't load.*numpy is too new"):
        import_engine("broken_engine_two", "broken")


# Files that aren't ours


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("data", [b"", b"rubbish" * 100, b"\x08\x08\x12\x05"])
def test_rubbish_is_refused_with_the_engines_name(name, data, tmp_path):
    path = tmp_path / "rubbish"
    path.write_bytes(data)
    with pytest.raises((EngineError, ModelError), match="rubbish"):
        open_session(path, ENGINES[name])


def save_identity(path, inputs, outputs, kind=TensorProto.FLOAT):
    nodes = [helper.make_node("Identity", [inputs[0][0]], [name]) for name, _ in outputs]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


@pytest.mark.parametrize(
    ("inputs", "outputs", "kind"),
    [
        ([("x", ["N", 8, 8, 3])], [("logits", ["N", 8, 8, 3])], TensorProto.UINT8),
        ([("image", ["N", 8, 8, 3])], [("y", ["N", 8, 8, 3])], TensorProto.UINT8),
        ([("image", ["N", 8, 8, 3])], [("logits", ["N", 8, 8, 3])], TensorProto.UINT8),
        ([("image", ["N", "H", "W", 3])], [("logits", ["N", "C"])], TensorProto.UINT8),
        ([("image", ["N", 8])], [("logits", ["N", 8])], TensorProto.FLOAT),
    ],
)
def test_a_model_with_other_tensors_is_refused(inputs, outputs, kind, tmp_path):
    path = tmp_path / "foreign.onnx"
    save_identity(path, inputs, outputs, kind)
    with pytest.raises(ModelError, match="effnet-edge models take"):
        open_session(path, ENGINES["onnxruntime"])


class Options:
    """Session options that remember what was set."""

    def __init__(self):
        self.entries = {}

    def add_session_config_entry(self, key, value):
        self.entries[key] = value


@pytest.mark.parametrize(
    ("machine", "flags", "asked"),
    [
        ("x86_64", "fpu sse4_2 avx avx2 fma", True),
        ("x86_64", "fpu avx2 avx512f avx512_vnni", False),
        ("AMD64", "fpu avx2 avx_vnni", False),
        ("aarch64", "", False),
    ],
)
def test_exact_int8_products_are_asked_for_on_x86_without_vnni_only(
    machine, flags, asked, monkeypatch, tmp_path
):
    (tmp_path / "proc").mkdir()
    cpu_info = tmp_path / "proc/cpuinfo"
    cpu_info.write_text(f"processor\t: 0\nvendor_id\t: X\nflags\t\t: {flags}\n")
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("effnet_edge.engines.onnxruntime._ROOT", tmp_path)
    options = Options()
    ask_for_exact_products(options)
    assert options.entries == ({"session.x64quantprecision": "1"} if asked else {})


def test_exact_int8_products_are_asked_for_where_the_processor_does_not_say(monkeypatch, tmp_path):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("effnet_edge.engines.onnxruntime._ROOT", tmp_path / "nothing")
    options = Options()
    ask_for_exact_products(options)
    assert options.entries
