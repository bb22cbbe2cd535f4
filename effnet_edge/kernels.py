"""Our own kernels for int8 models: a C library, which not every installation has.

Without it, and where it can't be used, models run on the kernels of their engine: more slowly, and
to the same answers but for a rounding here and there. Two environment variables decide for a
process:

- ``EFFNET_EDGE_ISA``: the instruction set to use instead of the best; ``portable``: no kernels.
- ``EFFNET_EDGE_KERNELS``: another library than the package's own.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from effnet_edge.errors import UsageError

if TYPE_CHECKING:
    from ctypes import CDLL

ISA = "EFFNET_EDGE_ISA"
LIBRARY = "EFFNET_EDGE_KERNELS"
PORTABLE = "portable"

_PACKAGED = "_kernels/libeffnet_edge_kernels.so"
_ABI_VERSION = 1
"""EE_ABI_VERSION of effnet_edge_kernels.h."""
_REFERENCE = "scalar"
"""Kernels of that name are for tests: any engine is faster."""
_NOT_BUILT = (
    "not built: when effnet-edge was installed there was no C++17 compiler, or no kernels for this "
    "system; with one (Debian: g++) install it again"
)


@dataclass(frozen=True)
class Kernels:
    """What there is: the instruction set in use and the library, or the ``error`` for which none
    is. ``usable`` are all instruction sets that the processor can use, the best first; ``forced``:
    the environment says which."""

    isa: str | None
    usable: tuple[str, ...]
    library: str | None
    error: str | None
    forced: bool = False

    def identity(self) -> str:
        """A text that changes when other code computes: for what was measured with it."""
        if self.library is None:
            return PORTABLE
        # Not the version: a library of one's own, or a rebuilt one, has the same.
        found = Path(self.library).stat()
        return f"{self.isa}, {found.st_size} bytes of {found.st_mtime_ns}"


def find_kernels() -> Kernels:
    """Load the library and ask it; it stays loaded.

    Raises UsageError if ``EFFNET_EDGE_ISA`` asks for what can't be.
    """
    asked = os.environ.get(ISA, "")
    if asked == PORTABLE:
        return _without(f"switched off by {ISA}={PORTABLE}")
    asked_path = os.environ.get(LIBRARY)
    path = Path(asked_path) if asked_path else _packaged()
    library, why = None, _NOT_BUILT
    if path is not None:
        try:
            library = _load(path)
        except OSError as error:
            why = f"don't load: {error}"
    if path is None or library is None:
        if asked:
            raise UsageError(
                f"{ISA} asks for {asked!r}, but there are no kernels ({why}): unset it, or set it "
                f"to {PORTABLE!r}"
            )
        return _without(why)
    usable = _usable(library)
    if asked and asked not in usable:
        raise UsageError(
            f"{ISA} asks for {asked!r}, which this processor or this build of the kernels doesn't "
            f"have: choose one of {', '.join((*usable, PORTABLE))}"
        )
    if not asked and usable[0].startswith(_REFERENCE):
        return _without("this processor lacks the instructions that they use")
    return Kernels(asked or usable[0], usable, str(path), None, forced=bool(asked))


def _packaged() -> Path | None:
    """The package's own library. An editable installation has it elsewhere than its modules, and
    beside a checkout that is imported as it is there may be an installed package that has it."""
    import effnet_edge

    folders = (
        *map(Path, effnet_edge.__path__),
        *(Path(entry, "effnet_edge") for entry in sys.path),
    )
    places = (folder / _PACKAGED for folder in folders)
    return next((path for path in places if path.is_file()), None)


def _without(error: str) -> Kernels:
    return Kernels(None, (), None, error)


def _load(path: Path) -> CDLL:
    """Load a library of our version. Raises OSError."""
    import ctypes

    if not path.is_file():
        raise OSError(f"{path} is missing")
    library = ctypes.CDLL(str(path.resolve()))
    try:
        version = library.ee_abi_version()
        library.ee_usable_isa.restype = ctypes.c_char_p
    except AttributeError as error:
        raise OSError(f"{path} is another library: {error}") from None
    if version != _ABI_VERSION:
        raise OSError(f"{path} has version {version}, not {_ABI_VERSION}: install effnet-edge anew")
    return library


def _usable(library: CDLL) -> tuple[str, ...]:
    found: list[str] = []
    while (name := library.ee_usable_isa(len(found))) is not None:
        found.append(name.decode("ascii"))
    return tuple(found)
