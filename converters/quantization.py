"""Post-training quantization: a float network and some images to a quantized network.

Part by part, from the stem to the head: watch the float part, choose ranges and round weights, run
the quantized part by ONNX Runtime on the same input, and move its last bias so that every channel's
mean is the float part's again. Making up for the parts before it, too, was found to do harm. What
the quantized network gives so far is followed for the report only. Everything is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.input_folding import fold_input
from effnet_edge.converters.observation import (
    observe_block,
    observe_head,
    observe_stem,
    part_session,
)
from effnet_edge.converters.quantization_report import PartReport, QuantizationReport
from effnet_edge.converters.quantized_onnx_writer import quantized_part_model
from effnet_edge.converters.quantized_parts import (
    Wire,
    quantize_block,
    quantize_head,
    quantize_stem,
)
from effnet_edge.fidelity import decibels, fidelity
from effnet_edge.models.geometry import PaddingMode
from effnet_edge.models.network import FloatArray, MBConv, Network
from effnet_edge.models.quantized import (
    ActivatedConv,
    Int32Array,
    QuantizedHead,
    QuantizedMBConv,
    QuantizedNetwork,
)

Preference = Literal["speed", "accuracy"]
PartProgress = Callable[[str, int, int], None]
"""Told each part's name as it begins, its index and how many there are."""
PixelArray = NDArray[np.uint8]

BALANCE_BLOCK_BELOW_DB = 26.0
"""A block whose signal is less than this above its own noise is given balanced activations, where
accuracy is preferred to speed; docs/quantization.md shows what that brings."""
BALANCE_DOWN_TO = 8
"""Only blocks whose map's sides are at least the image's over this are balanced: deeper channels
stand for rare things, and a range of their own that a few images gave cuts others' off."""
BALANCE_STEM_BELOW_DB = 35.0
"""The same for the stem, whose noise no projection averages away."""
_OWN_NOISE_IMAGES = 16
"""So many images are enough to measure a part's own noise."""


@dataclass(frozen=True, eq=False)
class _Stream:
    """The images on their way: as the float network has them, float32 [N, C, H, W], and as the
    quantized one does, uint8 [N, H, W, C], with what its integers mean."""

    wanted: FloatArray
    found: PixelArray
    wire: Wire


def quantize(
    network: Network,
    images: PixelArray,
    *,
    calibration: str,
    prefer: Preference = "accuracy",
    progress: PartProgress | None = None,
) -> tuple[QuantizedNetwork, QuantizationReport]:
    """Quantize ``network``, looking at ``images``: uint8 [N, H, W, 3] of the network's resolution.

    ``calibration`` says in the report what these are; the more they are like those that the network
    was trained on, the better. Raises ConversionError if the float network's values aren't finite.
    """
    tell = progress or (lambda name, index, count: None)
    total = len(network.blocks) + 2
    tell("stem", 0, total)
    offset, stem, stream, report = _stem(network, images, prefer)
    parts = [report]
    blocks: list[QuantizedMBConv] = []
    for index, block in enumerate(network.blocks):
        name = f"blocks.{index}"
        tell(name, index + 1, total)
        quantized, stream, report = _block(name, network, block, stream, prefer)
        blocks.append(quantized)
        parts.append(report)
    tell("head", total - 1, total)
    head, wanted, found, report = _head(network, stream)
    parts.append(report)
    return (
        QuantizedNetwork(
            network.architecture,
            network.padding,
            network.resolution,
            offset,
            stem,
            tuple(blocks),
            head,
        ),
        QuantizationReport(
            tuple(parts),
            fidelity(wanted, found),
            len(images),
            calibration,
            {"prefer": prefer},
            len(np.unique(wanted.argmax(axis=1))),
        ),
    )


def _stem(
    network: Network, images: PixelArray, prefer: Preference
) -> tuple[FloatArray, ActivatedConv, _Stream, PartReport]:
    activation, padding = network.architecture.activation, network.padding
    offset, stem = fold_input(network)
    centred = images.transpose(0, 3, 1, 2).astype(np.float32) - offset.reshape(1, 3, 1, 1)
    seen = observe_stem(stem, centred, activation, padding)
    del centred
    first = network.blocks[0]
    following = first.expand or first.depthwise

    def build(balanced: bool) -> tuple[ActivatedConv, Wire, PixelArray, float]:
        part, wire = quantize_stem(stem, seen, offset, following, activation, balanced=balanced)
        found = _run(part, padding, images, offset)
        return part, wire, found, _snr(seen.output, found, wire)

    part, wire, found, snr = build(False)
    notes: tuple[str, ...] = ()
    # A shortcut has no weights that could undo factors.
    allowed = _may_balance(network, prefer) and not first.residual
    if allowed and snr < BALANCE_STEM_BELOW_DB:
        balanced = build(True)
        if balanced[3] > snr:
            (part, wire, found, snr), notes = balanced, ("balanced",)
    report = PartReport("stem", snr, snr, notes)
    return offset, part, _Stream(seen.output, found, wire), report


def _block(
    name: str,
    network: Network,
    block: MBConv,
    stream: _Stream,
    prefer: Preference,
) -> tuple[QuantizedMBConv, _Stream, PartReport]:
    activation, padding = network.architecture.activation, network.padding
    seen = observe_block(block, stream.wanted, activation, padding)
    exact = _integers(stream.wanted, stream.wire)
    few = slice(_OWN_NOISE_IMAGES)

    def build(balanced: bool) -> tuple[QuantizedMBConv, float]:
        part = quantize_block(block, seen, stream.wire, activation, balanced=balanced)
        own = _run(part, padding, exact)
        error = _mean_error(seen.output, own, _output_wire(part))
        project = part.project
        unit = project.input.scale * project.weight_scale.astype(np.float64)
        part = replace(part, project=replace(project, bias=_moved(project.bias, error, unit)))
        own = _run(part, padding, exact[few])
        return part, _snr(seen.output[few], own, _output_wire(part))

    part, own_snr = build(False)
    notes: tuple[str, ...] = ()
    shallow = seen.output.shape[2] * BALANCE_DOWN_TO >= network.resolution[0]
    if _may_balance(network, prefer) and shallow and own_snr < BALANCE_BLOCK_BELOW_DB:
        balanced, balanced_snr = build(True)
        if balanced_snr > own_snr:
            part, own_snr, notes = balanced, balanced_snr, ("balanced",)
    wire = _output_wire(part)
    found = _run(part, padding, stream.found)
    report = PartReport(name, _snr(seen.output, found, wire), own_snr, notes)
    return part, _Stream(seen.output, found, wire), report


def _head(
    network: Network, stream: _Stream
) -> tuple[QuantizedHead, FloatArray, FloatArray, PartReport]:
    activation, padding = network.architecture.activation, network.padding
    seen = observe_head(network.head, stream.wanted, activation, padding)
    part = quantize_head(network.head, seen, stream.wire, activation, balanced=False)
    exact = _integers(stream.wanted, stream.wire)
    own = _run(part, padding, exact)
    error = (own - seen.output).mean(axis=0, dtype=np.float64)
    unit = part.features.scale * part.weight_scale.astype(np.float64)
    part = replace(part, bias=_moved(part.bias, error, unit))
    own = _run(part, padding, exact)
    found = _run(part, padding, stream.found)
    report = PartReport(
        "head", fidelity(seen.output, found).snr_db, fidelity(seen.output, own).snr_db, ()
    )
    return part, seen.output, found, report


def _may_balance(network: Network, prefer: Preference) -> bool:
    return prefer == "accuracy" and network.architecture.activation == "silu"


def _moved(bias: Int32Array, error: NDArray[np.float64], unit: NDArray[np.float64]) -> Int32Array:
    limit = 2.0**30
    return np.clip(np.rint(bias - error / unit), -limit, limit).astype(np.int32)


def _mean_error(wanted: FloatArray, found: PixelArray, wire: Wire) -> NDArray[np.float64]:
    """Mean of found - wanted per channel, [channels]."""
    errors = [
        (_real(other[None], wire)[0] - one).mean(axis=(1, 2), dtype=np.float64)
        for one, other in zip(wanted, found, strict=True)
    ]
    mean: NDArray[np.float64] = np.mean(errors, axis=0)
    return mean


def _output_wire(part: QuantizedMBConv) -> Wire:
    return Wire(part.output, np.ones(part.project.out_channels, np.float32))


def _integers(maps: FloatArray, wire: Wire) -> PixelArray:
    """Float maps [N, C, H, W] as the quantized network would hold them, uint8 [N, H, W, C]."""
    scale = (wire.factors / np.float32(wire.quantization.scale)).astype(np.float32)
    images, channels, height, width = maps.shape
    integers: PixelArray = np.empty((images, height, width, channels), np.uint8)
    for image, result in zip(maps, integers, strict=True):  # one by one for the sake of memory
        steps = image * scale[:, None, None]
        np.rint(steps, out=steps)
        steps += wire.quantization.zero_point + 128
        np.clip(steps, 0, 255, out=steps)
        result[:] = steps.transpose(1, 2, 0)
    return integers


def _real(found: PixelArray, wire: Wire) -> FloatArray:
    """What integers uint8 [N, H, W, C] stand for, float32 [N, C, H, W]."""
    scale = (np.float32(wire.quantization.scale) / wire.factors).astype(np.float32)
    values = (found.astype(np.float32) - (wire.quantization.zero_point + 128)) * scale
    real: FloatArray = values.transpose(0, 3, 1, 2)
    return real


def _snr(wanted: FloatArray, found: PixelArray, wire: Wire) -> float:
    """Signal to noise of a part's result in dB, image by image for the sake of memory."""
    signal = noise = 0.0
    for one, other in zip(wanted, found, strict=True):
        signal += float(np.vdot(one, one))
        error = (one - _real(other[None], wire)[0]).ravel()
        noise += float(np.dot(error, error))
    return decibels(signal, noise)


def _run(
    part: ActivatedConv | QuantizedMBConv | QuantizedHead,
    padding: PaddingMode,
    inputs: PixelArray,
    offset: FloatArray | None = None,
) -> NDArray[Any]:
    """Run a quantized part on ``inputs`` [N, H, W, C]; a head gives float32 [N, classes]."""
    size = (inputs.shape[1], inputs.shape[2])
    session = part_session(quantized_part_model(part, padding, size, offset))
    batch = max(1, min(16, (1 << 22) // inputs[0].size))
    return np.concatenate(
        [
            session.run(["y"], {"x": inputs[start : start + batch]})[0]
            for start in range(0, len(inputs), batch)
        ]
    )
