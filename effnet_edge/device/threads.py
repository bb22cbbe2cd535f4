"""How many threads an engine should compute with."""

from __future__ import annotations

from pathlib import Path

from effnet_edge.device.cpus import allowed_cpus, balanced_cpus
from effnet_edge.device.files import ROOT
from effnet_edge.device.limits import cpu_quota
from effnet_edge.device.speeds import fast_cpus, physical_cores


def default_threads(root: Path = ROOT) -> int:
    """Return the number of fast cores that this process may use: at least 1.

    Hyper-threads count once, slow cores beside fast ones not at all. A quota of 1.5 CPUs is good
    for one thread: two would use their share of a period up early, then stand still to its end.
    """
    cpus = balanced_cpus(root, allowed_cpus(root))
    cores = physical_cores(root, fast_cpus(root, cpus))
    quota = cpu_quota(root)
    return cores if quota is None else max(1, min(cores, int(quota)))
