"""The EfficientNet family as data: B0..B7 by the released table, and Lite0..4."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

Family = Literal["standard", "lite"]
Activation = Literal["silu", "relu6"]

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
SQUEEZE_EXCITE_RATIO = 0.25
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class StageSpec:
    """One MBConv stage of B0: its first block has ``stride``, the others stride 1."""

    expand_ratio: int
    kernel: int
    stride: int
    channels: int
    repeats: int


B0_STAGES = (
    StageSpec(1, 3, 1, 16, 1),
    StageSpec(6, 3, 2, 24, 2),
    StageSpec(6, 5, 2, 40, 2),
    StageSpec(6, 3, 2, 80, 3),
    StageSpec(6, 5, 1, 112, 3),
    StageSpec(6, 5, 2, 192, 4),
    StageSpec(6, 3, 1, 320, 1),
)
"""Tan & Le 2019, Table 1, stages 2 to 8."""


@dataclass(frozen=True)
class BlockSpec:
    """One MBConv block: expand 1x1, depthwise k x k, squeeze-excite, project 1x1.

    ``stage`` counts from 1 over the MBConv stages and ``repeat`` from 0 inside a stage.
    ``expanded_channels == in_channels`` means there is no expand convolution;
    ``squeeze_channels is None`` means no squeeze-excite.
    """

    stage: int
    repeat: int
    kernel: int
    stride: int
    in_channels: int
    expanded_channels: int
    squeeze_channels: int | None
    out_channels: int

    @property
    def has_expand(self) -> bool:
        """Whether a 1x1 convolution widens the input first."""
        return self.expanded_channels != self.in_channels

    @property
    def has_residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.in_channels == self.out_channels


@dataclass(frozen=True)
class Architecture:
    """One member of the family: all that is fixed before there are weights."""

    family: Family
    phi: int
    width: float
    depth: float
    resolution: int
    dropout: float
    activation: Activation
    stem_channels: int
    blocks: tuple[BlockSpec, ...]
    head_channels: int

    @property
    def name(self) -> str:
        """The model's name as files carry it: ``efficientnet-b2``, ``efficientnet-lite0``."""
        return model_name(self.family, self.phi)

    @property
    def title(self) -> str:
        """The model's name as people write it: ``EfficientNet-B2``, ``EfficientNet-Lite0``."""
        return f"EfficientNet-{'B' if self.family == 'standard' else 'Lite'}{self.phi}"


@dataclass(frozen=True)
class _Row:
    width: float
    depth: float
    resolution: int
    dropout: float


# The trained networks follow this table, not the formula: efficientnet_params in
# tensorflow/tpu/models/official/efficientnet/efficientnet_builder.py, and
# efficientnet_lite_params in lite/efficientnet_lite_builder.py beside it.
_RELEASED: dict[Family, tuple[_Row, ...]] = {
    "standard": (
        _Row(1.0, 1.0, 224, 0.2),
        _Row(1.0, 1.1, 240, 0.2),
        _Row(1.1, 1.2, 260, 0.3),
        _Row(1.2, 1.4, 300, 0.3),
        _Row(1.4, 1.8, 380, 0.4),
        _Row(1.6, 2.2, 456, 0.4),
        _Row(1.8, 2.6, 528, 0.5),
        _Row(2.0, 3.1, 600, 0.5),
    ),
    "lite": (
        _Row(1.0, 1.0, 224, 0.2),
        _Row(1.0, 1.1, 240, 0.2),
        _Row(1.1, 1.2, 260, 0.3),
        _Row(1.2, 1.4, 280, 0.3),
        _Row(1.4, 1.8, 300, 0.3),
    ),
}


def model_name(family: Family, phi: int) -> str:
    """What files call a member, without its precision: ``efficientnet-b2``."""
    return f"efficientnet-{'b' if family == 'standard' else 'lite'}{phi}"


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of ``divisor``, never below 90 % of ``channels``."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def round_repeats(repeats: float) -> int:
    """Round a scaled layer count up, forgiving the last bits of a floating-point product."""
    return max(1, math.ceil(round(repeats, 9)))


def phis(family: Family) -> range:
    """The phis of the family that were released with weights."""
    return range(len(_RELEASED[family]))


@cache
def architecture(phi: int, family: Family = "standard") -> Architecture:
    """Return B0..B7 (``standard``) or Lite0..4 (``lite``).

    Raises ValueError for a phi that the family doesn't have.
    """
    rows = _RELEASED[family]
    if phi not in phis(family):
        first, last = architecture(0, family).title, architecture(len(rows) - 1, family).title
        raise ValueError(f"there is no phi {phi} in this family: it goes from {first} to {last}")
    row = rows[phi]
    lite = family == "lite"
    stem = STEM_CHANNELS if lite else round_channels(STEM_CHANNELS * row.width)
    head = HEAD_CHANNELS if lite else round_channels(HEAD_CHANNELS * row.width)
    blocks: list[BlockSpec] = []
    channels = stem
    for number, stage in enumerate(B0_STAGES, start=1):
        out = round_channels(stage.channels * row.width)
        unscaled_depth = lite and number in (1, len(B0_STAGES))
        repeats = stage.repeats if unscaled_depth else round_repeats(stage.repeats * row.depth)
        for repeat in range(repeats):
            blocks.append(
                BlockSpec(
                    stage=number,
                    repeat=repeat,
                    kernel=stage.kernel,
                    stride=stage.stride if repeat == 0 else 1,
                    in_channels=channels,
                    expanded_channels=channels * stage.expand_ratio,
                    squeeze_channels=None if lite else max(1, int(channels * SQUEEZE_EXCITE_RATIO)),
                    out_channels=out,
                )
            )
            channels = out
    return Architecture(
        family=family,
        phi=phi,
        width=row.width,
        depth=row.depth,
        resolution=row.resolution,
        dropout=row.dropout,
        activation="relu6" if lite else "silu",
        stem_channels=stem,
        blocks=tuple(blocks),
        head_channels=head,
    )
