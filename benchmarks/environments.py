"""Virtual environments for other engines and quantisers, each made on first use."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from pathlib import Path

_STAMP = "packages.txt"
"""Written last: an environment without it was broken off."""


def environment(folder: Path, packages: tuple[str, ...], separate: tuple[str, ...] = ()) -> Path:
    """Python of the environment in ``folder``, which is made if it isn't there as asked for.

    ``separate`` are packages that are installed without what they ask for. Raises RuntimeError
    if something can't be installed.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / _STAMP
    wanted = "\n".join((*packages, "", *separate))
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"  making an environment with {', '.join(packages + separate)}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        for options in (packages, ("--no-deps", *separate) if separate else ()):
            if options:
                _pip_install(python, folder, options)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def _pip_install(python: Path, folder: Path, options: tuple[str, ...]) -> None:
    command = [str(python), "-m", "pip", "install", "-q", *options]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    if process.returncode:
        shutil.rmtree(folder)
        raise RuntimeError(f"pip can't install it: {_last_line(process.stderr)}")


def _last_line(text: str) -> str:
    """pip's last word that isn't about pip itself."""
    lines = [line for line in text.splitlines() if line and not line.startswith("[notice]")]
    return lines[-1] if lines else "it doesn't say why"
