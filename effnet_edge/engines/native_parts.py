"""Parts for our kernels, made of the calls in an int8 model's graph.

A call's function is spelled by its name and its inputs come in the order of the grammar
(docs/model-files.md). The library is told sizes and believes them, so that here they are checked.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from ctypes import CDLL, byref, pointer
from typing import Any

import numpy as np

from effnet_edge.engines.native_library import (
    Conv,
    Head,
    MBConv,
    Quantization,
    Silu,
    SqueezeExcite,
    Stem,
    last_error,
)
from effnet_edge.engines.onnx_graph import FLOAT, INT8, INT32, UINT8, Constant, Node
from effnet_edge.errors import EngineError

_ACT = "((?:Scaled)?Silu)?"
_STEM = re.compile(f"Stem{_ACT}")
_MBCONV = re.compile(f"MBConv(Expand{_ACT})?Depthwise{_ACT}(Gate{_ACT})?(Residual)?")
_HEAD = re.compile(f"Head{_ACT}")
PIXELS = "Pixels"

_MOST_SPATIAL = 1 << 15

Part = int
"""The address of an ``ee_part``, which whoever has it frees."""


class Arguments:
    """The constants of one call, taken one after the other.

    ``read`` gives the file's bytes: position, number. Methods raise ValueError for what is missing
    or has another type or shape than is due. The memory that C structures point to lives as long
    as this does.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        constants: Mapping[str, Constant],
        read: Callable[[int, int], bytes],
    ) -> None:
        self._names = iter(names)
        self._constants = constants
        self._read = read
        self._kept: list[Any] = []

    def quantization(self) -> Quantization:
        """A scale and a zero point."""
        (scale,) = struct.unpack("<f", self._bytes(FLOAT, ()))
        return Quantization(scale, self._bytes(UINT8, ())[0])

    def address(self, kind: int, *shape: int) -> int:
        """Where a constant of this `TensorProto.DataType` and shape is in memory."""
        return self._address(self._next(kind), shape)

    def conv(self, act: str | None = None) -> Conv:
        """A convolution of stride 1 without padding."""
        weight = self._next(INT8)
        if len(weight.shape) != 4 or weight.shape[2] != weight.shape[3]:
            raise ValueError(f"a convolution's weight has the shape {list(weight.shape)}")
        channels, inputs, kernel, _ = weight.shape
        conv = Conv(
            in_channels=inputs,
            out_channels=channels,
            kernel=kernel,
            stride=1,
            weight=self._address(weight, weight.shape),
            weight_scale=self.address(FLOAT, channels),
            bias=self.address(INT32, channels),
            output=self.quantization(),
        )
        if act is not None:
            silu = Silu()
            if act.startswith("Scaled"):
                silu.factor = self.address(UINT8, channels, 1, 1)
                silu.factor_quantization = self.quantization()
                silu.argument = self.quantization()
            silu.output = self.quantization()
            self._kept.append(silu)
            conv.silu = pointer(silu)
        return conv

    def spatial_conv(self, act: str | None, attributes: dict[str, tuple[int, ...]]) -> Conv:
        """A convolution with the call's strides and padding."""
        conv = self.conv(act)
        strides, pads = attributes.get("strides", ()), attributes.get("pads", ())
        if len(strides) != 2 or strides[0] != strides[1] or len(pads) != 4:
            raise ValueError(f"it has the strides {list(strides)} and the padding {list(pads)}")
        groups = attributes.get("group", ())
        if groups != (1 if conv.in_channels > 1 else conv.out_channels,):
            raise ValueError(f"it has the groups {list(groups)}")
        if not all(0 <= number < _MOST_SPATIAL for number in (*strides, *pads)):
            raise ValueError("its strides or padding are out of range")
        conv.stride = strides[0]
        conv.pad_top, conv.pad_left, conv.pad_bottom, conv.pad_right = pads
        return conv

    def classifier(self, features: int) -> tuple[int, int]:
        """The number of classes, and the address of their weights [classes, features]."""
        weight = self._next(INT8)
        if len(weight.shape) != 2:
            raise ValueError(f"the classifier's weight has the shape {list(weight.shape)}")
        classes = weight.shape[0]
        return classes, self._address(weight, (classes, features))

    def end(self) -> None:
        """Check that all were taken."""
        if next(self._names, None) is not None:
            raise ValueError("it has too many inputs")

    def _next(self, kind: int) -> Constant:
        name = next(self._names, None)
        if name is None:
            raise ValueError("it has too few inputs")
        constant = self._constants.get(name)
        if constant is None:
            raise ValueError(f"its constant {name!r} is missing")
        if constant.kind != kind:
            raise ValueError(f"{name!r} has the type {constant.kind}, not {kind}")
        return constant

    def _bytes(self, kind: int, shape: tuple[int, ...]) -> bytes:
        return self._content(self._next(kind), shape)

    def _address(self, constant: Constant, shape: tuple[int, ...]) -> int:
        array = np.frombuffer(self._content(constant, shape), np.uint8)
        self._kept.append(array)
        return array.ctypes.data

    def _content(self, constant: Constant, shape: tuple[int, ...]) -> bytes:
        """The bytes, as many as the shape takes."""
        if constant.shape != shape:
            raise ValueError(f"a constant has the shape {list(constant.shape)}, not {list(shape)}")
        return constant.data or self._read(constant.position, constant.bytes)


def make_part(library: CDLL, node: Node, arguments: Arguments) -> Part:
    """Make the part that ``node`` calls with ``arguments``.

    Raises ValueError for an operator that isn't ours and for arguments that don't fit it, and
    EngineError with the reason of the library if that refuses them.
    """
    name = node.operator
    part: Part | None
    if name == PIXELS:
        offset, quantization = arguments.address(FLOAT, 3), arguments.quantization()
        arguments.end()
        part = library.ee_make_pixels(offset, quantization)
    elif (stem := _STEM.fullmatch(name)) is not None:
        described = Stem(arguments.quantization(), arguments.spatial_conv(stem[1], node.attributes))
        arguments.end()
        part = library.ee_make_stem(byref(described))
    elif (block := _MBCONV.fullmatch(name)) is not None:
        part = _make_mbconv(library, block, node.attributes, arguments)
    elif (head := _HEAD.fullmatch(name)) is not None:
        part = _make_head(library, head[1], arguments)
    else:
        raise ValueError(f"there is no operator {name!r}")
    if part is None:
        raise EngineError(last_error(library))
    return part


def _make_mbconv(
    library: CDLL, name: re.Match[str], attributes: dict[str, tuple[int, ...]], take: Arguments
) -> Part | None:
    expands, expand_act, depthwise_act, gates, gate_act, residual = name.groups()
    block = MBConv(input=take.quantization())
    if expands:
        block.expand = pointer(take.conv(expand_act))
    block.depthwise = take.spatial_conv(depthwise_act, attributes)
    if gates:
        gate = SqueezeExcite(take.quantization(), take.conv(gate_act), take.conv())
        gate.output = take.quantization()
        block.squeeze_excite = pointer(gate)
    block.project = take.conv()
    if residual:
        block.residual = pointer(take.quantization())
    take.end()
    part: Part | None = library.ee_make_mbconv(byref(block))
    return part


def _make_head(library: CDLL, act: str | None, take: Arguments) -> Part | None:
    head = Head(input=take.quantization(), conv=take.conv(act), features=take.quantization())
    head.classes, head.weight = take.classifier(head.conv.out_channels)
    head.weight_scale = take.address(FLOAT, head.classes)
    head.bias = take.address(INT32, head.classes)
    take.end()
    part: Part | None = library.ee_make_head(byref(head))
    return part
