"""The seal of a model file: a digest that the file carries of itself, whatever its format.

A sealed file contains, exactly once, ``effnet-edge seal sha256:`` and 64 hexadecimal digits: the
SHA-256 of the whole file with these digits replaced by zeros. It tells damage and edits from what
was written; it is no signature, for anyone can compute it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from effnet_edge.errors import ModelError, ModelNotFoundError
from effnet_edge.files import open_regular

MARKER = b"effnet-edge seal sha256:"
PLACEHOLDER = MARKER + b"0" * 64
"""What a writer puts into a file, once, for `seal` to fill in."""

_CHUNK = 1 << 18


def seal(data: bytearray) -> str:
    """Write the digest over the placeholder in ``data``, in place, and return it (64 hex digits).

    Raises ModelError unless ``data`` holds exactly one marker, with its digits still zero.
    """
    at = data.find(MARKER)
    if at < 0 or data[at : at + len(PLACEHOLDER)] != PLACEHOLDER:
        raise ModelError("a model can't be sealed that holds no place for a seal")
    if data.find(MARKER, at + 1) >= 0:
        raise ModelError(
            f"a model can't be sealed that contains {MARKER.decode()!r} twice: "
            "is it in a label or a name?"
        )
    digest = hashlib.sha256(data).hexdigest()
    data[at + len(MARKER) : at + len(PLACEHOLDER)] = digest.encode("ascii")
    return digest


def verify(path: Path) -> str:
    """Check the seal of the file at ``path`` and return its digest (64 hex digits).

    Reads the file once, in pieces. Raises ModelNotFoundError for a missing file and ModelError
    for one that can't be read, has no seal or more than one, or isn't what was sealed.
    """
    digest = hashlib.sha256()
    sealed: bytes | None = None
    # One buffer for all pieces: new ones cost more time than hashing them.
    buffer = bytearray(len(PLACEHOLDER) + _CHUNK)
    window = memoryview(buffer)
    held = 0
    try:
        with open_regular(path) as file:
            while size := file.readinto(window[held:]):  # type: ignore[attr-defined]
                start, end = 0, held + size
                at = buffer.find(MARKER, start, end)
                # Digits that the next piece brings: keep them together with their marker.
                while at >= 0 and at + len(PLACEHOLDER) <= end:
                    if sealed is not None:
                        raise _changed(path, "it carries two seals")
                    sealed = bytes(window[at + len(MARKER) : at + len(PLACEHOLDER)])
                    digest.update(window[start:at])
                    digest.update(PLACEHOLDER)
                    start = at + len(PLACEHOLDER)
                    at = buffer.find(MARKER, start, end)
                # The end of a piece may be the beginning of a marker, or of its digits.
                done = max(start, end - len(PLACEHOLDER) + 1)
                digest.update(window[start:done])
                held = end - done
                buffer[:held] = buffer[done:end]
    except FileNotFoundError:
        raise ModelNotFoundError(f"there is no model file {path}") from None
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror or error}") from error
    digest.update(window[:held])
    if sealed is None:
        raise ModelError(
            f"{path} has no seal: it is cut short, or was not written by effnet-edge. "
            "Copy it again, or make one with effnet-edge convert"
        )
    if sealed != digest.hexdigest().encode("ascii"):
        raise _changed(path, "its seal doesn't match its content")
    return digest.hexdigest()


def _changed(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} was changed or damaged after it was written ({why}): "
        "convert it again or copy it again"
    )
