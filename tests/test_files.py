"""Atomic writing, digests and locks, with writers that die and disks that refuse."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from effnet_edge import files
from effnet_edge.errors import StoreError, UsageError
from effnet_edge.files import (
    atomic_write,
    exclusive,
    file_digest,
    move_into_place,
    open_regular,
    sha256,
    staged,
    user_path,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks and permissions")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(f".*{files.TEMPORARY_SUFFIX}"))


def test_a_written_file_holds_the_data_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "folder" / "model.onnx"
    atomic_write(path, b"one")
    atomic_write(path, memoryview(bytearray(b"two")))
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["model.onnx"]


def test_data_larger_than_one_write_arrives_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_CHUNK", 7)
    data = bytes(range(256))
    atomic_write(tmp_path / "x", data)
    assert (tmp_path / "x").read_bytes() == data


@posix
def test_a_shared_store_stays_readable_for_others(tmp_path):
    old = os.umask(0o022)
    try:
        atomic_write(tmp_path / "x", b"data")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_a_disk_that_refuses_keeps_the_old_file_and_says_what_to_do(
    tmp_path, monkeypatch, code, advice
):
    path = tmp_path / "model.onnx"
    atomic_write(path, b"old")
    monkeypatch.setattr(files, "_CHUNK", 4)
    write = os.write

    def refuse(descriptor, data):
        if bytes(data) == b"good":
            return write(descriptor, data)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(StoreError, match=advice) as caught:
        atomic_write(path, b"goodbad")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


@pytest.fixture
def mounted(tmp_path):
    """Mount something at a folder below tmp_path; skip where that isn't allowed."""
    places = []

    def mount(*arguments: str) -> Path:
        place = tmp_path / f"mount{len(places)}"
        place.mkdir()
        try:
            subprocess.run(
                ["mount", *arguments, str(place)], check=True, capture_output=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"can't mount here: {error}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", str(place)], check=True, timeout=10)


def test_a_full_disk_keeps_the_old_file(mounted):
    disk = mounted("-t", "tmpfs", "-o", "size=128k", "tmpfs")
    atomic_write(disk / "model.onnx", b"old")
    with pytest.raises(StoreError, match="the disk is full"):
        atomic_write(disk / "model.onnx", bytes(1 << 20))
    assert (disk / "model.onnx").read_bytes() == b"old"
    assert leftovers(disk) == []
    atomic_write(disk / "model.onnx", b"new")
    assert (disk / "model.onnx").read_bytes() == b"new"


def test_a_read_only_disk_is_named_as_such(mounted):
    disk = mounted("-t", "tmpfs", "-o", "ro,size=128k", "tmpfs")
    with pytest.raises(StoreError, match="read-only"):
        atomic_write(disk / "model.onnx", b"data")
    with pytest.raises(StoreError, match="read-only"):
        atomic_write(disk / "new folder" / "model.onnx", b"data")


def test_a_file_where_a_folder_is_needed_is_a_store_error(tmp_path):
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        atomic_write(tmp_path / "models" / "x.onnx", b"data")


def test_a_folder_where_the_file_belongs_is_a_store_error(tmp_path):
    (tmp_path / "x.onnx").mkdir()
    with pytest.raises(StoreError, match=r"x\.onnx"):
        atomic_write(tmp_path / "x.onnx", b"data")
    assert leftovers(tmp_path) == []


def test_ctrl_c_during_a_write_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    atomic_write(path, b"old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_flush_to_disk", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


HALF_WRITER = """
import os, sys, time
from pathlib import Path
from effnet_edge import files

def stop(descriptor):
    print("half", flush=True)
    time.sleep(600)

files._flush_to_disk = stop
files.atomic_write(Path(sys.argv[1]), b"new" * 1000)
"""


def start_half_writer(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HALF_WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


@posix
def test_kill_9_in_the_middle_of_a_write_leaves_the_old_file_and_the_next_write_tidies_up(tmp_path):
    path = tmp_path / "model.onnx"
    atomic_write(path, b"old")
    process = start_half_writer(path)
    process.kill()
    process.wait()
    process.stdout.close()
    assert path.read_bytes() == b"old"
    assert len(leftovers(tmp_path)) == 1

    atomic_write(tmp_path / "other.onnx", b"other")
    assert leftovers(tmp_path) == []
    assert path.read_bytes() == b"old"


@posix
def test_a_write_in_progress_is_not_taken_for_abandoned(tmp_path):
    path = tmp_path / "model.onnx"
    process = start_half_writer(path)
    try:
        os.utime(leftovers(tmp_path)[0], (0, 0))  # as old as can be
        atomic_write(path, b"mine")
        assert len(leftovers(tmp_path)) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert path.read_bytes() == b"mine"


def test_on_windows_an_uncommitted_file_is_closed_before_it_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "sys", SimpleNamespace(platform="win32"))
    unlink, was_open = Path.unlink, []

    def windows_unlink(path, **options):
        was_open.append(file._descriptor is not None)
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", windows_unlink)
    with staged(tmp_path / "model.onnx", b"data") as file:
        assert len(leftovers(tmp_path)) == 1
    assert was_open == [False]
    assert names(tmp_path) == []


@posix
def test_without_locks_only_old_leftovers_are_removed(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    fresh = tmp_path / f".a.onnx.00000000{files.TEMPORARY_SUFFIX}"
    old = tmp_path / f".b.onnx.00000000{files.TEMPORARY_SUFFIX}"
    for path in (fresh, old):
        path.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))
    atomic_write(tmp_path / "c.onnx", b"data")
    assert leftovers(tmp_path) == [fresh]


@posix
def test_a_link_that_looks_like_a_leftover_does_not_lead_outside(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / f".a.onnx.00000000{files.TEMPORARY_SUFFIX}").symlink_to(outside)
    atomic_write(folder / "b.onnx", b"data")
    assert outside.read_bytes() == b"precious"


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    path = tmp_path / "model.onnx"
    versions = [bytes([number]) * 300_000 for number in range(8)]
    atomic_write(path, versions[0])
    done = threading.Event()
    torn = []

    def read():
        while not done.is_set():
            if path.read_bytes() not in versions:
                torn.append(True)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=atomic_write, args=(path, data)) for data in versions * 3]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not torn
    assert path.read_bytes() in versions
    assert names(tmp_path) == ["model.onnx"]


@posix
def test_a_reader_keeps_the_old_file_while_it_is_replaced(tmp_path):
    path = tmp_path / "model.onnx"
    atomic_write(path, b"old")
    with path.open("rb") as reader:
        atomic_write(path, b"new")
        assert reader.read() == b"old"


def test_the_digest_is_hashlibs_and_progress_adds_up(tmp_path):
    data = os.urandom(10_000_000)
    path = tmp_path / "x"
    path.write_bytes(data)
    steps: list[int] = []
    assert sha256(path, steps.append) == hashlib.sha256(data).hexdigest()
    assert sum(steps) == len(data)
    assert file_digest(path, "md5") == hashlib.md5(data).hexdigest()


def test_the_users_home_is_resolved_and_an_unknown_user_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert user_path("~/a.onnx") == tmp_path / "a.onnx"
    assert user_path(Path("a/~b")) == Path("a/~b")
    with pytest.raises(UsageError, match="no-such-user-here"):
        user_path("~no-such-user-here/a.onnx")


@posix
def test_only_regular_files_are_opened_and_at_once(tmp_path):
    (tmp_path / "file").write_bytes(b"data")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"data"
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="a pipe or a device"):
            open_regular(path)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_a_finished_file_moves_into_place(tmp_path):
    part = tmp_path / "x.part"
    part.write_bytes(b"data")
    move_into_place(part, tmp_path / "x")
    assert names(tmp_path) == ["x"]
    with pytest.raises(StoreError):
        move_into_place(part, tmp_path / "x")


def test_a_lock_lets_one_in_at_a_time_and_says_that_it_waits(tmp_path):
    path = tmp_path / "x.lock"
    waited = threading.Event()
    order = []

    def second():
        with exclusive(path, waited.set):
            order.append("second")

    with exclusive(path):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_lock_in_a_missing_folder_is_a_store_error(tmp_path):
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(StoreError, match="can't lock"), exclusive(tmp_path / "folder" / "x.lock"):
        pass
