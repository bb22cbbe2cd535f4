"""Names of ARM microarchitectures by the numbers in /proc/cpuinfo (register MIDR_EL1).

After the tables of Linux (arch/arm64/include/asm/cputype.h) and of util-linux
(sys-utils/lscpu-arm.c), which gather them from the vendors' manuals.
"""

from __future__ import annotations

_ARM = {
    0xB76: "ARM1176",
    0xC05: "Cortex-A5",
    0xC07: "Cortex-A7",
    0xC08: "Cortex-A8",
    0xC09: "Cortex-A9",
    0xC0D: "Cortex-A12",
    0xC0E: "Cortex-A17",
    0xC0F: "Cortex-A15",
    0xD01: "Cortex-A32",
    0xD02: "Cortex-A34",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD06: "Cortex-A65",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD0E: "Cortex-A76AE",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD43: "Cortex-A65AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4A: "Neoverse-E1",
    0xD4B: "Cortex-A78C",
    0xD4C: "Cortex-X1C",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
    0xD83: "Neoverse-V3AE",
    0xD84: "Neoverse-V3",
    0xD85: "Cortex-X925",
    0xD87: "Cortex-A725",
    0xD88: "Cortex-A520AE",
    0xD89: "Cortex-A720AE",
    0xD8A: "C1-Nano",
    0xD8B: "C1-Pro",
    0xD8C: "C1-Ultra",
    0xD8E: "Neoverse-N3",
    0xD8F: "Cortex-A320",
    0xD90: "C1-Premium",
}
_BROADCOM = {0x00F: "Brahma-B15", 0x100: "Brahma-B53", 0x516: "ThunderX2"}
_CAVIUM = {0x0A1: "ThunderX", 0x0A2: "ThunderX", 0x0A3: "ThunderX", 0x0AF: "ThunderX2"}
_FUJITSU = {0x001: "A64FX"}
_HISILICON = {0xD01: "TaiShan-V110", 0xD40: "Cortex-A76"}
_NVIDIA = {0x000: "Denver", 0x003: "Denver-2", 0x004: "Carmel", 0x010: "Olympus"}
_QUALCOMM = {
    0x001: "Oryon",
    0x04D: "Krait",
    0x06F: "Krait",
    0x201: "Kryo",
    0x205: "Kryo",
    0x211: "Kryo",
    0x800: "Kryo-2XX-Gold",
    0x801: "Kryo-2XX-Silver",
    0x802: "Kryo-3XX-Gold",
    0x803: "Kryo-3XX-Silver",
    0x804: "Kryo-4XX-Gold",
    0x805: "Kryo-4XX-Silver",
    0xC00: "Falkor",
}
_SAMSUNG = {0x001: "Exynos-M1", 0x002: "Exynos-M3", 0x003: "Exynos-M4", 0x004: "Exynos-M5"}
_APPLE = {
    0x020: "Icestorm",
    0x021: "Firestorm",
    0x022: "Icestorm",
    0x023: "Firestorm",
    0x024: "Icestorm",
    0x025: "Firestorm",
    0x028: "Icestorm",
    0x029: "Firestorm",
    0x030: "Blizzard",
    0x031: "Avalanche",
    0x032: "Blizzard",
    0x033: "Avalanche",
}
_PHYTIUM = {0x660: "FTC660", 0x661: "FTC661", 0x662: "FTC662", 0x663: "FTC663"}
_AMPERE = {0xAC3: "Ampere-1", 0xAC4: "Ampere-1A"}

ARM_PARTS = {
    (implementer, part): name
    for implementer, parts in (
        (0x41, _ARM),
        (0x42, _BROADCOM),
        (0x43, _CAVIUM),
        (0x46, _FUJITSU),
        (0x48, _HISILICON),
        (0x4E, _NVIDIA),
        (0x51, _QUALCOMM),
        (0x53, _SAMSUNG),
        (0x61, _APPLE),
        (0x70, _PHYTIUM),
        (0xC0, _AMPERE),
    )
    for part, name in parts.items()
}
"""By (implementer, part)."""

LITTLE_CORES = frozenset(
    {
        "Cortex-A7",
        "Cortex-A35",
        "Cortex-A53",
        "Cortex-A55",
        "Cortex-A320",
        "Cortex-A510",
        "Cortex-A520",
        "Cortex-A520AE",
        "C1-Nano",
        "Kryo-2XX-Silver",
        "Kryo-3XX-Silver",
        "Kryo-4XX-Silver",
        "Icestorm",
        "Blizzard",
    }
)
"""Built to save energy beside bigger cores: per clock half as fast as those, or less."""
