"""Latency, load time and memory of our int8 models beside those of other engines, in one run.

    python benchmarks/speed.py --phi 0,2,lite0 --threads 1,2 --json speed.json --plot speed.svg
    python benchmarks/speed.py --phi 0 --checkpoint b0.pth --dialect tf
    python benchmarks/speed.py --model-onnx X.onnx --model-tflite X.tflite --peers litert

All engines run the same float network on the same photo, each in a virtual environment of its own
that is made under the work folder on first use, in each of its better configurations, pinned to as
many CPUs as it has threads. Their processes stay alive and take turns, round by round; a ratio is
that of two medians of the same round. Timed is from the uint8 image to logits, both numpy arrays.
Load time and memory are of fresh processes. Who can't take part is listed with the reason.

B0..B7 are random networks (see random_network.py), which cost what trained ones do, unless
``--checkpoint`` has the weights; Lite is trained, from the installed packages. ``--model-onnx`` and
the like take files that effnet-edge has converted before.

``--isa avx2`` holds our kernels to that instruction set, and the peers that can be held to AVX2.
Ctrl-C ends the rounds; what they gave so far is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from speed_models import FILES, Model, converted, given, random_checkpoint
from speed_peers import OURS, PEERS, REFERENCE, Contestant, chosen, ready
from speed_plot import plot
from speed_report import rows, text
from speed_rounds import Plan, compete

from effnet_edge.bench.environment import describe_device, versions
from effnet_edge.tables import counted

WORK = Path(__file__).parents[1] / "build" / "speed"


def models(args: argparse.Namespace) -> Iterator[Model]:
    """Those that the command line asks for, each made when its turn comes."""
    if args.files:
        yield given(args.files, args.work / "given", args.calibration)
        return
    if args.checkpoint is not None:
        arguments = ("--weights", str(args.checkpoint.resolve()), *_reading(args))
        folder = args.work / args.checkpoint.stem
        yield converted(folder.name, "trained weights", arguments, folder, args.calibration)
    for name in filter(None, args.phi.split(",")):
        if name.startswith("lite"):
            folder, weights = args.work / name, "trained weights"
            arguments = ("--weights", "lite", "--phi", name.removeprefix("lite"))
        else:
            folder, weights = args.work / f"random-b{name}", "random weights"
            arguments = random_checkpoint(int(name), folder, args.calibration)
        yield converted(folder.name, weights, arguments, folder, args.calibration)


def measure(model: Model, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Let the engines compete on one model, for each number of threads; print, and return it."""
    missing: dict[str, str] = {}
    contestants: list[Contestant] = []
    for peer, configuration in args.contestants:
        try:
            contestants.append(
                ready(peer, configuration, model.folder, args.envs, args.isa, args.fresh)
            )
        except (OSError, RuntimeError) as error:
            missing[f"{peer} {configuration}"] = str(error)
    logits = model.float_logits()
    for threads in args.threads:
        print(f"\n{model.name}, {model.weights}, {counted(threads, 'thread')}", flush=True)
        started = time.monotonic()
        records, complete = compete(contestants, model.folder, threads, args.plan, progress())
        progress()("")
        found = rows(records, args.reference, logits)
        absent = missing | {
            record.contestant.name: record.error for record in records if record.error
        }
        print(text(found, args.reference))
        for name, why in absent.items():
            print(f"  {name}: missing, {why}")
        rounds = max((len(record.rounds) for record in records), default=0)
        took = time.monotonic() - started
        busy = load_average()
        print(
            f"  {rounds} rounds, {took:.0f} s{'' if complete else ', interrupted'}; "
            f"load average {busy:.1f}",
            flush=True,
        )
        yield {
            "model": model.name,
            "weights": model.weights,
            "threads": threads,
            "reference": args.reference,
            "rounds": rounds,
            "complete": complete,
            "load_average": busy,
            "rows": [asdict(row) for row in found],
            "missing": absent,
        }
        if not complete:
            raise KeyboardInterrupt


def load_average() -> float:
    """Of the last minute. Much above the number of threads, others were computing."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def progress() -> Callable[[str], None]:
    """Shows the state in one line of the terminal, or nothing where there is none."""

    def tell(words: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{words}")
            sys.stderr.flush()

    return tell


def _reading(args: argparse.Namespace) -> list[str]:
    """How ``convert`` is to read the checkpoint."""
    options = {"--dialect": args.dialect, "--mean": args.mean, "--std": args.std}
    return [word for name, value in options.items() if value for word in (name, value)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phi", help="0,2,lite0 ...; 0 by default, none beside --checkpoint")
    parser.add_argument("--checkpoint", type=Path, help="trained weights, of any phi")
    parser.add_argument("--dialect", help="for these, as for 'effnet-edge convert'")
    parser.add_argument("--mean", help="likewise")
    parser.add_argument("--std", help="likewise")
    for name in FILES:
        precision, kind = name.split(".")
        option = f"--model-{kind}" if precision == "int8" else f"--fp32-{kind}"
        parser.add_argument(option, type=Path, dest=name, help=f"use this {precision} file")
    parser.add_argument("--calibration", type=Path, help="folder of photos; synthetic without")
    peers = [name for name in PEERS if name != OURS]
    parser.add_argument(
        "--peers",
        default=",".join(peers),
        help=f"all by default: {', '.join(peers)}; NAME:CONFIGURATION takes one; '' for ours alone",
    )
    parser.add_argument("--without-ours", action="store_true")
    parser.add_argument("--reference", default=REFERENCE, help=f"row of ratio 1: {REFERENCE}")
    parser.add_argument("--threads", default="1", help="1,2 ... (default: 1)")
    parser.add_argument("--isa", default="", help="hold ours to this, peers to AVX2: avx2 ...")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=15, help="in a burst, at most (default: 15)")
    parser.add_argument("--burst", type=float, default=0.3, help="its seconds, at most")
    parser.add_argument("--seconds", type=float, default=300, help="bound of all rounds together")
    parser.add_argument("--starts", type=int, default=5, help="fresh processes (default: 5)")
    parser.add_argument("--work", type=Path, default=WORK, help="default: build/speed")
    parser.add_argument("--envs", type=Path, help="the peers' environments; default: WORK/envs")
    parser.add_argument("--fresh", action="store_true", help="make the peers' models again")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--plot", type=Path, help="draw them here, as SVG")
    args = parser.parse_args()
    args.files = {name: vars(args)[name] for name in FILES if vars(args)[name] is not None}
    if args.phi is None:
        args.phi = "" if args.checkpoint else "0"
    try:
        args.threads = [int(threads) for threads in args.threads.split(",")]
        args.contestants = chosen(args.peers if args.without_ours else f"{OURS},{args.peers}")
    except ValueError as error:
        parser.error(str(error))
    args.plan = Plan(args.rounds, args.runs, args.burst, args.seconds, args.starts)
    args.work = args.work.resolve()
    args.envs = (args.envs or args.work / "envs").resolve()
    return args


def main() -> None:
    """Measure what the command line asks for, print it, and write it."""
    args = _arguments()
    device = describe_device()
    report: dict[str, Any] = {
        "device": device.board,
        "facts": dict(device.facts),
        "versions": versions(),
        "isa": args.isa,
        "plan": asdict(args.plan),
        "results": [],
    }
    print("; ".join((device.board, *device.facts.values())))
    print(", ".join(f"{name} {text}" for name, text in report["versions"].items()))
    try:
        for model in models(args):
            for result in measure(model, args):
                report["results"].append(result)
                if args.json:
                    args.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
                if args.plot:
                    args.plot.write_text(plot(report, OURS), encoding="utf-8")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
