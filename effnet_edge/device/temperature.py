"""The processor's temperature, found among the sensors of battery, radio, charger and board."""

from __future__ import annotations

import re
from pathlib import Path

from effnet_edge.device.files import names, read, read_int

_THERMAL = "sys/class/thermal"
_HWMON = "sys/class/hwmon"

_CPU_ZONE = re.compile(r"(?<![a-z])cpu|tcpu|tscpu|x86_pkg_temp|^(big|little|mid)(core|$|_|-)", re.I)
"""cpu-thermal (Raspberry Pi), CPU-therm (Jetson), bigcore0-thermal (RK3588), cpu-1-0-usr
(Qualcomm), mtktscpu (MediaTek), BIG (Exynos, Tensor), x86_pkg_temp and TCPU (Intel)."""
_CHIP_ZONE = re.compile(r"^(soc|package|tj|core|die|ap)\d*([-_]|$)", re.I)
"""The sensor of the whole chip: soc-thermal, package-thermal, tj-thermal."""
_SENSOR_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""Processors whose sensors are no thermal zone: AMD's."""
_PLAUSIBLE_C = (-30.0, 150.0)


def temperature_c(root: Path) -> float | None:
    """Return the temperature of the hottest CPU sensor in degrees Celsius."""
    zones = names(root, _THERMAL, "thermal_zone[0-9]+")
    kinds = {zone: read(root, f"{_THERMAL}/{zone}/type") or "" for zone in zones}
    for pattern in (_CPU_ZONE, _CHIP_ZONE):
        chosen = [zone for zone in zones if pattern.search(kinds[zone])]
        hottest = _hottest(root, [f"{_THERMAL}/{zone}/temp" for zone in chosen])
        if hottest is not None:
            return hottest
    chips = [f"{_HWMON}/{name}" for name in names(root, _HWMON, "hwmon[0-9]+")]
    sensors = [chip for chip in chips if read(root, f"{chip}/name") in _SENSOR_CHIPS]
    hottest = _hottest(root, [f"{chip}/temp1_input" for chip in sensors])
    if hottest is not None:
        return hottest
    # Firmware's zone of a PC is often the board's, or a constant; a board's only zone is the chip's
    last = [zone for zone in zones if len(zones) == 1 or kinds[zone] == "acpitz"]
    return _hottest(root, [f"{_THERMAL}/{zone}/temp" for zone in last])


def _hottest(root: Path, paths: list[str]) -> float | None:
    known = []
    for path in paths:
        value = read_int(root, path)
        if value is None:
            continue
        # Thousandths of a degree, but for some phones' kernels; nothing runs at 0.15 degrees.
        celsius = value / 1000 if abs(value) > _PLAUSIBLE_C[1] else float(value)
        # A sensor that is switched off says 0, -40 or -273.
        if _PLAUSIBLE_C[0] < celsius < _PLAUSIBLE_C[1] and celsius != 0:
            known.append(celsius)
    return max(known, default=None)
