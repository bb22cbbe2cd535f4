"""What was measured, remembered for as long as it holds.

One small file an entry, under a name made of everything that the entry depends on. Entries are
written whole or not at all, carry a digest of themselves, and one that can't be read or is
someone else's is as good as none. Nothing here is needed: without a place to write, everything
works and is measured again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from effnet_edge.errors import StoreError
from effnet_edge.files import atomic_write, exclusive

FORMAT = 1
MOST_ENTRIES = 500
"""Beyond these the oldest are removed: of models that are gone, of another governor."""

_MOST_BYTES = 4 << 20
_SECONDS_TO_WAIT = 600.0


class MeasurementCache:
    """Entries below the first of ``homes`` that can be written; read from all of them."""

    def __init__(self, homes: Sequence[Path]) -> None:
        self._folders = [home / "measurements" for home in dict.fromkeys(homes)]
        self.problem: str | None = None
        """Why nothing could be remembered, once that is known."""

    def get(self, key: dict[str, Any]) -> Any:
        """What was put under ``key``, or None."""
        for folder in self._folders:
            entry = _read(folder / _name(key))
            if entry is not None and entry["key"] == json.loads(_canonical(key)):
                return entry["value"]
        return None

    def put(self, key: dict[str, Any], value: Any) -> None:
        """Keep ``value``, of JSON's types, under ``key``, if there is a place to write."""
        content = {"format": FORMAT, "key": key, "value": value}
        content["sha256"] = hashlib.sha256(_canonical(content)).hexdigest()
        for folder in self._folders:
            try:
                atomic_write(folder / _name(key), _canonical(content))
            except StoreError as error:
                self.problem = str(error)
                continue
            self.problem = None
            _forget_oldest(folder)
            return

    @contextmanager
    def measuring(self, device: str, waiting: Callable[[], object]) -> Iterator[None]:
        """Hold the lock of all who measure on ``device``: they would disturb each other.

        Where no lock can be made, or somebody keeps it for ten minutes, there is none.
        """
        name = f"{hashlib.sha256(device.encode()).hexdigest()[:16]}.lock"
        with ExitStack() as stack:
            for folder in self._folders:
                with suppress(OSError):
                    folder.mkdir(parents=True, exist_ok=True)
                with suppress(StoreError):
                    stack.enter_context(exclusive(folder / name, waiting, _SECONDS_TO_WAIT))
                    break
            yield


def _name(key: dict[str, Any]) -> str:
    return f"{hashlib.sha256(_canonical(key)).hexdigest()[:32]}.json"


def _canonical(data: dict[str, Any]) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            entry = json.loads(file.read(_MOST_BYTES))
        digest = entry.pop("sha256")
        sound = (
            entry["format"] == FORMAT and digest == hashlib.sha256(_canonical(entry)).hexdigest()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return entry if sound else None


def _forget_oldest(folder: Path) -> None:
    with suppress(OSError):  # others may be at it too
        entries = list(folder.glob("*.json"))
        if len(entries) > MOST_ENTRIES:
            entries.sort(key=lambda path: path.stat().st_mtime)
            for path in entries[: len(entries) - MOST_ENTRIES]:
                path.unlink(missing_ok=True)
