"""Frames from a camera through Video4Linux2, with nothing but the kernel's own interface."""

from __future__ import annotations

import ctypes
import errno
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from effnet_edge.camera import v4l2
from effnet_edge.camera.pixels import DECODERS, Layout
from effnet_edge.errors import CameraError
from effnet_edge.frames import Frame, Source

_BUFFERS = 4
_WAIT_SECONDS = 0.1
"""How soon a camera that gives nothing notices that it was stopped."""
_SILENCE_SECONDS = 10.0
"""Some cameras take seconds to their first frame; none this long."""

_JPEG_COLORSPACE, _REC709_COLORSPACE, _DCI_P3_COLORSPACE = 7, 3, 12
_ENCODINGS_709 = (2, 4)  # V4L2_YCBCR_ENC_709 and _XV709
_FULL_RANGE = 1


class Camera(Source):
    """A video device, capturing from when it was opened.

    ``size`` is the (width, height) in pixels to ask for; the driver may choose another. Raises
    CameraError that says what is wrong and what to do, also later while frames are read.
    """

    live = True
    may_be_damaged = True

    def __init__(self, path: Path, size: tuple[int, int] = (640, 480)) -> None:
        self._path = path
        self._maps: list[Any] = []
        self._device = _open(path)
        try:
            self._check_capabilities()
            self.format, self.layout = self._choose_format(size)
            self._start()
        except OSError as error:
            self.close()
            raise _failure(path, error) from error
        except BaseException:
            self.close()
            raise

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they come, until a tenth of a second after `stop`."""
        expected: int | None = None
        heard = time.monotonic()
        lost = 0
        while not self.stopped:
            try:
                buffer = self._dequeue()
                if buffer is None:
                    if time.monotonic() - heard > _SILENCE_SECONDS:
                        raise CameraError(
                            f"{self._path} gave no frame for {_SILENCE_SECONDS:.0f} seconds: "
                            "is its cable loose, or its lens cover a switch?"
                        )
                    continue
                now = heard = time.monotonic()
                data = self._maps[buffer.index][: buffer.bytesused]
                self._device.call(v4l2.QUEUE_BUFFER, buffer)
            except OSError as error:
                raise _failure(self._path, error) from error
            # Frames for which there was no buffer; some drivers don't count.
            if expected is not None and buffer.sequence > expected:
                lost += buffer.sequence - expected
            expected = buffer.sequence + 1
            if buffer.flags & v4l2.BUFFER_DAMAGED or not data:
                lost += 1
                continue
            decode = partial(DECODERS[self.format], data, self.layout)
            yield Frame(decode, _capture_time(buffer, now), lost)
            lost = 0

    def close(self) -> None:
        """Stop capturing and let the device go. Any number of times."""
        self.stopped = True
        device, self._device = self._device, None
        if device is None:
            return
        with suppress(OSError):  # it wasn't streaming yet, or was unplugged
            device.call(v4l2.STREAM_OFF, ctypes.c_int(v4l2.CAPTURE))
        for mapped in self._maps:
            mapped.close()
        device.close()

    def _check_capabilities(self) -> None:
        capability = v4l2.Capability()
        self._device.call(v4l2.QUERY_CAPABILITY, capability)
        has_own = capability.capabilities & v4l2.HAS_DEVICE_CAPABILITIES
        can = capability.device_caps if has_own else capability.capabilities
        if can & v4l2.CAN_CAPTURE and can & v4l2.CAN_STREAM:
            return
        if can & v4l2.CAN_CAPTURE_METADATA:
            what = "gives a camera's metadata, not its pictures"
        elif can & v4l2.CAN_CAPTURE_PLANES:
            what = "is part of a camera pipeline, not a camera"
        elif can & v4l2.CAN_CAPTURE:
            what = "has no streaming"
        else:
            what = "is no camera"
        card = capability.card.decode("utf-8", "replace")
        raise CameraError(f"{self._path} ({card}) {what}{_others(self._path)}\n{_BY_PIPE}")

    def _choose_format(self, size: tuple[int, int]) -> tuple[str, Layout]:
        offered = self._offered_formats()
        for name in DECODERS:
            if name in offered:
                chosen = v4l2.Format(type=v4l2.CAPTURE)
                pixels = chosen.fmt.pix
                pixels.width, pixels.height = size
                pixels.pixelformat = v4l2.fourcc(name)
                pixels.field = v4l2.PROGRESSIVE
                self._device.call(v4l2.SET_FORMAT, chosen)
                if pixels.pixelformat == v4l2.fourcc(name):
                    return name, _layout(pixels)
        raise CameraError(
            f"{self._path} offers pixels as {', '.join(offered) or 'nothing'}, and effnet-edge "
            f"reads {', '.join(DECODERS)}\n{_BY_PIPE}"
        )

    def _offered_formats(self) -> list[str]:
        names = []
        for index in range(256):
            description = v4l2.FormatDescription(index=index, type=v4l2.CAPTURE)
            try:
                self._device.call(v4l2.ENUMERATE_FORMATS, description)
            except OSError as error:
                if error.errno == errno.EINVAL:  # that was all
                    break
                raise
            names.append(v4l2.fourcc_name(description.pixelformat))
        return names

    def _start(self) -> None:
        wanted = v4l2.RequestBuffers(count=_BUFFERS, type=v4l2.CAPTURE, memory=v4l2.MEMORY_MAP)
        self._device.call(v4l2.REQUEST_BUFFERS, wanted)
        for index in range(wanted.count):
            buffer = _buffer(index)
            self._device.call(v4l2.QUERY_BUFFER, buffer)
            self._maps.append(self._device.map(buffer.length, buffer.m.offset))
            self._device.call(v4l2.QUEUE_BUFFER, buffer)
        self._device.call(v4l2.STREAM_ON, ctypes.c_int(v4l2.CAPTURE))

    def _dequeue(self) -> v4l2.Buffer | None:
        """The next filled buffer; None if there is none for a tenth of a second."""
        if not self._device.wait(_WAIT_SECONDS):
            return None
        buffer = _buffer(0)
        try:
            self._device.call(v4l2.DEQUEUE_BUFFER, buffer)
        except OSError as error:
            # EIO is a passing loss of signal, says the documentation of VIDIOC_DQBUF.
            if error.errno in (errno.EAGAIN, errno.EIO):
                time.sleep(_WAIT_SECONDS)  # for what `wait` saw may go on
                return None
            raise
        return buffer


def camera_path(number: int) -> Path:
    """The device node of the camera with this number."""
    return Path(f"/dev/video{number}")


_BY_PIPE = (
    "what other programs capture can be piped in, on a Raspberry Pi for example:\n"
    "  rpicam-vid -t 0 -n --codec mjpeg -o - | effnet-edge predict --stream -"
)


def _open(path: Path) -> Any:
    if not sys.platform.startswith("linux"):
        raise CameraError(
            f"{path}: cameras are read through Video4Linux2, which only Linux has: give the "
            "frames that another library captures, as an iterable of RGB arrays"
        )
    try:
        is_device = stat.S_ISCHR(path.stat().st_mode)
        if is_device:
            return v4l2.Device(path)
    except OSError as error:
        raise _failure(path, error) from error
    raise CameraError(f"{path} is no video device{_others(path)}")


def _failure(path: Path, error: OSError) -> CameraError:
    if error.errno in (errno.ENOENT, errno.ENXIO):
        return CameraError(f"there is no camera {path}{_others(path)}")
    reasons = {
        errno.EACCES: "permission denied: add yourself to the group video with 'sudo usermod -aG "
        "video $USER' and log in again (in a container: start it with --device)",
        errno.EPERM: "permission denied: a container needs --device to see a camera",
        errno.EBUSY: "another program is using it: close that first",
        errno.ENODEV: "it was unplugged, or its driver gave up",
        errno.ENOTTY: "it is no video device",
        errno.EINVAL: "its driver doesn't do what cameras do",
        errno.ENOMEM: "not enough memory for its frames",
        errno.ENOSPC: "not enough USB bandwidth: give it a port that it doesn't share",
    }
    return CameraError(
        f"can't read from the camera {path}: "
        f"{reasons.get(error.errno or 0) or error.strerror or error}"
    )


def _others(path: Path) -> str:
    nodes = [node for node in Path("/dev").glob("video*") if re.fullmatch(r"video\d+", node.name)]
    nodes = sorted((node for node in nodes if node != path), key=lambda node: int(node.name[5:]))
    names = ", ".join(str(node) for node in nodes)
    return f": try {names}" if names else ": no other video device is there, is one connected?"


def _buffer(index: int) -> v4l2.Buffer:
    return v4l2.Buffer(index=index, type=v4l2.CAPTURE, memory=v4l2.MEMORY_MAP)


def _layout(pixels: v4l2.PixelFormat) -> Layout:
    """What the driver chose, with V4L2's defaults (V4L2_MAP_QUANTIZATION_DEFAULT and
    V4L2_MAP_YCBCR_ENC_DEFAULT) for what it leaves open."""
    extended = pixels.priv == v4l2.EXTENDED_FIELDS
    encoding = pixels.ycbcr_enc if extended else 0
    quantization = pixels.quantization if extended else 0
    is_jpeg = pixels.colorspace == _JPEG_COLORSPACE
    is_709 = pixels.colorspace in (_REC709_COLORSPACE, _DCI_P3_COLORSPACE)
    return Layout(
        pixels.width,
        pixels.height,
        pixels.bytesperline,
        full_range=quantization == _FULL_RANGE if quantization else is_jpeg,
        bt709=encoding in _ENCODINGS_709 if encoding else is_709,
    )


def _capture_time(buffer: v4l2.Buffer, now: float) -> float:
    """When the frame was captured, on the clock of `time.monotonic`."""
    if buffer.flags & v4l2.TIMESTAMP_MASK == v4l2.TIMESTAMP_MONOTONIC:
        stamp = buffer.timestamp.tv_sec + buffer.timestamp.tv_usec / 1e6
        return float(min(stamp, now))
    return now
