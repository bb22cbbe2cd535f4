"""PyTorch on the CPU, in float32 and channels last: as it is, and compiled with frozen weights."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch._inductor.config
from speed_worker import Image, Logits, Predict
from torch_network import torch_network

PACKAGES = ("torch",)


def load(configuration: str, sources: Path, folder: Path, threads: int) -> Predict:
    """``eager`` or ``compile``; what is compiled is kept in ``folder`` for the next time."""
    torch.set_num_threads(threads)
    network, mean = torch_network(sources / "fp32.onnx")
    network = network.to(memory_format=torch.channels_last)
    centre = torch.tensor(mean)

    def logits_of(image: torch.Tensor) -> torch.Tensor:
        return network(image.permute(0, 3, 1, 2).float() - centre)

    run = logits_of
    if configuration == "compile":
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
        torch._inductor.config.freezing = True
        if (
            os.environ.get("ATEN_CPU_CAPABILITY") == "avx2"
        ):  # which tells the library, not the compiler
            torch._inductor.config.cpp.simdlen = 256
        run = torch.compile(logits_of)

    @torch.inference_mode()
    def predict(image: Image) -> Logits:
        logits: Logits = run(torch.from_numpy(image)).numpy()
        return logits

    return predict
