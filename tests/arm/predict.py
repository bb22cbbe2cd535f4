"""Run inside the emulator: the logits of images, and the instruction set of the kernels.

    python predict.py ENGINE MODEL IMAGES.npy LOGITS.npy

It prints "portable" if the engine runs without our kernels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from effnet_edge.engines import named_engine, open_session
from effnet_edge.kernels import PORTABLE, find_kernels


def main() -> None:
    engine, model, images, logits = sys.argv[1:]
    with open_session(Path(model), named_engine(engine), threads=2) as session:
        np.save(logits, session.run(np.load(images)))
    # What the process has loaded, before find_kernels loads what could be used.
    loaded = "libeffnet_edge_kernels" in Path("/proc/self/maps").read_text()
    print(find_kernels().isa if loaded else PORTABLE)


if __name__ == "__main__":
    main()
