"""Everything of the device at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effnet_edge.device.board import board_name, soc_name
from effnet_edge.device.caches import Cache, caches
from effnet_edge.device.condition import DeviceState, state
from effnet_edge.device.cores import CoreClass, core_classes
from effnet_edge.device.cpuinfo import processors
from effnet_edge.device.cpus import allowed_cpus, offline_cpus, online_cpus
from effnet_edge.device.files import ROOT, is_this_machine, read
from effnet_edge.device.isa import common
from effnet_edge.device.limits import cpu_quota
from effnet_edge.device.memory import Memory, memory
from effnet_edge.device.packages import InstalledEngine, engines
from effnet_edge.device.threads import default_threads
from effnet_edge.device.words import user_bits
from effnet_edge.kernels import Kernels, find_kernels


@dataclass(frozen=True)
class Device:
    """What can be told of a device.

    ``architecture`` is the kernel's (``aarch64``), ``kernel_bits`` and ``bits`` are 32 or 64, of
    the kernel and of this Python. ``core_classes`` are the online CPUs, the fastest first;
    ``allowed_cpus`` those that this process may use, and ``isa`` what all of these can.
    ``cpu_quota`` is how many CPUs' time the control group grants. ``virtual``: a virtual machine.
    ``kernels`` are our own, of which nothing is known on another device than this one.
    """

    board: str | None
    soc: str | None
    architecture: str | None
    kernel_bits: int | None
    bits: int | None
    core_classes: tuple[CoreClass, ...]
    allowed_cpus: tuple[int, ...]
    offline_cpus: tuple[int, ...]
    isa: tuple[str, ...]
    caches: tuple[Cache, ...]
    memory: Memory
    cpu_quota: float | None
    default_threads: int
    virtual: bool
    state: DeviceState
    engines: tuple[InstalledEngine, ...]
    kernels: Kernels | None


def inspect(root: Path = ROOT) -> Device:
    """Look at the device; takes some tens of milliseconds.

    Raises UsageError if the environment asks for kernels that can't be.
    """
    online, allowed = online_cpus(root), allowed_cpus(root)
    classes = core_classes(root, online, allowed)
    used = [kind for kind in classes if not set(kind.cpus).isdisjoint(allowed)]
    machine = architecture(root)
    return Device(
        board=board_name(root),
        soc=soc_name(root),
        architecture=machine,
        kernel_bits=None if machine is None else 64 if machine in _WORDS_OF_64 else 32,
        bits=user_bits(root),
        core_classes=classes,
        allowed_cpus=allowed,
        offline_cpus=offline_cpus(root),
        isa=common(kind.isa for kind in used or classes),
        caches=caches(root, online),
        memory=memory(root),
        cpu_quota=cpu_quota(root),
        default_threads=default_threads(root),
        virtual="hypervisor" in (processors(root, brief=True).field(0, "flags") or "").split(),
        state=state(root),
        engines=engines() if is_this_machine(root) else (),
        kernels=find_kernels() if is_this_machine(root) else None,
    )


_WORDS_OF_64 = ("aarch64", "arm64", "x86_64", "amd64", "riscv64", "ppc64le", "s390x", "loongarch64")


def architecture(root: Path) -> str | None:
    """Return the kernel's machine name: ``aarch64``, ``armv7l``, ``x86_64``."""
    if is_this_machine(root):
        import platform

        return platform.machine().lower() or None
    recorded = read(root, "proc/sys/kernel/arch")  # since Linux 6.1
    if recorded:
        return recorded
    found = processors(root, brief=True)
    cpu = min(found.records, default=0)
    if found.field(cpu, "vendor_id"):
        return "x86_64" if "lm" in (found.field(cpu, "flags") or "").split() else "i686"
    features = (found.field(cpu, "Features") or "").split()
    if features:
        return "aarch64" if "asimd" in features else "armv7l" if "neon" in features else "armv6l"
    return None
