"""The model store: a folder of model files that describe and seal themselves.

``<home>/models/<name>.onnx`` and ``.tflite`` are all there is. There is no index that could
disagree with the files; they can be copied in and out by hand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from effnet_edge import model_file, seal
from effnet_edge.errors import ModelError, ModelNotFoundError, StoreError, UsageError
from effnet_edge.files import Buffer, atomic_write, storage_error
from effnet_edge.metadata import ModelMetadata
from effnet_edge.model_file import ModelFormat as ModelFormat  # part of this interface too

FORMATS: tuple[ModelFormat, ...] = get_args(ModelFormat)

MAX_NAME_LENGTH = 100

# Patterns as text: compiling them would take a millisecond of every start.
_NAME = r"[a-z0-9][a-z0-9._+-]*"
_RESERVED_ON_WINDOWS = r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"
_RELEASED_NAME = r"efficientnet-(b(?=[0-7])|lite(?=[0-4]))(\d)(?:-(fp32|fp16|int8))?"


@dataclass(frozen=True)
class StoredModel:
    """One file in the store; ``size`` in bytes. A broken one has ``error`` and no metadata."""

    name: str
    format: ModelFormat
    path: Path
    size: int
    metadata: ModelMetadata | None
    error: str | None


class ModelStore:
    """The models under ``home`` (default: `default_home`).

    Reading creates nothing and works on a read-only disk. Any number of processes may read,
    write and remove at once: a model is replaced whole, and who has the old file open keeps it.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = default_home() if home is None else home

    @property
    def folder(self) -> Path:
        """Where the model files are. It need not exist."""
        return self.home / "models"

    def path_for(self, name: str, model_format: ModelFormat) -> Path:
        """Return where ``name`` is or would be. Raises UsageError for an unusable name."""
        _check_name(name)
        if model_format not in FORMATS:
            raise UsageError(f"the format must be {' or '.join(FORMATS)}, not {model_format!r}")
        return self.folder / f"{name}.{model_format}"

    def find(self, name: str, formats: Sequence[ModelFormat] = FORMATS) -> Path:
        """Return the file of ``name`` in the first of ``formats`` that the store has.

        Raises ModelNotFoundError that says what there is instead and what makes the model, and
        ModelError if the file says that it is another model.
        """
        for model_format in formats:
            path = self.path_for(name, model_format)
            if _is_file(path):
                _read_metadata(path)
                return path
        raise self._not_found(name, formats)

    def list(self) -> tuple[StoredModel, ...]:
        """Return all models by name. A broken one is listed with its error and hides no other."""
        return _described(self._paths(), check_seal=False)

    def verify(self, name: str | None = None) -> tuple[StoredModel, ...]:
        """Like `list`, after comparing every byte with the seal; ``name`` restricts it."""
        paths = self._paths() if name is None else self._paths_of(name)
        return _described(paths, check_seal=True)

    def write(self, name: str, model_format: ModelFormat, data: Buffer) -> Path:
        """Put a model file in the store, replacing an older one. Returns its path.

        Atomic (see `atomic_write`). Raises StoreError or UsageError.
        """
        path = self.path_for(name, model_format)
        atomic_write(path, data)
        return path

    def remove(self, name: str, model_format: ModelFormat | None = None) -> tuple[Path, ...]:
        """Remove a model in one format or in both; return the files removed.

        Raises ModelNotFoundError if there is none, StoreError if one can't be removed.
        """
        formats = FORMATS if model_format is None else (model_format,)
        removed = []
        for path in [self.path_for(name, each) for each in formats]:
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error("can't remove", path, error) from error
            removed.append(path)
        if not removed:
            raise self._not_found(name, formats)
        return tuple(removed)

    def _paths(self) -> tuple[Path, ...]:
        try:
            entries = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise storage_error("can't read", self.folder, error) from error
        models = (path for path in entries if _format_of(path) and not path.name.startswith("."))
        return tuple(models)

    def _paths_of(self, name: str) -> tuple[Path, ...]:
        paths = [self.path_for(name, model_format) for model_format in FORMATS]
        found = [path for path in paths if _is_file(path)]
        if not found:
            raise self._not_found(name, FORMATS)
        return tuple(found)

    def _not_found(self, name: str, formats: Sequence[ModelFormat]) -> ModelNotFoundError:
        present = self._paths()
        wanted = " or ".join(f".{model_format}" for model_format in formats)
        other_formats = [path.suffix for path in present if path.stem == name]
        if other_formats:
            return ModelNotFoundError(
                f"{name} is in the model store as {' and '.join(other_formats)}, not as {wanted}"
            )
        names = list(dict.fromkeys(path.stem for path in present))
        message = f"there is no model {name!r} in the model store {self.folder}"
        import difflib

        close = difflib.get_close_matches(name.lower(), names, n=3)
        if close:
            message += f"; did you mean {' or '.join(close)}?"
        elif names:
            message += f", which has {', '.join(names)}"
        else:
            message += ", which is empty"
        command = command_that_makes(name)
        return ModelNotFoundError(f"{message}\nto make it: {command}" if command else message)


def default_home() -> Path:
    """Return ``EFFNET_EDGE_HOME``, or the platform's folder for an application's data.

    The folder need not exist. Raises StoreError if no home folder can be told.
    """
    chosen = os.environ.get("EFFNET_EDGE_HOME")
    try:
        if chosen:
            return Path(chosen).expanduser().absolute()

        from platformdirs import user_data_path

        return user_data_path("effnet-edge", appauthor=False)
    except RuntimeError as error:
        raise StoreError(
            f"can't tell where your home folder is ({error}): set EFFNET_EDGE_HOME to a folder"
        ) from error


def _check_name(name: str) -> None:
    if any(name.endswith(f".{model_format}") for model_format in FORMATS):
        raise UsageError(f"{name!r} is a file name: give the model's name without the ending")
    if (
        not re.fullmatch(_NAME, name)
        or name.endswith(".")
        or len(name) > MAX_NAME_LENGTH
        or re.fullmatch(_RESERVED_ON_WINDOWS, name)
    ):
        raise UsageError(
            f"{name[: MAX_NAME_LENGTH + 1]!r} can't be a model's name: take up to "
            f"{MAX_NAME_LENGTH} lower-case letters, digits and - _ . +, starting with a letter or "
            "digit (efficientnet-b2-fp32)"
        )


def _described(paths: Sequence[Path], *, check_seal: bool) -> tuple[StoredModel, ...]:
    models = [_describe(path, check_seal=check_seal) for path in paths]
    # Another process may have removed one in the meantime.
    return tuple(model for model in models if os.path.lexists(model.path))


def _describe(path: Path, *, check_seal: bool) -> StoredModel:
    metadata, error, size = None, None, 0
    try:
        size = path.stat().st_size
        if check_seal:
            seal.verify(path)
            if model_file.model_format(path) == "onnx":
                model_file.check_self_contained(path)
        metadata = _read_metadata(path)
    except ModelError as problem:
        error = str(problem)
    except OSError as problem:
        error = str(storage_error("can't read", path, problem))
    return StoredModel(path.stem, _format_of(path) or "onnx", path, size, metadata, error)


def _read_metadata(path: Path) -> ModelMetadata:
    metadata = model_file.read_metadata(path)
    content = model_file.model_format(path)
    if content != _format_of(path):
        raise ModelError(f"{path} is named .{_format_of(path)} but holds a .{content} model")
    if metadata.name != path.stem:
        raise ModelError(
            f"{path} says that it is {metadata.name}, not {path.stem}: give the file the name it "
            "states, or convert the model again"
        )
    return metadata


def _format_of(path: Path) -> ModelFormat | None:
    for model_format in FORMATS:
        if path.suffix == f".{model_format}":
            return model_format
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise storage_error("can't read", path, error) from error


def command_that_makes(name: str) -> str | None:
    """The command line for a released model's name, or None for a name of the user's own."""
    match = re.fullmatch(_RELEASED_NAME, name)
    if match is None:
        return None
    kind, phi, precision = match.groups()
    # The Lite packages end with Lite2; timm's weights go on.
    lite = " --weights lite" if phi in "012" else " --weights tf-lite"
    weights = lite if kind == "lite" else ""
    option = f" --{precision}" if precision in ("fp16", "int8") else ""
    return f"effnet-edge convert --phi {phi}{weights}{option}"
