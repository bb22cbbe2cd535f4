"""Planning for a device that isn't here: what of the family it can probably afford."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from effnet_edge.engines import ENGINES, positive_int
from effnet_edge.errors import UsageError
from effnet_edge.models.architecture import Family, architecture, phis
from effnet_edge.models.costs import costs
from effnet_edge.ranking import published_top1
from effnet_edge.selection.candidates import thread_counts
from effnet_edge.selection.cost_model import Config, Estimate, LatencyModel, MemoryModel
from effnet_edge.selection.limits import Limits, limits
from effnet_edge.selection.profile import Profile
from effnet_edge.store import command_that_makes
from effnet_edge.tables import counted

Verdict = Literal["yes", "likely", "maybe", "no"]

PRECISIONS = ("int8", "fp32")

SURE, RECOMMENDABLE, AMBITIOUS = 0.95, 0.8, 0.3
"""The chance to fit from which a model is called ``yes``, ``likely`` and ``maybe``."""

_PART_FOR_A_MODEL = 0.5
"""Of a device's whole memory; the rest is for the system and the application."""

# Single predictions scatter around their median, more on a board that does other things too. Taken
# to be log-normal with this deviation, which makes the 95th percentile 1.14 times the median; how
# much a device scatters is itself uncertain, by a half. Profiles' points are means and medians.
_SCATTER = 0.08
_SCATTER_UNCERTAINTY = 0.5


@dataclass(frozen=True)
class PlannedModel:
    """A model and the way of running it that is expected to be fastest on the device.

    ``latency`` is in ms at the percentile asked for, ``memory`` in bytes. ``top1`` is the
    published accuracy in percent of the float network.
    """

    name: str
    title: str
    family: Family
    phi: int
    precision: str
    engine: str
    threads: int
    top1: float | None
    latency: Estimate
    memory: Estimate
    probability: float
    verdict: Verdict

    @property
    def command(self) -> str:
        """What makes the model."""
        command = command_that_makes(self.name)
        assert command is not None  # noqa: S101 - every name here is a released one
        return command


@dataclass(frozen=True)
class Plan:
    """``models`` are the most accurate first.

    ``recommended`` is the most accurate that probably fits, ``ambitious`` a more accurate one
    that may, worth trying on the device itself; None where there is none. ``points`` counts the
    published or measured latencies of the device that the estimates rest on. ``memory_is_half``
    says that nobody limited memory, so that half of the device's is taken.
    """

    profile: Profile
    limits: Limits
    models: tuple[PlannedModel, ...]
    recommended: PlannedModel | None
    ambitious: PlannedModel | None
    points: int
    memory_is_half: bool


def plan(
    profile: Profile,
    budget_ms: float | None,
    memory_mb: float | None = None,
    *,
    percentile: float = 95,
    engine: str | None = None,
    threads: int | None = None,
    precisions: Sequence[str] = PRECISIONS,
) -> Plan:
    """Estimate every released model on the device of ``profile`` against the limits.

    Memory defaults to half of what the device has. ``engine`` and ``threads`` default to what is
    expected to be fastest. Raises UsageError for limits that can't be meant, and for an engine or
    precision that the device can't have.
    """
    asked = limits(budget_ms, memory_mb, percentile, available=None)
    memory_is_half = memory_mb is None and profile.memory_mb is not None
    if memory_mb is None and profile.memory_mb is not None:
        available = int(profile.memory_mb * 2**20 * _PART_FOR_A_MODEL)
        asked = Limits(asked.budget_ms, asked.percentile, available, available)
    engines = _engines(profile, engine)
    for precision in precisions:
        if precision not in ("int8", "fp16", "fp32"):
            raise UsageError(f"there is no precision {precision!r}: choose int8, fp16 or fp32")
    counts = (
        thread_counts(profile.threads) if threads is None else (positive_int("threads", threads),)
    )
    latencies, memories = _models_of(profile)
    configs = [
        _config(family, phi, precision, each, count)
        for family in get_args(Family)
        for phi in phis(family)
        for precision in precisions
        for each in engines
        for count in counts
    ]
    fastest: dict[tuple[str, int, str], tuple[Config, Estimate]] = {}
    for config, latency in zip(configs, latencies.estimates(configs), strict=True):
        key = (config.family, config.phi, config.precision)
        if key not in fastest or latency.median < fastest[key][1].median:
            fastest[key] = (config, latency)
    chosen = [config for config, _ in fastest.values()]
    tail = scatter(asked.percentile)
    models = [
        _planned(config, latency.times(tail), memory, asked)
        for (config, latency), memory in zip(
            fastest.values(), memories.estimates(chosen), strict=True
        )
    ]
    models.sort(key=_merit, reverse=True)
    recommended = _first(models, RECOMMENDABLE)
    ambitious = _first(models, AMBITIOUS)
    return Plan(
        profile,
        asked,
        tuple(models),
        recommended,
        None if ambitious == recommended else ambitious,
        len(profile.points),
        memory_is_half,
    )


def scatter(percentile: float) -> Estimate:
    """How a percentile of single predictions compares with their median."""
    from statistics import NormalDist

    # The extremes have no finite value: of many runs the slowest is about the 99.9th percentile.
    share = min(max(percentile / 100, 0.001), 0.999)
    log = NormalDist().inv_cdf(share) * _SCATTER
    return Estimate(math.exp(log), abs(log) * _SCATTER_UNCERTAINTY)


def header(asked: Plan) -> tuple[str, ...]:
    """The columns of `rows`."""
    latency = f"p{asked.limits.percentile:g} ms"
    return ("model", "top-1 %", "engine", "threads", latency, "90 % interval", "memory", "fits")


def rows(asked: Plan) -> list[tuple[str, ...]]:
    """The plan for `effnet_edge.cli.output.table`, the most accurate model first."""
    return [
        (
            model.name,
            "" if model.top1 is None else f"{model.top1:.1f}",
            model.engine,
            str(model.threads),
            _milliseconds(model.latency.median),
            " to ".join(_milliseconds(end) for end in model.latency.interval()),
            f"{model.memory.median / 1e6:.0f} MB",
            f"{model.verdict} ({_percent(model.probability)})",
        )
        for model in asked.models
    ]


def summary(asked: Plan) -> list[str]:
    """What a person should do, in a few lines."""
    lines = []
    if asked.recommended is not None:
        lines.append(_advice("Take", asked.recommended))
    if asked.ambitious is not None:
        lines.append(_advice("Try" if asked.recommended is None else "Or try", asked.ambitious))
    if not lines:
        lines.append("Nothing of the family probably fits: allow more, or use a faster device.")
    if asked.memory_is_half:
        lines.append("Memory is taken to be half of the device's; --memory-mb says otherwise.")
    if asked.points:
        count = f"{asked.points} latencies measured" if asked.points > 1 else "one latency measured"
        lines.append(f"From the device's facts and {count} on it (of these or other engines).")
    else:
        lines.append("From the device's facts alone: no latency of it is known.")
    lines.append("'effnet-edge bench --save-profile NAME' on the device itself makes this exact.")
    return lines


def device_rows(known: Sequence[Profile]) -> list[tuple[str, ...]]:
    """Profiles for a table: name, what it is, its cores, and how many latencies are known."""
    return [
        (
            profile.name,
            profile.title,
            ", ".join(
                f"{(cores.name or cores.kind).removeprefix('Cortex-')} {cores.mhz / 1000:.1f} GHz "
                f"({cores.count})"
                for cores in profile.cores
            ),
            str(len(profile.points)),
        )
        for profile in known
    ]


def to_json(asked: Plan) -> dict[str, Any]:
    """The plan as plain data."""

    def plain(model: PlannedModel | None) -> dict[str, Any] | None:
        if model is None:
            return None
        low, high = model.latency.interval()
        small, large = model.memory.interval()
        data = asdict(model)
        del data["latency"], data["memory"]
        return {
            **data,
            "latency_ms": {"median": model.latency.median, "low": low, "high": high},
            "memory_bytes": {"median": model.memory.median, "low": small, "high": large},
            "command": model.command,
        }

    return {
        "device": asked.profile.name,
        "title": asked.profile.title,
        "budget_ms": asked.limits.budget_ms,
        "percentile": asked.limits.percentile,
        "memory_bytes": asked.limits.memory_bytes,
        "points": asked.points,
        "recommended": plain(asked.recommended),
        "ambitious": plain(asked.ambitious),
        "models": [plain(model) for model in asked.models],
    }


def _models_of(profile: Profile) -> tuple[LatencyModel, MemoryModel]:
    latencies, memories = LatencyModel(profile.speed), MemoryModel()
    for point in profile.points:
        latencies.observe(
            point.config,
            point.ms,
            inference_only=point.covers == "inference",
            spread=point.spread,
        )
        if point.peak_bytes is not None:
            memories.observe(point.config, point.peak_bytes)
    return latencies, memories


def _engines(profile: Profile, asked: str | None) -> tuple[str, ...]:
    if asked is None:
        return profile.engines
    if asked not in ENGINES:
        raise UsageError(f"there is no engine {asked!r}: choose one of {', '.join(ENGINES)}")
    if asked not in profile.engines:
        raise UsageError(
            f"{asked} isn't what one would run on {profile.title} ({profile.bits} bits): "
            f"leave the engine out, or take {' or '.join(profile.engines)}"
        )
    return (asked,)


def _config(family: Family, phi: int, precision: str, engine: str, threads: int) -> Config:
    arch = architecture(phi, family)
    size = costs(arch)
    return Config(
        family=family,
        phi=phi,
        resolution=(arch.resolution, arch.resolution),
        precision=precision,
        engine=engine,
        threads=threads,
        macs=size.macs,
        parameters=size.parameters,
    )


def _planned(config: Config, latency: Estimate, memory: Estimate, asked: Limits) -> PlannedModel:
    family: Family = "lite" if config.family == "lite" else "standard"
    arch = architecture(config.phi, family)
    probability = 1.0
    if asked.budget_ms is not None:
        probability *= latency.probability_at_most(asked.budget_ms)
    if asked.memory_bytes is not None:
        probability *= memory.probability_at_most(asked.memory_bytes)
    return PlannedModel(
        name=f"{arch.name}-{config.precision}",
        title=arch.title,
        family=family,
        phi=config.phi,
        precision=config.precision,
        engine=config.engine,
        threads=config.threads,
        top1=published_top1(family, config.phi),
        latency=latency,
        memory=memory,
        probability=probability,
        verdict=_verdict(probability),
    )


def _verdict(probability: float) -> Verdict:
    if probability >= SURE:
        return "yes"
    if probability >= RECOMMENDABLE:
        return "likely"
    return "maybe" if probability >= AMBITIOUS else "no"


def _merit(model: PlannedModel) -> tuple[float, int, int, str]:
    """The order in which `effnet_edge.ranking.merit` would put them."""
    finest = {"fp32": 2, "fp16": 1}.get(model.precision, 0)
    return model.top1 or 0.0, model.phi, finest, model.name


def _first(models: Sequence[PlannedModel], chance: float) -> PlannedModel | None:
    return next((model for model in models if model.probability >= chance), None)


def _advice(verb: str, model: PlannedModel) -> str:
    low, high = model.latency.interval()
    return (
        f"{verb} {model.name} on {model.engine} with {counted(model.threads, 'thread')}: about "
        f"{_milliseconds(model.latency.median)} ms ({_milliseconds(low)} to "
        f"{_milliseconds(high)}), fits with {_percent(model.probability)}. Make it: {model.command}"
    )


def _milliseconds(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _percent(probability: float) -> str:
    if probability > 0.99:
        return "> 99 %"
    return "< 1 %" if probability < 0.01 else f"{probability:.0%}".replace("%", " %")
