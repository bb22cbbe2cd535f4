"""The constants of the cost model, all fitted: ``benchmarks/cost_model.py`` repeats the fits.

Work is counted in cycles of a reference core, an x86 core with AVX-512 VNNI; a `Kind` of core
takes a multiple of them. What computing on one core costs was fitted to this package's models on
the reference core; how kinds of cores differ, and what memory costs, to the published latencies in
the device profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Arithmetic = Literal["float", "half", "int8"]
"""What the inner loops compute with. fp16 models store halves but compute in float; ``half`` is
for published points of engines that compute in fp16."""


@dataclass(frozen=True)
class Kind:
    """A class of cores: cycles for the same work, relative to the reference core.

    ``scalar_cycles`` is for code that isn't vectorized by hand: resizing, and what surrounds
    operators. ``bandwidth_gb_s`` and ``cache_mb`` are typical of devices with such cores, for
    those of which they aren't known. ``guessed`` are the arithmetics of which no latency was ever
    published or measured on such a core: their factors follow from what its instructions can do.
    """

    float_cycles: float
    half_cycles: float
    int8_cycles: float
    scalar_cycles: float
    bandwidth_gb_s: float
    cache_mb: float
    guessed: tuple[Arithmetic, ...] = ()

    def cycles(self, arithmetic: Arithmetic) -> float:
        """The factor of that arithmetic."""
        if arithmetic == "int8":
            return self.int8_cycles
        return self.half_cycles if arithmetic == "half" else self.float_cycles


# Float, half and int8: fitted to the profiles' points, where there are any of the kind. Scalar:
# from the single-threaded 7-zip figures of sbc-bench's Results.md, per clock. Bandwidth: typical
# memcpy figures of the same table.
KINDS: dict[str, Kind] = {
    # A5, A7, A9: half-width NEON
    "arm-in-order-32": Kind(19.5, 19.5, 22.0, 3.4, 1.0, 0.5),
    # A53
    "arm-in-order": Kind(7.9, 7.9, 11.4, 2.6, 1.3, 0.5),
    # A55, A510, A520
    "arm-in-order-dot": Kind(7.4, 4.4, 4.4, 2.5, 3.0, 0.5, ("float", "int8")),
    # A57, A72, A73
    "arm-out-of-order": Kind(5.6, 5.6, 4.9, 2.0, 3.5, 1.0),
    # A76, A77, A78, Neoverse N1
    "arm-out-of-order-dot": Kind(2.5, 1.22, 2.35, 1.45, 7.0, 2.5),
    # A710, A715, A720
    "arm-i8mm": Kind(2.2, 1.08, 1.7, 1.35, 12.0, 3.0, ("float", "int8")),
    # X1 to X4, Neoverse V1 and V2
    "arm-wide": Kind(2.0, 1.0, 1.3, 1.1, 15.0, 6.0, ("float", "int8")),
    # Atom, Celeron: no AVX
    "x86-sse": Kind(6.6, 6.6, 8.0, 1.9, 7.0, 4.0, ("int8",)),
    "x86-avx2": Kind(2.6, 2.6, 2.8, 1.15, 10.0, 6.0, ("int8",)),
    # AVX-VNNI: Alder Lake, N100
    "x86-avx2-vnni": Kind(2.6, 2.6, 1.6, 1.15, 8.0, 6.0, ("float", "int8")),
    "x86-avx512-vnni": Kind(1.0, 1.0, 1.0, 1.0, 10.0, 16.0),
    # About the middle of the others, in logarithms
    "unknown": Kind(4.0, 3.0, 3.5, 1.8, 4.0, 1.0),
}


@dataclass(frozen=True)
class Cycles:
    """Cycles of the reference core: for a MAC of either sort, for an activation that is written,
    and one that goes through SiLU, for starting a layer, and for sharing it among threads."""

    dense: float
    depthwise: float
    activation: float
    silu: float
    layer: float
    sync: float


# Fitted to B0, B1, B2, B4, B7 and Lite0..2 on an EPYC of the fourth generation with onnxruntime
# 1.32 and ai-edge-litert 2.3, fastest runs on one thread; the largest residual is 7 %. A unit
# without a figure of its own had none that differed from 0. ``sync``: two threads beside one.
CYCLES: dict[tuple[str, str], Cycles] = {
    ("onnxruntime", "float"): Cycles(0.0612, 0.0, 0.069, 0.668, 40e3, 13e3),
    ("onnxruntime", "int8"): Cycles(0.01157, 0.0, 0.812, 2.258, 31.7e3, 52e3),
    ("litert", "float"): Cycles(0.0702, 0.0, 0.0, 1.110, 0.0, 18e3),
    ("litert", "int8"): Cycles(0.01009, 0.2035, 0.0, 1.311, 16.9e3, 18e3),
    # Our kernels, on B0, B2, B4 and Lite0; how threads wait for each other is a guess.
    ("native", "int8"): Cycles(0.01, 0.0, 0.4, 0.4, 1e3, 5e3),
}


@dataclass(frozen=True)
class Calibration:
    """All that the prior of latency multiplies facts with.

    ``ncnn`` and ``tflite_runtime`` are multiples of LiteRT's cycles: an engine of which many
    latencies are published, and an XNNPACK of some years earlier. ``undelegated_int8`` is for
    tflite-runtime on x86, which has no int8 kernels in XNNPACK there (measured: 82 to 117 ms for
    B0). ``crossings`` is how often a written element crosses the memory bus where caches
    don't hold it.
    """

    kinds: Mapping[str, Kind] = field(default_factory=lambda: KINDS)
    cycles: Mapping[tuple[str, str], Cycles] = field(default_factory=lambda: CYCLES)
    reference_mhz: float = 2600.0
    ncnn: float = 1.35
    tflite_runtime: float = 1.15
    undelegated_int8: float = 15.0
    crossings: float = 2.8
    resizing_ms: float = 2.6
    resizing_ms_per_kilopixel: float = 0.0166

    def cycles_of(self, engine: str, arithmetic: Arithmetic, *, is_x86: bool) -> Cycles:
        """What an engine needs on the reference core."""
        precision = "int8" if arithmetic == "int8" else "float"
        if engine == "onnxruntime":
            return self.cycles["onnxruntime", precision]
        if engine == "native":
            return self.cycles["native", "int8"]
        ours = self.cycles["litert", precision]
        if engine == "litert":
            return ours
        if engine == "ncnn":
            return _times(ours, self.ncnn)
        undelegated = is_x86 and arithmetic == "int8"
        return _times(ours, self.undelegated_int8 if undelegated else self.tflite_runtime)


def _times(cycles: Cycles, factor: float) -> Cycles:
    return replace(
        cycles,
        dense=cycles.dense * factor,
        depthwise=cycles.depthwise * factor,
        activation=cycles.activation * factor,
        silu=cycles.silu * factor,
    )


CALIBRATION = Calibration()


@dataclass(frozen=True)
class Bytes:
    """Peak memory: what an engine takes by itself (bytes), per byte of weights, and per byte of
    the activations alive at once."""

    engine: float
    weights: float
    activations: float


# Fitted as above; the largest residual is 8 %. Of ONNX Runtime the weights alone explain the peak.
BYTES: dict[tuple[str, str], Bytes] = {
    ("onnxruntime", "float"): Bytes(33.4e6, 3.17, 0.0),
    ("onnxruntime", "int8"): Bytes(31.4e6, 4.54, 0.0),
    ("litert", "float"): Bytes(13.5e6, 2.52, 0.47),
    ("litert", "int8"): Bytes(24.2e6, 3.39, 0.38),
    ("native", "int8"): Bytes(2.3e6, 1.39, 0.0),
}
