"""The names of lukemelas's efficientnet-pytorch (0.7.1) and of the Lite packages made from it."""

from __future__ import annotations

from effnet_edge.converters.dialects.names import (
    BlockNames,
    NetworkNames,
    torch_biased,
    torch_conv,
)
from effnet_edge.models.architecture import Architecture, BlockSpec

ANCHOR = "_conv_stem.weight"
CLASSIFIER = "_fc"


def names(arch: Architecture) -> NetworkNames:
    """The state dict's names for ``arch``."""
    return NetworkNames(
        stem=torch_conv("_conv_stem", "_bn0"),
        blocks=tuple(_block(index, block) for index, block in enumerate(arch.blocks)),
        head=torch_conv("_conv_head", "_bn1"),
        classifier=(f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"),
    )


def _block(index: int, block: BlockSpec) -> BlockNames:
    prefix = f"_blocks.{index}"
    squeezed = block.squeeze_channels is not None
    expand = torch_conv(f"{prefix}._expand_conv", f"{prefix}._bn0")
    return BlockNames(
        expand=expand if block.has_expand else None,
        depthwise=torch_conv(f"{prefix}._depthwise_conv", f"{prefix}._bn1"),
        reduce=torch_biased(f"{prefix}._se_reduce") if squeezed else None,
        excite=torch_biased(f"{prefix}._se_expand") if squeezed else None,
        project=torch_conv(f"{prefix}._project_conv", f"{prefix}._bn2"),
    )
