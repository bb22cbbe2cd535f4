"""ARM processors for tests on machines that have none: QEMU, Debian's user space, Python's wheels.

``python tests/arm/lab.py`` sets the laboratory up, ``--packages`` prints the Debian packages that
it needs. Everything is kept in one folder, build/arm-lab unless EFFNET_EDGE_ARM_LAB names another.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
PACKAGES = HERE / "packages.txt"
FOLDER = Path(os.environ.get("EFFNET_EDGE_ARM_LAB") or CHECKOUT / "build/arm-lab").resolve()

_RELEASE = "bookworm"
_PYTHON = "3.11"
_ROOT_PACKAGES = (
    "libbz2-1.0,libexpat1,libffi8,libgcc-s1,liblzma5,libpython3.11-stdlib,libsqlite3-0,libssl3,"
    "libstdc++6,python3.11-minimal,zlib1g"
)
_V8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_V82 = f"{_V8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
_V7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae"


class LabError(Exception):
    """The laboratory can't be set up here; the message says what is missing."""


@dataclass(frozen=True)
class Architecture:
    """A kind of user space: its names for Debian, QEMU, the compilers and pip."""

    name: str
    debian: str
    emulator: str
    target: str  # of the cross compiler: its prefix, and its toolchain file in kernels/cmake
    root_packages: str
    wheel_platforms: tuple[str, ...]
    wheels: tuple[str, ...]


AARCH64 = Architecture(
    name="aarch64",
    debian="arm64",
    emulator="qemu-aarch64",
    target="aarch64-linux-gnu",
    root_packages=_ROOT_PACKAGES,
    wheel_platforms=("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64"),
    wheels=(
        "ai-edge-litert",
        "filelock",
        "numpy",
        "onnxruntime",
        "pillow",
        "platformdirs",
        "tqdm",
    ),
)
ARMV7 = Architecture(
    name="armv7",
    debian="armhf",
    emulator="qemu-arm",
    target="arm-linux-gnueabihf",
    # numpy and Pillow have no wheels for 32-bit ARM: they are Debian's.
    root_packages=f"{_ROOT_PACKAGES},python3-numpy,python3-pil",
    wheel_platforms=("manylinux2014_armv7l", "manylinux_2_34_armv7l"),
    wheels=("filelock", "platformdirs", "tflite-runtime", "tqdm"),
)


@dataclass(frozen=True)
class Cpu:
    """A processor that QEMU emulates.

    ``part`` and ``features`` are what its /proc/cpuinfo says. ``schedule`` is LLVM's model that
    prices its instructions. What LLVM calls cortex-a76 is the model of the A72; that of the
    Neoverse N1, the same core made for servers, is the right one.
    """

    name: str
    architecture: Architecture
    model: str
    part: str
    features: str
    schedule: str | None


CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-a53", AARCH64, "cortex-a53", "0xd03", _V8, "cortex-a53"),
        Cpu("cortex-a72", AARCH64, "cortex-a72", "0xd08", _V8, "cortex-a72"),
        Cpu("cortex-a76", AARCH64, "cortex-a76", "0xd0b", _V82, "neoverse-n1"),
        Cpu("neoverse-n1", AARCH64, "neoverse-n1", "0xd0c", _V82, "neoverse-n1"),
        # QEMU 7.2 has no model of a core with i8mm and without SVE but this one.
        Cpu("i8mm", AARCH64, "max,sve=off,sme=off", "0xd4d", f"{_V82} i8mm bf16", "neoverse-n2"),
        Cpu("cortex-a7", ARMV7, "cortex-a7", "0xc07", _V7, None),
        Cpu("cortex-a15", ARMV7, "cortex-a15", "0xc0f", _V7, None),
    )
}


def need(*programs: str) -> None:
    """Check that programs are installed. Raises LabError."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = " ".join(PACKAGES.read_text().split())
        raise LabError(f"{', '.join(missing)} not found; on Debian: apt-get install {packages}")


def root(cpu: Cpu) -> Path:
    """What such a processor's programs see as /: the libraries, and its own /proc/cpuinfo.

    onnxruntime crashes where /proc/cpuinfo doesn't describe an ARM processor.
    """
    base = _debian(cpu.architecture)

    def fill(folder: Path) -> None:
        for name in ("etc", "lib", "usr"):
            (folder / name).symlink_to(base / name)
        (folder / "proc").mkdir()
        (folder / "proc/cpuinfo").write_text(_cpuinfo(cpu))

    return _kept(f"root-{cpu.name}", fill)


def python_path(architecture: Architecture) -> list[Path]:
    """The folders in which Python finds the engines and this checkout."""

    def fill(folder: Path) -> None:
        platforms = [f"--platform={platform}" for platform in architecture.wheel_platforms]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
        command += [f"--target={folder}", "--upgrade", "--disable-pip-version-check"]
        command += [f"--python-version={_PYTHON}", "--only-binary=:all:", *platforms]
        _call([*command, *architecture.wheels], "wheels can't be installed")

    return [CHECKOUT, _kept(f"wheels-{architecture.name}", fill)]


def plugin() -> Path:
    """The counting plugin, built."""
    need("g++")
    source = HERE / "count_blocks.cc"

    def fill(folder: Path) -> None:
        command = ["g++", "-std=c++17", "-O2", "-fPIC", "-shared", str(source)]
        _call([*command, "-o", str(folder / "libcount_blocks.so")], "the plugin can't be built")

    # Named by its age, so that a changed source is built again.
    return _kept(f"plugin-{source.stat().st_mtime_ns:x}", fill) / "libcount_blocks.so"


def command(cpu: Cpu, program: Sequence[str | Path], count_to: Path | None = None) -> list[str]:
    """The command line that runs a program of this architecture on such a processor.

    With ``count_to``, the blocks executed between the markers of markers.h are written there.
    """
    need(cpu.architecture.emulator)
    line = [cpu.architecture.emulator, "-cpu", cpu.model, "-L", str(root(cpu))]
    if count_to is not None:
        line += ["-plugin", f"{plugin()},out={count_to}"]
    return line + [str(word) for word in program]


def python_command(
    cpu: Cpu, arguments: Sequence[str | Path], count_to: Path | None = None
) -> list[str]:
    """The same for Python; run it with `python_environment`."""
    interpreter = _debian(cpu.architecture) / f"usr/bin/python{_PYTHON}"
    return command(cpu, [interpreter, *arguments], count_to)


def python_environment(cpu: Cpu, **more: str) -> dict[str, str]:
    """Environment variables for `python_command`: nothing of this machine's Python gets in."""
    root_python = _debian(cpu.architecture) / "usr/lib/python3/dist-packages"
    path = [*python_path(cpu.architecture), root_python]
    return {
        "PATH": os.defpath,
        "HOME": str(FOLDER / "home"),
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONHOME": str(_debian(cpu.architecture) / "usr"),
        **more,
    }


def run(
    line: Sequence[str], environment: Mapping[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command line of `command` or `python_command`; its output is text."""
    return subprocess.run(
        line, env=environment, timeout=timeout, capture_output=True, text=True, check=False
    )


def _debian(architecture: Architecture) -> Path:
    """The Debian packages that programs of this architecture need, unpacked."""

    def fill(folder: Path) -> None:
        need("mmdebstrap")
        include = architecture.root_packages
        line = ["mmdebstrap", "--quiet", "--variant=extract"]
        line += [f"--architectures={architecture.debian}", f"--include={include}", _RELEASE]
        mirror = _mirror()
        source = [] if mirror is None else [f"deb {mirror} {_RELEASE} main"]
        _call([*line, str(folder), *source], f"no Debian packages for {architecture.debian}")
        # Where packages offer alternatives, their scripts make the link; they weren't run.
        for link in folder.glob("usr/lib/*/*/lib*.so.3"):
            if link.parent.name in ("blas", "lapack"):
                (link.parents[1] / link.name).symlink_to(f"{link.parent.name}/{link.name}")

    return _kept(f"debian-{architecture.debian}", fill)


def _mirror() -> str | None:
    """The Debian mirror that this machine uses, None for mmdebstrap's own choice."""
    if shutil.which("apt-get") is None:
        return None
    form = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(SITE)"
    answer = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    for line in answer.stdout.splitlines():
        origin, component, codename, site = [*line.split(" ", 3), "", "", ""][:4]
        if (origin, component) == ("Debian", "main") and "-" not in codename and site:
            return site
    return None


def _cpuinfo(cpu: Cpu) -> str:
    lines = (
        "BogoMIPS\t: 108.00",
        f"Features\t: {cpu.features}",
        "CPU implementer\t: 0x41",
        f"CPU architecture: {7 if cpu.architecture is ARMV7 else 8}",
        "CPU variant\t: 0x1",
        f"CPU part\t: {cpu.part}",
        "CPU revision\t: 0",
        "",
    )
    return "\n".join(f"processor\t: {core}\n" + "\n".join(lines) for core in range(4))


def _kept(name: str, fill: Callable[[Path], None]) -> Path:
    """The folder of this name in the laboratory, filled once, whole or not at all."""
    folder = FOLDER / name
    if folder.exists():
        return folder
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=FOLDER))
            try:
                unfinished.chmod(0o755)
                fill(unfinished)
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _call(line: Sequence[str], failure: str) -> None:
    answer = run(line)
    if answer.returncode:
        raise LabError(f"{failure}: {answer.stderr.strip()[-2000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--packages", action="store_true", help="print the Debian packages needed")
    if parser.parse_args().packages:
        print(PACKAGES.read_text(), end="")
        return 0
    try:
        for cpu in CPUS.values():
            python_path(cpu.architecture)
            print(f"{cpu.name}: {root(cpu)}")
        plugin()
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
