"""Which architecture a set of tensors is, and what is wrong with it if it is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from effnet_edge.converters.dialects.names import ConvNames, NetworkNames, Tensors
from effnet_edge.errors import CheckpointError
from effnet_edge.models.architecture import Architecture, Family, architecture, phis

Shape = tuple[int, ...]

_LISTED = 10
_KINSHIP = 0.5
"""Of the closest architecture's tensors, the part that must be there in the right shape for the
others to be worth listing."""


@dataclass(frozen=True)
class _Comparison:
    arch: Architecture
    expected: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    @property
    def kinship(self) -> float:
        return 1 - (len(self.missing) + len(self.misshapen)) / self.expected


def recognise(
    tensors: Tensors,
    names: Callable[[Architecture], NetworkNames],
    where: str,
    phi: int | None = None,
    family: Family | None = None,
) -> Architecture:
    """Find the architecture whose names and shapes are exactly those of ``tensors``.

    The classifier may have any number of classes. Raises CheckpointError if there is none, with
    the differences to the closest, or if it isn't the ``phi`` or ``family`` that was asked for.
    """
    closest = _closest(tensors, names, where)
    arch = closest.arch
    if phi is not None and arch.phi != phi:
        raise CheckpointError(f"--phi {phi} was given, but {where} holds {arch.title}")
    if family is not None and arch.family != family:
        wanted = "EfficientNet-Lite" if family == "lite" else "EfficientNet-B"
        raise CheckpointError(f"{wanted}{arch.phi} was asked for, but {where} holds {arch.title}")
    if closest.faults:
        raise CheckpointError(_differences(closest, where))
    return arch


def check_kinship(
    tensors: Tensors, names: Callable[[Architecture], NetworkNames], where: str
) -> None:
    """Raise CheckpointError if ``tensors`` are far from every architecture of the family."""
    _closest(tensors, names, where)


def expected_shapes(arch: Architecture, names: NetworkNames) -> Iterator[tuple[str, Shape]]:
    """Every tensor of ``arch`` but the classifier's, with its shape, in order of execution."""
    yield from _conv(names.stem, (arch.stem_channels, 3, 3, 3))
    for spec, block in zip(arch.blocks, names.blocks, strict=True):
        wide, kernel = spec.expanded_channels, spec.kernel
        if block.expand is not None:
            yield from _conv(block.expand, (wide, spec.in_channels, 1, 1))
        yield from _conv(block.depthwise, (wide, 1, kernel, kernel))
        if block.reduce is not None and block.excite is not None:
            squeezed = spec.squeeze_channels or 0
            yield from _conv(block.reduce, (squeezed, wide, 1, 1))
            yield from _conv(block.excite, (wide, squeezed, 1, 1))
        yield from _conv(block.project, (spec.out_channels, wide, 1, 1))
    features = arch.blocks[-1].out_channels
    yield from _conv(names.head, (arch.head_channels, features, 1, 1))


def _closest(
    tensors: Tensors, names: Callable[[Architecture], NetworkNames], where: str
) -> _Comparison:
    families: tuple[Family, ...] = ("standard", "lite")
    candidates = [architecture(phi, family) for family in families for phi in phis(family)]
    comparisons = [_compare(tensors, arch, names(arch)) for arch in candidates]
    closest = min(comparisons, key=lambda comparison: comparison.faults)
    if closest.kinship < _KINSHIP:
        raise CheckpointError(
            f"{where} isn't one of EfficientNet-B0..B7 or -Lite0..4: its tensors have other shapes "
            "or names than any of them, so it is another architecture or a changed one"
        )
    return closest


def _conv(names: ConvNames, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield names.weight, shape
    channels = (shape[0],)
    if names.bias is not None:
        yield names.bias, channels
    if names.norm is not None:
        norm = names.norm
        for name in (norm.gamma, norm.beta, norm.mean, norm.variance):
            yield name, channels


def _compare(tensors: Tensors, arch: Architecture, names: NetworkNames) -> _Comparison:
    expected = dict(expected_shapes(arch, names))
    weight, bias = names.classifier
    classes = tensors[weight].shape[0] if weight in tensors and tensors[weight].ndim == 2 else 0
    expected[weight] = (classes, arch.head_channels)
    expected[bias] = (classes,)
    misshapen = [
        f"{name} is {_text(tensors[name].shape)}, not {_text(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    return _Comparison(
        arch=arch,
        expected=len(expected),
        missing=tuple(name for name in expected if name not in tensors),
        unexpected=tuple(name for name in tensors if name not in expected),
        misshapen=tuple(misshapen),
    )


def _text(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _differences(comparison: _Comparison, where: str) -> str:
    lines = [f"{where} looks like {comparison.arch.title}, but doesn't fit it"]
    for title, items in (
        ("missing", comparison.missing),
        ("unexpected", comparison.unexpected),
        ("misshapen", comparison.misshapen),
    ):
        if items:
            lines.append(f"  {title}: {_listed(items)}")
    return "\n".join(lines)


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(items[:_LISTED])
    rest = len(items) - _LISTED
    return f"{shown} and {rest} more" if rest > 0 else shown
