"""Our `Network` run by torch: what a reader made of a checkpoint, before any writer touches it."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from effnet_edge.models.geometry import PaddingMode, padding_before_after
from effnet_edge.models.network import Conv, MBConv, Network


def forward(network: Network, images: np.ndarray) -> np.ndarray:
    """uint8 ``images`` [N, H, W, 3] to logits [N, classes], in float64: no rounding to excuse."""
    silu = network.architecture.activation == "silu"
    activate = functional.silu if silu else functional.relu6
    with torch.no_grad():
        x = torch.from_numpy(images).double() / 255
        x = (x - _double(network.mean)) / _double(network.std)
        x = x.permute(0, 3, 1, 2)
        x = activate(_conv(x, network.stem, network.padding))
        for block in network.blocks:
            x = _block(x, block, network.padding, activate)
        x = activate(_conv(x, network.head.conv, network.padding)).mean((2, 3))
        weight, bias = _double(network.head.weight), _double(network.head.bias)
        return functional.linear(x, weight, bias).numpy()


def _block(x, block: MBConv, padding: PaddingMode, activate):
    shortcut = x
    if block.expand is not None:
        x = activate(_conv(x, block.expand, padding))
    x = activate(_conv(x, block.depthwise, padding))
    if block.squeeze_excite is not None:
        gate = x.mean((2, 3), keepdim=True)
        gate = functional.silu(_conv(gate, block.squeeze_excite.reduce, padding))
        x = x * torch.sigmoid(_conv(gate, block.squeeze_excite.expand, padding))
    x = _conv(x, block.project, padding)
    return x + shortcut if block.residual else x


def _conv(x, conv: Conv, padding: PaddingMode):
    pads = []
    for size in (x.shape[3], x.shape[2]):
        pads += padding_before_after(padding, size, conv.kernel, conv.stride)
    weight, bias = _double(conv.weight), _double(conv.bias)
    return functional.conv2d(functional.pad(x, pads), weight, bias, conv.stride, 0, 1, conv.groups)


def _double(values):
    return torch.tensor(np.asarray(values), dtype=torch.float64)
