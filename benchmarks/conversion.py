"""Time and peak memory of whole ``effnet-edge convert`` processes, and of importing the runtime.

    python benchmarks/conversion.py                      Lite0..2 from the installed packages
    python benchmarks/conversion.py b0.pth b7.pth        any checkpoints (--weights takes them)

Every run is a fresh process that writes to a temporary store. Prints the median of the runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

PACKAGES = ("numpy", "pillow", "onnx", "onnxruntime", "ai-edge-litert")


def measure(command: list[str], runs: int, environment: dict[str, str]) -> tuple[float, float]:
    """Median seconds, and the largest resident memory in MB, of ``runs`` processes."""
    seconds, peaks = [], []
    for _ in range(runs):
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - started)
        peaks.append(_peak_bytes(usage) / 1e6)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed with status {process.returncode}")
    return statistics.median(seconds), max(peaks)


def _peak_bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure what the command line asks for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="*")
    parser.add_argument("--dialect", help="passed on, for checkpoints of timm")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(", ".join(f"{package} {version(package)}" for package in PACKAGES), "\n")
    convert = [sys.executable, "-m", "effnet_edge", "convert", "--weights"]
    dialect = ["--dialect", args.dialect] if args.dialect else []
    jobs = [(path, [*convert, path, *dialect]) for path in args.checkpoints] or [
        (f"Lite{phi}", [*convert, "lite", "--phi", str(phi)]) for phi in range(3)
    ]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "EFFNET_EDGE_HOME": home}
        for name, command in jobs:
            seconds, peak = measure(command, args.runs, environment)
            print(f"convert {name}: {seconds:.2f} s, peak {peak:.0f} MB")
        base = [sys.executable, "-c", "import numpy, PIL.Image"]
        ours = [sys.executable, "-c", "import numpy, PIL.Image, effnet_edge"]
        differences = []
        for _ in range(5 * args.runs):
            alone, _ = measure(base, 1, environment)
            together, _ = measure(ours, 1, environment)
            differences.append(together - alone)
    print(
        f"import effnet_edge after numpy and Pillow: {1e3 * statistics.median(differences):.0f} ms"
    )


if __name__ == "__main__":
    main()
