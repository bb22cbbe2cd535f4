"""The kernels and their tests, built for ARM processors in the laboratory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import lab
from filelock import FileLock

KERNELS = lab.CHECKOUT / "kernels"


def library(architecture: lab.Architecture) -> Path:
    """The kernels, built for an architecture. Raises LabError."""
    return _build(architecture, "effnet_edge_kernels") / "libeffnet_edge_kernels.so"


def kernel_fuzz(architecture: lab.Architecture) -> Path:
    """The test of the kernels, built for an architecture. Raises LabError."""
    return _build(architecture, "kernel_fuzz") / "kernel_fuzz"


def b0_cost(architecture: lab.Architecture) -> Path:
    """The program that runs a B0 of the kernels (b0_cost.cc). Raises LabError."""
    kernels = library(architecture)
    program = kernels.parent / "b0_cost"
    line = [f"{architecture.target}-g++", "-std=c++17", "-O2", f"-I{lab.HERE}"]
    line += [f"-I{KERNELS / 'include'}", str(lab.HERE / "b0_cost.cc"), str(kernels)]
    unfinished = program.with_suffix(f".{os.getpid()}")  # another test may be running the old one
    _call([*line, f"-Wl,-rpath,{kernels.parent}", "-o", str(unfinished)])
    return unfinished.replace(program)


@cache
def _build(architecture: lab.Architecture, target: str) -> Path:
    """The folder in which a target is built, once per process; what is up to date is kept."""
    lab.need("cmake", "ninja", f"{architecture.target}-g++")
    folder = lab.FOLDER / f"kernels-{architecture.name}"
    lab.FOLDER.mkdir(parents=True, exist_ok=True)
    toolchain = KERNELS / "cmake" / f"{architecture.target}.cmake"
    configure = ["cmake", "-S", str(KERNELS), "-B", str(folder), "-G", "Ninja"]
    configure += [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DEFFNET_EDGE_KERNEL_TESTS=ON"]
    with FileLock(f"{folder}.lock"):
        _call(configure)
        _call(["cmake", "--build", str(folder), "--target", target])
    return folder


def _call(line: Sequence[str]) -> None:
    answer = lab.run(line, timeout=600)
    if answer.returncode:
        raise lab.LabError(f"{' '.join(line)} failed:\n{answer.stdout}{answer.stderr}")
