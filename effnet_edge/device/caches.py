"""The processor's caches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from effnet_edge.device.cpus import CPU
from effnet_edge.device.files import names, parse_cpu_list, read, read_int, to_int

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Cache:
    """One cache: ``kind`` is data, instruction or unified; ``cpus`` share its ``size`` bytes."""

    level: int
    kind: str
    size: int
    cpus: tuple[int, ...]


def caches(root: Path, cpus: tuple[int, ...]) -> tuple[Cache, ...]:
    """Return every cache of the CPUs once; none where the kernel doesn't know their sizes."""
    found: dict[Cache, None] = {}
    for cpu in cpus:
        folder = f"{CPU}/cpu{cpu}/cache"
        for name in names(root, folder, "index[0-9]+"):
            level = read_int(root, f"{folder}/{name}/level")
            size = _bytes(read(root, f"{folder}/{name}/size"))
            kind = (read(root, f"{folder}/{name}/type") or "unified").lower()
            shared = parse_cpu_list(read(root, f"{folder}/{name}/shared_cpu_list")) or (cpu,)
            if level is not None and size:
                found[Cache(level, kind, size, shared)] = None
    return tuple(sorted(found, key=lambda cache: (cache.level, cache.kind, cache.cpus)))


def _bytes(text: str | None) -> int | None:
    if text and text[-1] in _UNITS:
        number = to_int(text[:-1])
        return None if number is None else number * _UNITS[text[-1]]
    return to_int(text)
