"""Our kernels behind ONNX Runtime: the same integers as the functions' bodies, sooner."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
import quantized_networks
import quantized_reference
from kernel_models import kernel_library, write
from small_models import write_small_models

from effnet_edge import kernels
from effnet_edge.converters.quantized_onnx_writer import (
    quantized_part_model,
)
from effnet_edge.engines import ENGINES, open_session, optimised
from effnet_edge.errors import EngineError, UsageError
from effnet_edge.kernels import find_kernels
from effnet_edge.selection.asking import circumstances

# x86 kernels do the arithmetic of the bodies; what gates and shortcuts round otherwise makes a step
# here and there. Those for ARM interpolate SiLU, and where SiLU has factors, the bodies' rounding
# before the sigmoid is left out: kernels/README.md. Random networks amplify both.
EXACT = ("avx", "scalar")
FIXED_POINT = "scalar-fixed"


@pytest.fixture(scope="session")
def library() -> str:
    return kernel_library()


@pytest.fixture(params=find_kernels().usable or ("none",))
def isa(request, library, monkeypatch) -> str:
    monkeypatch.setenv(kernels.ISA, request.param)
    return request.param


def part_session(model: bytes, library: str | None, threads: int = 1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    if library is not None:
        options.add_session_config_entry("effnet_edge.threads", str(threads))
        options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("int8"), resolution=(45, 37))


def opened(path: Path, threads: int = 1, digest: str | None = None):
    return open_session(path, ENGINES["onnxruntime"], threads, digest)


def pictures(count: int, size=(45, 37)):
    return networks.photos(count, size, 42)


def is_exact(isa: str, variant) -> bool:
    return isa.startswith(EXACT) and isa != FIXED_POINT and not variant.get("scaled")


@pytest.mark.parametrize("variant", quantized_networks.VARIANTS)
def test_each_part_gives_the_integers_of_its_functions_body(isa, library, variant):
    network = quantized_networks.random_quantized(**variant)
    x = networks.photos(2, network.resolution, 42)
    for index, (part, forward) in enumerate(quantized_reference.parts(network)):
        stored = x if index == 0 else (x + np.int16(128)).astype(np.uint8)
        made = quantized_part_model(
            part, network.padding, x.shape[1:3], network.offset if index == 0 else None
        )
        (expected,) = part_session(made, None).run(["y"], {"x": stored})
        ours = part_session(made, library)
        (got,) = ours.run(["y"], {"x": stored})
        assert ours.get_outputs()[0].shape == ["N", *expected.shape[1:]]
        if part is network.head:
            assert quantized_networks.snr(got, expected) > 25
            continue
        steps = np.abs(got.astype(np.int16) - expected)
        if is_exact(isa, variant):
            assert steps.max() <= 2 and np.mean(steps) < 0.2
        else:
            assert steps.max() <= 16 and np.mean(steps) < 2
        x = forward(x)


@pytest.mark.parametrize("variant", quantized_networks.VARIANTS)
def test_the_network_gives_the_logits_of_the_bodies(isa, tmp_path, monkeypatch, variant):
    path = write(tmp_path, **variant)
    with opened(path) as session:
        assert session.isa == isa
        got = session.run(pictures(4, session.input_shape))
    monkeypatch.setenv(kernels.ISA, kernels.PORTABLE)
    with opened(path) as session:
        assert session.isa is None
        expected = session.run(pictures(4, session.input_shape))
    assert quantized_networks.snr(got, expected) > (22 if is_exact(isa, variant) else 16)


def test_threads_and_batches_change_nothing(isa, model):
    with opened(model) as session:
        expected = [session.run(image[None])[0] for image in pictures(5)]
    for threads in (1, 2, 3):
        with opened(model, threads) as session:
            assert np.array_equal(session.run(pictures(5)), expected)


def test_a_session_serves_several_threads_at_once(library, model):
    images = pictures(6)
    with opened(model, 2) as session, opened(model, 1) as other:
        expected = session.run(images)

        def run(index: int):
            which = session if index % 3 else other
            return which.run(images[index % 6][None])[0]

        with ThreadPoolExecutor(4) as pool:
            for index, got in enumerate(pool.map(run, range(200))):
                assert np.array_equal(got, expected[index % 6])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_runs_or_sessions(library, model):
    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def use(count: int) -> None:
        for _ in range(count):
            with opened(model, 2) as session:
                for image in pictures(2):
                    session.run(image[None])

    use(50)
    before = resident()
    use(150)
    # A session's weights are 100 kB.
    assert resident() - before < 4 << 20


def test_nothing_is_kept_of_a_model_that_runs_on_kernels(library, model, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFNET_EDGE_HOME", str(tmp_path))
    monkeypatch.setattr(optimised, "LEAST_MODEL_BYTES", 1)
    opened(model, digest="d").close()
    assert not (tmp_path / "optimised").exists()
    monkeypatch.setenv(kernels.ISA, kernels.PORTABLE)
    opened(model, digest="d").close()
    assert (tmp_path / "optimised").exists()


def test_a_float_model_is_left_to_the_engine(library, tmp_path):
    with opened(write_small_models(tmp_path)["onnx"]) as session:
        assert session.isa is None


def spoilt(model: Path, folder: Path) -> Path:
    """A model that bodies can run and kernels can't: a block has two strides."""
    made = onnx.load(model)
    names = ((node, node.op_type) for node in made.graph.node)
    block = next(
        node for node, name in names if name.startswith("MBConv") and not name.endswith("Residual")
    )
    strides = next(each for each in block.attribute if each.name == "strides")
    strides.ints[:] = [1, 2]
    path = folder / "spoilt.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_what_kernels_refuse_the_bodies_run(library, model, tmp_path, monkeypatch):
    path = spoilt(write(tmp_path, resolution=(45, 37)), tmp_path)
    with opened(path) as session:
        assert session.isa is None and session.run(pictures(1)).shape[0] == 1
    monkeypatch.setenv(kernels.ISA, find_kernels().usable[0])
    with pytest.raises(EngineError, match="strides"):  # who asks for kernels is told
        opened(path)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [("missing.so", None, "is missing"), ("broken.so", b"\x7fELF", "don't load")],
)
def test_a_library_that_does_not_load_is_done_without(
    model, tmp_path, monkeypatch, name, content, error
):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(kernels.LIBRARY, str(path))
    found = find_kernels()
    assert found.isa is None and error in (found.error or "")
    with opened(model) as session:
        assert session.isa is None and session.run(pictures(1)).shape[0] == 1
    monkeypatch.setenv(kernels.ISA, "avx2")
    with pytest.raises(UsageError, match=r"EFFNET_EDGE_ISA asks for 'avx2', but there are no"):
        opened(model)


def test_another_library_is_no_library_of_ours(monkeypatch):
    import _ctypes

    monkeypatch.setenv(kernels.LIBRARY, _ctypes.__file__)
    assert "another library" in (find_kernels().error or "")


def test_a_library_of_another_version_is_refused(library, monkeypatch):
    monkeypatch.setattr(kernels, "_ABI_VERSION", 1000)
    assert "install effnet-edge anew" in (find_kernels().error or "")


def test_an_unknown_instruction_set_is_an_error_that_lists_the_others(library, model, monkeypatch):
    usable = find_kernels().usable
    monkeypatch.setenv(kernels.ISA, "mmx")
    with pytest.raises(UsageError) as caught:
        opened(model)
    assert "mmx" in str(caught.value) and all(name in str(caught.value) for name in usable)


def test_the_reference_kernels_are_never_the_first_choice(library, monkeypatch):
    monkeypatch.setattr(kernels, "_usable", lambda library: ("scalar", "scalar-fixed"))
    assert "lacks the instructions" in (find_kernels().error or "")
    monkeypatch.setenv(kernels.ISA, "scalar")
    assert find_kernels().isa == "scalar"


def test_measurements_are_made_anew_with_other_kernels(library, tmp_path, monkeypatch):
    found = [circumstances()]
    monkeypatch.setenv(kernels.ISA, find_kernels().usable[-1])
    found.append(circumstances())
    monkeypatch.setenv(kernels.ISA, kernels.PORTABLE)
    found.append(circumstances())
    monkeypatch.delenv(kernels.ISA)
    copy = tmp_path / "copy.so"
    copy.write_bytes(Path(library).read_bytes())
    monkeypatch.setenv(kernels.LIBRARY, str(copy))
    found.append(circumstances())
    assert len({str(each) for each in found}) == 4
