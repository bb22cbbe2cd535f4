"""Reading the small files of /proc and /sys, any of which may be missing, odd or forbidden.

A caller gets None, or nothing, for what can't be read: what a device doesn't tell is no error.
``root`` is ``/``, or a folder that holds a copy of another device's files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")

_CHUNK = 1 << 16
_MOST = 1 << 22
"""Bytes: /proc/cpuinfo of 512 processors has a million; nothing read here has more."""
_MOST_CPUS = 8192
"""The largest NR_CPUS that a kernel is built for; a list that names more is damaged."""


def is_this_machine(root: Path) -> bool:
    """Whether ``root`` is this machine's and not a recorded one."""
    return root == ROOT


def read(root: Path, path: str) -> str | None:
    """Return the text of ``path`` below ``root`` without white space around it."""
    return "".join(chunks(root, path)).strip() or None


def chunks(root: Path, path: str) -> Iterator[str]:
    """Yield the text in pieces; the kernel writes these files while they are read.

    A caller that has found what it wants spares the kernel the rest.
    """
    # Bare system calls: a text file object costs as much as all else that is done with the text.
    with suppress(OSError, ValueError):  # ValueError: a NUL in a damaged path
        descriptor = os.open(_join(root, path), os.O_RDONLY)
        try:
            left = _MOST
            while left > 0 and (data := os.read(descriptor, _CHUNK)):
                left -= len(data)
                yield data.decode("utf-8", "replace")
        finally:
            os.close(descriptor)


def read_int(root: Path, path: str, base: int = 10) -> int | None:
    """Return the whole number that ``path`` holds."""
    return to_int(read(root, path), base)


def to_int(text: str | None, base: int = 10) -> int | None:
    """Return ``text`` as a whole number, or None."""
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


def names(root: Path, folder: str, pattern: str) -> list[str]:
    """Return what of ``folder`` matches ``pattern`` whole, ``cpu2`` before ``cpu10``."""
    try:
        with os.scandir(_join(root, folder)) as entries:
            found = [entry.name for entry in entries if re.fullmatch(pattern, entry.name)]
    except (OSError, ValueError):
        return []
    return sorted(found, key=_natural)


def _join(root: Path, path: str) -> str:
    # Not str(root): on Windows a backslash before "/proc" would ask the network for a server.
    return f"{root.as_posix().rstrip('/')}/{path}"


def _natural(name: str) -> tuple[str, int, str]:
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :][-18:]
    return stem, int(digits) if digits.isascii() and digits else -1, name


def parse_cpu_list(text: str | None) -> tuple[int, ...]:
    """Return the numbers in the kernel's list format, ``0-3,8,10-11``; none if it is damaged."""
    found: set[int] = set()
    for part in (text or "").replace("\n", ",").split(","):
        first, dash, last = part.strip().partition("-")
        if not first and not dash:
            continue
        start, end = to_int(first), to_int(last if dash else first)
        if start is None or end is None or not 0 <= start <= end < _MOST_CPUS:
            return ()
        found.update(range(start, end + 1))
    return tuple(sorted(found))


def format_cpu_list(cpus: tuple[int, ...]) -> str:
    """Return CPU numbers the way the kernel writes them: ``0-3,8``."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
