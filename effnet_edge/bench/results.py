"""What a benchmark found, as plain data: one session on one device, many cells, raw latencies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from effnet_edge.bench.statistics import Summary, summarise
from effnet_edge.metadata import UNPRINTABLE
from effnet_edge.models.architecture import Family, model_name

MOST_LATENCIES = 10_000
"""So many of a round are kept: enough for every percentile, small enough to mail."""
MOST_ROUNDS = 1000
"""Of a cell."""
MOST_TEXT = 4000
"""Characters of any one text: an engine's last words can be long."""
LEAST_LATENCY_MS = 0.001
"""The last place of a latency in a document; a prediction takes longer."""

_PREFIXES: dict[Family, str] = {"standard": "B", "lite": "Lite"}


@dataclass(frozen=True)
class ModelFacts:
    """What a report needs to know of a model.

    ``resolution`` is (height, width) in pixels, ``sha256`` the file's seal. ``top1`` in percent of
    ImageNet is published for its weights in float32; ``usual_top1`` for the usual weights of its
    network. ``faithful`` is False for a quantized model that doesn't follow its float network well
    enough to share its accuracy, see `effnet_edge.ranking.is_faithful`.
    """

    name: str
    family: str
    phi: int
    precision: str
    resolution: tuple[int, int]
    classes: int
    parameters: int
    macs: int
    top1: float | None
    usual_top1: float | None
    weights: str
    file: str
    size: int
    sha256: str | None
    faithful: bool

    @property
    def accuracy(self) -> float | None:
        """Its published top-1, or else that of its network: weights of one's own have none.

        None for a model that isn't faithful: nobody knows how much it lost.
        """
        if not self.faithful:
            return None
        return self.usual_top1 if self.top1 is None else self.top1

    @property
    def title(self) -> str:
        """Short, for charts: ``B2 int8``; the name where the model isn't one of the family's."""
        for family, prefix in _PREFIXES.items():
            released = f"{model_name(family, self.phi)}-{self.precision}"
            if (self.family, self.name) == (family, released):
                return f"{prefix}{self.phi} {self.precision}"
        return self.name


@dataclass(frozen=True)
class Conditions:
    """The device at one moment, ``seconds`` after the first measured run; what it doesn't tell
    is None or empty. ``throttling`` says in words what slows the processor down then."""

    seconds: float
    temperature_c: float | None = None
    frequencies_mhz: tuple[int, ...] = ()
    throttling: tuple[str, ...] = ()

    @property
    def fastest_mhz(self) -> int | None:
        """The clock of the fastest core."""
        return max(self.frequencies_mhz, default=None)


@dataclass(frozen=True)
class Round:
    """One measurement of a cell in a fresh process, see `effnet_edge.measurement.Measurement`.

    ``runs``, ``min_ms``, ``max_ms`` and ``mean_ms`` are of all runs; of more than
    `MOST_LATENCIES`, evenly many are kept in the sequences, which belong together by index.
    ``started_s`` begins with 0 and grows. ``conditions`` are in order: before loading, while
    running, after. ``throttling`` says in words what slowed the processor down at any time from the
    first to the last of them.
    """

    runs: int
    min_ms: float
    max_ms: float
    mean_ms: float
    latencies_ms: tuple[float, ...]
    preprocessing_ms: tuple[float, ...]
    inference_ms: tuple[float, ...]
    started_s: tuple[float, ...]
    load_ms: float
    peak_bytes: int
    warmup_runs: int
    conditions: tuple[Conditions, ...]
    throttling: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One model on one engine with one number of threads, and its rounds.

    ``error`` says why it could not be measured, or not in every round; ``reason`` classes it:
    ``missing`` (file or engine), or as in `effnet_edge.measurement.MeasurementError`. Then
    ``model`` may be None.
    """

    name: str
    engine: str
    threads: int | None
    model: ModelFacts | None
    rounds: tuple[Round, ...] = ()
    error: str | None = None
    reason: str | None = None

    @property
    def key(self) -> tuple[str, str, int | None]:
        """What makes it the same cell in another session."""
        return self.name, self.engine, self.threads

    @property
    def title(self) -> str:
        """Short, for charts: the model's title."""
        return self.name if self.model is None else self.model.title

    @cached_property
    def summary(self) -> Summary | None:
        """The figures of all rounds together; None if there is no round."""
        return summarise(self.rounds) if self.rounds else None

    @property
    def accuracy(self) -> float | None:
        """See `ModelFacts.accuracy`."""
        return None if self.model is None else self.model.accuracy

    @property
    def accuracy_is_borrowed(self) -> bool:
        """Whether the accuracy is that of other weights of the same network."""
        return self.model is not None and self.model.top1 is None and self.accuracy is not None

    @property
    def ends(self) -> tuple[Conditions, Conditions] | None:
        """The device before the first round and after the last; None if there is no round."""
        if not self.rounds:
            return None
        return self.rounds[0].conditions[0], self.rounds[-1].conditions[-1]

    @property
    def throttling(self) -> tuple[str, ...]:
        """What slowed the processor down while this cell was measured."""
        return tuple(dict.fromkeys(word for each in self.rounds for word in each.throttling))


@dataclass(frozen=True)
class Session:
    """One benchmark on one device.

    ``board`` is its short name; ``facts`` describe it in words, ``device`` as data.
    ``environment`` has the versions of what ran. ``settings`` are how it was measured. The times
    are UTC, ISO 8601. ``complete`` is False for one that was interrupted.
    """

    tool: str
    started: str
    finished: str
    complete: bool
    board: str
    facts: Mapping[str, str]
    device: Mapping[str, object]
    environment: Mapping[str, str]
    settings: Mapping[str, float | int | str | None]
    cells: tuple[Cell, ...] = field(default=())

    @property
    def measured(self) -> tuple[Cell, ...]:
        """The cells that have figures."""
        return tuple(cell for cell in self.cells if cell.rounds)

    @cached_property
    def front(self) -> frozenset[tuple[str, str, int | None]]:
        """The keys of the cells that no other beats in published accuracy and p50."""
        points = [
            (cell.summary.p50, cell.accuracy, cell.key)
            for cell in self.measured
            if cell.summary is not None and cell.accuracy is not None
        ]
        best = pareto_front([(latency, top1) for latency, top1, _ in points])
        return frozenset(points[index][2] for index in best)

    @property
    def sustained_seconds(self) -> float | None:
        """How long each cell ran in sustained mode, or None."""
        duration = self.settings.get("duration_s")
        return float(duration) if isinstance(duration, (int, float)) else None


def clean(text: str) -> str:
    """``text`` as every result has it: of bounded length, and with a question mark for what
    terminals obey or can't encode (names of files hold both)."""
    return UNPRINTABLE.sub("?", text[:MOST_TEXT])


def pareto_front(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """The indices of (cost, merit) points that no other beats in both, cheapest first."""
    best = -math.inf
    front = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            best = points[index][1]
            front.append(index)
    return tuple(front)
