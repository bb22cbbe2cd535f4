"""What can be chosen from: the models of a store, each with every way of running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from effnet_edge.engines import Engine, available_engines, named_engine
from effnet_edge.errors import EngineError, ModelNotFoundError, UsageError
from effnet_edge.metadata import ModelMetadata
from effnet_edge.ranking import merit
from effnet_edge.store import ModelStore, StoredModel

HOW_TO_GET_MODELS = (
    "'effnet-edge convert --phi 0-4 --int8' makes some, and 'effnet-edge demo' shows how it goes"
)


@dataclass(frozen=True)
class Candidate:
    """A model of the store and one way of running it. ``rank`` counts models from the best, 0."""

    rank: int
    path: Path
    metadata: ModelMetadata
    engine: str
    threads: int


@dataclass(frozen=True)
class Skipped:
    """A file of the store that can't be chosen, and why."""

    path: Path
    reason: str


def candidates(
    store: ModelStore, engines: Sequence[Engine], threads: Sequence[int], models: str | None
) -> tuple[tuple[Candidate, ...], tuple[Skipped, ...]]:
    """Every way of running every model of ``store``, the most accurate models first.

    ``models`` is a name or a pattern such as ``flowers-*``. Raises ModelNotFoundError with the
    command to run if there is nothing to choose from, and UsageError if there are models that
    answer different questions: choosing among those would be a guess.
    """
    stored = store.list()
    broken = tuple(Skipped(model.path, model.error) for model in stored if model.error is not None)
    usable = [model for model in stored if model.metadata is not None]
    if models is not None:
        usable = [model for model in usable if fnmatchcase(model.name, models)]
    runnable = [model for model in usable if any(_runs(engine, model) for engine in engines)]
    if not runnable:
        raise _nothing(store, stored, usable, engines, models)
    _check_one_question(runnable)
    ranks = _ranks(runnable)
    found = [
        Candidate(ranks[model.name], model.path, metadata, engine.name, count)
        for model in runnable
        if (metadata := model.metadata) is not None
        for engine in engines
        if engine.runs(model.format, metadata.precision)
        for count in threads
    ]
    return tuple(sorted(found, key=lambda candidate: candidate.rank)), broken


def usable_engines(asked: str | None) -> tuple[Engine, ...]:
    """The engine called ``asked``, or all that are installed.

    Raises UsageError for an unknown one, EngineError where it or any is missing.
    """
    if asked is None:
        installed = available_engines()
        if not installed:
            raise EngineError("no inference engine is installed: pip install onnxruntime")
        return installed
    engine = named_engine(asked)
    obstacle = engine.obstacle()
    if obstacle is not None:
        raise EngineError(obstacle)
    return (engine,)


def thread_counts(most: int) -> tuple[int, ...]:
    """Powers of two below ``most``, and ``most``: more threads aren't always faster."""
    return (*(1 << power for power in range(most.bit_length()) if 1 << power < most), most)


def _runs(engine: Engine, model: StoredModel) -> bool:
    return model.metadata is not None and engine.runs(model.format, model.metadata.precision)


def _ranks(models: Sequence[StoredModel]) -> dict[str, int]:
    described = {model.name: model.metadata for model in models if model.metadata is not None}
    ordered = sorted(described, key=lambda name: merit(described[name]), reverse=True)
    return {name: rank for rank, name in enumerate(ordered)}


def _check_one_question(models: Sequence[StoredModel]) -> None:
    groups: dict[tuple[str, ...], list[str]] = {}
    for model in models:
        if model.metadata is not None:
            groups.setdefault(model.metadata.labels, []).append(model.name)
    if len(groups) > 1:
        lines = [
            f"  {', '.join(dict.fromkeys(names))}: {len(labels)} classes, {', '.join(labels[:3])}"
            for labels, names in groups.items()
        ]
        raise UsageError(
            "the models of the store have different labels, so say which may be chosen, by a name "
            "or a pattern such as 'efficientnet-*' (models=, or --models):\n" + "\n".join(lines)
        )


def _nothing(
    store: ModelStore,
    stored: Sequence[StoredModel],
    usable: Sequence[StoredModel],
    engines: Sequence[Engine],
    models: str | None,
) -> ModelNotFoundError:
    if not stored:
        return ModelNotFoundError(
            f"there is no model in the store {store.folder} yet: {HOW_TO_GET_MODELS}"
        )
    if usable:
        names = " or ".join(engine.name for engine in engines)
        return ModelNotFoundError(
            f"{', '.join(dict.fromkeys(model.name for model in usable))} can't be run by {names}: "
            "convert again for both formats, or install another engine"
        )
    if models is not None:
        there = ", ".join(dict.fromkeys(model.name for model in stored))
        return ModelNotFoundError(f"no model of the store matches {models!r}; there are {there}")
    problems = "\n".join(f"  {model.path}: {model.error}" for model in stored)
    return ModelNotFoundError(
        f"every model of the store is broken: remove them and convert again\n{problems}"
    )
