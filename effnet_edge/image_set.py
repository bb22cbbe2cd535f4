"""The images of an evaluation and their true classes: a folder per class, or a label file."""

from __future__ import annotations

import csv
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effnet_edge.class_names import any_class, class_indices
from effnet_edge.errors import UsageError
from effnet_edge.image_folder import images_below

MAX_LABEL_FILE_BYTES = 1 << 26

_SEED = 2019

# Kaggle's LOC_val_solution.csv gives classes with bounding boxes: "n03995372 85 1 499 272".
_BOXES = re.compile(r"(n\d{8})(?: +\d+){4}(?: .*)?")


@dataclass(frozen=True, slots=True)
class EvaluationImage:
    """An image file and the index of its true class, None where that isn't known."""

    path: Path
    label: int | None


@dataclass(frozen=True)
class ImageSet:
    """The images to evaluate. ``notes`` are things that the user should know."""

    images: tuple[EvaluationImage, ...]
    labelled: bool
    notes: tuple[str, ...] = ()

    def sample(self, limit: int | None = None) -> tuple[EvaluationImage, ...]:
        """All images, or ``limit`` of them, in an arbitrary order that is always the same.

        So the first of them are a fair sample of all, and not those of the first class.
        """
        images = list(self.images)
        random.Random(_SEED).shuffle(images)  # noqa: S311 - nothing here is secret
        return tuple(images[:limit])


def read_image_set(
    folder: Path, labels: Sequence[str], label_file: Path | None = None, *, need_labels: bool = True
) -> ImageSet:
    """Find the images below ``folder`` and, in terms of a model's ``labels``, their classes.

    With a ``label_file`` its lines say the classes. Otherwise the folders directly in ``folder`` do
    by their names (see `class_indices`); where no name means anything and there are as many as
    classes, their alphabetical order is that of the classes, as in torchvision's ImageFolder.
    Without ``need_labels``, images whose classes can't be told so are taken without.

    Raises UsageError for a folder without images, and for classes that can't be told.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - unlike pathlib's, false for impossible names
        problem = "is no folder" if os.path.exists(folder) else "doesn't exist"  # noqa: PTH110
        raise UsageError(f"{folder} {problem}: give --data the folder with the images")
    paths = images_below(folder)
    if not paths:
        raise UsageError(f"there are no image files in {folder}")
    if label_file is not None:
        return _from_label_file(paths, folder, label_file, labels)
    notes: tuple[str, ...] = ()
    if any(path.parent != folder for path in paths):
        try:
            return _from_folders(paths, folder, labels)
        except UsageError as error:
            if need_labels:
                raise
            notes = (f"no hits are counted: {error}",)
    elif need_labels:
        raise UsageError(
            f"{folder} has no folder per class: say the images' classes with --labels-file FILE, "
            "or compare two models with --against OTHER, which needs none"
        )
    return ImageSet(tuple(EvaluationImage(path, None) for path in paths), False, notes)


def _from_folders(paths: list[Path], folder: Path, labels: Sequence[str]) -> ImageSet:
    inside = [(path, path.relative_to(folder).parts) for path in paths]
    names = {parts[0] for _, parts in inside if len(parts) > 1}
    notes = []
    alphabetical = _class_folders(folder)
    if len(alphabetical) == len(labels) and not any_class(names, labels):
        indices = {name: index for index, name in enumerate(alphabetical)}
        notes.append(
            "the folders' names are no labels of the model, so they are taken for its classes in "
            f"alphabetical order: {alphabetical[0]} for {labels[0]}, ..., {alphabetical[-1]} for "
            f"{labels[-1]}"
        )
    else:
        try:
            indices = class_indices(sorted(names), labels)
        except UsageError as error:
            raise UsageError(
                f"{folder}: the folder {error}\n(without --labels-file, --data takes a folder with "
                "one folder per class)"
            ) from None
    images = [EvaluationImage(path, indices[parts[0]]) for path, parts in inside if len(parts) > 1]
    if len(images) < len(paths):
        notes.append(f"left out: {_count(len(paths) - len(images))} beside the class folders")
    return ImageSet(tuple(images), labelled=True, notes=tuple(notes))


def _class_folders(folder: Path) -> list[str]:
    """The names of the folders in ``folder``, with images or without, in alphabetical order."""
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[:1] != "."
    )


def _from_label_file(
    paths: list[Path], folder: Path, label_file: Path, labels: Sequence[str]
) -> ImageSet:
    index = _ByName(paths, folder)
    rows = [_split(line, number, label_file, index) for number, line in _lines(label_file)]
    if rows and rows[0].image not in index and not any_class([rows[0].label], labels):
        rows = rows[1:]  # a header
    if not rows:
        raise UsageError(f"{label_file} names no images")
    classes = _classes(rows, label_file, labels)
    found: dict[Path, int] = {}
    missing = 0
    for row in rows:
        path = index.find(row.image, f"{label_file}, line {row.line}")
        if path is None:
            missing += 1
        elif found.setdefault(path, classes[row.label]) != classes[row.label]:
            raise UsageError(
                f"{label_file}, line {row.line}: {row.image} has another class further up"
            )
    if not found:
        raise UsageError(
            f"{label_file} names {_count(len(rows))}, and none is in {folder}; the first is "
            f"{rows[0].image}"
        )
    notes = []
    if missing:
        notes.append(f"not in {folder}: {missing} of {_count(len(rows))} of {label_file}")
    if len(found) < len(paths):
        notes.append(f"left out: {_count(len(paths) - len(found))} that {label_file} doesn't name")
    images = tuple(EvaluationImage(path, found[path]) for path in paths if path in found)
    return ImageSet(images, labelled=True, notes=tuple(notes))


def _count(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    image: str
    label: str


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that aren't empty, numbered from 1."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LABEL_FILE_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no label file {path}") from None
    except OSError as error:
        raise UsageError(f"can't read the label file {path}: {error.strerror}") from error
    if len(data) > MAX_LABEL_FILE_BYTES:
        raise UsageError(
            f"{path} is too large for a label file (over {MAX_LABEL_FILE_BYTES >> 20} MB)"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _split(line: str, number: int, label_file: Path, index: _ByName) -> _Row:
    """Part an image's name from its class: at a tab, a comma (with CSV's quotes) or white space,
    any of which may be in the name or in the class as well."""
    first, _, rest = line.partition(" ")
    last, _, end = line.rpartition(" ")
    cells = [line]
    if "\t" in line:
        cells = line.split("\t")
    elif "," in line and first not in index:
        try:
            cells = next(csv.reader([line], skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise UsageError(f"{label_file}, line {number}: {error}") from None
    elif rest:
        named_with_spaces = last.strip() in index and first not in index
        cells = [last, end] if named_with_spaces else [first, rest]
    cells = [cell.strip() for cell in cells]
    if len(cells) < 2 or not cells[0] or not cells[1]:
        raise UsageError(
            f"{label_file}, line {number}: expected an image's name and its class, as in "
            f"'photo.jpg,espresso' or 'photo.jpg 967', not {line[:100]!r}"
        )
    boxed = _BOXES.fullmatch(cells[1])
    return _Row(number, cells[0], boxed[1] if boxed else cells[1])


def _classes(rows: list[_Row], label_file: Path, labels: Sequence[str]) -> dict[str, int]:
    try:
        return class_indices(list(dict.fromkeys(row.label for row in rows)), labels)
    except UsageError as error:
        raise UsageError(f"{label_file}: {error}") from None


class _ByName:
    """Finds images by what a label file may call them: path in the folder, name, or name without
    its ending. Folders in front that aren't there (``val/photo.jpg``) don't matter."""

    def __init__(self, paths: list[Path], folder: Path) -> None:
        self._paths = {path.relative_to(folder).as_posix(): path for path in paths}
        self._names: dict[str, Path | None] = {}
        for path in paths:
            for name in {path.name, path.stem}:
                self._names[name] = None if name in self._names else path

    def __contains__(self, name: str) -> bool:
        return name in self._paths or self._bare(name) in self._names

    def find(self, name: str, where: str) -> Path | None:
        """The image's path, or None. Raises UsageError, beginning with ``where``, if there are
        several."""
        path = self._paths.get(name.replace("\\", "/"))
        if path is not None:
            return path
        bare = self._bare(name)
        if bare in self._names and self._names[bare] is None:
            raise UsageError(
                f"{where}: there are several images called {bare}: give their paths in the folder"
            )
        return self._names.get(bare)

    @staticmethod
    def _bare(name: str) -> str:
        return name.replace("\\", "/").rpartition("/")[2]
