"""One line for all of a device that changes how fast it computes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from effnet_edge.device.cpuinfo import cpu_names, processors
from effnet_edge.device.cpus import CPU, allowed_cpus
from effnet_edge.device.files import ROOT, format_cpu_list, is_this_machine, read
from effnet_edge.device.frequency import governor, lasting_max_mhz, lowered_by_heat, policies
from effnet_edge.device.isa import common
from effnet_edge.device.limits import cpu_quota
from effnet_edge.device.memory import memory_limit
from effnet_edge.device.words import user_bits


def fingerprint(root: Path = ROOT) -> str:
    """Return a line that is the same until something changes the device's speed.

    It names CPU models, allowed CPUs, instruction sets, highest clocks, governor, boost, limits of
    the control group and word size; no temperature, no clock of this moment, no free memory.
    """
    allowed = allowed_cpus(root)
    found = processors(root, brief=True)
    models: dict[str, list[int]] = {}
    for cpu, name in cpu_names(root, found, allowed).items():
        models.setdefault(name or _other_system(root), []).append(cpu)
    flags = {(found.field(cpu, "Features") or found.field(cpu, "flags") or "") for cpu in allowed}
    clocks = policies(root)
    mhz = lasting_max_mhz(root, clocks, hot=lowered_by_heat(root, clocks))
    boost = [
        f"{name.rpartition('/')[2]}={value}"
        for name in (f"{CPU}/cpufreq/boost", f"{CPU}/intel_pstate/no_turbo")
        if (value := read(root, name)) is not None
    ]
    limit, quota = memory_limit(root).limit, cpu_quota(root)
    parts = (
        "cpu " + ", ".join(f"{name} @{_list(cpus)}" for name, cpus in models.items()),
        "isa " + " ".join(common(each.split() for each in flags)),
        "MHz " + " ".join(f"{clock} x{count}" for clock, count in sorted(Counter(mhz).items())),
        " ".join([f"governor {governor(root, clocks)}", *boost]),
        f"memory limit {limit}",
        f"cpu limit {quota if quota is None else round(quota, 3)}",
        f"{user_bits(root)} bits",
    )
    # One line, whatever a damaged file holds.
    return " ".join("; ".join(parts).split())


def _list(cpus: list[int]) -> str:
    return format_cpu_list(tuple(cpus))


def _other_system(root: Path) -> str:
    """The CPU of Windows and macOS, which have no /proc."""
    if not is_this_machine(root):
        return "unknown"
    import os
    import platform

    return os.environ.get("PROCESSOR_IDENTIFIER") or platform.machine() or "unknown"
