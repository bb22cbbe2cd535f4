"""The names of timm and geffnet, which serve two dialects.

``efficientnet_bX`` pads symmetrically with epsilon 1e-5, ``tf_efficientnet_bX`` pads as TensorFlow
does with epsilon 1e-3 (``timm/models/efficientnet.py``; ``BN_EPS_TF_DEFAULT`` in
``_efficientnet_builder.py``). Their state dicts can't be told apart.
"""

from __future__ import annotations

import re
from typing import Literal

from effnet_edge.converters.dialects.names import (
    BlockNames,
    NetworkNames,
    torch_biased,
    torch_conv,
)
from effnet_edge.errors import CheckpointError
from effnet_edge.models.architecture import Architecture, BlockSpec

ANCHOR = "conv_stem.weight"
CLASSIFIER = "classifier"

_MODEL_NAME = re.compile(r"(?:^|[^a-z0-9_])(tf_)?efficientnet_(?:b|lite)\d(?![0-9])")


def dialect_of(arch_hint: str | None, where: str) -> Literal["timm", "tf"]:
    """Tell the two apart by the model name that a wrapper stores.

    Raises CheckpointError, naming the options, where there is none.
    """
    match = _MODEL_NAME.search(arch_hint.lower()) if arch_hint else None
    if match:
        return "tf" if match[1] else "timm"
    raise CheckpointError(
        f"{where} has the names that timm gives to two kinds of network, and they give different "
        "results. Say which one it was trained as: --dialect timm (efficientnet_bX: symmetric "
        "padding, batch-norm epsilon 1e-5) or --dialect tf (tf_efficientnet_bX: SAME padding, "
        "epsilon 1e-3)"
    )


def names(arch: Architecture) -> NetworkNames:
    """The state dict's names for ``arch``."""
    return NetworkNames(
        stem=torch_conv("conv_stem", "bn1"),
        blocks=tuple(_block(block) for block in arch.blocks),
        head=torch_conv("conv_head", "bn2"),
        classifier=(f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"),
    )


def _block(block: BlockSpec) -> BlockNames:
    prefix = f"blocks.{block.stage - 1}.{block.repeat}"
    squeezed = block.squeeze_channels is not None
    if block.has_expand:
        expand = torch_conv(f"{prefix}.conv_pw", f"{prefix}.bn1")
        depthwise = torch_conv(f"{prefix}.conv_dw", f"{prefix}.bn2")
        project = torch_conv(f"{prefix}.conv_pwl", f"{prefix}.bn3")
    else:
        expand = None
        depthwise = torch_conv(f"{prefix}.conv_dw", f"{prefix}.bn1")
        project = torch_conv(f"{prefix}.conv_pw", f"{prefix}.bn2")
    return BlockNames(
        expand=expand,
        depthwise=depthwise,
        reduce=torch_biased(f"{prefix}.se.conv_reduce") if squeezed else None,
        excite=torch_biased(f"{prefix}.se.conv_expand") if squeezed else None,
        project=project,
    )
