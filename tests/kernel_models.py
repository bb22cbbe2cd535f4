"""Models for our kernels, and the kernels themselves if there are any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import quantized_networks

from effnet_edge import seal
from effnet_edge.converters.quantized_onnx_writer import quantized_onnx_model
from effnet_edge.kernels import find_kernels

REQUIRED = os.environ.get("EFFNET_EDGE_REQUIRE_KERNELS")


def kernel_library() -> str:
    """The library's path; a test that needs it is skipped where there is none."""
    found = find_kernels()
    if found.library is None:
        (pytest.fail if REQUIRED else pytest.skip)(f"no kernels: {found.error}")
    return found.library


def write(folder: Path, **variant) -> Path:
    """An int8 .onnx of a random network, sealed."""
    network = quantized_networks.random_quantized(**variant)
    data = quantized_onnx_model(network, quantized_networks.describe(network))
    seal.seal(data)
    path = folder / "network.onnx"
    path.write_bytes(data)
    return path
