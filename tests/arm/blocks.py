"""What a program executed: its basic blocks, their instructions, and what they would cost.

The counting plugin says which blocks ran how often. LLVM disassembles them, and prices each by its
model of a core: the cycles of one execution when the block is repeated, with every load a hit in
the first-level cache and every branch foreseen. The sum is called modelled cycles here.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lab
from elf import ElfFile

CLASSES = (
    "dot",
    "mmla",
    "widening multiply",
    "other vector",
    "load",
    "store",
    "branch",
    "scalar",
)
_WIDENING = re.compile(r"(s|u)(q?d?mull|q?d?mlal|q?d?mlsl|adalp|addlp)2?$|sqdmulh$|sqrdmulh$")
_BRANCH = re.compile(r"(b|bl|br|blr|ret|cbn?z|tbn?z|b\..*|bra.*|blra.*|reta.)$")
_VECTOR_REGISTER = re.compile(r"\b([vz]\d+\.|[qdshb]\d+\b)")

_PRICED_SHARE = 0.999  # of the instructions; the rest is taken to cost what these do on average
_REPETITIONS = 100
_BLOCKS_PER_RUN = 400


@dataclass(frozen=True)
class Block:
    """A basic block: where it is, how often it ran, and its instructions as hexadecimal bytes."""

    address: int
    executions: int
    words: tuple[str, ...]
    function: str

    @property
    def instructions(self) -> int:
        return self.executions * len(self.words)


@dataclass(frozen=True)
class Recording:
    """What the plugin wrote: the blocks, and how many stretches were marked."""

    stretches: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Cost:
    """What one marked stretch costs on a core.

    ``classes`` counts instructions. ``cycles`` are modelled, None if the core isn't modelled.
    """

    instructions: int
    classes: Mapping[str, int]
    cycles: int | None


def read(path: Path) -> Recording:
    """Read the plugin's file."""
    stretches = 0
    raw = []
    maps = []
    for line in path.read_text().splitlines():
        kind, *fields = line.split(" ", 4)
        if kind == "stretches":
            stretches = int(fields[0])
        elif kind == "block":
            raw.append((int(fields[0], 16), int(fields[1]), tuple(fields[2].split(","))))
        elif kind == "map":
            begin, end, offset = (int(field, 16) for field in fields[:3])
            maps.append((begin, end, offset, Path(fields[3])))
    files: dict[Path, ElfFile | None] = {}
    blocks = []
    for address, executions, words in raw:
        function = "unknown"
        for begin, end, offset, file in maps:
            if begin <= address < end:
                elf = _elf(file, files)
                if elf is not None:
                    function = elf.function(elf.address(offset) + address - begin)
        blocks.append(Block(address, executions, words, function))
    return Recording(stretches, tuple(blocks))


def _elf(path: Path, known: dict[Path, ElfFile | None]) -> ElfFile | None:
    if path not in known:
        try:
            known[path] = ElfFile(path)
        except (OSError, ValueError):
            known[path] = None
    return known[path]


def disassembly(blocks: Iterable[Block]) -> dict[str, str]:
    """The text of every instruction, by its bytes."""
    lab.need("llvm-mc-19")
    words = sorted({word for block in blocks for word in block.words})
    source = "".join(" ".join(f"0x{byte:02x}" for byte in bytes.fromhex(w)) + "\n" for w in words)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(source)
        file.flush()
        line = ["llvm-mc-19", "--disassemble", "--triple=aarch64", "--mattr=+all"]
        answer = lab.run([*line, "--show-encoding", file.name])
    texts = dict.fromkeys(words, "unknown")
    pattern = re.compile(r"\s*(.*?)\s*// encoding: \[([0-9a-fx,]+)\]")
    for found in map(pattern.match, answer.stdout.splitlines()):
        if found:
            texts[found[2].replace("0x", "").replace(",", "")] = found[1].replace("\t", " ")
    return texts


def instruction_class(text: str) -> str:
    """The one of `CLASSES` to which an instruction belongs."""
    name, _, operands = text.partition(" ")
    if re.fullmatch(r"(s|u|us|su)dot", name):
        return "dot"
    if re.fullmatch(r"(s|u|us)mmla", name):
        return "mmla"
    if name.startswith("ld"):
        return "load"
    if name.startswith("st"):
        return "store"
    if _BRANCH.match(name):
        return "branch"
    if not _VECTOR_REGISTER.search(operands):
        return "scalar"
    return "widening multiply" if _WIDENING.match(name) else "other vector"


def rejoined(recording: Recording, texts: Mapping[str, str]) -> Recording:
    """The recording with blocks made whole that the emulator had cut.

    It ends a block at a page's end and after some hundred instructions too. Where no branch ends
    one and what follows it ran as often, they are one block to the processor, and to the price.
    """
    blocks: list[Block] = []
    for block in sorted(recording.blocks, key=lambda block: block.address):
        before = blocks[-1] if blocks else None
        if (
            before is not None
            and before.address + 4 * len(before.words) == block.address
            and before.executions == block.executions
            and instruction_class(texts[before.words[-1]]) != "branch"
        ):
            words = before.words + block.words
            blocks[-1] = Block(before.address, before.executions, words, before.function)
        else:
            blocks.append(block)
    return Recording(recording.stretches, tuple(blocks))


def prices(blocks: Sequence[Block], texts: Mapping[str, str], schedule: str) -> dict[Block, float]:
    """Modelled cycles of one execution of the blocks, the busiest of them.

    The blocks left out execute together less than a thousandth of the instructions.
    """
    lab.need("llvm-mca-19")
    wanted = _PRICED_SHARE * sum(block.instructions for block in blocks)
    chosen: list[Block] = []
    covered = 0
    for block in sorted(blocks, key=lambda block: -block.instructions):
        if covered >= wanted:
            break
        chosen.append(block)
        covered += block.instructions
    result: dict[Block, float] = {}
    for start in range(0, len(chosen), _BLOCKS_PER_RUN):
        result |= _prices(chosen[start : start + _BLOCKS_PER_RUN], texts, schedule)
    return result


def _prices(blocks: Sequence[Block], texts: Mapping[str, str], schedule: str) -> dict[Block, float]:
    source = []
    for index, block in enumerate(blocks):
        body = [texts[word] for word in block.words if texts[word] != "unknown"]
        source += [f"# LLVM-MCA-BEGIN {index}", *(body or ["nop"]), "# LLVM-MCA-END"]
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        file.write("\n".join(source) + "\n")
        file.flush()
        line = ["llvm-mca-19", "--mtriple=aarch64", f"--mcpu={schedule}", "--json"]
        line += [f"--iterations={_REPETITIONS}", "--skip-unsupported-instructions=any"]
        line += ["--instruction-info=false", "--resource-pressure=false"]
        answer = lab.run([*line, file.name])
    if answer.returncode:
        raise lab.LabError(f"llvm-mca failed: {answer.stderr.strip()[-2000:]}")
    result = {}
    for region in json.loads(answer.stdout)["CodeRegions"]:
        block = blocks[int(region["Name"])]
        result[block] = region["SummaryView"]["TotalCycles"] / _REPETITIONS
    return result


def cost(recording: Recording, texts: Mapping[str, str], priced: Mapping[Block, float]) -> Cost:
    """What one stretch of a recording costs."""
    stretches = max(1, recording.stretches)
    classes: Counter[str] = Counter()
    of_word = {word: instruction_class(text) for word, text in texts.items()}
    for block in recording.blocks:
        for word in block.words:
            classes[of_word[word]] += block.executions
    total = sum(classes.values())
    cycles = None
    if priced:
        covered = sum(block.instructions for block in priced)
        spent = sum(block.executions * price for block, price in priced.items())
        cycles = round(spent * total / covered / stretches)
    counts = {name: round(classes[name] / stretches) for name in CLASSES}
    return Cost(round(total / stretches), counts, cycles)
