"""What a member of the family costs: parameters, multiply-accumulates, activation memory."""

from __future__ import annotations

from dataclasses import dataclass

from effnet_edge.models.architecture import IMAGENET_CLASSES, Architecture, BlockSpec
from effnet_edge.models.geometry import output_size


@dataclass(frozen=True)
class StageCost:
    """One row of the paper's Table 1: the stem (1), MBConv stages (2..8), the head (9).

    ``resolution`` is the input (height, width); ``macs`` and ``parameters`` are sums over layers.
    """

    stage: int
    operator: str
    resolution: tuple[int, int]
    channels: int
    layers: int
    parameters: int
    macs: int


@dataclass(frozen=True)
class Costs:
    """Parameters (batch norm's gamma and beta included), MACs of one image, and the largest
    number of activation elements that are alive at once when operators run one by one."""

    parameters: int
    macs: int
    peak_activations: int
    stages: tuple[StageCost, ...]

    def peak_activation_bytes(self, bytes_per_element: int) -> int:
        """Peak activation memory in bytes for elements of that size."""
        return self.peak_activations * bytes_per_element


def costs(
    arch: Architecture,
    resolution: tuple[int, int] | None = None,
    classes: int = IMAGENET_CLASSES,
) -> Costs:
    """Count ``arch`` at ``resolution`` (height, width; default: its own square).

    A MAC is one multiply-add of a convolution or of the classifier, as torchvision's ``_ops``
    counts them (published there as GFLOPs). Elementwise work and pooling aren't counted.
    """
    height, width = resolution or (arch.resolution, arch.resolution)
    image = (height, width)
    height, width = output_size(height, 2), output_size(width, 2)
    stem_weights = 3 * 3 * 3 * arch.stem_channels
    rows = [
        StageCost(
            stage=1,
            operator="Conv3x3",
            resolution=image,
            channels=arch.stem_channels,
            layers=1,
            parameters=stem_weights + 2 * arch.stem_channels,
            macs=stem_weights * height * width,
        )
    ]
    peak = 3 * image[0] * image[1] + arch.stem_channels * height * width
    for stage in sorted({block.stage for block in arch.blocks}):
        blocks = [block for block in arch.blocks if block.stage == stage]
        stage_resolution = (height, width)
        parameters = macs = 0
        for block in blocks:
            out_height, out_width = (
                output_size(height, block.stride),
                output_size(width, block.stride),
            )
            parameters += _block_parameters(block)
            macs += _block_macs(block, height * width, out_height * out_width)
            peak = max(peak, _block_peak(block, height * width, out_height * out_width))
            height, width = out_height, out_width
        first = blocks[0]
        ratio = first.expanded_channels // first.in_channels
        rows.append(
            StageCost(
                stage=stage + 1,
                operator=f"MBConv{ratio}, k{first.kernel}x{first.kernel}",
                resolution=stage_resolution,
                channels=first.out_channels,
                layers=len(blocks),
                parameters=parameters,
                macs=macs,
            )
        )
    features = arch.blocks[-1].out_channels
    head_weights = features * arch.head_channels
    rows.append(
        StageCost(
            stage=len(rows) + 1,
            operator="Conv1x1, pool, FC",
            resolution=(height, width),
            channels=arch.head_channels,
            layers=1,
            parameters=head_weights + 2 * arch.head_channels + (arch.head_channels + 1) * classes,
            macs=head_weights * height * width + arch.head_channels * classes,
        )
    )
    peak = max(peak, (features + arch.head_channels) * height * width)
    return Costs(
        parameters=sum(row.parameters for row in rows),
        macs=sum(row.macs for row in rows),
        peak_activations=peak,
        stages=tuple(rows),
    )


def _block_parameters(block: BlockSpec) -> int:
    expanded = block.expanded_channels
    total = block.kernel**2 * expanded + 2 * expanded
    total += expanded * block.out_channels + 2 * block.out_channels
    if block.has_expand:
        total += block.in_channels * expanded + 2 * expanded
    if block.squeeze_channels is not None:
        total += 2 * expanded * block.squeeze_channels + block.squeeze_channels + expanded
    return total


def _block_macs(block: BlockSpec, pixels_in: int, pixels_out: int) -> int:
    expanded = block.expanded_channels
    total = (block.kernel**2 + block.out_channels) * expanded * pixels_out
    if block.has_expand:
        total += block.in_channels * expanded * pixels_in
    if block.squeeze_channels is not None:
        total += 2 * expanded * block.squeeze_channels
    return total


def _block_peak(block: BlockSpec, pixels_in: int, pixels_out: int) -> int:
    shortcut = block.in_channels * pixels_in if block.has_residual else 0
    expanded_in = block.expanded_channels * pixels_in
    expanded_out = block.expanded_channels * pixels_out
    expanding = block.in_channels * pixels_in + expanded_in if block.has_expand else 0
    filtering = (shortcut if block.has_expand else 0) + expanded_in + expanded_out
    projecting = shortcut + expanded_out + block.out_channels * pixels_out
    return max(expanding, filtering, projecting)
