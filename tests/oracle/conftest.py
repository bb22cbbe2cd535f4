"""Under pytest-xdist each worker has a core of its own; torch would take them all."""

from __future__ import annotations

import os
from importlib.util import find_spec

if "PYTEST_XDIST_WORKER" in os.environ and find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
