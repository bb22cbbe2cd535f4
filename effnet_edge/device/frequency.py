"""Clocks and governors: the kernel's cpufreq, one policy for the CPUs that share a clock."""

from __future__ import annotations

import re
from pathlib import Path

from effnet_edge.device.files import names, read, read_int

_CPU = "sys/devices/system/cpu"
_POLICIES_READ = 16
"""A server has a policy for every one of its 128 CPUs; these are as good as all."""


def policies(root: Path) -> list[str]:
    """Return the folders of the policies: all, or `_POLICIES_READ` spread evenly over them."""
    found = [f"{_CPU}/cpufreq/{name}" for name in names(root, f"{_CPU}/cpufreq", "policy[0-9]+")]
    if not found:  # before Linux 4.3; and Android may forbid to list that folder
        cpus = [f"{_CPU}/{name}/cpufreq" for name in names(root, _CPU, "cpu[0-9]+")]
        shared = {read(root, f"{folder}/related_cpus") or folder: folder for folder in cpus[::-1]}
        found = [folder for folder in shared.values() if max_khz(root, folder)][::-1]
    step = -(-len(found) // _POLICIES_READ)
    return found[:: max(step, 1)]


def max_khz(root: Path, policy: str) -> int | None:
    """Return the highest clock that the hardware offers."""
    khz = read_int(root, f"{policy}/cpuinfo_max_freq")
    return khz if khz is not None and khz > 0 else None


def max_mhz(root: Path, cpu: int) -> int | None:
    """Return a CPU's highest clock."""
    khz = max_khz(root, f"{_CPU}/cpu{cpu}/cpufreq") or max_khz(root, f"{_CPU}/cpufreq/policy{cpu}")
    return None if khz is None else round(khz / 1000)


def current_mhz(root: Path, found: list[str]) -> tuple[int, ...]:
    """Return the clock of each policy now; where there is no cpufreq, what /proc/cpuinfo says."""
    clocks = [read_int(root, f"{policy}/scaling_cur_freq") for policy in found]
    known = [clock for clock in clocks if clock is not None and clock > 0]
    if known:
        return tuple(round(clock / 1000) for clock in known)
    text = "" if found else (read(root, "proc/cpuinfo") or "")
    nominal = {round(float(mhz)) for mhz in re.findall(r"cpu MHz\s*:\s*(\d{1,6}\.\d+)", text)}
    return tuple(sorted(nominal, reverse=True))


def governor(root: Path, found: list[str]) -> str | None:
    """Return the governor of the fastest CPUs, with the energy preference where there is one.

    ``powersave`` of Intel's and AMD's own drivers isn't slow: there the preference decides.
    """
    if not found:
        return None
    policy = max(found, key=lambda folder: max_khz(root, folder) or 0)
    name = read(root, f"{policy}/scaling_governor")
    preference = read(root, f"{policy}/energy_performance_preference")
    return f"{name} ({preference})" if name and preference else name


def lasting_max_mhz(root: Path, found: list[str], *, hot: bool) -> tuple[int, ...]:
    """Return the highest clock that each policy may reach, in MHz.

    This includes limits that somebody set (a power mode, a laptop's battery saver), but, if the
    device is ``hot``, not the kernel's, which come and go.
    """
    clocks = []
    for policy in found:
        offered = max_khz(root, policy)
        allowed = None if hot else read_int(root, f"{policy}/scaling_max_freq")
        clock = allowed if allowed is not None and allowed > 0 else offered
        if clock is not None:
            clocks.append(round(clock / 1000))
    return tuple(clocks)


def lowered_by_heat(root: Path, found: list[str]) -> bool:
    """Whether the kernel keeps a clock below what the hardware offers because it is too hot."""
    lowered = any(
        (allowed := read_int(root, f"{policy}/scaling_max_freq")) is not None
        and allowed < (max_khz(root, policy) or 0)
        for policy in found
    )
    if not lowered:  # the usual case; a phone has fifty cooling devices to look at
        return False
    thermal = "sys/class/thermal"
    for name in names(root, thermal, "cooling_device[0-9]+"):
        kind = (read(root, f"{thermal}/{name}/type") or "").lower()
        if ("cpufreq" in kind or kind == "processor") and (
            read_int(root, f"{thermal}/{name}/cur_state") or 0
        ) > 0:
            return True
    return False
