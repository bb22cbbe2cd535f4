"""/proc/cpuinfo: what the kernel says of each processor that is online."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from effnet_edge.device.arm_parts import ARM_PARTS
from effnet_edge.device.files import chunks, read, to_int

Record = Mapping[str, str]

_IDENTITY = ("CPU implementer", "CPU part", "vendor_id")
"""CPUs with one of these, and all of them alike, are of one name."""


class Processors:
    """``records`` by CPU number; ``general`` is what stands outside of them, on ARM the board's.

    Kernels before Linux 3.8 name the CPU of 32-bit ARM once, outside.
    """

    # Not a dataclass: making one takes longer than reading the file, on the way to every model.
    def __init__(self, records: Mapping[int, Record], general: Record) -> None:
        self.records = records
        self.general = general

    def field(self, cpu: int, name: str) -> str | None:
        """Return a field of one CPU's record, or else the common one."""
        return self.records.get(cpu, {}).get(name) or self.general.get(name)


def processors(root: Path, *, brief: bool = False) -> Processors:
    """Parse /proc/cpuinfo; nothing is found where it can't be read.

    ``brief`` takes the first record of an x86 for all. They differ in clocks only, and the kernel
    asks every one of 128 processors for its clock while they are read. On ARM they are cheap, and
    tell the big cores from the little ones.
    """
    text = ""
    first_only = False
    for chunk in chunks(root, "proc/cpuinfo"):
        text += chunk
        first_only = brief and "vendor_id" in text and "\n\n" in text
        if first_only:
            text = text.partition("\n\n")[0]
            break
    records: dict[int, Record] = {}
    general: dict[str, str] = {}
    current = general
    for line in text.splitlines():
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            current = general
            continue
        number = to_int(value) if name == "processor" else None
        if number is not None:
            current = {}
            records[number] = current
        else:
            current.setdefault(name, value)
    if first_only and records:
        return Processors(records, next(iter(records.values())))
    return Processors(records, general)


def cpu_names(root: Path, found: Processors, cpus: tuple[int, ...]) -> dict[int, str | None]:
    """Return the microarchitecture of each CPU on ARM (``Cortex-A76``), the model elsewhere.

    An ARM CPU without a known number is named by its numbers, ``ARM 0x41:0xd99``.
    """
    names: dict[int, str | None] = {}
    known: dict[tuple[str | None, ...], str | None] = {}
    for cpu in cpus:
        alike = tuple(found.field(cpu, name) for name in _IDENTITY)
        if alike not in known:
            names[cpu] = _cpu_name(root, found, cpu)
            if any(alike):
                known[alike] = names[cpu]
        else:
            names[cpu] = known[alike]
    return names


def _cpu_name(root: Path, found: Processors, cpu: int) -> str | None:
    implementer = to_int(found.field(cpu, "CPU implementer"), 0)
    part = to_int(found.field(cpu, "CPU part"), 0)
    if implementer is None or part is None:
        # A hypervisor or Android may leave them out; the register says the same.
        path = f"sys/devices/system/cpu/cpu{cpu}/regs/identification/midr_el1"
        register = None if found.field(cpu, "vendor_id") else to_int(read(root, path), 0)
        if register is not None:
            implementer, part = register >> 24 & 0xFF, register >> 4 & 0xFFF
    if implementer is not None and part is not None:
        return ARM_PARTS.get((implementer, part)) or f"ARM {implementer:#x}:{part:#x}"
    for field in ("model name", "uarch", "cpu model", "cpu", "Processor"):
        name = found.field(cpu, field)
        if name:
            return " ".join(name.replace("(R)", "").replace("(TM)", "").split())
    return None
