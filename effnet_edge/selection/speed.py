"""How fast a device's cores are, from facts that can be read or are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effnet_edge.selection.calibration import KINDS

if TYPE_CHECKING:
    from effnet_edge.device import CoreClass as DeviceCores
    from effnet_edge.device import Device

_ARM_CORES = {
    "arm-in-order-32": (
        "Cortex-A5",
        "Cortex-A7",
        "Cortex-A9",
    ),
    "arm-in-order": (
        "Cortex-A34",
        "Cortex-A35",
        "Cortex-A53",
        "Kryo-2XX-Silver",
    ),
    "arm-in-order-dot": (
        "Cortex-A55",
        "Cortex-A510",
        "Cortex-A520",
        "Kryo-4XX-Silver",
    ),
    "arm-out-of-order": (
        "Cortex-A15",
        "Cortex-A17",
        "Cortex-A57",
        "Cortex-A72",
        "Cortex-A73",
        "Denver-2",
        "Kryo",
        "Kryo-2XX-Gold",
    ),
    "arm-out-of-order-dot": (
        "Cortex-A75",
        "Cortex-A76",
        "Cortex-A76AE",
        "Cortex-A77",
        "Cortex-A78",
        "Cortex-A78AE",
        "Cortex-A78C",
        "Kryo-4XX-Gold",
        "Neoverse-N1",
    ),
    "arm-i8mm": (
        "Cortex-A710",
        "Cortex-A715",
        "Cortex-A720",
        "Cortex-A725",
        "Neoverse-N2",
    ),
    "arm-wide": (
        "Cortex-X1",
        "Cortex-X1C",
        "Cortex-X2",
        "Cortex-X3",
        "Cortex-X4",
        "Cortex-X925",
        "Neoverse-V1",
        "Neoverse-V2",
        "Oryon",
        "Firestorm",
        "Avalanche",
    ),
}
KIND_OF_ARM_CORE = {name: kind for kind, names in _ARM_CORES.items() for name in names}
"""By `effnet_edge.device`'s names; others are told by their instruction set, see `kind_of`."""

_TYPICAL_MHZ = 1800.0
_TYPICAL_X86_MHZ = 2600.0
"""The reference core's nominal clock; virtual machines don't tell theirs."""
_SLOWEST_MHZ, _FASTEST_MHZ = 100.0, 8000.0


@dataclass(frozen=True)
class CoreClass:
    """Equal cores: how many this process may use, their top clock, and their kind."""

    count: int
    mhz: float
    kind: str

    @property
    def speed(self) -> float:
        """Relative to the others: float work a second of one core."""
        return self.mhz / KINDS[self.kind].float_cycles


@dataclass(frozen=True)
class Speed:
    """What the prior needs of a device.

    ``cores`` are fastest first. ``bandwidth_gb_s`` is what copying memory reaches (10^9 bytes
    copied a second), ``cache_mb`` what of a map a core finds in caches at best (L2 and L3, in
    2^20 bytes); None where unknown. ``known`` says that kinds and clocks are facts, not guesses.
    ``bits`` is the user space's word size.
    """

    cores: tuple[CoreClass, ...]
    bandwidth_gb_s: float | None = None
    cache_mb: float | None = None
    known: bool = True
    bits: int = 64

    @property
    def is_x86(self) -> bool:
        """Whether the cores are Intel's or AMD's."""
        return self.cores[0].kind.startswith("x86")

    def parallel(self, threads: int) -> float:
        """How many of the fastest core ``threads`` threads amount to.

        They fill the fast cores first. More threads than cores gain nothing and lose a little.
        """
        left, total, lead = threads, 0.0, self.cores[0].speed
        for cores in self.cores:
            taken = min(left, cores.count)
            total += taken * cores.speed / lead
            left -= taken
        return total / (1 + 0.1 * left / threads)


UNKNOWN_SPEED = Speed((CoreClass(4, _TYPICAL_MHZ, "unknown"),), known=False)
"""Of a device nothing is known of."""


def kind_of(machine: str, core: str | None, isa: Sequence[str]) -> tuple[str, bool]:
    """The kind of a core by its name and instruction set, and whether that is sure.

    ``machine`` is what ``uname -m`` says; ``isa`` the names in the style of /proc/cpuinfo.
    """
    names = set(isa)
    if core in KIND_OF_ARM_CORE:
        return KIND_OF_ARM_CORE[core], True
    if machine.lower() in ("x86_64", "amd64", "i386", "i686"):
        if "avx512_vnni" in names:
            return "x86-avx512-vnni", True
        if "avx_vnni" in names:
            return "x86-avx2-vnni", True
        if "avx2" in names:
            return "x86-avx2", True
        return "x86-sse", bool(names)
    if not names:
        return "unknown", False
    # An Arm core that no table names, of Apple, Qualcomm, Nvidia or the future: by what it can.
    if "i8mm" in names:
        return "arm-i8mm", False
    if "asimddp" in names:
        return "arm-out-of-order-dot", False
    return ("arm-out-of-order" if "asimd" in names else "arm-in-order-32"), False


def speed_of(device: Device) -> Speed:
    """What `effnet_edge.device.inspect` found, as the prior needs it.

    Only cores that this process may use count, and of hyper-threads one. A core that no table
    names and whose clock isn't told is guessed, which `Speed.known` tells the model.
    """
    allowed = set(device.allowed_cpus)
    classes, known = [], True
    for cores in device.core_classes:
        usable = len(allowed.intersection(cores.cpus))
        if usable == 0:
            continue
        count = max(1, round(usable * cores.cores / max(1, len(cores.cpus))))
        kind, sure = kind_of(device.architecture or "", cores.name, cores.isa or device.isa)
        known = known and sure and cores.max_mhz is not None
        classes.append(CoreClass(count, _clock(cores, kind), kind))
    if not classes:
        return UNKNOWN_SPEED
    classes.sort(key=lambda each: each.speed, reverse=True)
    return Speed(
        cores=tuple(classes),
        cache_mb=_cache_mb(device),
        known=known,
        bits=device.bits or 64,
    )


def _clock(cores: DeviceCores, kind: str) -> float:
    typical = _TYPICAL_X86_MHZ if kind.startswith("x86") else _TYPICAL_MHZ
    mhz = cores.max_mhz
    return float(mhz) if mhz is not None and _SLOWEST_MHZ <= mhz <= _FASTEST_MHZ else typical


def _cache_mb(device: Device) -> float | None:
    """What the first core finds in its caches beyond the first level, alone."""
    first = next(iter(device.allowed_cpus), None)
    sizes = [
        cache.size
        for cache in device.caches
        if cache.level > 1 and first in cache.cpus and cache.kind != "instruction"
    ]
    return sum(sizes) / 2**20 or None
