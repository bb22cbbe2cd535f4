"""The lists of photos for the accuracy benchmark, and the format that most of them come in."""

from __future__ import annotations

import importlib.util
import struct
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "photos.py"


@pytest.fixture(scope="module")
def photos() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_photos", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its frozen dataclass looks the module up while it is made.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def test_no_calibration_photo_is_evaluated(photos):
    calibration, evaluation = (photos.read_list(name) for name in photos.SETS)
    assert len(calibration) == 128
    assert len(evaluation) == 282
    for attribute in ("digest", "place", "name"):
        values = [getattr(photo, attribute) for photo in (*calibration, *evaluation)]
        assert len(set(values)) == len(values)


def test_every_class_is_one_of_imagenet(photos):
    labels = [photo.label for name in photos.SETS for photo in photos.read_list(name)]
    known = [label for label in labels if label is not None]
    assert len(known) == 113
    assert all(0 <= label < 1000 for label in known)


@pytest.mark.parametrize("version", [1, 2])
def test_a_resource_collection_is_unpacked(photos, version):
    plain, packed = b"a photo", b"another, " * 50
    data = _collection(version, {"cat.webp": (plain, 0), "dog.webp": (packed, 1)})
    assert dict(photos.resources(data)) == {"pets/cat.webp": plain, "pets/dog.webp": packed}


def test_another_file_is_no_resource_collection(photos):
    with pytest.raises(ValueError, match="not a Qt resource collection"):
        list(photos.resources(b"RIFF" + bytes(40)))


def _collection(version: int, files: dict[str, tuple[bytes, int]]) -> bytes:
    """A .rcc with the ``files``, as (content, flags), in the folder ``pets``."""
    names, offsets = b"", {}
    for name in ("", "pets", *files):
        offsets[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    stamp = bytes(8) if version >= 2 else b""
    tree = struct.pack(">IHII", offsets[""], 2, 1, 1) + stamp
    tree += struct.pack(">IHII", offsets["pets"], 2, len(files), 2) + stamp
    contents = b""
    for name, (content, flags) in files.items():
        tree += struct.pack(">IHHHI", offsets[name], flags, 0, 0, len(contents)) + stamp
        if flags & 1:
            content = struct.pack(">I", len(content)) + zlib.compress(content)
        contents += struct.pack(">I", len(content)) + content
    header = 20
    return (
        struct.pack(
            ">4s4I", b"qres", version, header, header + len(tree), header + len(tree + contents)
        )
        + tree
        + contents
        + names
    )
