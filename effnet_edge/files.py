"""Files that are either whole or not there: atomic writing, digests, locks.

A file is written under a temporary name in its own folder, flushed to the disk, and then renamed
over its final name, so a reader sees the old file or the new one and a power cut leaves one of
them. The writer holds an advisory lock on the temporary file for as long as it lives; what a
killed process leaves behind is unlocked, and the next writer in that folder removes it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from effnet_edge.errors import StoreError, UsageError

if sys.platform != "win32":
    import fcntl

Buffer = bytes | bytearray | memoryview

TEMPORARY_SUFFIX = ".effnet-edge-tmp"

_CHUNK = 1 << 22
_SECONDS_TO_RENAME = 60.0
_SECONDS_WITHOUT_LOCKS = 86400.0

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space, or choose a folder on another disk",
    errno.EROFS: "the file system is read-only: choose a folder that can be written",
    errno.EACCES: "permission denied: choose a folder that you may write to",
    errno.EPERM: "permission denied: choose a folder that you may write to",
    errno.ENOTDIR: "a file stands where a folder is needed: move it, or choose another folder",
    errno.EEXIST: "a file stands where a folder is needed: move it, or choose another folder",
    errno.EISDIR: "a folder stands where the file should be: move it, or choose another name",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EFBIG: "the file system can't hold a file of this size: choose another disk",
}
# Absent from Windows' errno module.
if hasattr(errno, "EDQUOT"):
    _REMEDIES[errno.EDQUOT] = "your disk quota is used up: free some space, or choose another disk"


def storage_error(action: str, path: Path, error: OSError) -> StoreError:
    """A StoreError that says what failed (``"can't write"``), where, and what to do."""
    reason = _REMEDIES.get(error.errno or 0) or error.strerror or str(error)
    return StoreError(f"{action} {path}: {reason}")


def user_path(text: str | os.PathLike[str]) -> Path:
    """The path that a user means, ``~`` resolved. Raises UsageError for an unknown ``~user``."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{os.fspath(text)!r}: can't tell whose home folder that is: write the path without ~"
        ) from error


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, at once: a pipe or a device could keep us waiting for ever.

    Raises OSError, also for what is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def atomic_write(path: Path, data: Buffer) -> None:
    """Write ``data`` to ``path``, replacing what is there; missing folders are made.

    When it returns, the file is on the disk. When it raises, or the process dies, ``path`` is
    what it was before. Two writers of one path both succeed, and the last one's file stays.
    Readers that have the old file open keep it. Raises StoreError.
    """
    with staged(path, data) as file:
        file.commit()


class StagedFile:
    """A whole file on the disk that doesn't have its name yet; ``temporary`` can be read."""

    def __init__(self, path: Path, temporary: Path, descriptor: int) -> None:
        self.path = path
        self.temporary = temporary
        self._descriptor: int | None = descriptor

    def commit(self) -> None:
        """Give the file its name, replacing what had it. Raises StoreError."""
        try:
            if sys.platform == "win32":  # which refuses to rename an open file
                self.release()
                _replace_patiently(self.temporary, self.path)
            else:  # while the lock is still held
                self.temporary.replace(self.path)
            _flush_folder(self.path.parent)
        except OSError as error:
            raise storage_error("can't write", self.path, error) from error

    def release(self) -> None:
        """Close the file, and with it the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def staged(path: Path, data: Buffer) -> Iterator[StagedFile]:
    """Write ``data`` beside ``path``, to look at it before it gets its name by ``commit()``.

    What wasn't committed at the end, or when the process dies, never was. Missing folders are
    made. Raises StoreError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        descriptor, temporary = _create_temporary(path)
    except OSError as error:
        raise storage_error("can't write", path, error) from error
    file = StagedFile(path, temporary, descriptor)
    try:
        try:
            _write_all(descriptor, data)
            _flush_to_disk(descriptor)
        except OSError as error:
            raise storage_error("can't write", path, error) from error
        yield file
    finally:
        if sys.platform == "win32":  # which refuses to delete an open file
            file.release()
        with suppress(OSError):  # after a commit it isn't there
            temporary.unlink()
        file.release()


def remove_abandoned(folder: Path) -> None:
    """Remove what killed writers left in ``folder``; files being written are left alone."""
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with suppress(OSError):  # another process may be faster, or own the file
            _remove_if_abandoned(path)


def sha256(path: Path, progress: Callable[[int], object] | None = None) -> str:
    """Return the SHA-256 of a file as 64 hex digits; see `file_digest`."""
    return file_digest(path, "sha256", progress)


def file_digest(path: Path, algorithm: str, progress: Callable[[int], object] | None = None) -> str:
    """Return a file's digest by a ``hashlib`` algorithm in lower-case hex, in constant memory.

    ``progress`` is called with the number of bytes read since the last call. Raises OSError.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
            if progress is not None:
                progress(size)
    return digest.hexdigest()


def move_into_place(temporary: Path, path: Path) -> None:
    """Flush a finished file to the disk and give it its name in the same folder.

    Atomic like `atomic_write`, for files that grew under a name of their own. Raises StoreError.
    """
    try:
        with temporary.open("r+b") as file:
            _flush_to_disk(file.fileno())
        _replace_patiently(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise storage_error("can't write", path, error) from error


@contextmanager
def exclusive(
    path: Path, waiting: Callable[[], object] | None = None, seconds: float = -1
) -> Iterator[None]:
    """Hold the lock file ``path`` against other processes and threads.

    ``waiting`` is called once if somebody else holds it. The system releases the lock of a
    process that dies. Raises StoreError where the lock file can't be made, or somebody else still
    holds it after ``seconds`` (negative: wait for ever).
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting is not None:
                waiting()
            lock.acquire(timeout=seconds)
    except Timeout as error:
        raise StoreError(f"can't lock {path}: another process holds it") from error
    except NotImplementedError as error:
        raise StoreError(f"can't lock {path}: this file system has no locks") from error
    except OSError as error:
        raise storage_error("can't lock", path, error) from error
    try:
        yield
    finally:
        lock.release()


def _create_temporary(path: Path) -> tuple[int, Path]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        # Not tempfile.mkstemp: its mode 0600 would hide a shared store's models from others.
        descriptor = os.open(temporary, flags, 0o666)
        if sys.platform == "win32":
            return descriptor, temporary
        with suppress(OSError):  # a file system without locks: age alone tells
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Between open and flock another process may have taken the file for abandoned.
        try:
            if os.path.samestat(temporary.stat(), os.fstat(descriptor)):
                return descriptor, temporary
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _remove_if_abandoned(path: Path) -> None:
    age = time.time() - path.lstat().st_mtime
    if sys.platform == "win32":
        # An open file can't be deleted there; the age covers the moment from close to rename.
        if age > _SECONDS_TO_RENAME:
            path.unlink()
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except OSError:
        if age > _SECONDS_WITHOUT_LOCKS:
            path.unlink()
    else:
        path.unlink()
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: Buffer) -> None:
    view = memoryview(data).cast("B")
    offset = 0
    while offset < len(view):
        offset += os.write(descriptor, view[offset : offset + _CHUNK])


def _flush_to_disk(descriptor: int) -> None:
    if sys.platform == "darwin":  # where fsync stops at the drive's own cache
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _flush_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    with suppress(OSError):  # some file systems refuse, and the file itself is safe
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace_patiently(temporary: Path, path: Path) -> None:
    """Rename; on Windows wait about a second for virus scanners and short readers of ``path``."""
    for pause in (0.05, 0.1, 0.2, 0.4) if sys.platform == "win32" else ():
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(pause)
    temporary.replace(path)
