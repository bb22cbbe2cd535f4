"""A quantized forward pass in plain numpy, written from TensorFlow Lite's quantization
specification: exact sums of integers, and one rounding (half to even) per operator.

It shares no code with the package. Engines hold their multipliers in float32 or fixed point, so
where the exact value lies next to the middle of two integers they may give the other one.
"""

from __future__ import annotations

import numpy as np
from reference import pads, sigmoid


def parts(network):
    """The parts of a network in order, each with a function from its input to its output.

    Integers are int8, as in TFLite, NHWC; the first input are uint8 pixels, the last output are
    float64 logits.
    """
    yield network.stem, lambda pixels: stem(pixels, network)
    for block in network.blocks:
        yield block, lambda x, block=block: mbconv(x, block, network.padding)
    yield network.head, lambda x: head(x, network.head)


def logits(network, images):
    """``images`` uint8 [N, H, W, 3] to logits float64 [N, classes]."""
    x = images
    for _, run in parts(network):
        x = run(x)
    return x


def stem(pixels, network):
    # In float32, as in the engines: an offset in halves or tenths makes many exact middles.
    quantization = network.stem.conv.input
    steps = (pixels.astype(np.float32) - network.offset) / np.float32(quantization.scale)
    x = np.clip(np.rint(steps) + quantization.zero_point, -128, 127).astype(np.int8)
    return activated(x, network.stem, network.padding)


def mbconv(x, block, padding):
    shortcut, first = x, block.expand or block.depthwise
    if block.expand is not None:
        x = activated(x, block.expand)
    x = activated(x, block.depthwise, padding)
    if block.squeeze_excite is not None:
        before = block.depthwise.output
        x = gated(x, block.squeeze_excite, before)
    x = convolve(x, block.project)
    if block.residual is None:
        return x
    return to_integers(
        to_real(x, block.project.output) + to_real(shortcut, first.conv.input), block.residual
    )


def gated(x, gate, quantization):
    y = to_integers(to_real(x, quantization).mean(axis=(1, 2), keepdims=True), gate.pool)
    y = convolve(activated(y, gate.reduce), gate.expand)
    return to_integers(to_real(x, quantization) * gates(y, gate.expand.output), gate.output)


def head(x, part):
    x = to_real(activated(x, part.conv), part.conv.output).mean(axis=(1, 2))
    features = to_integers(x, part.features).astype(np.int64) - part.features.zero_point
    total = features @ part.weight.T.astype(np.int64) + part.bias
    return total * (part.features.scale * part.weight_scale.astype(np.float64))


def activated(x, part, padding="same"):
    u = convolve(x, part.conv, padding)
    if part.silu is None:
        return u
    real, argument = to_real(u, part.conv.output), u
    quantization = part.conv.output
    if part.silu.argument is not None:
        quantization = part.silu.argument.output
        factors = to_real(part.silu.argument.factors, part.silu.argument.factors_quantization)
        argument = to_integers(real * factors, quantization)
    return to_integers(real * gates(argument, quantization), part.silu.output)


def gates(x, quantization):
    """The sigmoid, in steps of 1/256 as the specification of LOGISTIC has it."""
    return np.clip(np.rint(sigmoid(to_real(x, quantization)) * 256), 0, 255) / 256


def convolve(x, conv, padding="same"):
    kernel, stride = conv.weight.shape[2], conv.stride
    x = x.astype(np.float64) - conv.input.zero_point  # exact, and numpy multiplies it fast
    rows, columns = (pads(padding, side, kernel, stride) for side in x.shape[1:3])
    x = np.pad(x, ((0, 0), rows, columns, (0, 0)))
    height, width = ((side - kernel) // stride + 1 for side in x.shape[1:3])
    total = np.float64(conv.bias)
    for i in range(kernel):
        for j in range(kernel):
            window = x[:, i:, j:][:, : height * stride : stride, : width * stride : stride]
            tap = conv.weight[:, :, i, j].astype(np.float64)
            total = total + (window @ tap.T if conv.groups == 1 else window * tap[:, 0])
    scale = conv.input.scale * conv.weight_scale.astype(np.float64)
    return to_integers(total * scale, conv.output)


def to_real(x, quantization):
    return quantization.scale * (x.astype(np.float64) - quantization.zero_point)


def to_integers(real, quantization):
    integers = np.rint(real / quantization.scale) + quantization.zero_point
    return np.clip(integers, -128, 127).astype(np.int8)
