"""What the peers' scripts share: how they are called and how they report.

Each script runs in its own environment, where effnet-edge isn't installed:

    python PEER.py FLOAT_MODEL CALIBRATION.npy EVALUATION.npy FOLDER

Both arrays are the model's own uint8 input, ``[N, H, W, 3]``. For each configuration the script
leaves the model and its logits (``NAME.npy``, float32 ``[N, classes]``) in FOLDER, and at last
``results.json``.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Task:
    """What a peer is asked to quantise, with what, and where to leave it."""

    model: Path
    calibration: Images
    evaluation: Images
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """One configuration: either its model's size and how long it took to make, or an error."""

    configuration: str
    bytes: int = 0
    seconds: float = 0.0
    error: str | None = None


Make = Callable[[Task, str, Any], tuple[Path, ...]]
"""Quantises in the named configuration with its options, and returns the model's files."""

Run = Callable[[Path, Images], Logits]
"""Runs the first of those files in the peer's own engine."""


def main(
    make: Make, run: Run, configurations: Mapping[str, Any], packages: tuple[str, ...]
) -> None:
    """Try all ``configurations``; one that fails is reported and doesn't stop the others."""
    task = _task()
    outcomes = [_attempt(make, run, task, *each) for each in configurations.items()]
    report = {
        "versions": {package: version(package) for package in packages},
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    (task.folder / "results.json").write_text(json.dumps(report, indent=1))


def _attempt(make: Make, run: Run, task: Task, name: str, options: Any) -> Outcome:
    started = time.perf_counter()
    try:
        files = make(task, name, options)
        seconds = time.perf_counter() - started
        np.save(task.folder / f"{name}.npy", run(files[0], task.evaluation))
    except Exception as error:
        traceback.print_exc()
        return Outcome(name, error=f"{type(error).__name__}: {error}")
    return Outcome(name, sum(file.stat().st_size for file in files), seconds)


def _task() -> Task:
    parser = argparse.ArgumentParser(description="Quantise a model; started by accuracy.py.")
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    return Task(args.model, np.load(args.calibration), np.load(args.evaluation), args.folder)
