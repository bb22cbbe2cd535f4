"""Fidelity of our int8 models, beside those of three other quantisers, to the same float networks.

    python benchmarks/photos.py PHOTOS
    python benchmarks/accuracy.py --photos PHOTOS --json accuracy.json

For Lite0..2 from the installed packages and a random B3 (see random_network.py); more with
``--model NAME=ARGUMENTS``, the arguments being those with which ``effnet-edge convert`` reads the
weights:

    --model lite0 --model "b0=--weights b0.pth --dialect tf --mean 0.498039 --std 0.501961"

All start from the same float weights, are calibrated with PHOTOS/calibration (ours also with no
data) and are compared with the float .onnx on PHOTOS/evaluation, on the very same uint8 inputs.
Ours runs in ONNX Runtime and LiteRT; each peer in its own engine, in a virtual environment of its
own that is made under the work folder on first use. Each peer tries several configurations and is
shown with the one of lowest KL divergence; all are in the JSON. What a peer has made is used again
while the float logits, the photos and the peer's script are the same.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peer_runs import PEERS, PeerRun, digest, run_peer
from random_network import OPTIONS, write_checkpoint

from effnet_edge.engines import choose_engine, open_session
from effnet_edge.fidelity import fidelity
from effnet_edge.images import open_image
from effnet_edge.model_file import model_format, read_metadata
from effnet_edge.preprocessing import preprocess

HERE = Path(__file__).parent
WORK = HERE.parent / "build" / "accuracy"
PACKAGES = ("effnet-edge", "numpy", "pillow", "onnxruntime", "ai-edge-litert")
RANDOM_PHOTOS = 8

Logits = NDArray[np.float32]

MODELS = {f"lite{phi}": ("--weights", "lite", "--phi", str(phi)) for phi in range(3)}
RANDOM = {f"b{phi}": phi for phi in range(8)}


@dataclass(frozen=True)
class Row:
    """One quantised file. ``right`` counts photos of known class; ``top5`` is the part of the
    float model's five best that are among the file's, in percent."""

    quantiser: str
    configuration: str
    kl: float
    agreement: float
    top5: float
    snr_db: float
    right: int
    bytes: int
    bytes_per_parameter: float
    seconds: float


@dataclass(frozen=True)
class Case:
    """A float network and what all quantisers share: inputs [N, H, W, 3], its logits, classes."""

    name: str
    arguments: tuple[str, ...]
    folder: Path
    parameters: int
    evaluation: NDArray[np.uint8]
    logits: Logits
    classes: dict[int, int]

    def row(
        self, quantiser: str, configuration: str, logits: Logits, size: int, seconds: float
    ) -> Row:
        """Compare one file's ``logits`` with the float model's."""
        figures = fidelity(self.logits, logits)
        return Row(
            quantiser,
            configuration,
            figures.kl,
            figures.agreement,
            _top5_overlap(self.logits, logits),
            figures.snr_db,
            self.right(logits),
            size,
            size / self.parameters,
            seconds,
        )

    def right(self, logits: Logits) -> int:
        """How many photos of known class get it."""
        return sum(int(logits[index].argmax()) == each for index, each in self.classes.items())


def prepare(name: str, arguments: tuple[str, ...], photos: Path, work: Path) -> Case:
    """Convert the float model and feed it the photos."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    _convert(*arguments, "--name", "float", "--output", str(folder))
    metadata = read_metadata(folder / "float.onnx")
    inputs = {}
    for part in ("calibration", "evaluation"):
        files = _photos(photos / part)
        inputs[part] = np.stack([preprocess(open_image(file), metadata.recipe) for file in files])
        np.save(folder / f"{part}.npy", inputs[part])
    evaluation = inputs["evaluation"]
    logits = _run(folder / "float.onnx", evaluation)
    np.save(folder / "float.npy", logits)
    return Case(
        name,
        arguments,
        folder,
        metadata.parameters,
        evaluation,
        logits,
        {} if name.startswith("random-") or metadata.classes != 1000 else _classes(photos),
    )


def ours(case: Case, photos: Path) -> Iterator[Row]:
    """Our int8 without and with calibration, in both formats."""
    recipes = {"data-free": (), "calibrated": ("--calibration", str(photos / "calibration"))}
    for recipe, options in recipes.items():
        target = ("--name", recipe, "--output", str(case.folder))
        started = time.perf_counter()
        _convert(*case.arguments, "--int8", *options, *target)
        seconds = time.perf_counter() - started
        for suffix in ("onnx", "tflite"):
            file = case.folder / f"{recipe}.{suffix}"
            logits = _run(file, case.evaluation)
            np.save(file.with_suffix(f".{suffix}.npy"), logits)
            size = file.stat().st_size
            yield case.row("effnet-edge", f"{recipe} .{suffix}", logits, size, seconds)


def formats_agree(case: Case, recipe: str) -> dict[str, float]:
    """How the two formats of one recipe of ours compare with each other."""
    onnx, tflite = (
        np.load(case.folder / f"{recipe}.{suffix}.npy") for suffix in ("onnx", "tflite")
    )
    figures = fidelity(onnx, tflite).finite()
    return figures | {"largest difference": float(np.abs(onnx - tflite).max())}


def peer_rows(case: Case, name: str, run: PeerRun) -> list[Row]:
    """What the peer's configurations made, best first. Raises RuntimeError if none worked."""
    rows = []
    for made in run.made:
        if made.logits is None:
            print(f"  {name} {made.configuration}: {made.error}")
            continue
        rows.append(case.row(name, made.configuration, made.logits, made.bytes, made.seconds))
    if not rows:
        raise RuntimeError("no configuration worked")
    return sorted(rows, key=lambda row: row.kl)


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    heads = ("", "KL", "top-1 agrees", "top-5 shared", "SNR dB", "right", "MB", "B/par.", "s")
    lines = [heads]
    for row in rows:
        lines.append(
            (
                f"{row.quantiser} {row.configuration}",
                f"{row.kl:.4f}",
                f"{row.agreement:.1f} %",
                f"{row.top5:.1f} %",
                f"{row.snr_db:.2f}",
                str(row.right),
                f"{row.bytes / 1e6:.2f}",
                f"{row.bytes_per_parameter:.3f}",
                f"{row.seconds:.0f}",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  "
        + line[0].ljust(widths[0])
        + "".join(
            "  " + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)
        )
        for line in lines
    )


def measure(case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one model, print its table, and return all of it."""
    labelled = len(case.classes)
    print(f"\n{case.name}: {case.parameters:,} parameters; ", end="")
    print(f"float has {case.right(case.logits)} of {labelled} right", flush=True)
    rows, agree = [], {}
    if not args.peers_only:
        rows = list(ours(case, args.photos))
        agree = {recipe: formats_agree(case, recipe) for recipe in ("data-free", "calibrated")}
    shown, versions, missing = list(rows), {}, {}
    for name in args.peers:
        try:
            run = run_peer(name, case.folder, args.envs, args.fresh)
            peer = peer_rows(case, name, run)
        except (OSError, RuntimeError) as error:
            missing[name] = str(error)
            continue
        versions[name] = run.versions
        rows += peer
        shown.append(peer[0])
    print(table(shown))
    for recipe, figures in agree.items():
        print(
            f"  {recipe}: .tflite agrees with .onnx on {figures['agreement']:.1f} % at "
            f"{figures.get('snr_db', math.inf):.1f} dB, "
            f"largest difference of a logit {figures['largest difference']:.3g}"
        )
    for name, why in missing.items():
        print(f"  {name}: missing, {why}")
    return {
        "model": case.name,
        "parameters": case.parameters,
        "labelled": labelled,
        "float right": case.right(case.logits),
        "rows": [asdict(row) for row in rows],
        "formats": agree,
        "versions": versions,
        "missing": missing,
    }


def _convert(*arguments: str) -> None:
    command = [sys.executable, "-m", "effnet_edge", "convert", *arguments]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{process.stderr}")


def _run(file: Path, images: NDArray[np.uint8]) -> Logits:
    engine = choose_engine(model_format(file), precision=read_metadata(file).precision)
    with open_session(file, engine) as session:
        return np.concatenate([session.run(image[None]) for image in images])


def _photos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        sys.exit(f"there is no folder {folder}: make it with benchmarks/photos.py")
    return sorted(folder.iterdir())


def _classes(photos: Path) -> dict[int, int]:
    """Class by the photo's place among the evaluation photos, where it is known."""
    places = {file.name: index for index, file in enumerate(_photos(photos / "evaluation"))}
    with (photos / "evaluation.csv").open(newline="", encoding="utf-8") as file:
        return {places[name]: int(label) for name, label in csv.reader(file)}


def _top5_overlap(reference: Logits, logits: Logits) -> float:
    best, found = (np.argsort(each, axis=1)[:, -5:] for each in (reference, logits))
    return 100 * float(np.mean([np.isin(*pair).mean() for pair in zip(best, found, strict=True)]))


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _surroundings(photos: Path) -> dict[str, Any]:
    """What the figures depend on besides the models."""
    parts = ("calibration", "evaluation")
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "photos": {part: len(_photos(photos / part)) for part in parts},
        "sha256 of photos": {part: digest(_photos(photos / part)) for part in parts},
    }


def _case_arguments(model: str, photos: Path, work: Path) -> tuple[str, tuple[str, ...]]:
    """Name and convert's arguments of a ``--model``."""
    name, given, arguments = model.partition("=")
    if given:
        return name, tuple(shlex.split(arguments))
    if name in MODELS:
        return name, MODELS[name]
    if name in RANDOM:
        path = work / f"random-{name}.safetensors"
        write_checkpoint(RANDOM[name], _photos(photos / "calibration")[:RANDOM_PHOTOS], path)
        return f"random-{name}", ("--weights", str(path), *OPTIONS)
    sys.exit(f"there is no model {name!r}: lite0..2, b0..b7 (random), or NAME=ARGUMENTS")


def main() -> None:
    """Measure what the command line asks for, print it, and write it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="what photos.py wrote")
    parser.add_argument("--model", action="append", dest="models", help="may be repeated")
    parser.add_argument("--peers", default=",".join(PEERS), help="all by default; '' for none")
    parser.add_argument("--peers-only", action="store_true", help="leave ours out")
    parser.add_argument("--work", type=Path, default=WORK, help="default: build/accuracy")
    parser.add_argument("--envs", type=Path, help="the peers' environments; default: WORK/envs")
    parser.add_argument("--fresh", action="store_true", help="use nothing that peers made before")
    parser.add_argument("--json", type=Path, help="write all figures here")
    args = parser.parse_args()
    args.peers = [name for name in args.peers.split(",") if name]
    if unknown := set(args.peers) - set(PEERS):
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    args.work = args.work.resolve()
    args.envs = (args.envs or args.work / "envs").resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    surroundings = _surroundings(args.photos)
    print(f"{surroundings['cpu']}, {surroundings['cores']} CPUs")
    print(", ".join(f"{package} {text}" for package, text in surroundings["versions"].items()))
    models = []
    for model in args.models or [*MODELS, "b3"]:
        name, arguments = _case_arguments(model, args.photos, args.work)
        models.append(measure(prepare(name, arguments, args.photos, args.work), args))
        if args.json:
            args.json.write_text(json.dumps({**surroundings, "models": models}, indent=1))


if __name__ == "__main__":
    main()
