"""Compound scaling: one exponent phi sets depth, width and resolution together.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019),
section 3.3: depth ``alpha ** phi``, width ``beta ** phi``, resolution ``gamma ** phi``, under
``alpha * beta**2 * gamma**2 ~ 2`` so that each step of phi about doubles the cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from effnet_edge.models.architecture import (
    B0_STAGES,
    HEAD_CHANNELS,
    STEM_CHANNELS,
    round_channels,
    round_repeats,
)

PAPER_ALPHA, PAPER_BETA, PAPER_GAMMA = 1.2, 1.1, 1.15
"""The coefficients that the paper found by grid search on B0 (section 4, step 1)."""

BASE_RESOLUTION = 224


@dataclass(frozen=True)
class Multipliers:
    """Depth, width and resolution multipliers relative to B0."""

    depth: float
    width: float
    resolution: float

    @property
    def cost(self) -> float:
        """MACs relative to B0, as the paper estimates them: depth * width^2 * resolution^2."""
        return self.depth * self.width**2 * self.resolution**2


@dataclass(frozen=True)
class ScaledStage:
    """One row of the paper's Table 1 after scaling.

    ``resolution`` is the stage's *input* height and width, as Table 1 gives it. The plain fields
    are the exact products; ``built_*`` are what a network made of them would have (channels to a
    multiple of 8, layers rounded up). Stem and head are one layer each whatever the depth.
    """

    stage: int
    operator: str
    resolution: float
    channels: float
    layers: float
    built_resolution: int
    built_channels: int
    built_layers: int


def compound_multipliers(
    phi: float,
    alpha: float = PAPER_ALPHA,
    beta: float = PAPER_BETA,
    gamma: float = PAPER_GAMMA,
) -> Multipliers:
    """Return the multipliers for any real ``phi`` and any positive coefficients.

    Raises ValueError for a coefficient that is not a positive finite number, or a result that is
    too large to be a network.
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, not {value}")
    if not math.isfinite(phi):
        raise ValueError(f"phi must be a finite number, not {phi}")
    try:
        return Multipliers(alpha**phi, beta**phi, gamma**phi)
    except OverflowError:
        raise ValueError(f"phi = {phi} is too large for these coefficients") from None


def scaled_stages(multipliers: Multipliers) -> tuple[ScaledStage, ...]:
    """Return B0's nine stages (paper, Table 1) scaled by ``multipliers``."""
    resolution = BASE_RESOLUTION * multipliers.resolution
    image = max(1, round(resolution))
    if image > 2**20 or multipliers.width > 2**10 or multipliers.depth > 2**10:
        raise ValueError(
            "these multipliers give no network that could be built: depth "
            f"x{multipliers.depth:.4g}, width x{multipliers.width:.4g}, {image} px"
        )
    built = image
    rows = [
        _stage(1, "Conv3x3", resolution, image, STEM_CHANNELS, 1, multipliers, scale_depth=False)
    ]
    resolution, built = resolution / 2, math.ceil(built / 2)
    for number, stage in enumerate(B0_STAGES, start=2):
        operator = f"MBConv{stage.expand_ratio}, k{stage.kernel}x{stage.kernel}"
        rows.append(
            _stage(number, operator, resolution, built, stage.channels, stage.repeats, multipliers)
        )
        resolution, built = resolution / stage.stride, math.ceil(built / stage.stride)
    operator = "Conv1x1, pool, FC"
    rows.append(
        _stage(9, operator, resolution, built, HEAD_CHANNELS, 1, multipliers, scale_depth=False)
    )
    return tuple(rows)


def _stage(
    number: int,
    operator: str,
    resolution: float,
    built_resolution: int,
    channels: int,
    repeats: int,
    multipliers: Multipliers,
    *,
    scale_depth: bool = True,
) -> ScaledStage:
    layers = repeats * multipliers.depth if scale_depth else float(repeats)
    width = channels * multipliers.width
    return ScaledStage(
        stage=number,
        operator=operator,
        resolution=resolution,
        channels=width,
        layers=layers,
        built_resolution=built_resolution,
        built_channels=round_channels(width),
        built_layers=round_repeats(layers),
    )
