"""A forward pass in plain numpy, written from the paper and the frameworks' padding rules.

It shares no code with the package: it is what the written models are compared with.
"""

from __future__ import annotations

import math

import numpy as np


def logits(network, images):
    """``images`` uint8 [N, H, W, 3] to logits float64 [N, classes]."""
    x = normalise(images, network.mean, network.std)
    x = activate(convolve(x, network.stem, network.padding), network.architecture.activation)
    for block in network.blocks:
        x = mbconv(x, block, network.padding, network.architecture.activation)
    features = activate(
        convolve(x, network.head.conv, network.padding), network.architecture.activation
    ).mean(axis=(1, 2))
    return features @ network.head.weight.T.astype(features.dtype) + network.head.bias


def normalise(images, mean, std):
    return (images.astype(np.float64) / 255 - np.asarray(mean)) / np.asarray(std)


def mbconv(x, block, padding, activation):
    shortcut = x
    if block.expand is not None:
        x = activate(convolve(x, block.expand, padding), activation)
    x = activate(convolve(x, block.depthwise, padding), activation)
    if block.squeeze_excite is not None:
        x = squeeze_excite(x, block.squeeze_excite)
    x = convolve(x, block.project, padding)
    return x + shortcut if block.residual else x


def squeeze_excite(x, gate):
    pooled = x.mean(axis=(1, 2), keepdims=True)
    squeezed = activate(convolve(pooled, gate.reduce, "same"), "silu")
    return x * sigmoid(convolve(squeezed, gate.expand, "same"))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def activate(x, activation):
    return x * sigmoid(x) if activation == "silu" else np.clip(x, 0, 6)


def pads(padding, size, kernel, stride):
    if padding == "symmetric":  # torch.nn.Conv2d(padding=kernel // 2)
        return kernel // 2, kernel // 2
    # tf.nn: "SAME" padding
    total = max(
        kernel - stride if size % stride == 0 else kernel - size % stride,
        0,
    )
    return total // 2, total - total // 2


def convolve(x, conv, padding):
    """NHWC in and out; ``conv.weight`` is [out, in / groups, k, k]."""
    _, height, width, channels = x.shape
    kernel, stride = conv.weight.shape[2], conv.stride
    weight = conv.weight.astype(x.dtype)
    rows, columns = pads(padding, height, kernel, stride), pads(padding, width, kernel, stride)
    x = np.pad(x, ((0, 0), rows, columns, (0, 0)))
    out_height = math.floor((x.shape[1] - kernel) / stride) + 1
    out_width = math.floor((x.shape[2] - kernel) / stride) + 1
    total = np.zeros((), x.dtype)
    for i in range(kernel):
        for j in range(kernel):
            window = x[
                :,
                i : i + (out_height - 1) * stride + 1 : stride,
                j : j + (out_width - 1) * stride + 1 : stride,
            ]
            tap = weight[:, :, i, j]
            total = total + (window @ tap.T if conv.groups == 1 else window * tap[:, 0])
    assert conv.groups in (1, channels)
    return total + conv.bias.astype(x.dtype)
