"""Quantized networks to test writers with: plain min-max ranges over a few images."""

from __future__ import annotations

from dataclasses import replace

import networks
import numpy as np
import pytest
import reference

from effnet_edge.converters.input_folding import fold_input
from effnet_edge.metadata import ModelMetadata, Source
from effnet_edge.models.quantized import (
    ActivatedConv,
    Quantization,
    QuantizedConv,
    QuantizedHead,
    QuantizedMBConv,
    QuantizedNetwork,
    QuantizedSilu,
    QuantizedSqueezeExcite,
    SigmoidArgument,
)
from effnet_edge.recipe import Recipe


def quantize(network, images, scaled=False) -> QuantizedNetwork:
    """``scaled``: every SiLU gets a `SigmoidArgument`, with factors drawn at random."""
    activation, rng = network.architecture.activation, np.random.default_rng(7)

    def silu(u, conv_activation, factors):
        """SiLU of ``u / factors``, times ``factors``: u's quantizer and the result's."""
        if conv_activation != "silu":
            u = np.clip(u, 0, 6)
            return u, None
        argument = None
        if len(factors) > 1:
            unit = cover(np.append(1 / factors, 0))
            integers = np.rint(1 / factors / unit.scale) + unit.zero_point
            argument = SigmoidArgument(integers.astype(np.int8), unit, cover(u / factors))
        y = u * reference.sigmoid(u / factors)
        return y, QuantizedSilu(cover(y), argument)

    def activated(x, in_quantization, in_factors, conv, activation=activation, scaled=scaled):
        scaled = scaled and activation == "silu"
        out_factors = rng.uniform(0.5, 2, conv.out_channels) if scaled else np.ones(1)
        raw, quantized = convolve(x, in_quantization, in_factors, conv, out_factors)
        y, made = silu(raw, activation, out_factors)
        if made is None:
            quantized = replace(quantized, output=cover(y))
        part = ActivatedConv(quantized, made)
        return y, part, np.broadcast_to(out_factors, conv.out_channels)

    def convolve(x, in_quantization, in_factors, conv, out_factors=1.0):
        """``x`` comes with a factor per channel, which the weights undo."""
        weight = conv.weight.astype(np.float64)
        weight = weight / (
            in_factors[None, :, None, None] if conv.groups == 1 else in_factors[:, None, None, None]
        )
        weight = weight * np.reshape(out_factors, (-1, 1, 1, 1))
        bias = conv.bias * np.asarray(out_factors)
        y = reference.convolve(
            x,
            replace(conv, weight=weight, bias=bias),
            network.padding if conv.kernel > 1 else "same",
        )
        integers, scale = per_channel(weight, bias, in_quantization)
        return y, QuantizedConv(
            integers,
            scale,
            int32(bias, in_quantization, scale),
            in_quantization,
            cover(y),
            conv.stride,
            conv.groups,
        )

    offset, stem = fold_input(network)
    pixels = images - offset.astype(np.float64)
    whole = np.all(offset == np.rint(offset[0]))
    first = Quantization(1.0, int(offset[0]) - 128) if whole else cover(pixels)
    ones = np.ones(3)
    # A shortcut has no factors.
    x, made_stem, factors = activated(
        pixels, first, ones, stem, scaled=scaled and not network.blocks[0].residual
    )
    current, blocks = made_stem.output, []
    for block in network.blocks:
        shortcut, expand, gate = x, None, None
        if block.expand is not None:
            x, expand, factors = activated(x, current, factors, block.expand)
            current = expand.output
        x, depthwise, factors = activated(x, current, factors, block.depthwise)
        current = depthwise.output
        if block.squeeze_excite is not None:
            pooled = x.mean(axis=(1, 2), keepdims=True)
            pool = cover(pooled)
            y, reduce, inner = activated(pooled, pool, factors, block.squeeze_excite.reduce, "silu")
            y, gate_conv = convolve(y, reduce.output, inner, block.squeeze_excite.expand)
            x = x * reference.sigmoid(y)
            gate = QuantizedSqueezeExcite(pool, reduce, gate_conv, cover(x))
            current = gate.output
        x, project = convolve(x, current, factors, block.project)
        current, residual = project.output, None
        if block.residual:
            x = x + shortcut
            current = residual = cover(x)
        factors = np.ones(block.project.out_channels)
        blocks.append(QuantizedMBConv(expand, depthwise, gate, project, residual))
    x, head_conv, factors = activated(x, current, factors, network.head.conv)
    features = cover(x.mean(axis=(1, 2)))
    integers, scale = per_channel(network.head.weight / factors, network.head.bias, features)
    return QuantizedNetwork(
        network.architecture,
        network.padding,
        network.resolution,
        offset,
        made_stem,
        tuple(blocks),
        QuantizedHead(
            head_conv, features, integers, scale, int32(network.head.bias, features, scale)
        ),
    )


def random_quantized(scaled=False, images=None, **options) -> QuantizedNetwork:
    """`networks.random_network`, quantized over ``images`` or some of its own."""
    network = networks.random_network(**options)
    images = networks.photos(16, network.resolution, 1) if images is None else images
    return quantize(network, images, scaled)


def cover(values) -> Quantization:
    """The range of ``values`` and zero in 256 steps."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    scale = float(np.float32((high - low) / 255 or 1.0))
    return Quantization(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def per_channel(weight, bias, quantization):
    """Weights to 127, unless the bias, in the same units, would not fit 31 bits."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    least = np.maximum(np.abs(bias), 1e-6) / (quantization.scale * 2**30)
    scale = np.maximum(largest / 127, least).astype(np.float32)
    integers = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return integers.astype(np.int8), scale


def int32(bias, quantization, scale):
    return np.rint(bias / (quantization.scale * scale.astype(np.float64))).astype(np.int32)


def describe(network):
    """`networks.describe` for a quantized network, whose parameters nobody counts here."""
    arch = network.architecture
    return ModelMetadata(
        name=f"{arch.name}-int8",
        family=arch.family,
        phi=arch.phi,
        precision="int8",
        recipe=Recipe(resolution=network.resolution, resize=network.resolution),
        source=Source(file="random.pth", sha256="ab" * 32, dialect="timm"),
        parameters=1,
        macs=1,
        padding=network.padding,
        tool="effnet-edge test",
        labels=tuple(f"class {index}" for index in range(network.classes)),
    )


def snr(got, expected):
    """Signal to noise in dB; infinite where both are equal."""
    noise = np.sum((got.astype(np.float64) - expected) ** 2)
    return 10 * np.log10(np.sum(expected**2) / noise) if noise else np.inf


def _variants():
    whole = {"mean": networks.LITE_MEAN, "std": networks.LITE_STD}
    relu6 = {"arch": networks.small_architecture("relu6", squeeze=False)}
    kinds = {
        "silu": {},
        "scaled": {"scaled": True},
        "relu6": relu6,
        "silu-whole-offset": whole,
        "relu6-whole-offset": {**whole, **relu6},
    }
    for padding, resolution in (
        ("same", (32, 32)),
        ("symmetric", (34, 34)),
        ("same", (31, 46)),
        ("symmetric", (33, 50)),
    ):
        for name, kind in kinds.items():
            size = {"padding": padding, "resolution": resolution}
            yield pytest.param({**size, **kind}, id=f"{padding}-{resolution[0]}-{name}")


VARIANTS = list(_variants())
"""Arguments of `random_quantized`: every padding, activation and kind of input offset."""
