"""What ``effnet-edge convert --report`` prints and writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_edge.cli.output import table
from effnet_edge.errors import UsageError
from effnet_edge.files import atomic_write

if TYPE_CHECKING:
    from effnet_edge.converters.quantization_report import PartReport, QuantizationReport

REPORT_SUFFIXES = (".json", ".svg")

_BAR_WIDTH = 24


def check_report_path(path: Path) -> None:
    """Raise UsageError if `save_report` could not tell the format from the file's name."""
    if path.suffix.lower() not in REPORT_SUFFIXES:
        raise UsageError(
            f"--report writes {' or '.join(REPORT_SUFFIXES)}, and {str(path)!r} is neither: name "
            "the file so, or leave it out to see the report here"
        )


def save_report(report: QuantizationReport, path: Path, title: str) -> None:
    """Write the report as JSON or SVG, by the ending of ``path``, whole or not at all.

    ``title`` says which model it is about. Raises UsageError for another ending, StoreError if
    the file can't be written.
    """
    check_report_path(path)
    if path.suffix.lower() == ".json":
        data = {"model": title, **report.to_json()}
        text = json.dumps(data, indent=2, allow_nan=False) + "\n"
    else:
        from effnet_edge.converters.quantization_plot import plot_svg

        text = plot_svg(report, f"{title}: what quantization cost")
    atomic_write(path, text.encode("utf-8", "replace"))


def report_lines(report: QuantizationReport) -> str:
    """The report as text: a table of the parts, the worst of them, the whole model."""
    from effnet_edge.converters.quantization_report import decibel_text, whole_model_text

    worst = report.worst()
    finite = [part.own_snr_db for part in report.parts if math.isfinite(part.own_snr_db)]
    longest = max([1.0, *finite])
    header = ("part", "own SNR", "accumulated", "own SNR, dB", "")
    rows = [
        (
            part.name,
            decibel_text(part.own_snr_db).rjust(len(header[1])),
            decibel_text(part.snr_db).rjust(len(header[2])),
            _bar(part.own_snr_db, longest),
            ", ".join((*(("worst",) if part in worst else ()), *part.notes)),
        )
        for part in report.parts
    ]
    lines = [table(header, rows)]
    lines.append("")
    if worst:
        lines.append(f"most noise of their own: {', '.join(_named(part) for part in worst)}")
    lines.append(whole_model_text(report))
    return "\n".join(lines)


def _named(part: PartReport) -> str:
    from effnet_edge.converters.quantization_report import decibel_text

    unit = " dB" if math.isfinite(part.own_snr_db) else ""
    return f"{part.name} ({decibel_text(part.own_snr_db)}{unit})"


def _bar(value: float, longest: float) -> str:
    if math.isnan(value):
        return ""
    return "#" * round(_BAR_WIDTH * min(max(value / longest, 0.0), 1.0))
