"""Fit the cost model's constants again, and check its intervals against published latencies.

    python benchmarks/cost_model.py                       kinds of cores, from the profiles' points
    python benchmarks/cost_model.py --measure STORE       also measure the models of a store, here

The first fits `effnet_edge/selection/calibration.py`'s factors of the kinds of cores to the points
of the shipped device profiles (maximum a posteriori, Gauss-Newton) and then leaves out one device
after the other: the factors are fitted to the rest, and the left-out device's points compared with
what is then predicted for it. The second prints the cycles and bytes of this package's models on
this machine; they are comparable where its cores are the reference kind.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effnet_edge import device
from effnet_edge.measurement import Measurement, Plan, Task, measure
from effnet_edge.selection.calibration import CALIBRATION, Calibration
from effnet_edge.selection.cost_model import (
    Config,
    Estimate,
    LatencyModel,
    latency_effects,
    loadings,
    prior_milliseconds,
    speed_of,
)
from effnet_edge.selection.profile import Point, Profile
from effnet_edge.selection.profiles import shipped_profiles
from effnet_edge.selection.work import work
from effnet_edge.store import ModelStore

# Cycles of int8 B0 at 224 x 224, one thread: instructions counted under qemu-user, the executed
# blocks costed by llvm-mca. They know no cache misses.
MODELLED_MEGACYCLES = {
    ("arm-out-of-order", "onnxruntime"): 113,
    ("arm-out-of-order", "litert"): 85,
    ("arm-out-of-order-dot", "onnxruntime"): 59,
    ("arm-out-of-order-dot", "litert"): 36,
}
MODELLED_SPREAD = 0.35
PRIOR_SPREAD = 0.5
LEVEL = 0.9


@dataclass(frozen=True)
class Parameter:
    """One constant to fit: a factor of a kind, or one of the calibration's own numbers."""

    kind: str | None
    names: tuple[str, ...]

    def scaled(self, calibration: Calibration, factor: float) -> Calibration:
        """The calibration with this constant times ``factor``."""
        if self.kind is None:
            (name,) = self.names
            return replace(calibration, **{name: getattr(calibration, name) * factor})
        kind = calibration.kinds[self.kind]
        changes = {name: getattr(kind, name) * factor for name in self.names}
        return replace(
            calibration, kinds={**calibration.kinds, self.kind: replace(kind, **changes)}
        )

    def value(self, calibration: Calibration) -> float:
        """What the constant is there."""
        owner = calibration if self.kind is None else calibration.kinds[self.kind]
        return float(getattr(owner, self.names[0]))


def parameters(known: Sequence[Profile]) -> list[Parameter]:
    """The constants that the points of these devices say something about."""
    found: dict[Parameter, None] = {}
    for profile in known:
        kind = profile.speed.cores[0].kind
        has_half = CALIBRATION.kinds[kind].half_cycles != CALIBRATION.kinds[kind].float_cycles
        for point in profile.points:
            arithmetic = point.config.arithmetic
            names = (f"{arithmetic}_cycles",)
            if arithmetic == "float" and not has_half:
                names = ("float_cycles", "half_cycles")
            found[Parameter(kind, names)] = None
    found[Parameter(None, ("ncnn",))] = None
    found[Parameter(None, ("crossings",))] = None
    return list(found)


def fit(known: Sequence[Profile], steps: int = 4) -> tuple[Calibration, list[Parameter]]:
    """The calibration that explains the points of these devices best."""
    unknowns = parameters(known)
    weights = _inverse_covariance(known)
    logs = np.zeros(len(unknowns))
    for _ in range(steps):
        here = _calibration(unknowns, logs)
        residuals = _residuals(known, here)
        slopes = np.empty((len(residuals), len(unknowns)))
        for column, parameter in enumerate(unknowns):
            slopes[:, column] = (_residuals(known, parameter.scaled(here, 1.01)) - residuals) / (
                math.log(1.01)
            )
        precision = slopes.T @ weights @ slopes + np.eye(len(unknowns)) / PRIOR_SPREAD**2
        downhill = slopes.T @ weights @ residuals + logs / PRIOR_SPREAD**2
        logs = logs - np.linalg.solve(precision, downhill)
    return _calibration(unknowns, logs), unknowns


def _calibration(unknowns: Sequence[Parameter], logs: NDArray[np.float64]) -> Calibration:
    calibration = CALIBRATION
    for parameter, log in zip(unknowns, logs, strict=True):
        calibration = parameter.scaled(calibration, math.exp(log))
    return calibration


def _residuals(known: Sequence[Profile], calibration: Calibration) -> NDArray[np.float64]:
    published = [
        math.log(point.ms / _prior(point, profile, calibration))
        for profile in known
        for point in profile.points
    ]
    modelled = [
        math.log(megacycles / _megacycles(kind, engine, calibration))
        for (kind, engine), megacycles in MODELLED_MEGACYCLES.items()
    ]
    return np.array(published + modelled)


def _prior(point: Point, profile: Profile, calibration: Calibration) -> float:
    only = point.covers == "inference"
    return prior_milliseconds(
        point.config, profile.speed, inference_only=only, calibration=calibration
    )


def _megacycles(kind: str, engine: str, calibration: Calibration) -> float:
    network = work("standard", 0, (224, 224), 386_000_000, 5_288_548)
    cycles = calibration.cycles_of(engine, "int8", is_x86=False)
    computing = (
        cycles.dense * network.dense
        + cycles.depthwise * network.depthwise
        + cycles.activation * network.activations
        + cycles.silu * network.silu
    )
    starting = cycles.layer * network.layers * calibration.kinds[kind].scalar_cycles
    return (computing * calibration.kinds[kind].int8_cycles + starting) / 1e6


def _inverse_covariance(known: Sequence[Profile]) -> NDArray[np.float64]:
    blocks = []
    for profile in known:
        if profile.points:
            effects = loadings(
                [latency_effects(point.config, profile.speed) for point in profile.points]
            )
            noise = np.diag([point.spread**2 + 0.03**2 for point in profile.points])
            blocks.append(effects @ effects.T + noise)
    blocks.append(np.eye(len(MODELLED_MEGACYCLES)) * MODELLED_SPREAD**2)
    size = sum(len(block) for block in blocks)
    whole, start = np.zeros((size, size)), 0
    for block in blocks:
        whole[start : start + len(block), start : start + len(block)] = np.linalg.inv(block)
        start += len(block)
    return whole


def leave_one_out(known: Sequence[Profile]) -> None:
    """Print how often a device's points fall in the interval that the others give."""
    inside, total, errors, scores = 0, 0, [], []
    print(f"\n{'left out':22}{'point':34}{'published':>10}{'predicted':>10}  {LEVEL:.0%} interval")
    for left_out in known:
        kind = left_out.speed.cores[0].kind
        others = [profile for profile in known if profile.name != left_out.name]
        alike = any(p.points and p.speed.cores[0].kind == kind for p in others)
        if not left_out.points or not alike:
            continue
        calibration, _ = fit(others)
        model = LatencyModel(left_out.speed, calibration)
        for point in left_out.points:
            (found,) = model.estimates([point.config], inference_only=point.covers == "inference")
            predicted = Estimate(found.median, math.hypot(found.spread, point.spread))
            low, high = predicted.interval(LEVEL)
            error = math.log(point.ms / predicted.median)
            errors.append(error)
            scores.append(error / predicted.spread)
            total += 1
            inside += low <= point.ms <= high
            name = f"{point.family} {point.phi} {point.precision} {point.engine} x{point.threads}"
            print(
                f"{left_out.name:22}{name:34}{point.ms:10.1f}{predicted.median:10.1f}  "
                f"{low:.1f} to {high:.1f}{'' if low <= point.ms <= high else '   outside'}"
            )
    print(
        f"\n{inside} of {total} points ({inside / total:.0%}) inside; the median error is a factor "
        f"{math.exp(statistics.median(map(abs, errors))):.2f}, the root mean square of error / "
        f"spread {math.sqrt(statistics.fmean(score**2 for score in scores)):.2f}"
    )


def leave_one_point_out(known: Sequence[Profile]) -> None:
    """Print how well a device's other points predict each of its points."""
    inside, factors = [], []
    for profile in known:
        for left_out in profile.points:
            rest = [point for point in profile.points if point is not left_out]
            if not rest:
                continue
            model = LatencyModel(profile.speed)
            for point in rest:
                only = point.covers == "inference"
                model.observe(point.config, point.ms, inference_only=only, spread=point.spread)
            only = left_out.covers == "inference"
            (found,) = model.estimates([left_out.config], inference_only=only)
            estimate = Estimate(found.median, math.hypot(found.spread, left_out.spread))
            low, high = estimate.interval(LEVEL)
            inside.append(low <= left_out.ms <= high)
            factors.append(abs(math.log(left_out.ms / estimate.median)))
    print(
        f"From a device's other points: {sum(inside)} of {len(inside)} inside; the median error is "
        f"a factor {math.exp(statistics.median(factors)):.2f}"
    )


@dataclass(frozen=True)
class Measured:
    """A model of the store, and what it took here."""

    config: Config
    measurement: Measurement


def measure_store(store: ModelStore, rounds: int) -> list[Measured]:
    """Measure every model on one thread and on all cores, round after round; keep the fastest."""
    best: dict[Config, Measured] = {}
    counts = sorted({1, device.default_threads()})
    for _ in range(rounds):
        for model in store.list():
            for threads in counts:
                if model.metadata is None:
                    continue
                engine = "onnxruntime" if model.format == "onnx" else "litert"
                height, width = model.metadata.recipe.resolution
                config = Config(
                    "lite" if model.metadata.family == "lite" else "standard",
                    model.metadata.phi,
                    (height, width),
                    model.metadata.precision,
                    engine,
                    threads,
                    model.metadata.macs,
                    model.metadata.parameters,
                )
                found = measure(Task(model.path, engine, threads), Plan(seconds=1, seconds_limit=3))
                rival = best.get(config)
                if rival is None or min(found.inference_ms) < min(rival.measurement.inference_ms):
                    best[config] = Measured(config, found)
    return list(best.values())


def fit_measured(measured: Sequence[Measured]) -> None:
    """Print cycles and bytes that explain what was measured here."""
    mhz = speed_of(device.inspect()).cores[0].mhz
    for engine in ("onnxruntime", "litert"):
        for arithmetic in ("float", "int8"):
            mine = [
                one
                for one in measured
                if one.config.engine == engine and one.config.arithmetic == arithmetic
            ]
            if len(mine) < 6:
                continue
            _fit_cycles(engine, arithmetic, mine, mhz)
            _fit_bytes(engine, arithmetic, mine)


def _fit_cycles(engine: str, arithmetic: str, mine: Sequence[Measured], mhz: float) -> None:
    rows, times = [], []
    for one in mine:
        c = one.config
        if c.threads == 1:
            w = work(c.family, c.phi, c.resolution, c.macs, c.parameters)
            rows.append((w.dense, w.depthwise, w.activations, w.silu, w.layers))
            times.append(min(one.measurement.inference_ms) * mhz * 1e3)
    matrix, cycles = np.array(rows, float), np.array(times)
    found = non_negative(matrix / cycles[:, None], np.ones(len(cycles)))
    error = np.abs(matrix @ found / cycles - 1).max()
    print(f"{engine} {arithmetic}: Cycles({', '.join(f'{value:.4g}' for value in found)}, sync)")
    print(f"    largest residual {error:.1%} of {len(cycles)} models")
    syncs = []
    for one in mine:
        c = one.config
        if c.threads > 1:
            w = work(c.family, c.phi, c.resolution, c.macs, c.parameters)
            units = (w.dense, w.depthwise, w.activations, w.silu)
            ideal = sum(f * u for f, u in zip(found, units, strict=False)) / c.threads
            ideal += found[4] * w.layers
            syncs.append((min(one.measurement.inference_ms) * mhz * 1e3 - ideal) / w.layers)
    if syncs:
        print(
            f"    sync: median {statistics.median(syncs):.3g}, {min(syncs):.3g} to {max(syncs):.3g}"
        )


def _fit_bytes(engine: str, arithmetic: str, mine: Sequence[Measured]) -> None:
    element = 1 if arithmetic == "int8" else 4
    rows, peaks = [], []
    for one in mine:
        c = one.config
        w = work(c.family, c.phi, c.resolution, c.macs, c.parameters)
        rows.append((1.0, element * w.parameters, element * w.peak_activations))
        peaks.append(float(one.measurement.peak_bytes))
    matrix, sizes = np.array(rows), np.array(peaks)
    found = non_negative(matrix / sizes[:, None], np.ones(len(sizes)))
    error = np.abs(matrix @ found / sizes - 1).max()
    print(
        f"    Bytes({', '.join(f'{value:.4g}' for value in found)}), largest residual {error:.1%}"
    )


def non_negative(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares with no negative coefficient: the most negative one is left out in turn."""
    active = list(range(matrix.shape[1]))
    while True:
        found = np.linalg.lstsq(matrix[:, active], target, rcond=None)[0]
        if (found >= 0).all():
            break
        active.pop(int(np.argmin(found)))
    whole = np.zeros(matrix.shape[1])
    whole[active] = found
    return whole


def main() -> None:
    """Fit what the command line asks for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", type=Path, metavar="STORE", help="a home folder with models")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.measure is not None:
        print(f"measuring on {os.cpu_count()} CPUs\n")
        fit_measured(measure_store(ModelStore(args.measure), args.rounds))
        print()
    known = shipped_profiles()
    calibration, unknowns = fit(known)
    for parameter in unknowns:
        before, after = parameter.value(CALIBRATION), parameter.value(calibration)
        owner = parameter.kind or "calibration"
        print(f"{owner:22}{parameter.names[0]:16}{before:8.2f} -> {after:6.2f}")
    leave_one_out(known)
    leave_one_point_out(known)


if __name__ == "__main__":
    main()
