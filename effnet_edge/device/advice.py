"""What makes a device slower than it could be, and what to do about it."""

from __future__ import annotations

from effnet_edge.device.condition import HEAT
from effnet_edge.device.files import format_cpu_list
from effnet_edge.device.firmware import SINCE_START
from effnet_edge.device.inspection import Device

_VOLTAGE = "under-voltage"
_HEAT = ("throttled", "frequency capped", "soft temperature limit", HEAT)
_HOT_C = 80.0
"""Where a Raspberry Pi begins to slow down; most chips do between 80 and 100 degrees."""
_SET_GOVERNOR = (
    "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
)
_ARM_64 = ("Cortex-A53", "Cortex-A55", "Cortex-A72", "Cortex-A76", "Cortex-A57", "Cortex-A73")


def advice(device: Device) -> tuple[str, ...]:
    """Return sentences for the person at the device; none where nothing is wrong."""
    return (*_power_and_heat(device), *_clock(device), *_system(device), *_limits(device))


def _power_and_heat(device: Device) -> list[str]:
    now = device.state.throttled_now
    past = [
        word.removesuffix(SINCE_START)
        for word in device.state.throttling
        if word.endswith(SINCE_START)
    ]
    found = []
    if _VOLTAGE in now or _VOLTAGE in past:
        when = "is too low" if _VOLTAGE in now else "has been too low since the start"
        found.append(
            f"The supply voltage {when} (under-voltage): the firmware then slows the processor "
            "down. Use the board's own power supply and a short, thick cable."
        )
    if any(word in _HEAT for word in now) and _VOLTAGE not in now:
        found.append(
            "The processor is being slowed down because it is hot, and so are the times taken now. "
            "Let it cool down; for steady load it needs a heat sink or a fan."
        )
    elif any(word in _HEAT for word in past) and _VOLTAGE not in past:
        found.append(
            "The processor has been slowed down by heat since the start. Under steady load, give "
            "it a heat sink or a fan."
        )
    elif device.state.temperature_c is not None and device.state.temperature_c >= _HOT_C:
        found.append(
            f"At {device.state.temperature_c:.0f} degrees the processor is about to be slowed "
            "down: give it a heat sink or a fan."
        )
    return found


def _clock(device: Device) -> list[str]:
    governor = device.state.governor
    if governor == "powersave":
        return [
            "The governor 'powersave' holds the clock at its lowest. For speed, until the next "
            f"start: {_SET_GOVERNOR}"
        ]
    if governor == "powersave (power)":
        return [
            "The energy preference 'power' holds the clock down, on battery perhaps. For speed: "
            "powerprofilesctl set balanced"
        ]
    return []


def _system(device: Device) -> list[str]:
    if device.bits != 32 or device.architecture is None:
        return []
    able = any(kind.name in _ARM_64 for kind in device.core_classes)
    if device.kernel_bits == 64:
        why = "This Python is 32-bit, though the kernel is 64-bit"
    elif able:
        why = "This system is 32-bit, though the processor is 64-bit"
    else:
        return []
    return [
        f"{why}: there are no 32-bit packages of onnxruntime and LiteRT, only the older "
        "tflite-runtime, and a process gets 3 GB at most. A 64-bit system makes models faster."
    ]


def _limits(device: Device) -> list[str]:
    found = []
    online = [cpu for kind in device.core_classes for cpu in kind.cpus]
    if len(device.allowed_cpus) < len(online):
        found.append(
            f"This process may use {len(device.allowed_cpus)} of {len(online)} CPUs "
            "(its affinity: taskset, a container's cpuset)."
        )
    if device.cpu_quota is not None and device.cpu_quota < len(device.allowed_cpus):
        found.append(
            f"The control group grants the time of {device.cpu_quota:.2g} CPUs: once that is used "
            "up, threads stand still for up to a tenth of a second."
        )
    if device.offline_cpus:
        found.append(
            f"Switched off (offline): CPU {format_cpu_list(device.offline_cpus)}, by a power mode "
            "(on a Jetson see 'nvpmodel -q') or by the firmware."
        )
    return found
