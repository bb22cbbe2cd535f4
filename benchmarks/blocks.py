"""Time of every part of an int8 model on our kernels, beside what the processor could do.

    python benchmarks/blocks.py model.onnx
    python benchmarks/blocks.py model.onnx --isa avx2 --threads 2 --json blocks.json

Each part runs alone, again and again, with its weights and maps in the caches. The limit of a part
is its multiply-accumulates at the rate of a large matrix product by the same kernels, measured in
the same run: what a part takes beyond it goes into rounding, activations, pooling, and loads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from ctypes import CDLL, byref, c_int32, c_size_t, c_void_p
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effnet_edge.engines.native import calls
from effnet_edge.engines.native_library import Conv, Head, Quantization, library_at
from effnet_edge.engines.native_parts import PIXELS, Arguments, make_part
from effnet_edge.engines.onnx_graph import INT8, Graph, Node, read_graph
from effnet_edge.kernels import ISA, find_kernels
from effnet_edge.protocol_buffer import ProtocolBuffer

_ALIGNMENT = 64
_PRODUCT_CHANNELS = 1024
_PRODUCT_SIDE = 12


@dataclass(frozen=True)
class Row:
    """One part: output map, million MACs, microseconds (median), the limit, and their ratio."""

    part: str
    height: int
    width: int
    channels: int
    mmacs: float
    us: float
    limit_us: float

    @property
    def of_limit(self) -> float:
        """Share of the limit that is reached, 0 to 1."""
        return self.limit_us / self.us


class Runner:
    """Runs single parts of a model on random maps."""

    def __init__(self, threads: int) -> None:
        kernels = find_kernels()
        if kernels.library is None:
            sys.exit(f"there are no kernels: {kernels.error}")
        self.isa = kernels.isa
        self.library = _part_functions(library_at(str(Path(kernels.library).resolve())))
        self._threads = threads
        self._pool = self.library.ee_start_threads(threads)
        self._scheduler = self.library.ee_threads_scheduler(self._pool) if threads > 1 else None
        self._rng = np.random.default_rng(0)

    def output(self, part: int, height: int, width: int) -> tuple[int, int, int]:
        """Height, width and channels of what the part makes of a map."""
        sizes = (c_int32 * 3)()
        if self.library.ee_part_output(part, height, width, sizes):
            raise RuntimeError(self.library.ee_error())
        return sizes[0], sizes[1], sizes[2]

    def time(self, part: int, shape: tuple[int, int, int], seconds: float) -> float:
        """Median microseconds of one run on a map of ``shape`` (height, width, channels)."""
        height, width, _ = shape
        image = self._rng.integers(0, 256, shape, np.uint8)
        size = int(np.prod(self.output(part, height, width)))
        result = np.empty(4 * size, np.uint8)
        scratch = _aligned(self.library.ee_part_scratch(part, height, width, self._threads))

        def run() -> float:
            start = time.perf_counter()
            failed = self.library.ee_run_part(
                part,
                image.ctypes.data,
                height,
                width,
                result.ctypes.data,
                scratch.ctypes.data,
                self._scheduler,
            )
            if failed:
                raise RuntimeError(self.library.ee_error())
            return time.perf_counter() - start

        run()
        times = [run()]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 5:
            times.append(run())
        return 1e6 * statistics.median(times)

    def product_rate(self, seconds: float) -> float:
        """MACs per microsecond of a matrix product of 1024 x 1024 weights and 144 pixels."""
        channels = _PRODUCT_CHANNELS
        weight = self._rng.integers(-127, 128, (channels, channels), np.int8)
        scale, bias = np.full(channels, 1e-4, np.float32), np.zeros(channels, np.int32)
        unit = Quantization(0.05, 128)
        conv = Conv(in_channels=channels, out_channels=channels, kernel=1, stride=1, output=unit)
        conv.weight, conv.weight_scale = weight.ctypes.data, scale.ctypes.data
        conv.bias = bias.ctypes.data
        head = Head(input=unit, conv=conv, features=unit, classes=1, weight=weight.ctypes.data)
        head.weight_scale, head.bias = scale.ctypes.data, bias.ctypes.data
        part = self.library.ee_make_head(byref(head))
        shape = (_PRODUCT_SIDE, _PRODUCT_SIDE, channels)
        try:
            macs = _PRODUCT_SIDE**2 * channels**2
            return macs / self.time(part, shape, seconds)
        finally:
            self.library.ee_free_part(part)


def _part_functions(library: CDLL) -> CDLL:
    """The library with the functions for single parts, which the runtime has no use for."""
    library.ee_part_output.argtypes = [c_void_p, c_int32, c_int32, c_void_p]
    library.ee_part_scratch.argtypes = [c_void_p, c_int32, c_int32, c_int32]
    library.ee_part_scratch.restype = c_size_t
    run = library.ee_run_part
    run.argtypes = [c_void_p, c_void_p, c_int32, c_int32, c_void_p, c_void_p, c_void_p]
    return library


def _aligned(size: int) -> NDArray[np.uint8]:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % _ALIGNMENT :]


def _macs(
    node: Node, graph: Graph, before: tuple[int, int, int], after: tuple[int, int, int]
) -> int:
    """Multiply-accumulates of a call: each weight once for every pixel that it makes."""
    weights = [
        constant.shape
        for name in node.inputs[1:]
        if (constant := graph.constants[name]).kind == INT8
    ]
    inside, outside = before[0] * before[1], after[0] * after[1]
    if node.operator.startswith("Head"):
        return sum(int(np.prod(shape)) * (inside if len(shape) == 4 else 1) for shape in weights)
    expands = node.operator.startswith("MBConvExpand")
    total = 0
    for index, shape in enumerate(weights):
        pixels = inside if expands and index == 0 else outside
        if "Gate" in node.operator and index in (expands + 1, expands + 2):
            pixels = 1
        total += pixels * int(np.prod(shape))
    return total


def rows(path: Path, runner: Runner, seconds: float) -> Iterator[Row]:
    """Time every part of the model in order."""
    rate = runner.product_rate(3 * seconds)
    with path.open("rb") as opened:
        file = ProtocolBuffer(opened)
        graph = read_graph(file)
        (image,) = graph.inputs
        _, height, width, channels = (size or 1 for size in image.shape)
        shape = (height, width, channels)
        for node in calls(graph):
            arguments = Arguments(node.inputs[1:], graph.constants, file.read)
            part = make_part(runner.library, node, arguments)
            after = runner.output(part, *shape[:2])
            macs = 0 if node.operator == PIXELS else _macs(node, graph, shape, after)
            took = runner.time(part, shape, seconds)
            yield Row(node.name, *after, macs / 1e6, took, macs / rate)
            runner.library.ee_free_part(part)
            shape = after


def main() -> None:
    """Parse the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="an int8 .onnx file of ours")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--isa", help="instruction set to use instead of the best")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    args = parser.parse_args()
    if args.isa:
        os.environ[ISA] = args.isa
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    runner = Runner(args.threads)
    print(f"{args.model.name}, {runner.isa}, {args.threads} thread(s)\n")
    print(f"{'part':12} {'output':>15} {'M MACs':>8} {'us':>8} {'limit':>8} {'reached':>8}")
    found = []
    for row in rows(args.model, runner, args.seconds):
        found.append(row)
        size = f"{row.height} x {row.width} x {row.channels}"
        print(
            f"{row.part:12} {size:>15} {row.mmacs:8.1f} {row.us:8.0f} {row.limit_us:8.0f} "
            f"{row.of_limit:8.0%}",
            flush=True,
        )
    total, limit = sum(row.us for row in found), sum(row.limit_us for row in found)
    slowest = min(found, key=lambda row: row.limit_us - row.us)
    mmacs = sum(row.mmacs for row in found)
    print(f"{'all':12} {'':>15} {mmacs:8.1f} {total:8.0f} {limit:8.0f} {limit / total:8.0%}")
    print(
        f"\nmost is lost in {slowest.part}: {slowest.us - slowest.limit_us:.0f} us over its limit"
    )
    if args.json:
        document = {
            "model": args.model.name,
            "isa": runner.isa,
            "threads": args.threads,
            "parts": [asdict(row) for row in found],
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
