"""Versions of installed packages, and which engines and kernels work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from effnet_edge.kernels import Kernels, find_kernels

_IMPORT_TIMEOUT_S = 60.0
_RECORDS = (".dist-info", ".egg-info")


@dataclass(frozen=True)
class InstalledEngine:
    """An inference engine: its ``version``, and the ``error`` for which it can't be used."""

    name: str
    package: str
    version: str | None
    error: str | None


def installed_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Return the version of each installed distribution, None for those that aren't.

    The names of the ``*.dist-info`` folders tell it (Python Packaging User Guide, "Recording
    installed projects"): importing importlib.metadata takes longer than loading a small model.
    """
    wanted = {_normalised(package): package for package in packages}
    found: dict[str, str | None] = {}
    untold = False
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                names = [entry.name for entry in entries if entry.name.endswith(_RECORDS)]
        except OSError:
            untold = untold or Path(folder).is_file()
            continue
        for entry in names:
            name, dash, version = entry.rpartition(".")[0].partition("-")
            package = wanted.get(_normalised(name))
            if package is not None and package not in found:
                if dash:
                    found[package] = version.partition("-")[0]  # numpy-1.24.2-py3.11.egg-info
                else:
                    untold = True
    return {
        package: found.get(package) or (_recorded_version(package) if untold else None)
        for package in wanted.values()
    }


def installed_version(package: str) -> str | None:
    """Return the version of one distribution; see `installed_versions`."""
    return installed_versions((package,))[package]


def engines() -> tuple[InstalledEngine, ...]:
    """Return every engine that this package can use, without importing any."""
    from effnet_edge.engines import ENGINES, NATIVE

    found = []
    versions = installed_versions(engine.package for engine in ENGINES.values())
    for engine in ENGINES.values():
        version = versions[engine.package]
        if engine.name == NATIVE:
            error = engine.obstacle()
        else:
            # Found without a version of that name: onnxruntime-gpu, or a build of one's own.
            there = version is not None or find_spec(engine.library) is not None
            error = None if there else f"not installed: pip install {engine.package}"
        found.append(InstalledEngine(engine.name, engine.package, version, error))
    return tuple(found)


def tried_engines() -> tuple[InstalledEngine, ...]:
    """`engines`, each imported in a process of its own: some seconds on a small board.

    A library that was built for another processor doesn't raise, it kills its process.
    """
    from effnet_edge.engines import ENGINES, NATIVE

    return tuple(
        replace(engine, error=engine.error or _import_error(ENGINES[engine.name].library))
        if engine.name != NATIVE  # which to list is to load
        else engine
        for engine in engines()
    )


def tried_kernels() -> Kernels:
    """Our kernels, registered with the engine that calls them in a process of its own.

    Raises UsageError if the environment asks for kernels that can't be.
    """
    found = find_kernels()
    if found.library is None or find_spec("onnxruntime") is None:
        return found
    error = _error_of(
        "import onnxruntime; onnxruntime.SessionOptions().register_custom_ops_library("
        f"{str(found.library)!r})"
    )
    return found if error is None else replace(found, isa=None, library=None, error=error)


def _import_error(module: str) -> str | None:
    """Say why a module can't be imported."""
    return _error_of(f"import {module}")


def _error_of(statements: str) -> str | None:
    """Say why statements can't be executed in another process."""
    import subprocess

    from effnet_edge.measurement import signal_name

    try:
        done = subprocess.run(  # noqa: S603  this Python, and statements of our own
            # The current folder, which -c puts first, may hold anybody's modules.
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:] = filter(None, sys.path); {statements}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_IMPORT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"doesn't load: {error}"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        name = signal_name(-done.returncode)
        why = ": built for another processor" if name == "SIGILL" else ""
        return f"is killed by {name} while it loads{why}"
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"doesn't load: {lines[-1] if lines else 'no reason given'}"


def _normalised(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def _recorded_version(package: str) -> str | None:
    """Ask the standard library: packages in zip files, and those that name no version there."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
