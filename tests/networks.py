"""Random networks that behave like trained ones, and what describes them.

Every convolution is normalised over a few images, as batch norm would have done: otherwise the
signal dies on its way, all images give the same logits, and errors go unseen.
"""

from __future__ import annotations

import numpy as np
import reference

from effnet_edge.metadata import ModelMetadata, Source
from effnet_edge.models import architecture, costs
from effnet_edge.models.architecture import Architecture, BlockSpec
from effnet_edge.models.network import Conv, Head, MBConv, Network, SqueezeExcite
from effnet_edge.recipe import IMAGENET_MEAN, IMAGENET_STD, Recipe

LITE_MEAN = (127 / 255,) * 3
LITE_STD = (128 / 255,) * 3


def small_architecture(activation="silu", squeeze=True) -> Architecture:
    """Every kind of block there is, in a network that runs in a millisecond."""

    def block(stage, repeat, kernel, stride, channels, expanded, out):
        return BlockSpec(
            stage, repeat, kernel, stride, channels, expanded, 4 if squeeze else None, out
        )

    return Architecture(
        family="standard" if squeeze else "lite",
        phi=0,
        width=0.25,
        depth=0.5,
        resolution=32,
        dropout=0.2,
        activation=activation,
        stem_channels=8,
        blocks=(
            block(1, 0, 3, 1, 8, 8, 8),
            block(2, 0, 3, 2, 8, 48, 16),
            block(2, 1, 3, 1, 16, 96, 16),
            block(3, 0, 5, 2, 16, 96, 24),
            block(3, 1, 5, 1, 24, 144, 24),
        ),
        head_channels=64,
    )


def photos(count, resolution, seed=0):
    """uint8 [count, H, W, 3]: smooth blobs, edges and noise, no two alike."""
    rng = np.random.default_rng(seed)
    height, width = resolution
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    images = np.empty((count, height, width, 3))
    for image in images:
        for channel in range(3):
            a, b, phase, level, edge = rng.uniform(-1, 1, 5)
            wave = np.sin(6 * (a * x + b * y) + 3 * phase)
            image[..., channel] = level + wave + (x * a + y * b > edge / 2)
        image += rng.normal(0, 0.3 * rng.uniform(), image.shape)
    return np.clip(images * 64 + 128, 0, 255).astype(np.uint8)


def random_network(
    arch=None,
    padding="same",
    resolution=None,
    classes=10,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    seed=0,
    images=None,
) -> Network:
    """``images`` uint8 [N, H, W, 3] is what to normalise over; the default suits small sizes.

    A large network multiplies rounding errors for images that are unlike all of these.
    """
    arch = arch or small_architecture()
    resolution = resolution or (arch.resolution, arch.resolution)
    rng = np.random.default_rng(seed)
    images = photos(16, resolution, seed + 1) if images is None else images
    x = reference.normalise(images, mean, std).astype(np.float32)

    def conv(x, out, kernel=1, stride=1, groups=1, gain=1.0, floor=0.1):
        fan_in = x.shape[-1] // groups
        weight = rng.normal(0, 1, (out, fan_in, kernel, kernel)).astype(np.float32)
        raw = Conv(weight, np.zeros(out, np.float32), stride, groups)
        y = reference.convolve(x, raw, padding)
        center = y.mean(axis=(0, 1, 2))
        # The floor keeps what hardly varies over these images from being blown up to noise.
        spread = np.sqrt(y.var(axis=(0, 1, 2)) + floor * np.mean(y**2))
        scale = gain * rng.uniform(0.5, 1.5, out) / spread
        bias = rng.normal(0, 0.5, out) - center * scale
        made = Conv(
            (weight * scale[:, None, None, None]).astype(np.float32),
            bias.astype(np.float32),
            stride,
            groups,
        )
        return made, (y * scale + bias).astype(np.float32)

    def active(x):
        return reference.activate(x, arch.activation)

    stem, x = conv(x, arch.stem_channels, 3, 2)
    x = active(x)
    blocks = []
    for spec in arch.blocks:
        shortcut, expand, gate = x, None, None
        if spec.has_expand:
            expand, x = conv(x, spec.expanded_channels)
            x = active(x)
        depthwise, x = conv(x, spec.expanded_channels, spec.kernel, spec.stride, x.shape[-1])
        x = active(x)
        if spec.squeeze_channels is not None:
            pooled = x.mean(axis=(1, 2), keepdims=True)
            reduce, squeezed = conv(pooled, spec.squeeze_channels, floor=1)
            squeezed = reference.activate(squeezed, "silu")
            gate_conv, _ = conv(squeezed, spec.expanded_channels, floor=1)
            gate = SqueezeExcite(reduce, gate_conv)
            x = reference.squeeze_excite(x, gate)
        project, x = conv(x, spec.out_channels, gain=0.25 if spec.has_residual else 1.0)
        x = x + shortcut if spec.has_residual else x
        blocks.append(MBConv(expand, depthwise, gate, project, spec.has_residual))
    head, x = conv(x, arch.head_channels)
    features = active(x).mean(axis=(1, 2))
    weight = rng.normal(0, 1, (classes, arch.head_channels))
    weight *= 3 / ((features - features.mean(axis=0)) @ weight.T).std()
    return Network(
        architecture=arch,
        padding=padding,
        resolution=resolution,
        mean=mean,
        std=std,
        stem=stem,
        blocks=tuple(blocks),
        head=Head(head, weight.astype(np.float32), rng.normal(0, 0.5, classes).astype(np.float32)),
    )


def describe(network: Network, labels=None) -> ModelMetadata:
    """Metadata that fits ``network``, labelled ``class 0``, ``class 1``, ... unless given."""
    arch = network.architecture
    return ModelMetadata(
        name=f"{arch.name}-fp32",
        family=arch.family,
        phi=arch.phi,
        precision="fp32",
        recipe=Recipe(
            resolution=network.resolution,
            resize=network.resolution,
            mean=network.mean,
            std=network.std,
        ),
        source=Source(file="random.pth", sha256="ab" * 32, dialect="timm"),
        parameters=network.parameters,
        macs=costs(arch, network.resolution, network.classes).macs,
        padding=network.padding,
        tool="effnet-edge test",
        labels=labels or tuple(f"class {index}" for index in range(network.classes)),
    )


def relative_error(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


__all__ = [
    "architecture",
    "describe",
    "photos",
    "random_network",
    "relative_error",
    "small_architecture",
]
