"""Class names: ImageNet's, a user's label file, or plain numbers."""

from __future__ import annotations

import csv
import json
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from effnet_edge.errors import UsageError
from effnet_edge.models.architecture import IMAGENET_CLASSES

MAX_FILE_BYTES = 1 << 24
MAX_LABEL_LENGTH = 500


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return the 1000 ImageNet class names in index order.

    ILSVRC 2012's classes in the order of their WordNet numbers, each by its synset's first lemma;
    where two classes share one (crane, maillot, cardigan) a second word tells them apart.
    """
    text = Path(__file__).with_name("imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def default_labels(classes: int) -> tuple[tuple[str, ...], str | None]:
    """Return labels for a network that came with none, and a note where they are a guess.

    1000 classes are ImageNet's; 1001 are ImageNet's after a background class, as TensorFlow's
    slim models have them; any other number gives ``class 0``, ``class 1``, ...
    """
    if classes == IMAGENET_CLASSES:
        return imagenet_labels(), None
    if classes == IMAGENET_CLASSES + 1:
        return ("background", *imagenet_labels()), (
            "1001 classes: taken for a background class and ImageNet's 1000; give --labels FILE "
            "if they are others"
        )
    return tuple(f"class {index}" for index in range(classes)), (
        f"{classes} classes without names: they are called class 0 to class {classes - 1}; give "
        "--labels FILE to name them"
    )


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """Read one label for each of ``classes`` from a UTF-8 file.

    Accepted are: one label a line, in index order; lines of ``index,label``; a JSON list; a JSON
    object of index to label, or of label to index (torchvision's ``class_to_idx``). Raises
    UsageError that names the file, and the line where there is one.
    """
    text = _read(path)
    if text.lstrip().startswith(("[", "{")):
        labels = _from_json(text, path)
    else:
        labels = _from_lines(text, path)
    if len(labels) != classes:
        raise UsageError(
            f"{path} has {len(labels)} labels, and the checkpoint has {classes} classes"
        )
    for index, label in enumerate(labels):
        if not label:
            raise UsageError(f"{path}: the label of class {index} is empty")
        if len(label) > MAX_LABEL_LENGTH:
            raise UsageError(
                f"{path}: the label of class {index} has {len(label)} characters, over "
                f"{MAX_LABEL_LENGTH}"
            )
        # Labels are stored one a line, and shown on terminals.
        if any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in label):
            raise UsageError(
                f"{path}: the label of class {index}, {label!r}, has a control character"
            )
    return tuple(labels)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no label file {path}") from None
    except OSError as error:
        raise UsageError(f"can't read the label file {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is too large for a label file (over {MAX_FILE_BYTES >> 20} MB)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error


def _from_lines(text: str, path: Path) -> list[str]:
    # Not splitlines(), which also cuts at characters that a label may hold by mistake.
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    rows = [_index_and_label(line) for line in lines]
    indexed = [row for row in rows if row is not None]
    if lines and len(indexed) == len(lines):
        return _in_order(indexed, path)
    for number, line in enumerate(lines, start=1):
        if not line:
            raise UsageError(f"{path}, line {number} is empty: every class needs its label")
    return lines


def _index_and_label(line: str) -> tuple[int, str] | None:
    index, comma, label = line.partition(",")
    index = index.strip()
    if not comma or not (index.isascii() and index.isdigit()) or len(index) > 9:
        return None
    label = label.strip()
    if label.startswith('"'):
        label = next(csv.reader([label]), [""])[0].strip()
    return int(index), label


def _from_json(text: str, path: Path) -> list[str]:
    try:
        data = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error
    if isinstance(data, list):
        if not all(isinstance(label, str) for label in data):
            raise UsageError(f"{path}: the JSON list must hold strings only")
        return [label.strip() for label in data]
    pairs = []
    for key, value in data.items():
        if isinstance(value, int) and not isinstance(value, bool):
            pairs.append((value, key.strip()))
        elif isinstance(value, str) and key.isascii() and key.isdigit() and len(key) < 10:
            pairs.append((int(key), value.strip()))
        else:
            raise UsageError(
                f'{path}: {key!r}: {value!r} is neither "index": "label" nor "label": index'
            )
    return _in_order(pairs, path)


def _unique(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise UsageError(f"{path}: {key!r} occurs twice")
        result[key] = value
    return result


def _in_order(pairs: list[tuple[int, str]], path: Path) -> list[str]:
    labels: dict[int, str] = {}
    for index, label in pairs:
        if index in labels:
            raise UsageError(f"{path}: class {index} is both {labels[index]!r} and {label!r}")
        labels[index] = label
    for index in range(len(labels)):
        if index not in labels:
            raise UsageError(
                f"{path}: class {index} has no label; indices go from 0 to {len(labels) - 1}"
            )
    return [labels[index] for index in range(len(labels))]
