"""Cores of one kind and speed: big.LITTLE, performance and efficiency cores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effnet_edge.device.cpuinfo import Processors, cpu_names, processors
from effnet_edge.device.frequency import max_mhz
from effnet_edge.device.isa import common
from effnet_edge.device.speeds import cpu_speeds, fast_cpus, little_cpus, physical_cores

_SAME_SPEED = 0.9
"""Chips are sorted by quality, so that equal cores of one device differ by some percent."""


@dataclass(frozen=True)
class CoreClass:
    """Online CPUs of one kind and speed.

    ``name`` is the microarchitecture on ARM, the processor's model elsewhere. ``cores`` counts
    hyper-threads once. ``relative_speed`` is 1 for the fastest class of the device. ``little``:
    built to save energy. ``fast``: what this process's threads should run on (`default_threads`).
    """

    name: str | None
    cpus: tuple[int, ...]
    cores: int
    max_mhz: int | None
    relative_speed: float
    isa: tuple[str, ...]
    little: bool
    fast: bool


def core_classes(
    root: Path, online: tuple[int, ...], allowed: tuple[int, ...]
) -> tuple[CoreClass, ...]:
    """Return the classes of the ``online`` CPUs, the fastest first."""
    found = processors(root)
    names = cpu_names(root, found, online)
    little = little_cpus(root, names)
    speeds = cpu_speeds(root, names, little)
    groups: list[list[int]] = []
    for cpu in sorted(online, key=lambda cpu: (-speeds[cpu], cpu)):
        for group in groups:
            first = group[0]
            alike = (names[cpu], cpu in little) == (names[first], first in little)
            if alike and speeds[cpu] >= _SAME_SPEED * speeds[first]:
                group.append(cpu)
                break
        else:
            groups.append([cpu])
    fast = set(fast_cpus(root, allowed))
    top = max(speeds.values())
    classes = []
    for group in groups:
        numbers = tuple(sorted(group))
        clocks = [mhz for number in numbers if (mhz := max_mhz(root, number)) is not None]
        classes.append(
            CoreClass(
                name=names[group[0]],
                cpus=numbers,
                cores=physical_cores(root, numbers),
                max_mhz=max(clocks, default=None),
                relative_speed=round(speeds[group[0]] / top, 3),
                isa=common(_flags(found, number) for number in numbers),
                little=group[0] in little,
                fast=not fast.isdisjoint(numbers),
            )
        )
    return tuple(classes)


def _flags(found: Processors, cpu: int) -> list[str]:
    return (found.field(cpu, "Features") or found.field(cpu, "flags") or "").split()
