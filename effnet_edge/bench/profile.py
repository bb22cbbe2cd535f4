"""A session as a measured device profile, for planning on another machine."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_edge.bench.results import Cell, Session
from effnet_edge.bench.statistics import round_medians
from effnet_edge.errors import BenchmarkError

if TYPE_CHECKING:
    from effnet_edge.models.architecture import Family
    from effnet_edge.selection.profile import Point

_FAMILIES: dict[str, Family] = {"standard": "standard", "lite": "lite"}
_LEAST_SPREAD = 0.02
"""What two days differ by, as the standard deviation of a latency's logarithm: rounds of one
session agree better than that without being truer."""
_SPREAD_OF_ONE_ROUND = 0.1


def save_profile(target: str, session: Session) -> Path:
    """Write the profile of this device with what ``session`` measured on it; return its path.

    ``target`` is a name for the user's own profiles, or a file. Raises BenchmarkError if no cell
    is of the EfficientNet families, UsageError for an unusable name, and StoreError.
    """
    from effnet_edge import device
    from effnet_edge.selection.profiles import profile_from_measurements, write_profile

    points = measured_points(session)
    if not points:
        raise BenchmarkError(
            "a device's profile needs a measured model of the EfficientNet families, and there "
            "is none"
        )
    profile = profile_from_measurements(
        target,
        device.inspect(),
        points,
        version=session.tool.removeprefix("effnet-edge "),
        day=session.started[:10],
    )
    return write_profile(profile, target)


def measured_points(session: Session) -> tuple[Point, ...]:
    """The cells that a cost model can learn from: p50 of the whole prediction, and memory."""
    found = [_point(cell) for cell in session.measured]
    return tuple(point for point in found if point is not None)


def _point(cell: Cell) -> Point | None:
    from effnet_edge.models.architecture import phis
    from effnet_edge.selection.profile import Point

    model, summary = cell.model, cell.summary
    if model is None or summary is None or cell.threads is None:
        return None
    family = _FAMILIES.get(model.family)
    if family is None or model.phi not in phis(family):
        return None
    logs = [math.log(median) for median in round_medians(cell.rounds)]
    spread = statistics.stdev(logs) if len(logs) > 1 else _SPREAD_OF_ONE_ROUND
    slowed = f", while throttled ({', '.join(cell.throttling)})" if cell.throttling else ""
    return Point(
        family=family,
        phi=model.phi,
        resolution=model.resolution,
        precision=model.precision,
        engine=cell.engine,
        threads=cell.threads,
        ms=round(summary.p50, 3),
        covers="predict",
        source="measured",
        uncertainty=f"p50 of {summary.runs} runs in {len(cell.rounds)} rounds{slowed}",
        spread=round(max(_LEAST_SPREAD, min(spread, 2.0)), 3),
        macs=model.macs,
        parameters=model.parameters,
        peak_bytes=summary.peak_bytes,
    )
