"""How the commands speak: tables and JSON on stdout, progress and notes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from effnet_edge.tables import table as table  # part of this interface too


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
