"""Versions of installed packages, and which engines among them work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

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
    from effnet_edge.engines import ENGINES

    found = []
    versions = installed_versions(engine.package for engine in ENGINES.values())
    for engine in ENGINES.values():
        version = versions[engine.package]
        # Found without a version of that name: onnxruntime-gpu, or a build of one's own.
        there = version is not None or find_spec(engine.library) is not None
        error = None if there else f"not installed: pip install {engine.package}"
        found.append(InstalledEngine(engine.name, engine.package, version, error))
    return tuple(found)


def tried_engines() -> tuple[InstalledEngine, ...]:
    """`engines`, each imported in a process of its own: some seconds on a small board.

    A library that was built for another processor doesn't raise, it kills its process.
    """
    from effnet_edge.engines import ENGINES

    return tuple(
        replace(engine, error=engine.error or _import_error(ENGINES[engine.name].library))
        for engine in engines()
    )


def _import_error(module: str) -> str | None:
    """Say why a module can't be imported."""
    import subprocess

    from effnet_edge.measurement import signal_name

    try:
        done = subprocess.run(  # noqa: S603  this Python, and a name of our own
            # The current folder, which -c puts first, may hold anybody's modules.
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:] = filter(None, sys.path); import {module}",
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
