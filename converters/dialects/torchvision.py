"""torchvision's names (``torchvision/models/efficientnet.py``, 0.28).

A block is a Sequential, so the places of depthwise, squeeze-excite and projection shift by one
where there is no expansion.
"""

from __future__ import annotations

from effnet_edge.converters.dialects.folding import PYTORCH_EPSILON, TENSORFLOW_EPSILON
from effnet_edge.converters.dialects.names import (
    BlockNames,
    NetworkNames,
    torch_biased,
    torch_conv,
)
from effnet_edge.models.architecture import Architecture, BlockSpec

ANCHOR = "features.0.0.weight"
CLASSIFIER = "classifier"

_FIRST_PHI_WITH_TENSORFLOW_EPSILON = 5


def epsilon(arch: Architecture) -> float:
    """Batch norm's epsilon: PyTorch's default up to B4; B5..B7, whose weights were ported from
    TensorFlow, are built with ``eps=0.001``."""
    if arch.phi >= _FIRST_PHI_WITH_TENSORFLOW_EPSILON:
        return TENSORFLOW_EPSILON
    return PYTORCH_EPSILON


def names(arch: Architecture) -> NetworkNames:
    """The state dict's names for ``arch``."""
    last = arch.blocks[-1].stage + 1
    return NetworkNames(
        stem=torch_conv("features.0.0", "features.0.1"),
        blocks=tuple(_block(block) for block in arch.blocks),
        head=torch_conv(f"features.{last}.0", f"features.{last}.1"),
        classifier=(f"{CLASSIFIER}.1.weight", f"{CLASSIFIER}.1.bias"),
    )


def _block(block: BlockSpec) -> BlockNames:
    prefix = f"features.{block.stage}.{block.repeat}.block"
    first = 1 if block.has_expand else 0
    squeezed = block.squeeze_channels is not None
    gate, project = f"{prefix}.{first + 1}", f"{prefix}.{first + 1 + squeezed}"
    return BlockNames(
        expand=torch_conv(f"{prefix}.0.0", f"{prefix}.0.1") if block.has_expand else None,
        depthwise=torch_conv(f"{prefix}.{first}.0", f"{prefix}.{first}.1"),
        reduce=torch_biased(f"{gate}.fc1") if squeezed else None,
        excite=torch_biased(f"{gate}.fc2") if squeezed else None,
        project=torch_conv(f"{project}.0", f"{project}.1"),
    )
