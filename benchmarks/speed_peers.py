"""Who takes part in `speed.py`: each engine's environment, configurations and instructions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from environments import environment
from peer_runs import digest

from effnet_edge.engines import ENGINES
from effnet_edge.kernels import ISA, PORTABLE

SCRIPTS = Path(__file__).with_name("peers")
WORKER = SCRIPTS / "speed_worker.py"

OURS = "effnet-edge"
REFERENCE = "litert int8"


@dataclass(frozen=True)
class Peer:
    """An engine. ``configurations`` have the files that each starts from.

    ``packages`` make its environment, ``separate`` without what they ask for; an engine with
    neither runs in this one. ``held`` is the environment that keeps its kernels to AVX2, None if
    nothing does.
    """

    configurations: Mapping[str, tuple[str, ...]]
    packages: tuple[str, ...] = ()
    separate: tuple[str, ...] = ()
    held: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Contestant:
    """One configuration of one engine, ready to be started.

    ``isa`` says what it was held to: nothing, ``avx2`` ..., or that it can't be.
    """

    peer: str
    configuration: str
    python: Path
    folder: Path
    isa: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``openvino int8``: it names the row."""
        return f"{self.peer} {self.configuration}"

    @property
    def module(self) -> str:
        """The engine's module in ``peers``."""
        return module(self.peer)

    def command(self, action: str, sources: Path, *options: str) -> list[str]:
        """What starts its worker."""
        paths = [str(path) for path in (sources, self.folder)]
        script = [str(self.python), str(WORKER)]
        return [*script, action, self.module, self.configuration, *paths, *options]

    @property
    def surroundings(self) -> dict[str, str]:
        """All environment variables of its process."""
        return {**os.environ, **self.variables}


def _own_configurations() -> dict[str, tuple[str, ...]]:
    """All engines for .onnx, and ONNX Runtime without our kernels."""
    engines = [engine.name for engine in ENGINES.values() if engine.format == "onnx"]
    return dict.fromkeys((*engines, PORTABLE), ("int8.onnx",))


PEERS = {
    OURS: Peer(_own_configurations()),
    "litert": Peer(
        {"int8": ("int8.tflite",), "fp32": ("fp32.tflite",)}, ("ai-edge-litert==2.3.0",)
    ),
    "onnxruntime": Peer({"int8": ("int8.onnx",), "fp32": ("fp32.onnx",)}, ("onnxruntime==1.32.0",)),
    "openvino": Peer(
        dict.fromkeys(("int8-mixed", "int8-performance", "bf16", "fp32"), ("fp32.onnx",)),
        ("nncf==3.4.0", "openvino==2026.4.1", "onnx==1.23.2"),
        held={"ONEDNN_MAX_CPU_ISA": "AVX2"},
    ),
    "executorch": Peer(
        dict.fromkeys(("int8", "fp32"), ("fp32.onnx",)),
        ("executorch==1.5.1", "torch==2.13.0", "onnx==1.23.2"),
    ),
    "torch": Peer(
        dict.fromkeys(("compile", "eager"), ("fp32.onnx",)),
        ("torch==2.13.0", "numpy==2.4.6", "onnx==1.23.2"),
        held={"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    ),
    "mnn": Peer(
        dict.fromkeys(("int8", "low", "fp32"), ("fp32.onnx",)),
        ("MNN==3.6.1", "onnx==1.23.2", "pillow==13.0.0"),
    ),
    "ncnn": Peer(
        dict.fromkeys(("int8", "fp16", "fp32"), ("fp32.onnx",)),
        ("ncnn==1.0.20261020", "onnx==1.23.2"),
        separate=("pnnx==20261020",),
    ),
}


def module(peer: str) -> str:
    """The name of a peer's module in ``peers``."""
    return f"{peer.replace('-', '_')}_speed"


def chosen(asked: str) -> list[tuple[str, str]]:
    """Peer and configuration of each that ``asked`` names: ``litert,openvino:int8`` ....

    Raises ValueError for a name that there isn't.
    """
    found = []
    for each in filter(None, asked.split(",")):
        peer, _, configuration = each.partition(":")
        if peer not in PEERS or configuration not in ("", *PEERS[peer].configurations):
            raise ValueError(f"there is no {each!r}")
        names = [configuration] if configuration else PEERS[peer].configurations
        found += [(peer, name) for name in names]
    return list(dict.fromkeys(found))


def ready(
    peer: str, configuration: str, sources: Path, envs: Path, isa: str, fresh: bool
) -> Contestant:
    """Make the environment and the model that ``configuration`` runs with, as far as need be.

    What was made before is used again unless the float model, the calibration images, the
    packages or the peer's script have changed, or ``fresh`` is set. Raises RuntimeError with the
    reason if it can't take part.
    """
    chosen_peer = PEERS[peer]
    lacking = [
        name for name in chosen_peer.configurations[configuration] if not (sources / name).exists()
    ]
    if lacking:
        raise RuntimeError(f"there is no {' or '.join(lacking)}")
    python = Path(sys.executable)
    if chosen_peer.packages:
        python = environment(envs / peer, chosen_peer.packages, chosen_peer.separate)
    held, variables = _held(peer, configuration, isa)
    folder = sources / f"{peer}-{configuration}"
    contestant = Contestant(peer, configuration, python, folder, held, variables)
    _make(contestant, sources, fresh)
    return contestant


def _held(peer: str, configuration: str, isa: str) -> tuple[str, dict[str, str]]:
    """What a contestant is held to, as its row says it, and the variables that do it."""
    if peer == OURS and configuration == PORTABLE:
        return "not held" if isa else "", {ISA: PORTABLE}
    if not isa:
        return "", {}
    if peer == OURS:
        return isa, {ISA: isa}
    held = PEERS[peer].held
    return ("not held", {}) if held is None else ("avx2", dict(held))


def _make(contestant: Contestant, sources: Path, fresh: bool) -> None:
    script = SCRIPTS / f"{contestant.module}.py"
    if not re.search(r"^def make\(", script.read_text(encoding="utf-8"), re.MULTILINE):
        return
    peer = PEERS[contestant.peer]
    inputs = (sources / "fp32.onnx", sources / "calibration.npy")
    key = "\n".join((digest((script, *inputs)), *peer.packages, *peer.separate))
    stamp = contestant.folder / "key"
    if not fresh and stamp.exists() and stamp.read_text(encoding="utf-8") == key:
        return
    print(f"  making the model of {contestant.name}", flush=True)
    shutil.rmtree(contestant.folder, ignore_errors=True)
    contestant.folder.mkdir(parents=True)
    command = contestant.command("make", sources)
    with (contestant.folder / "make.log").open("wb") as log:
        process = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=log)
    if process.returncode:
        raise RuntimeError(reason(process.stdout.decode(), contestant.folder / "make.log"))
    stamp.write_text(key, encoding="utf-8")


def reason(answer: str, log: Path) -> str:
    """Why a worker gave up: what it answered, or else its last words."""
    lines = answer.splitlines()
    if lines and lines[-1].startswith('{"error"'):
        return str(json.loads(lines[-1])["error"])
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"it broke off: {words[-1] if words else 'without a word'}"
