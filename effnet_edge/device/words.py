"""The word size of the programs that run here."""

from __future__ import annotations

import sys
from pathlib import Path

from effnet_edge.device.files import chunks, is_this_machine


def user_bits(root: Path) -> int | None:
    """Return the word size of this Python: 32 bits on a 64-bit kernel is common on boards."""
    if is_this_machine(root):
        return 64 if sys.maxsize > 1 << 32 else 32
    # EI_CLASS, the fifth byte of an ELF file (System V ABI, chapter 4).
    head = next(chunks(root, "proc/self/exe"), "")[:5]
    return {"\x7fELF\x01": 32, "\x7fELF\x02": 64}.get(head)
