"""The device at this moment: temperature, clocks, and whether it is being slowed down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effnet_edge.device.files import ROOT, names, read_int
from effnet_edge.device.firmware import SINCE_START, firmware_mhz, firmware_throttling
from effnet_edge.device.frequency import current_mhz, governor, lowered_by_heat, policies
from effnet_edge.device.temperature import temperature_c

_CPU = "sys/devices/system/cpu"
_COUNTERS_READ = 16
HEAT = "frequency lowered by heat"


@dataclass(frozen=True)
class DeviceState:
    """One sample.

    ``frequencies_mhz`` has one clock for each group of CPUs that share one, ``governor`` is that
    of the fastest. ``throttling`` says in words what slows the processor down now, then, ending in
    "since start", what did since the device was switched on. ``throttle_count``: how often the
    processor (Intel's) has slowed itself down since then.
    """

    temperature_c: float | None
    frequencies_mhz: tuple[int, ...]
    governor: str | None
    throttling: tuple[str, ...]
    throttle_count: int | None = None

    @property
    def throttled_now(self) -> tuple[str, ...]:
        """What slows the processor down at this moment."""
        return tuple(word for word in self.throttling if not word.endswith(SINCE_START))


def state(root: Path = ROOT) -> DeviceState:
    """Take a sample; cheap enough for every second."""
    found = policies(root)
    throttling = firmware_throttling(root)
    clocks = current_mhz(root, found)
    if any(not word.endswith(SINCE_START) for word in throttling):
        real = firmware_mhz(root)
        clocks = clocks if real is None else (real,)
    if lowered_by_heat(root, found):
        throttling = (HEAT, *throttling)
    return DeviceState(
        temperature_c(root), clocks, governor(root, found), throttling, _throttle_count(root)
    )


def throttled_between(before: DeviceState, after: DeviceState) -> tuple[str, ...]:
    """Say what slowed the processor down between two samples, or at either of them."""
    words = list(dict.fromkeys([*before.throttled_now, *after.throttled_now]))
    for word in after.throttling:
        plain = word.removesuffix(SINCE_START)
        if word not in before.throttling and plain not in words:
            words.append(plain)
    if (after.throttle_count or 0) > (before.throttle_count or 0) and HEAT not in words:
        words.append(HEAT)
    return tuple(words)


def _throttle_count(root: Path) -> int | None:
    """The sum of the counters of the kernel's therm_throt driver, of cores and of the package."""
    cpus = names(root, _CPU, "cpu[0-9]+")[:_COUNTERS_READ]
    folders = [f"{_CPU}/{cpu}/thermal_throttle" for cpu in cpus]
    first = read_int(root, f"{folders[0]}/package_throttle_count") if folders else None
    if first is None:
        return None
    cores = [read_int(root, f"{folder}/core_throttle_count") for folder in folders]
    return first + sum(count for count in cores if count is not None)
