"""What a network gives a processor to do, in the units that time depends on.

Multiply-accumulates alone predict latency badly: a depthwise convolution runs far below the peak
of the same core's 1x1 convolutions, and SiLU, rescaling and memory traffic go with the number of
activations, not with the MACs between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from effnet_edge.models.architecture import (
    Architecture,
    BlockSpec,
    Family,
    StageSpec,
    architecture,
    phis,
)
from effnet_edge.models.geometry import output_map

KnownFamily = Literal["standard", "lite", "mobilenet-v2"]
"""Families that latencies are published of; only the first two can be made and chosen."""


@dataclass(frozen=True)
class Work:
    """One image's worth of work.

    ``dense`` and ``depthwise`` are MACs, ``activations`` the elements that convolutions write,
    ``silu`` those of them that go through SiLU (0 where the activation is a clamp, which
    costs nothing), ``layers`` the number of operators, ``peak_activations`` the elements
    alive at once, ``pixels`` those of the image the network takes, ``parameters`` its weights.
    """

    dense: int
    depthwise: int
    activations: int
    silu: int
    layers: int
    peak_activations: int
    pixels: int
    parameters: int


def work(
    family: KnownFamily,
    phi: int,
    resolution: tuple[int, int],
    macs: int,
    parameters: int,
) -> Work:
    """The work of a network of that architecture, of which ``macs`` are for one image.

    ``resolution`` is (height, width) in pixels. A phi that the family doesn't have counts as the
    nearest one it has.
    """
    depthwise, activations, silu, layers, peak = _maps(family, phi, resolution)
    return Work(
        dense=max(macs - depthwise, 1),
        depthwise=depthwise,
        activations=activations,
        silu=silu,
        layers=layers,
        peak_activations=peak,
        pixels=resolution[0] * resolution[1],
        parameters=parameters,
    )


@cache
def _maps(
    family: KnownFamily, phi: int, resolution: tuple[int, int]
) -> tuple[int, int, int, int, int]:
    arch = _architecture(family, phi)
    height, width = output_map(resolution, 2)
    expanded = arch.stem_channels * height * width
    written, depthwise = expanded, 0
    peak = 3 * resolution[0] * resolution[1] + expanded
    layers = 4  # stem, head, pooling, classifier
    for block in arch.blocks:
        out_height, out_width = output_map((height, width), block.stride)
        pixels, out_pixels = height * width, out_height * out_width
        inner = block.expanded_channels * (out_pixels + (pixels if block.has_expand else 0))
        expanded += inner
        written += inner + block.out_channels * out_pixels
        depthwise += block.kernel**2 * block.expanded_channels * out_pixels
        peak = max(peak, block.expanded_channels * (pixels + out_pixels))
        layers += _operators(block)
        height, width = out_height, out_width
    features = arch.head_channels * height * width
    silu = expanded + features if arch.activation == "silu" else 0
    return depthwise, written + features, silu, layers, peak


def _operators(block: BlockSpec) -> int:
    squeeze_excite = 0 if block.squeeze_channels is None else 4  # pool, two 1x1, multiply
    return 2 + block.has_expand + block.has_residual + squeeze_excite


def _architecture(family: KnownFamily, phi: int) -> Architecture:
    if family == "mobilenet-v2":
        return _mobilenet_v2()
    released: Family = family
    return architecture(min(max(phi, 0), phis(released)[-1]), released)


# Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", Table 2. The same
# blocks as Lite's, so that what engines are known to need for it says something about Lite.
_MOBILENET_V2 = (
    StageSpec(1, 3, 1, 16, 1),
    StageSpec(6, 3, 2, 24, 2),
    StageSpec(6, 3, 2, 32, 3),
    StageSpec(6, 3, 2, 64, 4),
    StageSpec(6, 3, 1, 96, 3),
    StageSpec(6, 3, 2, 160, 3),
    StageSpec(6, 3, 1, 320, 1),
)
MOBILENET_V2_MACS, MOBILENET_V2_PARAMETERS = 300_000_000, 3_400_000
"""Of width 1.0 at 224 x 224: Sandler et al. 2018, Table 4."""


@cache
def _mobilenet_v2() -> Architecture:
    blocks: list[BlockSpec] = []
    channels = 32
    for number, stage in enumerate(_MOBILENET_V2, start=1):
        for repeat in range(stage.repeats):
            blocks.append(
                BlockSpec(
                    stage=number,
                    repeat=repeat,
                    kernel=stage.kernel,
                    stride=stage.stride if repeat == 0 else 1,
                    in_channels=channels,
                    expanded_channels=channels * stage.expand_ratio,
                    squeeze_channels=None,
                    out_channels=stage.channels,
                )
            )
            channels = stage.channels
    return Architecture("lite", 0, 1.0, 1.0, 224, 0.2, "relu6", 32, tuple(blocks), 1280)
