"""The kernels' own tests: every instruction set against the scalar reference, and sanitizers.

They are C++ programs, built into ``build/kernel-tests`` and built again only when a source changed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from effnet_edge import kernels

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "kernel-tests"
REQUIRED = os.environ.get("EFFNET_EDGE_REQUIRE_KERNELS")
TOOLS = ("c++", "cmake", "ninja")
# A virtual environment that wasn't activated has its tools beside its Python.
PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
CASES = {"kernel_fuzz": "2000", "part_fuzz": "1000"}
"""A second each, for each instruction set."""
SANITIZERS = {
    # Without the parameter, unrolled kernels take minutes to compile.
    "addresses": "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all "
    "--param asan-instrumentation-with-call-threshold=0",
    "threads": "-O1 -g -fsanitize=thread",
}


def run(*command: str | Path) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}")


def built(name: str, *targets: str, flags: str = "") -> Path:
    """The folder of what was built with these compiler flags."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        (pytest.fail if REQUIRED else pytest.skip)(f"needs {', '.join(missing)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = BUILD / name
    with FileLock(f"{folder}.lock"):
        cmake = shutil.which("cmake", path=PATH) or "cmake"
        run(
            *(cmake, "-G", "Ninja", "-S", ROOT / "kernels", "-B", folder),
            *("-DEFFNET_EDGE_KERNEL_TESTS=ON", f"-DCMAKE_CXX_FLAGS={flags}"),
            f"-DCMAKE_BUILD_TYPE={'None' if flags else 'Release'}",
        )
        run(cmake, "--build", folder, "--target", *targets)
    return folder


def usable(folder: Path) -> tuple[str, ...]:
    return kernels._usable(kernels._load(folder / "libeffnet_edge_kernels.so"))


@pytest.mark.parametrize("program", CASES)
def test_every_instruction_set_computes_what_the_reference_does(program):
    folder = built("release", "effnet_edge_kernels", *CASES)
    for isa in usable(folder):
        run(folder / program, "--isa", isa, "--cases", CASES[program])


@pytest.mark.sanitizers
@pytest.mark.parametrize(
    ("kind", "program"),
    [("addresses", "kernel_fuzz"), ("addresses", "part_fuzz"), ("threads", "part_fuzz")],
)
def test_sanitizers_find_nothing(kind, program):
    folder = built(kind, program, flags=SANITIZERS[kind])
    # Addresses at random don't fit the thread sanitizer of older compilers.
    fixed = ("setarch", "-R") if kind == "threads" and shutil.which("setarch") else ()
    run(*fixed, folder / program, "--cases", "40")


@pytest.mark.arm
@pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("qemu-x86_64") is None,
    reason="needs qemu-x86_64 on an x86-64 processor",
)
@pytest.mark.parametrize(("cpu", "best"), [("Nehalem", "scalar"), ("Haswell", "avx2")])
def test_older_processors_get_older_kernels(cpu, best):
    # The emulator refuses what the processor lacks: a kernel too new is an illegal instruction.
    program = built("release", "kernel_fuzz") / "kernel_fuzz"
    done = subprocess.run(
        ["qemu-x86_64", "-cpu", cpu, program, "--cases", "10"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert next(name for name in names if "evex" not in name) == best
