"""Real photographs for the accuracy benchmark, out of three free packages.

    python benchmarks/photos.py PHOTOS

writes PHOTOS/calibration (128 photos) and PHOTOS/evaluation (282), with the known ImageNet classes
in PHOTOS/calibration.csv and evaluation.csv as ``name,class``. Which photo is in which set stands
in the lists beside this file, a line each: the first 16 hex digits of its SHA-256, its class index
or ``-``, and where it is. Sources: Debian 12's gcompris-qt-data 3.1-2 and tuxpaint-stamps-default
2022.06.04-1 (stamps cut out on transparency count as photos on white) and foolbox 3.3.4.

The lists were chosen by eye: photographs of at least 150 pixels; no drawings, paintings or
planets; no photo twice, nor mirrored, nor two of one monument in different sets. A class is given
only where the photo leaves no doubt. Drawn by digest, so both sets hold the same kinds of things,
save that all 20 of foolbox (they are ImageNet's) are for evaluation.

A network that was itself trained or distilled on photos of these packages, with labels or without,
is surer of itself on them than on others: compare quantisers on it, not networks.

Packages are downloaded with apt-get and pip, unless they are in --packages FOLDER already.
Needs dpkg-deb, so Debian or Ubuntu; on another release than Debian 12 download the two .deb files
from snapshot.debian.org.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LISTS = Path(__file__).with_name("photos")
SETS = ("calibration", "evaluation")
DEBIAN = ("gcompris-qt-data", "tuxpaint-stamps-default")
FOOLBOX = "foolbox==3.3.4"
SAME = 0.97
"""Correlation of two photos' 16 x 16 grey thumbnails from which they count as one: a photo that
was scaled or recompressed stays above 0.99, the most alike of the lists' is at 0.95."""


@dataclass(frozen=True)
class Photo:
    """A line of a list. ``place`` begins with the package's name."""

    digest: str
    label: int | None
    place: str

    @property
    def name(self) -> str:
        """The name of its file: unique, and in no order that means anything."""
        return f"{self.digest[:8]}-{PurePosixPath(self.place).name}"


def read_list(name: str) -> tuple[Photo, ...]:
    """The photos of the set called ``name``."""
    photos = []
    for line in (LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        digest, label, place = line.split(" ", 2)
        photos.append(Photo(digest, None if label == "-" else int(label), place))
    return tuple(photos)


def resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file in a Qt resource collection (.rcc).

    A header of big-endian integers leads to a tree of nodes, to the names and to the data; see
    QResourceRoot in Qt's ``qresource.cpp``. Contents compressed with Zstandard are left out.
    """
    magic, version, tree, contents, names = struct.unpack_from(">4s4I", data)
    if magic != b"qres":
        raise ValueError("not a Qt resource collection")
    node_size = 22 if version >= 2 else 14
    compressed, folder, zstandard = 1, 2, 4
    waiting = [(0, "")]
    while waiting:
        index, parent = waiting.pop()
        node = tree + index * node_size
        name_at, flags = struct.unpack_from(">IH", data, node)
        (length,) = struct.unpack_from(">H", data, names + name_at)
        start = names + name_at + 6  # behind the length and a hash
        name = data[start : start + 2 * length].decode("utf-16-be")
        path = f"{parent}/{name}" if index else ""
        if flags & folder:
            count, first = struct.unpack_from(">2I", data, node + 6)
            waiting += [(child, path) for child in range(first, first + count)]
        elif not flags & zstandard:
            (at,) = struct.unpack_from(">I", data, node + 10)
            (size,) = struct.unpack_from(">I", data, contents + at)
            content = data[contents + at + 4 : contents + at + 4 + size]
            # Qt puts the unpacked size, four bytes, before what zlib wrote.
            yield path.lstrip("/"), zlib.decompress(content[4:]) if flags & compressed else content


def contents(packages: Path, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Place and bytes of every file in the three packages that could be a photo."""
    roots = {}
    for package in DEBIAN:
        roots[package] = scratch / package
        deb = _only(packages, f"{package}_*.deb")
        _run("dpkg-deb", "-x", str(deb), str(roots[package]))
    for archive in sorted((roots["gcompris-qt-data"] / "usr/share/gcompris-qt/rcc").glob("*.rcc")):
        for path, data in resources(archive.read_bytes()):
            yield f"gcompris-qt-data/{archive.name}/{path}", data
    stamps = roots["tuxpaint-stamps-default"] / "usr/share/tuxpaint/stamps"
    for file in sorted(stamps.rglob("*.png")):
        yield f"tuxpaint-stamps-default/{file.relative_to(stamps).as_posix()}", file.read_bytes()
    with zipfile.ZipFile(_only(packages, "foolbox-*.whl")) as wheel:
        for name in wheel.namelist():
            if name.startswith("foolbox/data/"):
                yield name.replace("foolbox/data/", "foolbox/"), wheel.read(name)


def download(packages: Path) -> None:
    """Fetch what isn't in the folder ``packages`` yet."""
    packages.mkdir(parents=True, exist_ok=True)
    for package in DEBIAN:
        if not any(packages.glob(f"{package}_*.deb")):
            _run("apt-get", "download", package, folder=packages)
    if not any(packages.glob("foolbox-*.whl")):
        pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps")
        _run(*pip, "--only-binary=:all:", "-d", str(packages), FOOLBOX)


def extract(packages: Path) -> dict[str, bytes]:
    """Bytes of all photos by their digest. Exits where one is missing."""
    wanted = {photo.place: photo for name in SETS for photo in read_list(name)}
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for place, data in contents(packages, Path(scratch)):
            photo = wanted.get(place)
            if photo and hashlib.sha256(data).hexdigest().startswith(photo.digest):
                found[photo.digest] = data
    missing = [place for place, photo in wanted.items() if photo.digest not in found]
    if missing:
        sys.exit(
            f"{len(missing)} of {len(wanted)} photos aren't in the packages in {packages}, or are "
            f"others, such as {missing[0]}: take the versions that this script's help names"
        )
    return found


def most_alike(photos: dict[str, bytes]) -> tuple[float, Photo, Photo]:
    """The calibration and the evaluation photo that are most alike, mirrored or not, and how much
    their thumbnails correlate."""
    sets = [read_list(name) for name in SETS]
    calibration, evaluation = (
        np.stack([_thumbnail(photos[photo.digest]) for photo in each]) for each in sets
    )
    alike = np.maximum(
        _correlations(calibration, evaluation), _correlations(calibration, evaluation[:, :, ::-1])
    )
    row, column = np.unravel_index(alike.argmax(), alike.shape)
    return float(alike[row, column]), sets[0][row], sets[1][column]


def _thumbnail(data: bytes) -> NDArray[np.float64]:
    """Grey [16, 16] of mean 0 and norm 1."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    grey = Image.alpha_composite(white, image).convert("L").resize((16, 16), Image.Resampling.BOX)
    values = np.array(grey, np.float64)
    values -= values.mean()
    values /= np.linalg.norm(values)
    return values


def _correlations(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    return some.reshape(len(some), -1) @ others.reshape(len(others), -1).T


def write(photos: dict[str, bytes], target: Path) -> None:
    """Write both sets and their classes, and nothing else, into the folder ``target``."""
    for name in SETS:
        folder = target / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        lines = []
        for photo in read_list(name):
            (folder / photo.name).write_bytes(photos[photo.digest])
            if photo.label is not None:
                lines.append(f"{photo.name},{photo.label}\n")
        (target / f"{name}.csv").write_text("".join(lines), encoding="utf-8")
        print(f"{folder}: {len(read_list(name))} photos, {len(lines)} of known class")


def _only(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        sys.exit(f"{folder} holds {len(files)} files like {pattern}, where one is needed")
    return files[0]


def _run(*command: str, folder: Path | None = None) -> None:
    if shutil.which(command[0]) is None:
        sys.exit(f"{command[0]} is needed and isn't installed: this works on Debian and Ubuntu")
    if subprocess.run(command, cwd=folder, check=False).returncode:
        sys.exit(f"{' '.join(command)} failed")


def main() -> None:
    """Write the photos where the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, help="folder to write; its two sets are replaced")
    parser.add_argument("--packages", type=Path, help="where the packages are, or are kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        packages = args.packages or Path(temporary)
        download(packages)
        photos = extract(packages)
    alike, calibration, evaluation = most_alike(photos)
    print(f"most alike: {calibration.place} and {evaluation.place}, correlation {alike:.3f}")
    if alike >= SAME:
        sys.exit("the two sets share a photo")
    write(photos, args.photos)


if __name__ == "__main__":
    main()
