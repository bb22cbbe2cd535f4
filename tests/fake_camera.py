"""A camera made of a script: answers Video4Linux2 requests as a kernel driver does."""

from __future__ import annotations

import ctypes
import errno
import time
from collections import deque

from effnet_edge.camera import v4l2


class FakeCamera:
    """Stands in for `effnet_edge.camera.v4l2.Device`.

    ``formats`` are the pixel formats it offers. `send` makes a frame, `fail` makes the next
    dequeueing fail. ``errors`` maps a request to the errno that it always fails with. Like a
    driver it loses frames for which the program has left it no buffer, and counts them.
    """

    def __init__(self, formats=("YUYV",), size=(8, 4), **fields) -> None:
        self.formats = [v4l2.fourcc(name) for name in formats]
        self.size = size
        self.capabilities = v4l2.CAN_CAPTURE | v4l2.CAN_STREAM
        self.fields = fields
        self.errors: dict[int, int] = {}
        self.asked_size = None
        self.sequence = 0
        self.streaming = self.closed = False
        self.memory: list[FakeMapping] = []
        self.queued: deque[int] = deque()
        self.filled: deque[object] = deque()
        self.buffer_bytes = 1 << 16

    def send(self, data: bytes, flags=v4l2.TIMESTAMP_MONOTONIC, age=0.0, lost=0) -> None:
        self.sequence += lost
        if self.queued:
            index = self.queued.popleft()
            self.memory[index].data[: len(data)] = data
            stamp = time.monotonic() - age
            self.filled.append((index, len(data), flags, self.sequence, stamp))
        self.sequence += 1

    def fail(self, number: int) -> None:
        self.filled.append(OSError(number, "made to fail"))

    # What Device does

    def call(self, request, argument) -> None:
        assert not self.closed
        if request in self.errors:
            raise OSError(self.errors[request], "as asked")
        answers = {
            v4l2.QUERY_CAPABILITY: self._capability,
            v4l2.ENUMERATE_FORMATS: self._describe,
            v4l2.SET_FORMAT: self._set_format,
            v4l2.REQUEST_BUFFERS: self._request,
            v4l2.QUERY_BUFFER: self._query,
            v4l2.QUEUE_BUFFER: self._queue,
            v4l2.DEQUEUE_BUFFER: self._dequeue,
            v4l2.STREAM_ON: self._on,
            v4l2.STREAM_OFF: self._off,
        }
        answers[request](argument)

    def map(self, length, offset):
        assert length == self.buffer_bytes and offset % 4096 == 0
        mapping = self.memory[offset // 4096]
        mapping.closed = False
        return mapping

    def wait(self, seconds) -> bool:
        end = time.monotonic() + seconds
        while not self.filled and time.monotonic() < end:
            time.sleep(0.001)
        return bool(self.filled)

    def close(self) -> None:
        assert not self.streaming and all(memory.closed for memory in self.memory)
        self.closed = True

    def _capability(self, capability) -> None:
        capability.card = b"Fake camera"
        capability.capabilities = 0x04200001 | v4l2.HAS_DEVICE_CAPABILITIES
        capability.device_caps = self.capabilities

    def _describe(self, description) -> None:
        assert description.type == v4l2.CAPTURE
        if description.index >= len(self.formats):
            raise OSError(errno.EINVAL, "no more")
        description.pixelformat = self.formats[description.index]

    def _set_format(self, chosen) -> None:
        pixels = chosen.fmt.pix
        self.asked_size = (pixels.width, pixels.height)
        pixels.width, pixels.height = self.size
        pixels.bytesperline = 2 * self.size[0]
        for name, value in self.fields.items():
            setattr(pixels, name, value)

    def _request(self, wanted) -> None:
        assert (wanted.type, wanted.memory) == (v4l2.CAPTURE, v4l2.MEMORY_MAP)
        wanted.count = 3
        self.memory = [FakeMapping(self.buffer_bytes) for _ in range(wanted.count)]

    def _query(self, buffer) -> None:
        buffer.length, buffer.m.offset = self.buffer_bytes, 4096 * buffer.index

    def _queue(self, buffer) -> None:
        assert buffer.index not in self.queued
        self.queued.append(buffer.index)

    def _dequeue(self, buffer) -> None:
        if not self.filled:
            raise OSError(errno.EAGAIN, "nothing yet")
        filled = self.filled.popleft()
        if isinstance(filled, OSError):
            raise filled
        buffer.index, buffer.bytesused, buffer.flags, buffer.sequence, stamp = filled
        buffer.timestamp.tv_sec = int(stamp)
        buffer.timestamp.tv_usec = int(stamp % 1 * 1e6)

    def _on(self, kind) -> None:
        assert isinstance(kind, ctypes.c_int) and kind.value == v4l2.CAPTURE
        self.streaming = True

    def _off(self, kind) -> None:
        self.streaming = False


class FakeMapping:
    """The bytes of a buffer, to be read while they are mapped."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.closed = True

    def __getitem__(self, part) -> bytes:
        assert not self.closed
        return bytes(self.data[part])

    def close(self) -> None:
        self.closed = True
