"""The package's own runtime on ARM: with the kernels, and with the bodies that the file carries."""

from __future__ import annotations

import cross
import lab
import networks
import numpy as np
import pytest
import quantized_networks

from effnet_edge import seal
from effnet_edge.converters.quantized_onnx_writer import quantized_onnx_model

pytestmark = pytest.mark.arm

BEST = {
    "cortex-a53": "neon",
    "cortex-a72": "neon",
    "cortex-a76": "neon-dotprod",
    "i8mm": "neon-i8mm",
}
ENGINES = ("onnxruntime",)
TOLERANCE = 0.02
"""Of the range of the logits: roundings at ties may differ by a step of a quantizer."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small int8 network and images for it."""
    folder = tmp_path_factory.mktemp("model")
    network = quantized_networks.random_quantized(scaled=True)
    data = quantized_onnx_model(network, quantized_networks.describe(network))
    seal.seal(data)
    (folder / "small.onnx").write_bytes(data)
    np.save(folder / "images.npy", networks.photos(4, network.resolution, 42))
    return folder


def logits(cpu, engine, model, **environment):
    """Logits by `predict.py` on a core, and the instruction set that it names."""
    cpu = lab.CPUS[cpu]
    result = model / "logits.npy"
    arguments = [lab.HERE / "predict.py", engine, model / "small.onnx", model / "images.npy"]
    answer = lab.run(
        lab.python_command(cpu, [*arguments, result]), lab.python_environment(cpu, **environment)
    )
    assert not answer.returncode, answer.stderr
    return np.load(result), answer.stdout.strip()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cpu", BEST)
def test_predictions_with_kernels_agree_with_those_of_the_bodies(cpu, engine, model):
    library = str(cross.library(lab.AARCH64))
    got, isa = logits(cpu, engine, model, EFFNET_EDGE_KERNELS=library)
    expected, without = logits(cpu, "onnxruntime", model, EFFNET_EDGE_ISA="portable")
    assert (isa, without) == (BEST[cpu], "portable")
    assert np.abs(got - expected).max() <= TOLERANCE * np.ptp(expected)
