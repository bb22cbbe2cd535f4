"""Known weights on this machine: from the cache, an installed package, a mirror or the network."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from effnet_edge.converters.transfer import transfer
from effnet_edge.errors import DownloadError, UsageError
from effnet_edge.files import exclusive, file_digest, move_into_place, storage_error, user_path
from effnet_edge.models.weights import KnownWeights
from effnet_edge.store import default_home

MIRROR_VARIABLE = "EFFNET_EDGE_MIRROR"


def fetch(
    weights: KnownWeights,
    home: Path | None = None,
    *,
    mirror: str | None = None,
    progress: bool | None = None,
    timeout: float = 20.0,
    retries: int = 4,
) -> Path:
    """Return the verified file of ``weights``, downloading it if it isn't here.

    Downloads stay at ``<home>/weights/<file>``; what broke off continues from ``<file>.part``.
    ``mirror`` (default: ``EFFNET_EDGE_MIRROR``) is an http(s) address that the file name is
    appended to, or a folder or file address, whose file is used where it lies. ``progress`` None
    shows a bar on a terminal. ``timeout`` and ``retries`` as in `transfer`.

    Whatever the file came from, its digest is checked. Raises DownloadError that says what to
    bring where, StoreError, or UsageError for a mirror that can't be one.
    """
    folder = (default_home() if home is None else home) / "weights"
    cached = folder / weights.file
    if _exists(cached):
        return _verified(weights, cached)
    packaged = _in_package(weights)
    if packaged is not None:
        return _verified(weights, packaged)
    without_mirror = None
    if mirror:
        without_mirror = "give no mirror"
    elif mirror := os.environ.get(MIRROR_VARIABLE):
        without_mirror = f"unset {MIRROR_VARIABLE}"
    source = _source(weights, mirror)
    if isinstance(source, Path):
        if not _exists(source):
            raise DownloadError(
                f"the mirror {source.parent} has no {weights.file}: put it there, or "
                f"{without_mirror}"
            )
        return _verified(weights, source)

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("can't make", folder, error) from error
    with exclusive(folder / f".{weights.file}.lock", lambda: _say_waiting(weights)):
        if not _exists(cached):
            shown = sys.stderr.isatty() if progress is None else progress
            advice = _way_out(weights, cached, without_mirror)
            _download(weights, source, cached, shown, timeout, retries, advice)
            return cached
    return _verified(weights, cached)


def _way_out(weights: KnownWeights, cached: Path, without_mirror: str | None) -> str:
    if without_mirror is not None:
        return (
            f"Check that the mirror has the file, or {without_mirror}; or put {weights.file} at "
            f"{cached} yourself and run the same command again."
        )
    return (
        f"Without a network: get {weights.url} on another machine, put it at {cached} and run "
        f"the same command again. A mirror can be set with {MIRROR_VARIABLE} (an address or a "
        "folder)."
    )


def _download(
    weights: KnownWeights,
    url: str,
    cached: Path,
    progress: bool,
    timeout: float,
    retries: int,
    advice: str,
) -> None:
    part = cached.with_name(f"{cached.name}.part")
    resumed = _exists(part)
    while True:
        try:
            transfer(url, part, progress=progress, timeout=timeout, retries=retries)
        except DownloadError as error:
            raise DownloadError(
                f"can't download the {weights.title} from {url}: {error}\n{advice}"
            ) from error
        digest = _digest(weights, part)
        if digest.startswith(weights.digest):
            move_into_place(part, cached)
            return
        page = _is_web_page(part)
        try:
            part.unlink()
        except OSError as error:
            raise storage_error("can't remove", part, error) from error
        if not resumed:
            raise DownloadError(
                f"what {url} sends is {'a web page, ' if page else ''}not {weights.file}: "
                f"{_expected(weights, digest)}. Nothing was kept; check the mirror or the proxy."
            )
        resumed = False  # the old part may have been of something else: once more, from zero


def _source(weights: KnownWeights, mirror: str | None) -> str | Path:
    if not mirror:
        if weights.url is None:
            raise DownloadError(
                f"the {weights.title} come in a Python package: pip install {weights.package}"
            )
        return weights.url
    try:
        parts = urlsplit(mirror)
    except ValueError as error:
        raise UsageError(f"the mirror {mirror} can't be used: {error}") from error
    if parts.scheme in ("http", "https"):
        return f"{mirror.rstrip('/')}/{weights.file}"
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(url2pathname(parts.path)) / weights.file
    if "://" in mirror:
        raise UsageError(
            f"the mirror {mirror} can't be used: give an http, https or file address, or a folder"
        )
    return user_path(mirror) / weights.file


def _in_package(weights: KnownWeights) -> Path | None:
    """The file inside its PyPI package, which is looked up but never imported."""
    if weights.module is None:
        return None
    spec = importlib.util.find_spec(weights.module)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(location) / "models" / weights.file
        if path.is_file():
            return path
    return None


def _verified(weights: KnownWeights, path: Path) -> Path:
    digest = _digest(weights, path)
    if not digest.startswith(weights.digest):
        raise DownloadError(
            f"{path} is not the released file of the {weights.title}: "
            f"{_expected(weights, digest)}. Remove or replace it and run the same command again."
        )
    return path


def _digest(weights: KnownWeights, path: Path) -> str:
    try:
        return file_digest(path, weights.algorithm)
    except OSError as error:
        raise storage_error("can't read", path, error) from error


def _expected(weights: KnownWeights, digest: str) -> str:
    wanted = weights.digest + ("..." if len(weights.digest) < len(digest) else "")
    return f"its {weights.algorithm.upper()} should be {wanted} and is {digest}"


def _is_web_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"<")


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise storage_error("can't read", path, error) from error


def _say_waiting(weights: KnownWeights) -> None:
    print(f"another process is downloading {weights.file}: waiting for it", file=sys.stderr)
