"""Which CPUs there are, and which of them this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from effnet_edge.device.cpuinfo import processors
from effnet_edge.device.files import is_this_machine, names, parse_cpu_list, read

CPU = "sys/devices/system/cpu"


def online_cpus(root: Path) -> tuple[int, ...]:
    """Return the numbers of the CPUs that run; at least one, where nothing is known 0."""
    online = parse_cpu_list(read(root, f"{CPU}/online"))
    if online:
        return online
    listed = tuple(sorted(processors(root).records))
    if listed:
        return listed
    folders = tuple(int(name[3:]) for name in names(root, CPU, "cpu[0-9]{1,4}"))
    if folders:
        return folders
    return tuple(range(os.cpu_count() or 1)) if is_this_machine(root) else (0,)


def offline_cpus(root: Path) -> tuple[int, ...]:
    """Return the CPUs that are there but switched off, by a person, the kernel or the firmware."""
    present = parse_cpu_list(read(root, f"{CPU}/present"))
    online = set(online_cpus(root))
    return tuple(cpu for cpu in present if cpu not in online)


def allowed_cpus(root: Path) -> tuple[int, ...]:
    """Return the CPUs that this process may run on: its affinity and cpuset; at least one."""
    if is_this_machine(root) and hasattr(os, "sched_getaffinity"):
        try:
            return tuple(sorted(os.sched_getaffinity(0)))
        except OSError:
            pass
    online = online_cpus(root)
    if is_this_machine(root):
        return online
    allowed: tuple[int, ...] = ()
    for line in (read(root, "proc/self/status") or "").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            allowed = parse_cpu_list(line.partition(":")[2])
    # The recorded mask may name CPUs that are off, or that never were.
    return tuple(sorted(set(allowed) & set(online))) or online


def balanced_cpus(root: Path, allowed: tuple[int, ...]) -> tuple[int, ...]:
    """Return those of ``allowed`` that the kernel spreads threads over.

    It moves no thread between CPUs that were isolated with ``isolcpus``: all the threads of a
    process that may use only such CPUs stay on the first of them.
    """
    isolated = set(parse_cpu_list(read(root, f"{CPU}/isolated")))
    return tuple(cpu for cpu in allowed if cpu not in isolated) or allowed[:1]
