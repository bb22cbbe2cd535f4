"""Video4Linux2's binary interface, as much of it as capturing frames takes.

Structures, numbers and their meaning: the kernel's ``include/uapi/linux/videodev2.h`` and its
documentation, "Part I - Video for Linux API". Everything here is laid out as the C compiler of
this process's own word size would: 32-bit user space has smaller structures, and so other request
numbers, than 64-bit.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

CAPTURE = 1
"""V4L2_BUF_TYPE_VIDEO_CAPTURE"""
MEMORY_MAP = 1
"""V4L2_MEMORY_MMAP"""
PROGRESSIVE = 1
"""V4L2_FIELD_NONE"""

CAN_CAPTURE = 0x00000001
CAN_CAPTURE_PLANES = 0x00001000
CAN_CAPTURE_METADATA = 0x00800000
CAN_STREAM = 0x04000000
HAS_DEVICE_CAPABILITIES = 0x80000000

EXTENDED_FIELDS = 0xFEEDCAFE
"""V4L2_PIX_FMT_PRIV_MAGIC: says that what follows ``private`` was filled in."""

BUFFER_DAMAGED = 0x0040
TIMESTAMP_MASK = 0xE000
TIMESTAMP_MONOTONIC = 0x2000


class Capability(ctypes.Structure):
    """``struct v4l2_capability``"""

    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class FormatDescription(ctypes.Structure):
    """``struct v4l2_fmtdesc``"""

    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", ctypes.c_uint32),
        ("mbus_code", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class PixelFormat(ctypes.Structure):
    """``struct v4l2_pix_format``"""

    _fields_ = (
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("pixelformat", ctypes.c_uint32),
        ("field", ctypes.c_uint32),
        ("bytesperline", ctypes.c_uint32),
        ("sizeimage", ctypes.c_uint32),
        ("colorspace", ctypes.c_uint32),
        ("priv", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("ycbcr_enc", ctypes.c_uint32),
        ("quantization", ctypes.c_uint32),
        ("xfer_func", ctypes.c_uint32),
    )


class _FormatUnion(ctypes.Union):
    # Another member, of overlays, holds pointers: they align the union.
    _fields_ = (
        ("pix", PixelFormat),
        ("raw_data", ctypes.c_uint8 * 200),
        ("_alignment", ctypes.c_void_p),
    )


class Format(ctypes.Structure):
    """``struct v4l2_format``"""

    _fields_ = (("type", ctypes.c_uint32), ("fmt", _FormatUnion))


class RequestBuffers(ctypes.Structure):
    """``struct v4l2_requestbuffers``"""

    _fields_ = (
        ("count", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("flags", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 3),
    )


class _TimeValue(ctypes.Structure):
    # Two longs, also in 32 bits: the kernel tells this layout from the one of a 64-bit time_t by
    # the size that the request number holds.
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long))


class _TimeCode(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("frames", ctypes.c_uint8),
        ("seconds", ctypes.c_uint8),
        ("minutes", ctypes.c_uint8),
        ("hours", ctypes.c_uint8),
        ("userbits", ctypes.c_uint8 * 4),
    )


class _Memory(ctypes.Union):
    _fields_ = (
        ("offset", ctypes.c_uint32),
        ("userptr", ctypes.c_ulong),
        ("planes", ctypes.c_void_p),
        ("fd", ctypes.c_int32),
    )


class Buffer(ctypes.Structure):
    """``struct v4l2_buffer``"""

    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("bytesused", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("field", ctypes.c_uint32),
        ("timestamp", _TimeValue),
        ("timecode", _TimeCode),
        ("sequence", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("m", _Memory),
        ("length", ctypes.c_uint32),
        ("reserved2", ctypes.c_uint32),
        ("request_fd", ctypes.c_int32),
    )


def _request(direction: int, number: int, argument: Any) -> int:
    """``_IOC`` of ``include/uapi/asm-generic/ioctl.h``, which x86, ARM and RISC-V share."""
    return direction << 30 | ctypes.sizeof(argument) << 16 | ord("V") << 8 | number


_WRITE, _READ = 1, 2

QUERY_CAPABILITY = _request(_READ, 0, Capability)
ENUMERATE_FORMATS = _request(_READ | _WRITE, 2, FormatDescription)
SET_FORMAT = _request(_READ | _WRITE, 5, Format)
REQUEST_BUFFERS = _request(_READ | _WRITE, 8, RequestBuffers)
QUERY_BUFFER = _request(_READ | _WRITE, 9, Buffer)
QUEUE_BUFFER = _request(_READ | _WRITE, 15, Buffer)
DEQUEUE_BUFFER = _request(_READ | _WRITE, 17, Buffer)
STREAM_ON = _request(_WRITE, 18, ctypes.c_int)
STREAM_OFF = _request(_WRITE, 19, ctypes.c_int)


def fourcc(text: str) -> int:
    """The number of a pixel format's four characters."""
    return int.from_bytes(text.encode("ascii"), "little")


def fourcc_name(number: int) -> str:
    """The four characters of a pixel format, without the spaces that fill them up."""
    return (number & 0x7FFFFFFF).to_bytes(4, "little").decode("ascii", "replace").rstrip(" \0")


class Device:
    """An open device node: the system calls, and nothing of what they mean. Raises OSError."""

    def __init__(self, path: Path) -> None:
        import select

        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def call(self, request: int, argument: ctypes.Structure | ctypes.c_int) -> None:
        """``ioctl``, which reads ``argument`` and writes its answer there."""
        import fcntl

        fcntl.ioctl(self._descriptor, request, argument, True)

    def map(self, length: int, offset: int) -> Any:
        """Map a buffer of the driver's: an ``mmap`` object."""
        import mmap

        return mmap.mmap(self._descriptor, length, offset=offset)

    def wait(self, seconds: float) -> bool:
        """Whether something, a frame or an error, can be fetched within this time."""
        return bool(self._poll.poll(seconds * 1e3))

    def close(self) -> None:
        """Close the node. What was mapped stays mapped."""
        os.close(self._descriptor)
