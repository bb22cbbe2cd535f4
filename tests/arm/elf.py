"""Where the functions of an ELF file are, and where the file is in memory."""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab import need, run

_LOAD = 1
_EXECUTABLE = 1
_EH_FRAME_HDR = 0x6474E550
_PAGE = 0x1000


@dataclass(frozen=True)
class _Segment:
    kind: int
    flags: int
    offset: int
    address: int
    size: int


class ElfFile:
    """A 64-bit little-endian ELF file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = path.read_bytes()
        if self._bytes[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a 64-bit little-endian ELF file")
        (table,) = struct.unpack_from("<Q", self._bytes, 32)
        size, count = struct.unpack_from("<HH", self._bytes, 54)
        self._segments = []
        for index in range(count):
            kind, flags, offset, address, _, length = struct.unpack_from(
                "<IIQQQQ", self._bytes, table + index * size
            )
            self._segments.append(_Segment(kind, flags, offset, address, length))

    def address(self, offset: int) -> int:
        """The address, in the file's own terms, of the code at an offset of the file."""
        for segment in self._segments:
            start = segment.offset // _PAGE * _PAGE
            code = segment.kind == _LOAD and segment.flags & _EXECUTABLE
            if code and start <= offset < segment.offset + segment.size:
                return segment.address + offset - segment.offset
        raise ValueError(f"{self.path}: no code is loaded from offset {offset:#x}")

    def function(self, address: int) -> str:
        """The name of the function at an address: its symbol, or the address where it begins."""
        symbols, names = self._symbols
        index = bisect_right(symbols, (address, 1 << 64)) - 1
        if index >= 0 and address < symbols[index][1]:
            return names[index]
        starts = self._unwinding_starts
        index = bisect_right(starts, address) - 1
        return f"{self.path.name}+{starts[index] if index >= 0 else address:#x}"

    @cached_property
    def _symbols(self) -> tuple[list[tuple[int, int]], list[str]]:
        """(begin, end) and name of each function that has a symbol, in order."""
        need("llvm-nm-19")
        found: dict[tuple[int, int], str] = {}
        reader = ["llvm-nm-19", "--demangle", "--defined-only", "--print-size", str(self.path)]
        for table in ((), ("--dynamic",)):
            answer = run([*reader, *table])
            for line in answer.stdout.splitlines():
                begin, size, kind, name = [*line.split(" ", 3), "", "", ""][:4]
                if kind in ("T", "t", "W", "w", "i") and int(size, 16):
                    span = (int(begin, 16), int(begin, 16) + int(size, 16))
                    found.setdefault(span, name.replace("(anonymous namespace)::", ""))
        ordered = sorted(found.items())
        return [span for span, _ in ordered], [name for _, name in ordered]

    @cached_property
    def _unwinding_starts(self) -> list[int]:
        """Where functions begin by .eh_frame_hdr, which stripped files have too.

        Read in the one form that linkers write: a count, and pairs of offsets from the header.
        """
        for segment in self._segments:
            if segment.kind == _EH_FRAME_HDR:
                version, _, count_form, table_form = self._bytes[
                    segment.offset : segment.offset + 4
                ]
                if (version, count_form, table_form) != (1, 0x03, 0x3B):
                    return []
                (count,) = struct.unpack_from("<I", self._bytes, segment.offset + 8)
                pairs = struct.unpack_from(f"<{2 * count}i", self._bytes, segment.offset + 12)
                return sorted(segment.address + start for start in pairs[::2])
        return []
