"""Memory that this process may still take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from effnet_edge.device.files import ROOT, read, read_int, to_int
from effnet_edge.device.limits import groups

_UNLIMITED = 1 << 60
"""Bytes. Version 1 writes no limit as the largest number of whole pages, about 2^63."""


class MemoryLimit(NamedTuple):
    """The tightest limit and how much of it, or of another one, is left: bytes."""

    limit: int | None
    left: int | None


@dataclass(frozen=True)
class Memory:
    """Bytes: of the device, still free for this process, and the tightest limit of its groups."""

    total: int | None
    available: int | None
    limit: int | None


def memory(root: Path) -> Memory:
    """Return what /proc/meminfo and the control groups say.

    Swap isn't counted: a network reads all its weights for every image, so that one which is
    swapped out takes seconds for each, and wears out an SD card. Compressed swap in memory (zram)
    is no more room, since weights hardly compress.
    """
    sizes: dict[str, int] = {}
    for line in (read(root, "proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        value = to_int(rest.split()[0]) if rest.split() else None
        if value is not None and value >= 0:
            sizes[name] = value * 1024
    free = sizes.get("MemAvailable")
    if free is None and "MemFree" in sizes:  # before Linux 3.14
        cache = sizes.get("Cached", 0) + sizes.get("Buffers", 0) - sizes.get("Shmem", 0)
        free = sizes["MemFree"] + max(0, cache)
    limit, left = memory_limit(root)
    known = [size for size in (free, left) if size is not None]
    return Memory(sizes.get("MemTotal"), min(known, default=None), limit)


def available_memory(root: Path = ROOT) -> int | None:
    """Return the bytes that this process may still take, or None where that isn't known."""
    return memory(root).available


def memory_limit(root: Path) -> MemoryLimit:
    """Return the memory limits of the control groups. File cache counts as free: it makes room."""
    limits, rests = [], []
    for folder, version in groups(root, "memory"):
        if version == 2:
            # Above `high` the kernel lets no process fail, but slows it down to a crawl.
            values = [read_int(root, f"{folder}/memory.{name}") for name in ("max", "high")]
            used = read_int(root, f"{folder}/memory.current")
            prefix = ""
        else:
            values = [read_int(root, f"{folder}/memory.limit_in_bytes")]
            used = read_int(root, f"{folder}/memory.usage_in_bytes")
            prefix = "total_"
        known = [value for value in values if value is not None and 0 <= value < _UNLIMITED]
        if known:
            limit = min(known)
            limits.append(limit)
            cache = _file_cache(read(root, f"{folder}/memory.stat") or "", prefix)
            rests.append(max(0, min(limit, limit - (used or 0) + cache)))
    return MemoryLimit(min(limits, default=None), min(rests, default=None))


def _file_cache(stat: str, prefix: str) -> int:
    """Bytes of file pages in memory.stat, of the group and those below it."""
    wanted = (f"{prefix}inactive_file", f"{prefix}active_file")
    pairs = (line.split() for line in stat.splitlines())
    return sum(max(0, to_int(pair[1]) or 0) for pair in pairs if pair[1:] and pair[0] in wanted)
