"""Running other quantisers, each in a virtual environment of its own (see peers/common.py)."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from environments import environment
from numpy.typing import NDArray

SCRIPTS = Path(__file__).with_name("peers")


@dataclass(frozen=True)
class Peer:
    """Another quantiser: the packages of its environment, and the format it starts from."""

    packages: tuple[str, ...]
    format: str


PEERS = {
    "nncf": Peer(("nncf==3.4.0", "openvino==2026.4.1", "onnx==1.23.2"), "onnx"),
    "onnxruntime": Peer(("onnxruntime==1.32.0", "onnx==1.23.2", "sympy==1.14.0"), "onnx"),
    "litert-quantizer": Peer(("litert-quantizer==0.11.0", "ai-edge-litert==2.3.0"), "tflite"),
}


@dataclass(frozen=True)
class Made:
    """What a peer made in one configuration, or why it couldn't."""

    configuration: str
    logits: NDArray[np.float32] | None
    bytes: int
    seconds: float
    error: str | None


@dataclass(frozen=True)
class PeerRun:
    """All configurations of a peer on one model, and the versions of its packages."""

    made: tuple[Made, ...]
    versions: dict[str, str]


def run_peer(name: str, folder: Path, envs: Path, fresh: bool = False) -> PeerRun:
    """Quantise the float model in ``folder`` in all configurations of a peer.

    ``folder`` holds ``float.onnx``, ``float.tflite``, the float model's logits as ``float.npy``,
    and the inputs ``calibration.npy`` and ``evaluation.npy``. What the peer made before is used
    again unless one of the last three or its script has changed, or ``fresh`` is set. Raises
    RuntimeError if it can't be installed or breaks off.
    """
    peer = PEERS[name]
    script = SCRIPTS / f"{name.replace('-', '_')}_int8.py"
    inputs = [folder / f"{part}.npy" for part in ("calibration", "evaluation")]
    target = folder / name
    key = digest((folder / "float.npy", *inputs, script, SCRIPTS / "common.py"))
    stamp = target / "key"
    if fresh or not stamp.exists() or stamp.read_text() != key:
        python = environment(envs / name, peer.packages)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        paths = [python, script, folder / f"float.{peer.format}", *inputs, target]
        with (target / "log.txt").open("wb") as log:
            command = [str(path) for path in paths]
            subprocess.run(command, check=False, stdout=log, stderr=subprocess.STDOUT)
        if not (target / "results.json").exists():
            raise RuntimeError(f"it broke off: see {target / 'log.txt'}")
        stamp.write_text(key)
    report = json.loads((target / "results.json").read_text())
    made = tuple(_made(target, **outcome) for outcome in report["outcomes"])
    return PeerRun(made, report["versions"])


def digest(files: Iterable[Path]) -> str:
    """SHA-256 of the files' SHA-256 digests."""
    result = hashlib.sha256()
    for file in files:
        result.update(hashlib.sha256(file.read_bytes()).digest())
    return result.hexdigest()


def _made(folder: Path, configuration: str, bytes: int, seconds: float, error: str | None) -> Made:
    if error is not None:
        return Made(configuration, None, bytes, seconds, error.splitlines()[0])
    logits = np.load(folder / f"{configuration}.npy")
    if not np.isfinite(logits).all():
        return Made(configuration, None, bytes, seconds, "its logits aren't finite")
    return Made(configuration, logits, bytes, seconds, None)
