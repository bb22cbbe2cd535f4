"""The laboratory, for tests; they are skipped where it can't be set up."""

from __future__ import annotations

import lab
import pytest


@pytest.fixture(scope="session", autouse=True)
def _emulator() -> None:
    try:
        lab.need("qemu-aarch64", "qemu-arm", "mmdebstrap", "llvm-mca-19", "cmake", "ninja", "g++")
        for architecture in (lab.AARCH64, lab.ARMV7):
            lab.need(f"{architecture.target}-g++")
            lab.python_path(architecture)
            lab.root(next(cpu for cpu in lab.CPUS.values() if cpu.architecture == architecture))
    except lab.LabError as error:
        pytest.skip(f"no ARM laboratory: {error}")
