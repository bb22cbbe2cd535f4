"""How the commands speak: tables and JSON on stdout, progress and notes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Align columns; a column whose every cell starts like a number is right-aligned."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    numeric = [
        bool(rows) and all(row[column][:1].isdigit() or row[column] in ("", "-") for row in rows)
        for column in range(len(header))
    ]
    lines = [
        indent
        + "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, indent + "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def print_json(data: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(data, indent=2))


def note(message: str) -> None:
    """Tell the person at the terminal something that a pipe must not get."""
    print(message, file=sys.stderr)


def megabytes(size: int) -> str:
    """Format bytes as MB (10^6)."""
    return f"{size / 1e6:.1f} MB"


def millions(count: int) -> str:
    """Format a count in units of 10^6."""
    return f"{count / 1e6:.2f} M"


def mac_count(macs: int) -> str:
    """Format multiply-accumulates in units of 10^9."""
    return f"{macs / 1e9:.2f} G"


def image_size(size: Sequence[int]) -> str:
    """Format (height, width) as people write image sizes."""
    height, width = size
    return f"{height} x {width}"
