"""What a dialect calls the parts of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

Tensors: TypeAlias = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class NormNames:
    """Tensor names of a batch norm."""

    gamma: str
    beta: str
    mean: str
    variance: str


@dataclass(frozen=True)
class ConvNames:
    """A convolution with a batch norm after it, or with a bias of its own."""

    weight: str
    norm: NormNames | None = None
    bias: str | None = None


@dataclass(frozen=True)
class BlockNames:
    """One MBConv block; ``expand`` and the squeeze-excite pair are there as in its BlockSpec."""

    expand: ConvNames | None
    depthwise: ConvNames
    reduce: ConvNames | None
    excite: ConvNames | None
    project: ConvNames


@dataclass(frozen=True)
class NetworkNames:
    """All tensor names of one architecture. The classifier's are its weight and bias."""

    stem: ConvNames
    blocks: tuple[BlockNames, ...]
    head: ConvNames
    classifier: tuple[str, str]


def torch_norm(module: str) -> NormNames:
    """The names of ``torch.nn.BatchNorm2d`` in a state dict."""
    return NormNames(
        gamma=f"{module}.weight",
        beta=f"{module}.bias",
        mean=f"{module}.running_mean",
        variance=f"{module}.running_var",
    )


def torch_conv(module: str, norm: str) -> ConvNames:
    """The names of a bias-free ``torch.nn.Conv2d`` and its batch norm."""
    return ConvNames(f"{module}.weight", norm=torch_norm(norm))


def torch_biased(module: str) -> ConvNames:
    """The names of a ``torch.nn.Conv2d`` with a bias."""
    return ConvNames(f"{module}.weight", bias=f"{module}.bias")
