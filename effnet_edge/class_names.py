"""Which class of a model the name of a folder, or the entry of a label file, means."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path

from effnet_edge.errors import UsageError

IMAGENET_CLASSES = 1000


def class_indices(names: Collection[str], labels: Sequence[str]) -> dict[str, int]:
    """Return the class index of every one of ``names`` by the model's ``labels``.

    All are taken in the same way, the first of these that explains every one: the model's labels
    (case, and underscores for spaces, don't matter where no two labels differ by them only); class
    indices, from 0; for ImageNet's classes their WordNet numbers, such as n01440764. Raises
    UsageError that says which name isn't a class.
    """
    readings = [_read(names, lookup) for lookup in _lookups(labels)]
    for reading in readings:
        if len(reading) == len(names):
            return reading
    closest = max(readings, key=len)
    strange = next(name for name in names if name not in closest)
    last = len(labels) - 1
    message = f"{strange!r} is no class of the model"
    if closest:
        example = next(iter(closest))
        message += (
            f", while {example!r} is its class {closest[example]} ({labels[closest[example]]})"
        )
    close = difflib.get_close_matches(strange, labels, n=3)
    if close:
        message += f"; did you mean {' or '.join(close)}?"
    else:
        message += f": give its labels ({_some(labels)}) or its indices, 0 to {last}"
    raise UsageError(message)


def any_class(names: Collection[str], labels: Sequence[str]) -> bool:
    """Whether one of ``names`` at least is a label, an index or a WordNet number of the model."""
    return any(_read(names, lookup) for lookup in _lookups(labels))


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """The WordNet numbers of ImageNet's 1000 classes by index."""
    path = Path(__file__).parent / "data" / "imagenet_synsets.txt"
    return tuple(path.read_text(encoding="ascii").split())


_Lookup = Callable[[str], int | None]


def _lookups(labels: Sequence[str]) -> tuple[_Lookup, _Lookup, _Lookup]:
    exact = _unique(labels)
    loose = _unique([_loosely(label) for label in labels])
    background = len(labels) - IMAGENET_CLASSES
    synsets = {}
    if background in (0, 1):  # TensorFlow's slim models have a background class before the others
        synsets = {synset: i + background for i, synset in enumerate(imagenet_synsets())}

    def by_label(name: str) -> int | None:
        return exact.get(name, loose.get(_loosely(name)))

    def by_index(name: str) -> int | None:
        if not (name.isascii() and name.isdigit() and len(name) < 10):
            return None
        return int(name) if int(name) < len(labels) else None

    return by_label, by_index, synsets.get


def _read(names: Collection[str], lookup: _Lookup) -> dict[str, int]:
    found = {name: lookup(name) for name in names}
    return {name: index for name, index in found.items() if index is not None}


def _unique(labels: Sequence[str]) -> dict[str, int]:
    count = Counter(labels)
    return {label: index for index, label in enumerate(labels) if count[label] == 1}


def _loosely(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").split())


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")
