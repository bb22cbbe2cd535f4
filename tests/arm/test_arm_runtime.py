"""The package's own runtime on ARM: with the kernels, and with the bodies that the file carries."""

from __future__ import annotations

import os
import subprocess
import sys

import cross
import lab
import networks
import numpy as np
import pytest
import quantized_networks
from kernel_models import kernel_library

from effnet_edge import kernels, seal
from effnet_edge.converters.quantized_onnx_writer import quantized_onnx_model

pytestmark = pytest.mark.arm

BEST = {
    "cortex-a53": "neon",
    "cortex-a72": "neon",
    "cortex-a76": "neon-dotprod",
    "i8mm": "neon-i8mm",
}
ENGINES = ("native", "onnxruntime")
LEAST_SNR = 16
"""In dB: a few random blocks amplify each rounding; a trained network has 27."""


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


@pytest.fixture(scope="module")
def reference(model):
    """What the scalar kernels of fixed point give on this machine."""
    result = model / "reference.npy"
    arguments = [lab.HERE / "predict.py", "native", model / "small.onnx", model / "images.npy"]
    environment = {kernels.ISA: "scalar-fixed", kernels.LIBRARY: kernel_library()}
    subprocess.run(
        [sys.executable, *arguments, result], env={**os.environ, **environment}, check=True
    )
    return np.load(result)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cpu", BEST)
def test_every_core_gives_the_logits_of_the_reference(cpu, engine, model, reference):
    library = str(cross.library(lab.AARCH64))
    got, isa = logits(cpu, engine, model, EFFNET_EDGE_KERNELS=library)
    assert isa == BEST[cpu]
    assert np.array_equal(got, reference)


def test_the_logits_are_near_those_of_the_bodies(model, reference):
    expected, isa = logits("cortex-a76", "onnxruntime", model, EFFNET_EDGE_ISA="portable")
    assert isa == "portable"
    assert quantized_networks.snr(reference, expected) > LEAST_SNR
