"""How fast the CPUs are beside each other, and how many cores they make up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from effnet_edge.device.arm_parts import LITTLE_CORES
from effnet_edge.device.cpuinfo import cpu_names, processors
from effnet_edge.device.cpus import CPU
from effnet_edge.device.files import parse_cpu_list, read, read_int
from effnet_edge.device.frequency import max_mhz

_EFFICIENT = "sys/devices/cpu_atom/cpus"
"""Where Linux lists the efficiency cores of a hybrid x86."""
_FAST_ENOUGH = 0.5
"""A core slower than half of the fastest holds the others up rather than helping them: engines
share a layer out among the threads, and wait for the last."""
_LITTLE = 0.5
"""Speed of a little core of the same clock, where the kernel doesn't know it."""
_SERVER = 32
"""No device with more CPUs has slower ones among them, but for those that Linux lists apart."""


def fast_cpus(root: Path, allowed: tuple[int, ...]) -> tuple[int, ...]:
    """Return those of the ``allowed`` CPUs that aren't much slower than the fastest of them."""
    names = cpu_names(root, processors(root, brief=True), allowed)
    little = little_cpus(root, names)
    speeds = cpu_speeds(root, names, little)
    big = [cpu for cpu in allowed if cpu not in little] or allowed
    top = max(speeds[cpu] for cpu in big)
    return tuple(cpu for cpu in big if speeds[cpu] >= _FAST_ENOUGH * top)


def physical_cores(root: Path, cpus: tuple[int, ...]) -> int:
    """Return how many cores the CPUs are: two hyper-threads share one core's arithmetic."""
    if read(root, f"{CPU}/smt/active") == "0":
        return len(cpus)
    counted: set[int] = set()
    cores = 0
    for cpu in cpus:
        if cpu not in counted:
            cores += 1
            siblings = read(root, f"{CPU}/cpu{cpu}/topology/thread_siblings_list")
            counted.update(parse_cpu_list(siblings))
    return cores


def little_cpus(root: Path, names: Mapping[int, str | None]) -> frozenset[int]:
    """Return those of the CPUs, given with their names, that are built to save energy."""
    efficient = parse_cpu_list(read(root, _EFFICIENT))
    return frozenset(cpu for cpu, name in names.items() if cpu in efficient or name in LITTLE_CORES)


def cpu_speeds(
    root: Path, names: Mapping[int, str | None], little: frozenset[int]
) -> Mapping[int, float]:
    """Say how fast each CPU is, in one unit for all of them.

    The kernel's own measure is cpu_capacity, where ARM's device tree or x86's firmware gives it.
    """
    cpus = tuple(names)
    factor = {cpu: _LITTLE if cpu in little else 1.0 for cpu in cpus}
    if len(cpus) > _SERVER or read(root, _EFFICIENT):
        return factor  # a server's are alike, and of hybrid ones the clock says too little
    if capacities := _all(read_int(root, f"{CPU}/cpu{cpu}/cpu_capacity") for cpu in cpus):
        return dict(zip(cpus, map(float, capacities), strict=True))
    if clocks := _all(max_mhz(root, cpu) for cpu in cpus):
        return {cpu: clock * factor[cpu] for cpu, clock in zip(cpus, clocks, strict=True)}
    return factor


def _all(values: Iterable[int | None]) -> list[int]:
    """Return the values if every one is known and positive."""
    known = []
    for value in values:
        if value is None or value <= 0:
            return []
        known.append(value)
    return known
