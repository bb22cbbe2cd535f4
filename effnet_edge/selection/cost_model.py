"""What a model will cost on a device, and how sure that is.

One Gaussian model of the logarithm of latency serves both for choosing on this device and for
planning for one that isn't here:

    log t = log prior(config, device) + device + engine + (engine, precision) + threads + size + ...

The prior comes from the device's facts (`Speed`) and the network's work (`Work`). Each further
term is an unknown effect, normal around 0, that several configs share; observing one config's
latency by exact conditioning therefore moves the others as far as they have effects in common. The
standard deviations say how far a prior of this kind was found to be off; `benchmarks/cost_model.py`
repeats the fit and checks the intervals against published latencies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effnet_edge.selection.calibration import BYTES, CALIBRATION, Arithmetic, Calibration
from effnet_edge.selection.speed import UNKNOWN_SPEED, CoreClass, Speed, speed_of
from effnet_edge.selection.work import KnownFamily, Work, work

__all__ = [
    "Config",
    "CoreClass",
    "Estimate",
    "LatencyModel",
    "MemoryModel",
    "Speed",
    "speed_of",
]


@dataclass(frozen=True)
class Config:
    """A network and a way of running it.

    ``macs`` are for one image at ``resolution`` (height, width). ``precision`` is fp32, fp16 or
    int8; ``engine`` one of this package's, or ncnn, which can't run our models but of which
    published latencies tell much about a device.
    """

    family: KnownFamily
    phi: int
    resolution: tuple[int, int]
    precision: str
    engine: str
    threads: int
    macs: int
    parameters: int

    @property
    def arithmetic(self) -> Arithmetic:
        """What the engine computes this precision with."""
        if self.precision == "int8":
            return "int8"
        return "half" if self.precision == "fp16" and self.engine == "ncnn" else "float"


@dataclass(frozen=True)
class Estimate:
    """A log-normal guess: its median, and the standard deviation of the natural logarithm."""

    median: float
    spread: float

    def probability_at_most(self, limit: float) -> float:
        """The probability that the truth is ``limit`` or less."""
        if limit <= 0:
            return 0.0
        if not math.isfinite(limit):
            return 1.0
        deviations = (math.log(limit) - math.log(self.median)) / self.spread
        return 0.5 * math.erfc(-deviations / math.sqrt(2))

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """The central interval that holds the truth with probability ``level``."""
        from statistics import NormalDist

        factor = math.exp(NormalDist().inv_cdf((1 + level) / 2) * self.spread)
        return self.median / factor, self.median * factor

    def times(self, factor: Estimate) -> Estimate:
        """The product of two independent guesses."""
        return Estimate(self.median * factor.median, math.hypot(self.spread, factor.spread))


# Standard deviations of the effects, in natural logarithms: 0.1 is about 10 %. Chosen so that with
# one device left out after the other its published points fall in their 90 % intervals more often
# than that (benchmarks/cost_model.py): most of them are of one network, and few of our engines.
_DEVICE, _GUESSED_DEVICE = 0.20, 0.50
_ENGINE, _FOREIGN_ENGINE = 0.10, 0.15
_ARITHMETIC, _GUESSED_ARITHMETIC = 0.10, 0.25
_ENGINE_ARITHMETIC = 0.10
_FAMILY = 0.08
_THREADS_SLOPE, _THREADS = 0.12, 0.05
_SIZE_SLOPE = 0.05
_CONFIG = 0.05
_MEASURED = 0.03
_TYPICAL_MACS = 1e9
_TRUST = 4.0
"""How many observations the standard deviations above are worth."""

# The same for memory: what the fit on the reference core leaves, and room for other platforms. A
# model that ONNX Runtime has optimised before needs up to a third less than the first time.
_MEMORY_DEVICE = 0.10
_MEMORY_ENGINE, _MEMORY_OPTIMISED = 0.10, 0.20
_MEMORY_ENGINE_ARITHMETIC = 0.08
_MEMORY_SIZE_SLOPE = 0.04
_MEMORY_CONFIG = 0.05
_MEMORY_NOISE = 0.02

Effects = dict[tuple[object, ...], float]


class LatencyModel:
    """Predicts the latency in milliseconds of a whole prediction, from a decoded image to labels.

    Made for one device; learns from what is observed there.
    """

    def __init__(self, speed: Speed | None = None, calibration: Calibration = CALIBRATION) -> None:
        self._speed = speed or UNKNOWN_SPEED
        self._calibration = calibration
        self._gaussian = _Gaussian()

    def observe(
        self,
        config: Config,
        milliseconds: float,
        *,
        inference_only: bool = False,
        spread: float = 0.0,
    ) -> None:
        """Take a measured latency into account.

        ``inference_only`` is for published figures, which leave out resizing the image;
        ``spread`` is how uncertain a figure is beyond the noise of a measurement (standard
        deviation of the logarithm).
        """
        prior = self._prior(config, inference_only)
        self._gaussian.observe(
            latency_effects(config, self._speed),
            math.log(milliseconds / prior),
            math.hypot(_MEASURED, spread),
        )

    def estimates(
        self, configs: Sequence[Config], *, inference_only: bool = False
    ) -> list[Estimate]:
        """What each config is expected to take."""
        priors = [self._prior(config, inference_only) for config in configs]
        return self._gaussian.estimates(
            priors, [latency_effects(config, self._speed) for config in configs]
        )

    def _prior(self, config: Config, inference_only: bool) -> float:
        return prior_milliseconds(
            config, self._speed, inference_only=inference_only, calibration=self._calibration
        )


class MemoryModel:
    """Predicts how far the resident memory grows at its peak, in bytes, by loading and running a
    model: the engine's own code, the weights, the activations. Threads matter little."""

    def __init__(self) -> None:
        self._gaussian = _Gaussian()

    def observe(self, config: Config, peak_bytes: float) -> None:
        """Take a measured peak into account."""
        prior = prior_bytes(config)
        self._gaussian.observe(self._effects(config), math.log(peak_bytes / prior), _MEMORY_NOISE)

    def estimates(self, configs: Sequence[Config]) -> list[Estimate]:
        """The peak of each config."""
        priors = [prior_bytes(config) for config in configs]
        return self._gaussian.estimates(priors, [self._effects(config) for config in configs])

    def _effects(self, config: Config) -> Effects:
        engine, arithmetic = config.engine, config.arithmetic
        optimised = engine == "onnxruntime"
        return {
            ("device",): _MEMORY_DEVICE,
            ("engine", engine): _MEMORY_OPTIMISED if optimised else _MEMORY_ENGINE,
            ("engine", engine, arithmetic): _MEMORY_ENGINE_ARITHMETIC,
            ("size", engine): _MEMORY_SIZE_SLOPE * math.log(max(config.macs, 1) / _TYPICAL_MACS),
            # Not by thread count: what one thread needs is what all need, nearly.
            ("config", _without_threads(config)): _MEMORY_CONFIG,
        }


def latency_effects(config: Config, speed: Speed) -> Effects:
    """The unknown effects on a config's latency, each with its standard deviation."""
    engine, arithmetic = config.engine, config.arithmetic
    guessed = arithmetic in CALIBRATION.kinds[speed.cores[0].kind].guessed
    return {
        ("device",): _DEVICE if speed.known else _GUESSED_DEVICE,
        ("engine", engine): _FOREIGN_ENGINE if engine == "ncnn" else _ENGINE,
        ("arithmetic", arithmetic): _GUESSED_ARITHMETIC if guessed else _ARITHMETIC,
        ("engine", engine, arithmetic): _ENGINE_ARITHMETIC,
        ("family", config.family, engine, arithmetic): _FAMILY,
        ("threads",): _THREADS_SLOPE * math.log(config.threads),
        ("threads", engine, config.threads): _THREADS,
        ("size",): _SIZE_SLOPE * math.log(max(config.macs, 1) / _TYPICAL_MACS),
        ("config", config): _CONFIG,
    }


def prior_milliseconds(
    config: Config,
    speed: Speed,
    *,
    inference_only: bool = False,
    calibration: Calibration = CALIBRATION,
) -> float:
    """The latency that the device's facts and the network's work suggest.

    Computing is shared by the threads; moving maps and weights through the memory bus and starting
    operators are not. That alone explains why four threads make a Raspberry Pi 4 1.75 times
    as fast and a Rockchip RK3588, with the same number of cores, 3.5 times.
    """
    network = _work(config)
    lead = speed.cores[0]
    kind = calibration.kinds[lead.kind]
    cycles = calibration.cycles_of(config.engine, config.arithmetic, is_x86=speed.is_x86)
    computing = (
        cycles.dense * network.dense
        + cycles.depthwise * network.depthwise
        + cycles.activation * network.activations
        + cycles.silu * network.silu
    ) * kind.cycles(config.arithmetic)
    starting = cycles.layer * network.layers * kind.scalar_cycles
    if config.threads > 1:
        starting += cycles.sync * network.layers * kind.scalar_cycles
    megacycles = (computing / speed.parallel(config.threads) + starting) / 1e6
    milliseconds = megacycles / lead.mhz * 1e3 + _memory_ms(config, network, speed, calibration)
    if not inference_only:
        resizing = calibration.resizing_ms + calibration.resizing_ms_per_kilopixel * (
            network.pixels / 1e3
        )
        milliseconds += resizing * kind.scalar_cycles * calibration.reference_mhz / lead.mhz
    return milliseconds


def _memory_ms(config: Config, network: Work, speed: Speed, calibration: Calibration) -> float:
    kind = calibration.kinds[speed.cores[0].kind]
    element = {"float": 4, "half": 2, "int8": 1}[config.arithmetic]
    # A cache of 1 MB, about the largest map of these networks in int8, is taken to hold half.
    missing = 1 / (1 + (speed.cache_mb or kind.cache_mb))
    crossings = calibration.crossings * (network.activations + network.silu)
    traffic = (crossings + network.parameters) * element * missing
    return traffic / 1e6 / (speed.bandwidth_gb_s or kind.bandwidth_gb_s)


def prior_bytes(config: Config) -> float:
    """The peak memory, in bytes, that the network's size suggests."""
    network = _work(config)
    precision = "int8" if config.arithmetic == "int8" else "float"
    needs = BYTES.get((config.engine, precision), BYTES["litert", precision])
    element = 1 if config.arithmetic == "int8" else 4
    return (
        needs.engine
        + needs.weights * element * network.parameters
        + needs.activations * element * network.peak_activations
    )


def _work(config: Config) -> Work:
    return work(config.family, config.phi, config.resolution, config.macs, config.parameters)


def _without_threads(config: Config) -> tuple[object, ...]:
    return config.family, config.phi, config.resolution, config.arithmetic, config.engine


class _Gaussian:
    """Logarithms as sums of named effects, each normal around 0 with its standard deviation.

    Two sums covary by the effects that they share. Conditioning is exact (Rasmussen and Williams
    2006, "Gaussian Processes for Machine Learning", equations 2.22 to 2.24).
    """

    def __init__(self) -> None:
        self._observed: list[Effects] = []
        self._values: list[float] = []
        self._noise: list[float] = []

    def observe(self, effects: Effects, value: float, noise: float) -> None:
        """Take into account that the sum of ``effects`` was ``value``, within ``noise``."""
        if not math.isfinite(value):
            raise ValueError("an observation must be a positive, finite number")
        self._observed.append(effects)
        self._values.append(value)
        self._noise.append(noise)

    def estimates(self, priors: Sequence[float], effects: Sequence[Effects]) -> list[Estimate]:
        """Each prior times the exponential of its effects, given what was observed."""
        if not effects:
            return []
        matrix = loadings([*self._observed, *effects])
        seen, asked = matrix[: len(self._observed)], matrix[len(self._observed) :]
        means = np.zeros(len(effects))
        variances = (asked**2).sum(axis=1)
        if self._observed:
            covariance = seen @ seen.T + np.diag(np.square(self._noise))
            crossed = asked @ seen.T
            gain = np.linalg.solve(covariance, crossed.T).T
            values = np.array(self._values)
            means = gain @ values
            surprise = float(values @ np.linalg.solve(covariance, values))
            degrees = _TRUST + len(values)
            # Observations much unlike the prior say that its deviations are too small: the scale
            # of a Student t (Gelman et al. 2013, "Bayesian Data Analysis", section 14.2).
            scale = max(1.0, (_TRUST + surprise) / degrees)
            variances = scale * (variances - (gain * crossed).sum(axis=1))
        # A measured config still varies from one process to the next.
        spreads = np.sqrt(np.maximum(variances, 0) + _MEASURED**2)
        return [
            Estimate(prior * math.exp(mean), float(spread))
            for prior, mean, spread in zip(priors, means, spreads, strict=True)
        ]


def loadings(rows: Sequence[Effects]) -> NDArray[np.float64]:
    """A matrix [rows, effects] of standard deviations; times its transpose, the covariance."""
    columns: dict[tuple[object, ...], int] = {}
    for row in rows:
        for name in row:
            columns.setdefault(name, len(columns))
    matrix = np.zeros((len(rows), len(columns)))
    for index, row in enumerate(rows):
        for name, deviation in row.items():
            matrix[index, columns[name]] = deviation
    return matrix
