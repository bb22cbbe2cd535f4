"""ExecuTorch with XNNPACK: PT2E quantisation of the float network, and the float network itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime
from speed_worker import Image, Logits, Predict

PACKAGES = ("executorch", "torch", "torchao")

IMAGES = 8
"""To calibrate with: the observers take seconds for each, and time doesn't depend on ranges."""


def make(configuration: str, sources: Path, folder: Path) -> None:
    """Export, quantise if it is ``int8``, and lower to XNNPACK what it takes."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torch_network import torch_network

    network, mean = torch_network(sources / "fp32.onnx")
    np.save(folder / "mean.npy", mean)
    images = [torch.from_numpy(_centred(image[None], mean)) for image in _calibration(sources)]
    exported = torch.export.export(network, (images[0],))
    if configuration == "int8":
        exported = torch.export.export(_quantised(exported.module(), images), (images[0],))
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    with (folder / "model.pte").open("wb") as file:
        program.to_executorch().write_to_file(file)


def _quantised(module: torch.nn.Module, images: list[torch.Tensor]) -> torch.nn.Module:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    recipe = get_symmetric_quantization_config(is_per_channel=True)
    prepared = prepare_pt2e(module, XNNPACKQuantizer().set_global(recipe))
    for image in images:
        prepared(image)
    return convert_pt2e(prepared)


def _calibration(sources: Path) -> Image:
    images: Image = np.load(sources / "calibration.npy", mmap_mode="r")
    return images[:IMAGES]


def _centred(image: Image, mean: np.ndarray) -> np.ndarray:
    """Float [1, 3, H, W]: faster here than by ExecuTorch's portable operators."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2)) - mean


def load(configuration: str, sources: Path, folder: Path, threads: int) -> Predict:
    """``int8`` or ``fp32``."""
    portable_lib._unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(folder / "model.pte").load_method("forward")
    mean = np.load(folder / "mean.npy").astype(np.float32)

    def predict(image: Image) -> Logits:
        (logits,) = method.execute([torch.from_numpy(_centred(image, mean))])
        found: Logits = logits.numpy()
        return found

    return predict
