"""One engine in a process of its own: makes its models, or runs one when it is told to.

Started by ``benchmarks/speed.py`` with the Python of the engine's environment, where effnet-edge
need not be installed:

    python speed_worker.py make ENGINE CONFIGURATION SOURCES FOLDER
    python speed_worker.py run ENGINE CONFIGURATION SOURCES FOLDER --threads N --cpus 0,1

``ENGINE`` is the name of a module beside this file, see `Engine`. SOURCES holds what all engines
start from: ``int8`` and ``fp32`` as .onnx and .tflite, as far as there are, ``image.npy``, uint8
[1, H, W, 3], and ``calibration.npy``, uint8 [N, H, W, 3]. FOLDER is where the engine keeps the
models that it makes of them.

``run`` answers in lines of JSON over what was its standard output: first a `Start`, then for
each line ``{"warm_up": W, "runs": N, "seconds": S}`` the milliseconds of up to N runs, as many as
begin within S seconds and at least one. It ends when its input does.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Logits = NDArray[np.float32]
Predict = Callable[[Image], Logits]
"""From the image [1, H, W, 3] to logits [1, classes]: what is timed, for all engines alike."""

PREDICTIONS = 3
"""After so many the peak memory is read: some engines allocate in the second run."""

LONGEST_ERROR = 300
"""Characters: some engines tell their whole story."""


class Engine(Protocol):
    """What the module of an engine has.

    It imports what running takes, and in `make` what only making takes: the import is timed, and
    its memory told apart from the model's. `make` is left out where the sources are run as they
    are, `imports` where all configurations import the same, `note` where there's nothing to say.
    """

    PACKAGES: tuple[str, ...]
    """Whose versions are reported."""

    def make(self, configuration: str, sources: Path, folder: Path) -> None:
        """Leave the configuration's model in ``folder``."""

    def imports(self, configuration: str) -> None:
        """Import what this configuration runs with."""

    def load(self, configuration: str, sources: Path, folder: Path, threads: int) -> Predict:
        """Load the model, to be run with ``threads`` threads."""

    def note(self) -> str:
        """What the reader should know of the loaded model."""


@dataclass(frozen=True)
class Start:
    """What it took to be ready; memory is of the whole process.

    ``import_ms`` imports the engine, ``load_ms`` loads the model, ``first_ms`` is its first
    prediction. ``imported_bytes`` was resident before the model was loaded, ``peak_bytes`` the most
    that ever was, after `PREDICTIONS` predictions.
    """

    import_ms: float
    load_ms: float
    first_ms: float
    imported_bytes: int
    peak_bytes: int
    logits: list[float]
    versions: dict[str, str]
    note: str


def run(args: argparse.Namespace, out: IO[str]) -> None:
    """Load the model, say so, and run it for as long as there are orders."""
    image = np.load(args.sources / "image.npy")
    began = time.perf_counter()
    engine: Engine = importlib.import_module(args.engine)
    if hasattr(engine, "imports"):
        engine.imports(args.configuration)
    imported = time.perf_counter()
    imported_bytes = memory("VmRSS")
    ready = time.perf_counter()
    predict = engine.load(args.configuration, args.sources, args.folder, args.threads)
    loaded = time.perf_counter()
    logits = predict(image)
    first = time.perf_counter()
    for _ in range(PREDICTIONS - 1):
        predict(image)
    start = Start(
        import_ms=(imported - began) * 1e3,
        load_ms=(loaded - ready) * 1e3,
        first_ms=(first - loaded) * 1e3,
        imported_bytes=imported_bytes,
        peak_bytes=memory("VmHWM"),
        logits=[float(value) for value in np.asarray(logits).reshape(-1)],
        versions=_versions(engine.PACKAGES),
        note=engine.note() if hasattr(engine, "note") else "",
    )
    say(out, asdict(start))
    with os.fdopen(0, encoding="utf-8") as orders:
        for order in orders:
            say(out, burst(predict, image, **json.loads(order)))


def burst(predict: Predict, image: Image, warm_up: int, runs: int, seconds: float) -> list[float]:
    """Milliseconds of each run. The first ``warm_up`` aren't told: caches are another's then."""
    for _ in range(warm_up):
        predict(image)
    took: list[float] = []
    clock = time.perf_counter
    ends = clock() + seconds
    while len(took) < runs:
        began = clock()
        predict(image)
        ended = clock()
        took.append((ended - began) * 1e3)
        if ended > ends:
            break
    return took


def memory(field: str) -> int:
    """``VmRSS`` (resident now) or ``VmHWM`` (its peak) of this process, in bytes; 0 if unknown."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")]
    return found[0] if found else 0


def say(out: IO[str], message: Any) -> None:
    """Write one line of JSON."""
    out.write(json.dumps(message) + "\n")
    out.flush()


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _pin(cpus: str) -> None:
    """Keep this process, and the threads that its engine will start, to these CPUs."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description="Run an engine; started by speed.py.")
    parser.add_argument("action", choices=("make", "run"))
    parser.add_argument("engine")
    parser.add_argument("configuration")
    parser.add_argument("sources", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", default="")
    args = parser.parse_args()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # engines may print
    try:
        if args.action == "make":
            importlib.import_module(args.engine).make(args.configuration, args.sources, args.folder)
        else:
            _pin(args.cpus)
            run(args, out)
    except Exception as error:
        traceback.print_exc()
        words = " ".join(str(error).split())[:LONGEST_ERROR]
        say(out, {"error": f"{type(error).__name__}: {words}"})
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
