"""Which cells to run: models of the store or files, on which engines, with how many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

from effnet_edge.bench.results import Cell, ModelFacts
from effnet_edge.engines import (
    ENGINES,
    Engine,
    available_engines,
    to_install,
    wrong_precision,
)
from effnet_edge.errors import EffnetEdgeError, ModelNotFoundError
from effnet_edge.files import user_path
from effnet_edge.metadata import ModelMetadata, Precision
from effnet_edge.model_file import ModelFormat, model_format, read_metadata
from effnet_edge.models.architecture import Family, model_name, phis
from effnet_edge.store import FORMATS, ModelStore, command_that_makes

_PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Wanted:
    """What was asked for; an empty tuple asks for everything there is.

    ``phis`` are of B0..B7, or of Lite0..4 with ``lite``. ``models`` are names of the store,
    patterns of them, and paths. Without ``engines`` every installed one that runs a model's file
    is taken.
    """

    threads: tuple[int, ...]
    phis: tuple[int, ...] = ()
    lite: bool = False
    precisions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedCell:
    """One cell to run, or ``error``: why it can't be, with ``path`` and ``metadata`` None then
    unless they are known."""

    name: str
    engine: str
    threads: int | None
    path: Path | None = None
    metadata: ModelMetadata | None = None
    error: str | None = None


@dataclass(frozen=True)
class _File:
    """A model file, or why there is none."""

    name: str
    format: ModelFormat | None = None
    path: Path | None = None
    metadata: ModelMetadata | None = None
    error: str | None = None


def plan_cells(wanted: Wanted, store: ModelStore) -> tuple[PlannedCell, ...]:
    """Return the cells, those of one model together, small networks first.

    What can't be run is a cell with its reason. Raises StoreError if the store can't be read.
    """
    files = [file for file in _files(wanted, store) if _is_wanted(file, wanted)]
    files += _missing_members(wanted, files)
    names = dict.fromkeys(file.name for file in sorted(files, key=_order))
    cells: list[PlannedCell] = []
    for name in names:
        cells += _cells_of([file for file in files if file.name == name], wanted)
    return tuple(cells)


def asks_for(wanted: Wanted, cell: Cell) -> bool:
    """Whether ``cell`` of an earlier benchmark would be run now, were its model still there.

    Where no engines were asked for, that is so of any, installed or not.
    """
    if wanted.models and not any(_is_called(cell, text) for text in wanted.models):
        return False
    if wanted.engines and cell.engine not in wanted.engines:
        return False
    return cell.threads in wanted.threads and (cell.model is None or _fits(cell.model, wanted))


def _is_called(cell: Cell, text: str) -> bool:
    named = cell.model is not None and cell.model.file == Path(text).name
    return named or fnmatchcase(cell.name, text)


def _files(wanted: Wanted, store: ModelStore) -> Iterator[_File]:
    stored = [_File(m.name, m.format, m.path, m.metadata, m.error) for m in store.list()]
    if not wanted.models:
        yield from stored
        return
    seen: dict[tuple[str, ModelFormat | None], Path | None] = {}
    for text in dict.fromkeys(wanted.models):
        for file in _named(text, stored, store):
            key = file.name, file.format
            if key not in seen:
                seen[key] = file.path
                yield file
            elif file.path is not None and file.path != seen[key]:
                # Another file of the same name: both are compared under different ones.
                yield _File(
                    f"{file.name} ({file.path})", file.format, file.path, file.metadata, file.error
                )


def _named(text: str, stored: Sequence[_File], store: ModelStore) -> list[_File]:
    exact = [file for file in stored if file.name == text]
    if exact:
        return exact
    is_path = os.path.dirname(text) or text.endswith(tuple(f".{each}" for each in FORMATS))  # noqa: PTH120
    if is_path or text.startswith("~"):
        return [_file_at(user_path(text))]
    if any(letter in text for letter in "*?["):
        matching = [file for file in stored if fnmatchcase(file.name, text)]
        return matching or [_File(text, error="no model of the store is called like that")]
    try:
        return [_file_at(store.find(text))]
    except ModelNotFoundError:
        return [_absent(text)]
    except EffnetEdgeError as error:
        return [_File(text, error=str(error))]


def _file_at(path: Path) -> _File:
    try:
        metadata = read_metadata(path)
        return _File(metadata.name, model_format(path), path, metadata)
    except EffnetEdgeError as error:
        return _File(str(path), error=str(error))


def _is_wanted(file: _File, wanted: Wanted) -> bool:
    metadata = file.metadata
    if metadata is None:  # of a broken file there is the name alone
        if wanted.models or file.name in _member_names(wanted):
            return True
        # A name of the user's own doesn't tell what the file would have been.
        return not wanted.phis and file.name not in _member_names(Wanted(threads=()))
    return _fits(metadata, wanted)


def _fits(metadata: ModelMetadata | ModelFacts, wanted: Wanted) -> bool:
    """Whether a model is of the family, size and precision that were asked for."""
    if (wanted.phis or wanted.lite) and metadata.family != ("lite" if wanted.lite else "standard"):
        return False
    if wanted.phis and metadata.phi not in wanted.phis:
        return False
    return not wanted.precisions or metadata.precision in wanted.precisions


def _member_names(wanted: Wanted) -> set[str]:
    """What the store calls the members of the families that were asked for."""
    families: tuple[Family, ...] = ("lite",) if wanted.lite else ("standard", "lite")
    if wanted.phis and not wanted.lite:
        families = ("standard",)
    return {
        f"{model_name(family, phi)}-{precision}"
        for family in families
        for phi in wanted.phis or phis(family)
        for precision in wanted.precisions or _PRECISIONS
    }


def _missing_members(wanted: Wanted, files: Sequence[_File]) -> list[_File]:
    """A file that isn't there for each phi that was asked for and isn't found."""
    if wanted.models:
        return []
    there = {(file.metadata.phi, file.metadata.precision) for file in files if file.metadata}
    broken = {file.name for file in files if file.metadata is None}
    missing = []
    for phi in wanted.phis:
        name = model_name("lite" if wanted.lite else "standard", phi)
        lacking = [each for each in wanted.precisions or _PRECISIONS if (phi, each) not in there]
        names = [f"{name}-{each}" for each in lacking]
        if wanted.precisions:
            missing += [_absent(each) for each in names if each not in broken]
        elif len(lacking) == len(_PRECISIONS) and broken.isdisjoint(names):
            missing.append(_absent(name))
    return missing


def _absent(name: str) -> _File:
    command = command_that_makes(name)
    return _File(name, error=f"not in the store{f'; to make it: {command}' if command else ''}")


def _cells_of(files: Sequence[_File], wanted: Wanted) -> Iterator[PlannedCell]:
    """The cells of the files of one name."""
    by_format = {file.format: file for file in files}
    if None in by_format:
        yield PlannedCell(files[0].name, "", None, error=by_format[None].error)
        return
    installed = available_engines()
    engines = [ENGINES[name] for name in wanted.engines] or [
        engine for engine in installed if _may_run(engine, by_format.get(engine.format))
    ]
    if not engines:
        yield PlannedCell(
            files[0].name, "", None, error=f"no engine for it: {to_install(*by_format)}"
        )
    for engine in engines:
        file = by_format.get(engine.format)
        error = _obstacle(engine, file, installed=engine in installed)
        for threads in wanted.threads:
            yield PlannedCell(
                files[0].name,
                engine.name,
                threads,
                None if file is None else file.path,
                None if file is None else file.metadata,
                error,
            )


def _may_run(engine: Engine, file: _File | None) -> bool:
    """Whether there is a file that the engine runs; a broken one may be of any precision."""
    if file is None:
        return False
    return engine.computes(None if file.metadata is None else file.metadata.precision)


def _obstacle(engine: Engine, file: _File | None, *, installed: bool) -> str | None:
    if file is None:
        return f"there is no .{engine.format} file of it, which {engine.name} runs"
    if file.error is not None:
        return file.error
    if file.metadata is not None and not engine.computes(file.metadata.precision):
        return wrong_precision(engine, file.metadata.precision)
    if not installed:
        return engine.obstacle() or f"{engine.package} doesn't run: pip install {engine.package}"
    return None


def _order(file: _File) -> tuple[str, int, int, str]:
    metadata = file.metadata
    if metadata is None:
        return "~", 0, 0, file.name  # after the families
    precision = metadata.precision
    rank = _PRECISIONS.index(precision) if precision in _PRECISIONS else len(_PRECISIONS)
    return metadata.family, metadata.phi, rank, file.name
