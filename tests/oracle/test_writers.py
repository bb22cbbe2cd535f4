"""The written models against a forward pass in torch's own operators."""

from __future__ import annotations

from dataclasses import replace

import networks
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter

from effnet_edge.converters.onnx_writer import onnx_model
from effnet_edge.converters.tflite_writer import tflite_model

torch = pytest.importorskip("torch")
functional = torch.nn.functional

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-4


def torch_logits(network, images):
    silu = network.architecture.activation == "silu"
    activate = functional.silu if silu else functional.relu6

    def convolve(x, conv):
        kernel, stride = conv.weight.shape[2], conv.stride
        if network.padding == "same":
            totals = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:]]
            (top, left) = (total // 2 for total in totals)
            x = functional.pad(x, (left, totals[1] - left, top, totals[0] - top))
        return functional.conv2d(
            x,
            torch.from_numpy(conv.weight),
            torch.from_numpy(conv.bias),
            stride,
            0 if network.padding == "same" else kernel // 2,
            groups=conv.groups,
        )

    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (network.mean, network.std))
    x = activate(convolve((x - mean) / std, network.stem))
    for block in network.blocks:
        y = x if block.expand is None else activate(convolve(x, block.expand))
        y = activate(convolve(y, block.depthwise))
        if block.squeeze_excite is not None:
            gate = convolve(y.mean((2, 3), keepdim=True), block.squeeze_excite.reduce)
            y = y * convolve(functional.silu(gate), block.squeeze_excite.expand).sigmoid()
        y = convolve(y, block.project)
        x = x + y if block.residual else y
    features = activate(convolve(x, network.head.conv)).mean((2, 3))
    weight, bias = torch.from_numpy(network.head.weight), torch.from_numpy(network.head.bias)
    return functional.linear(features, weight, bias).numpy()


def onnx_logits(network, images):
    data = bytes(onnx_model(network, networks.describe(network)))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


def tflite_logits(network, images):
    data = bytes(tflite_model(network, networks.describe(network)))
    predict = Interpreter(model_content=data, num_threads=2).get_signature_runner()
    return np.concatenate([predict(image=image[None])["logits"] for image in images])


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(
    ("family", "phi", "resolution"),
    [
        *(("standard", phi, None) for phi in range(4)),
        ("standard", 0, (224, 320)),
        ("standard", 1, (173, 151)),
        ("standard", 4, (190, 131)),
        ("standard", 5, (128, 130)),
        ("standard", 6, (132, 132)),
        ("standard", 7, (150, 150)),
        *(("lite", phi, None) for phi in range(5)),
    ],
)
def test_logits_equal_those_of_torch(family, phi, resolution, padding):
    arch = networks.architecture(phi, family)
    resolution = resolution or (arch.resolution, arch.resolution)
    images = networks.photos(3, resolution, phi)
    network = networks.random_network(arch, padding, resolution, 20, seed=phi, images=images)
    expected = torch_logits(network, images)
    assert networks.relative_error(onnx_logits(network, images), expected) < TOLERANCE
    assert networks.relative_error(tflite_logits(network, images), expected) < TOLERANCE


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("resolution", [(96, 96), (150, 131)])
def test_a_planted_padding_error_would_not_pass(padding, resolution):
    images = networks.photos(3, resolution, 4)
    network = networks.random_network(
        networks.architecture(0), padding, resolution, seed=3, images=images
    )
    expected = torch_logits(network, images)
    wrong = replace(network, padding="same" if padding == "symmetric" else "symmetric")
    for run in (onnx_logits, tflite_logits):
        assert networks.relative_error(run(wrong, images), expected) > 100 * TOLERANCE
