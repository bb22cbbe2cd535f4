"""Instructions and modelled cycles of one inference, or of a program, on an ARM processor.

    python tests/arm/count.py --cpu cortex-a76 --model B0.onnx --model-tflite B0.tflite
    python tests/arm/count.py --cpu cortex-a76 --top 10 --b0
    python tests/arm/count.py --cpu cortex-a76 --top 10 --command PROGRAM ARGUMENT...

The models run on the engines as they come, and on effnet-edge's with the kernels of this checkout.
``--b0`` runs the kernels alone, on a B0 with random weights. PROGRAM is for aarch64 and marks what
is to be counted: see tests/arm/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import blocks
import cross
import lab

INFERENCE = lab.HERE / "inference.py"


@dataclass(frozen=True)
class Subject:
    """What is counted: a name for it, and its command line, given where the blocks are written."""

    name: str
    line: Callable[[Path], list[str]]
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Counted:
    """What a subject executed, and what it costs."""

    recording: blocks.Recording
    texts: Mapping[str, str]
    prices: Mapping[blocks.Block, float]
    cost: blocks.Cost


def command(cpu: lab.Cpu, program: list[str]) -> Subject:
    """A program that marks something."""
    return Subject(Path(program[0]).name, lambda file: lab.command(cpu, program, file))


def b0(cpu: lab.Cpu, part: int | None = None) -> Subject:
    """The kernels on a B0, or on one part of it (see b0_cost.cc). Raises LabError."""
    program = [str(cross.b0_cost(cpu.architecture)), *([] if part is None else [str(part)])]
    name = "kernels" if part is None else f"kernels, part {part}"
    return Subject(name, lambda file: lab.command(cpu, program, file))


def inference(cpu: lab.Cpu, engine: str, model: Path, **environment: str) -> Subject:
    """One inference on an engine that inference.py knows."""
    arguments: list[str | Path] = [INFERENCE, engine, model.resolve()]
    return Subject(
        engine,
        lambda file: lab.python_command(cpu, arguments, file),
        lab.python_environment(cpu, **environment),
    )


def count(cpu: lab.Cpu, subject: Subject) -> Counted:
    """Run a subject and price what it executed. Raises LabError if it fails or marks nothing."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "blocks"
        answer = lab.run(subject.line(file), subject.environment)
        if answer.returncode or not file.exists():
            raise lab.LabError(f"{subject.name} ended with {answer.returncode}:\n{answer.stderr}")
        recording = blocks.read(file)
    if not recording.stretches:
        raise lab.LabError(f"{subject.name} marked nothing (see markers.h)")
    texts = blocks.disassembly(recording.blocks)
    recording = blocks.rejoined(recording, texts)
    prices = {} if cpu.schedule is None else blocks.prices(recording.blocks, texts, cpu.schedule)
    return Counted(recording, texts, prices, blocks.cost(recording, texts, prices))


def costliest(counted: Counted, top: int) -> str:
    """The functions and the blocks that cost most, as text."""
    stretches, prices = counted.recording.stretches, counted.prices
    instructions: dict[str, float] = defaultdict(float)
    cycles: dict[str, float] = defaultdict(float)
    for block in counted.recording.blocks:
        instructions[block.function] += block.instructions / stretches
        cycles[block.function] += block.executions * prices.get(block, 0) / stretches
    total = sum(cycles.values())
    lines = [f"{'cycles':>12} {'share':>6} {'instructions':>12}  function"]
    for name in sorted(cycles, key=lambda name: -cycles[name])[:top]:
        share = cycles[name] / total
        lines.append(f"{cycles[name]:12,.0f} {share:6.1%} {instructions[name]:12,.0f}  {name}")
    for block in sorted(prices, key=lambda block: -block.executions * prices[block])[:top]:
        runs = block.executions / stretches
        lines += [
            "",
            f"{runs * prices[block]:,.0f} cycles ({runs * prices[block] / total:.1%}): {runs:,.0f}"
            f" x {prices[block]:.1f} for {len(block.words)} instructions in {block.function}",
            *(f"    {counted.texts[word]}" for word in block.words),
        ]
    return "\n".join(lines)


def table(costs: Mapping[str, blocks.Cost]) -> str:
    """A column per subject."""
    columns = [("", "instructions", *(f"  {name}" for name in blocks.CLASSES), "modelled cycles")]
    for name, cost in costs.items():
        numbers = [cost.instructions, *(cost.classes[kind] for kind in blocks.CLASSES)]
        cycles = "" if cost.cycles is None else f"{cost.cycles:,}"
        columns.append((name, *(f"{number:,}" for number in numbers), cycles))
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(
            f"{cell:{'<' if index == 0 else '>'}{widths[index]}}" for index, cell in enumerate(row)
        )
        for row in zip(*columns, strict=True)
    )


def _model_subjects(cpu: lab.Cpu, onnx: Path | None, tflite: Path | None) -> list[Subject]:
    subjects = []
    if onnx is not None:
        library = cross.library(cpu.architecture)
        ours = inference(cpu, "onnxruntime", onnx, EFFNET_EDGE_KERNELS=str(library))
        subjects += [dataclasses.replace(ours, name="onnxruntime with our kernels")]
        subjects += [inference(cpu, "plain-onnxruntime", onnx)]
    if tflite is not None:
        subjects += [inference(cpu, "plain-litert", tflite)]
    return subjects


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [cpu.name for cpu in lab.CPUS.values() if cpu.schedule]
    parser.add_argument("--cpu", choices=names, default="cortex-a76")
    parser.add_argument("--model", type=Path, help="an .onnx file")
    parser.add_argument("--model-tflite", type=Path, help="a .tflite file")
    parser.add_argument("--b0", nargs="?", type=int, const=-1, metavar="PART")
    parser.add_argument("--command", nargs=argparse.REMAINDER)
    parser.add_argument("--top", type=int, default=0, help="show so many functions and blocks")
    parser.add_argument("--json", action="store_true", help="for a script")
    arguments = parser.parse_args()
    cpu = lab.CPUS[arguments.cpu]
    costs = {}
    try:
        subjects = _model_subjects(cpu, arguments.model, arguments.model_tflite)
        if arguments.b0 is not None:
            subjects.append(b0(cpu, None if arguments.b0 < 0 else arguments.b0))
        if arguments.command:
            subjects.append(command(cpu, arguments.command))
        if not subjects:
            parser.error("nothing to count: give --model, --model-tflite, --b0 or --command")
        for subject in subjects:
            counted = count(cpu, subject)
            costs[subject.name] = counted.cost
            if arguments.top and not arguments.json:
                print(f"{subject.name}\n\n{costliest(counted, arguments.top)}\n")
    except lab.LabError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({name: dataclasses.asdict(cost) for name, cost in costs.items()}))
    else:
        print(table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
