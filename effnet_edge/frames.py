"""Where frames come from: a camera, a pipe of Motion JPEG, a folder, or any iterable of images."""

from __future__ import annotations

import io
import os
import stat
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, SupportsIndex, TypeAlias

import numpy as np
from PIL import Image

from effnet_edge.errors import CameraError, UsageError
from effnet_edge.files import user_path
from effnet_edge.image_folder import images_below
from effnet_edge.images import ImageSource
from effnet_edge.motion_jpeg import split_frames

FrameSource: TypeAlias = "int | str | os.PathLike[str] | IO[bytes] | Iterable[ImageSource]"

_CHUNK = 1 << 16
_WAIT_SECONDS = 0.1
_SIZES = ((640, 480), (1280, 720), (1920, 1080))


@dataclass(frozen=True)
class Frame:
    """One frame that nobody has looked at yet.

    ``decode`` returns what `effnet_edge.images.open_image` takes and may raise ImageError,
    ``captured`` is when the frame was made or became known, in seconds of `time.monotonic`, and
    ``lost`` how many frames were lost right before it. ``name`` is its file, if it has one.
    """

    decode: Callable[[], ImageSource]
    captured: float
    lost: int = 0
    name: str | None = None


class Source(ABC):
    """Something that gives frames, once.

    ``live`` tells a source that goes on whether or not anybody looks, so that frames grow stale,
    from a recorded one. ``may_be_damaged`` says that a frame now and then which can't be decoded
    is normal. ``stopped`` is set once nobody wants any more frames.
    """

    live: bool
    may_be_damaged = False
    stopped = False

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Yield the frames, waiting for each."""

    def stop(self) -> None:
        """Make `frames`, which another thread may be waiting in, end soon where that can be."""
        self.stopped = True

    def close(self) -> None:  # noqa: B027 - most need nothing
        """Let go of what the source has opened, after `frames` has ended."""


class ImageFolder(Source):
    """The images below a folder in the order of their paths, those that are there at the start."""

    live = False

    def __init__(self, folder: Path) -> None:
        self._paths = images_below(folder)
        if not self._paths:
            raise CameraError(f"there are no image files in {folder}")

    def frames(self) -> Iterator[Frame]:
        """Yield a frame for each file, none of which is opened before it is decoded."""
        for path in self._paths:
            yield Frame(lambda path=path: path, time.monotonic(), name=str(path))  # type: ignore[misc]


class MotionJpeg(Source):
    """JPEG images from an open binary file, which stays open; a pipe or a connection is live, a
    file isn't. `stop` ends `frames` within a tenth of a second where a pipe is read, and with the
    next bytes on Windows and where another library stands between, as for HTTPS."""

    may_be_damaged = True

    def __init__(self, file: Any) -> None:
        self._file = file
        try:
            descriptor: int | None = file.fileno()
        except (AttributeError, OSError):  # in memory
            descriptor = None
        self.live = descriptor is not None and not stat.S_ISREG(os.fstat(descriptor).st_mode)
        # What comes out of any other object isn't what its descriptor gives: HTTPS is encrypted.
        raw = file.raw if isinstance(file, io.BufferedReader) else file
        self._descriptor = descriptor if self.live and isinstance(raw, io.FileIO) else None

    def frames(self) -> Iterator[Frame]:
        """Yield whole images as they arrive."""
        for data, lost in split_frames(self._read):
            yield Frame(lambda data=data: data, time.monotonic(), lost)  # type: ignore[misc]

    def _read(self) -> bytes:
        while not self.stopped:
            if self._descriptor is None:
                # `read` of a buffered object would wait until there is so much.
                read: Callable[[int], bytes] = getattr(self._file, "read1", self._file.read)
                return read(_CHUNK)
            if _readable(self._descriptor):
                # Past Python's buffers, whose lock a waiting thread would hold to the very end.
                return os.read(self._descriptor, _CHUNK)
        return b""


def _readable(descriptor: int) -> bool:
    if sys.platform == "win32":  # which can't wait for a pipe
        return True
    import select

    poll = select.poll()  # unlike select.select, for descriptors from 1024 too
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(_WAIT_SECONDS * 1e3))


class OpenedMotionJpeg(MotionJpeg):
    """The same from a path."""

    def __init__(self, path: Path) -> None:
        try:
            file = path.open("rb", buffering=0)
        except OSError as error:
            raise CameraError(f"can't read {path}: {error.strerror or error}") from error
        super().__init__(file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Images(Source):
    """What an iterable gives. One with a length is recorded; any other, such as a generator that
    reads a camera, is live."""

    def __init__(self, images: Iterable[ImageSource]) -> None:
        self._images = images
        self.live = not isinstance(images, Sized)

    def frames(self) -> Iterator[Frame]:
        """Yield a frame for each image."""
        for image in self._images:
            captured = time.monotonic()
            if self.live and isinstance(image, np.ndarray):
                image = image.copy()  # many libraries fill the same array again and again
            yield Frame(lambda image=image: image, captured)  # type: ignore[misc]
            if self.stopped:
                return


def open_source(source: FrameSource, at_least: tuple[int, int] = (0, 0)) -> Source:
    """Open what frames are to come from.

    A number is a camera, 0 for ``/dev/video0``; so is its path. Another path is a folder of images
    or a file or named pipe of Motion JPEG, as an open binary file is. Anything else is an iterable
    of images, see `effnet_edge.images.open_image`. ``at_least`` is the (height, width) below which
    a camera's picture would have to be enlarged.

    Raises CameraError for what can't be opened, UsageError for what can give no frames.
    """
    if isinstance(source, (str, os.PathLike)):
        return _from_path(os.fspath(source), at_least)
    if isinstance(source, SupportsIndex) and not isinstance(source, (bool, np.ndarray)):
        return _camera(source.__index__(), at_least)
    if hasattr(source, "isOpened"):
        raise UsageError(
            "OpenCV's captures give BGR and can't be iterated over: give a generator that reads "
            "them and yields cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)"
        )
    one_image = isinstance(source, (bytes, bytearray, memoryview, Image.Image))
    if one_image or (isinstance(source, np.ndarray) and source.ndim != 4):
        raise UsageError("a stream has several frames: give a list of them, or call predict")
    if hasattr(source, "read"):
        if isinstance(source, io.TextIOBase):
            raise UsageError("the stream is open in text mode: open it with mode 'rb'")
        return MotionJpeg(source)
    if isinstance(source, Iterable) and not isinstance(source, (set, frozenset, dict)):
        return Images(source)
    raise UsageError(
        f"can't read frames from {type(source).__name__}: give a camera's number or path, a "
        "folder, an open binary file of Motion JPEG, or an iterable of images"
    )


def _from_path(text: str, at_least: tuple[int, int]) -> Source:
    if not isinstance(text, str) or not text or "\0" in text:
        raise UsageError("give a camera, such as /dev/video0, or the path of a folder")
    if text.isascii() and text.isdigit():
        return _camera(int(text), at_least)
    if "://" in text:
        raise UsageError(
            "network streams aren't read: pipe them in, 'ffmpeg -loglevel error -i "
            f"{text} -f mjpeg - | effnet-edge predict --stream -'"
        )
    path = user_path(text)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if str(path).startswith("/dev/"):
            return _open_camera(path, at_least)
        raise CameraError(f"can't read {path}: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        return ImageFolder(path)
    if stat.S_ISCHR(mode):
        return _open_camera(path, at_least)
    return OpenedMotionJpeg(path)


def _camera(number: int, at_least: tuple[int, int]) -> Source:
    from effnet_edge.camera import camera_path

    if number < 0:
        raise UsageError(f"cameras are numbered from 0: {number} is none")
    return _open_camera(camera_path(number), at_least)


def _open_camera(path: Path, at_least: tuple[int, int]) -> Source:
    from effnet_edge.camera import Camera

    big_enough = (
        (width, height)
        for width, height in _SIZES
        if height >= at_least[0] and width >= at_least[1]
    )
    return Camera(path, next(big_enough, _SIZES[-1]))
