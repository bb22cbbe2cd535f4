"""A device profile: published or measured facts of a device, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from effnet_edge.models.architecture import architecture
from effnet_edge.models.costs import costs
from effnet_edge.selection.cost_model import Config
from effnet_edge.selection.speed import CoreClass, Speed
from effnet_edge.selection.work import (
    MOBILENET_V2_MACS,
    MOBILENET_V2_PARAMETERS,
    KnownFamily,
)

Covers = Literal["inference", "predict"]


@dataclass(frozen=True)
class Source:
    """Where facts come from; ``seen`` is the day they were read there (YYYY-MM-DD)."""

    title: str
    url: str | None
    seen: str


@dataclass(frozen=True)
class Cores:
    """Equal cores: their number, top clock in MHz, what they are called, and their kind (one of
    `effnet_edge.selection.speed.KINDS`)."""

    count: int
    mhz: float
    name: str | None
    kind: str


@dataclass(frozen=True)
class Point:
    """One measured latency.

    ``covers`` says of what: the engine's ``inference`` alone, or all of ``predict``, from a decoded
    image to labels. ``spread`` is how uncertain it is (standard deviation of the logarithm), and
    ``uncertainty`` says why. ``source`` is a key of the profile's sources. ``macs`` and
    ``parameters`` are None for a released network with 1000 classes. ``peak_bytes`` is the growth
    of resident memory.
    """

    family: KnownFamily
    phi: int
    resolution: tuple[int, int]
    precision: str
    engine: str
    threads: int
    ms: float
    covers: Covers
    source: str
    uncertainty: str
    spread: float
    macs: int | None = None
    parameters: int | None = None
    peak_bytes: int | None = None

    @property
    def config(self) -> Config:
        """The point's network and way of running, as the cost model names them."""
        macs, parameters = _size(self.family, self.phi, self.resolution)
        return Config(
            family=self.family,
            phi=self.phi,
            resolution=self.resolution,
            precision=self.precision,
            engine=self.engine,
            threads=self.threads,
            macs=macs if self.macs is None else self.macs,
            parameters=parameters if self.parameters is None else self.parameters,
        )


@dataclass(frozen=True)
class Profile:
    """What is known of a device.

    ``architecture`` is the kernel's name (``aarch64``), ``bits`` those of its user space.
    ``memory_mb`` is its memory in 2^20 bytes, of the smallest variant; ``bandwidth_gb_s`` what
    copying memory reaches (10^9 bytes copied a second); ``cache_mb`` what of second and third
    level cache one core reaches (2^20 bytes). ``fact_sources`` has for each fact the key of its
    source.
    """

    name: str
    title: str
    architecture: str
    bits: int
    cores: tuple[Cores, ...]
    sources: Mapping[str, Source]
    fact_sources: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    memory_mb: float | None = None
    bandwidth_gb_s: float | None = None
    cache_mb: float | None = None
    points: tuple[Point, ...] = field(default=())
    note: str | None = None

    @property
    def speed(self) -> Speed:
        """The facts as the cost model takes them."""
        classes = sorted(
            (CoreClass(cores.count, cores.mhz, cores.kind) for cores in self.cores),
            key=lambda each: each.speed,
            reverse=True,
        )
        return Speed(
            cores=tuple(classes),
            bandwidth_gb_s=self.bandwidth_gb_s,
            cache_mb=self.cache_mb,
            known=all(cores.kind != "unknown" for cores in self.cores),
        )

    @property
    def threads(self) -> int:
        """How many threads an engine should take: one for each fast core."""
        lead = self.speed.cores[0].speed
        return sum(cores.count for cores in self.speed.cores if cores.speed >= lead / 2)

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that have packages for its user space."""
        return ("onnxruntime", "litert") if self.bits == 64 else ("tflite-runtime",)


def _size(family: KnownFamily, phi: int, resolution: tuple[int, int]) -> tuple[int, int]:
    if family == "mobilenet-v2":
        return MOBILENET_V2_MACS, MOBILENET_V2_PARAMETERS
    counted = costs(architecture(phi, family), resolution)
    return counted.macs, counted.parameters
