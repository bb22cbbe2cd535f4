"""The fields of a protocol buffer in a file, whose content is read only where somebody asks.

Every size that the file states is checked before it is believed, so that nothing is read that the
file doesn't have. Encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types."""

MAX_FIELDS = 1_000_000

_MAX_TAG = 1 << 32
"""Of a larger one a library would drop the upper bits and see another field."""
_WINDOW = 1 << 14
_HEADER = 20
"""The longest tag and the longest size."""


def length_tag(number: int) -> int:
    """The tag of the field ``number`` where it is text, bytes or a message."""
    return number << 3 | LENGTH


def varint_tag(number: int) -> int:
    """The tag of the field ``number`` where it is an integer."""
    return number << 3 | VARINT


class ProtocolBuffer:
    """A message in the open ``file``. Where it breaks the rules, methods raise ValueError.

    So they do once they have seen more than ``max_fields`` fields, which may be of no length.
    """

    def __init__(self, file: BinaryIO, max_fields: int = MAX_FIELDS) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._window = b""
        self._window_start = 0
        self._window_end = 0
        self._fields_left = max_fields

    def fields(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
        """Yield (tag, value, position) of the fields of the message from ``start`` to ``end``.

        The value is that of an integer (not of a fixed one), else the number of bytes at the
        position: for a message within it, that is where its own fields begin.
        """
        end = self.size if end is None else end
        at = start
        while at < end:
            if at < self._window_start or at + _HEADER > self._window_end:
                self._move_window(at)
            window, index = self._window, at - self._window_start
            try:
                tag = window[index]
                index += 1
                if tag >= 0x80:
                    tag, index = varint(window, index - 1)
                kind = tag & 7
                if kind in (LENGTH, VARINT):
                    value = window[index]
                    index += 1
                    if value >= 0x80:
                        value, index = varint(window, index - 1)
                elif kind in (FIXED32, FIXED64):
                    value = 4 if kind == FIXED32 else 8
                else:
                    raise ValueError("it isn't a protocol buffer")
            except IndexError:
                raise ValueError("it ends in the middle of a field") from None
            position = self._window_start + index
            at = position if kind == VARINT else position + value
            if at > end:
                raise ValueError(
                    "it ends in the middle of a field"
                    if end == self.size
                    else "a field is longer than its message"
                )
            if tag >= _MAX_TAG:
                raise ValueError("it isn't a protocol buffer")
            self._fields_left -= 1
            if self._fields_left < 0:
                raise ValueError("it has too many fields")
            yield tag, value, position

    def read(self, position: int, size: int) -> bytes:
        """Return the content of a field."""
        first = position - self._window_start
        if first >= 0 and position + size <= self._window_end:
            return self._window[first : first + size]
        self._file.seek(position)
        content = self._file.read(size)
        if len(content) != size:
            raise ValueError("it ends in the middle of a field")
        return content

    def _move_window(self, position: int) -> None:
        if position >= self._window_start and self._window_end == self.size:
            return  # there is no more
        self._file.seek(position)
        self._window = self._file.read(min(_WINDOW, self.size - position))
        self._window_start = position
        self._window_end = position + len(self._window)


def varint(data: bytes, index: int) -> tuple[int, int]:
    """Return the integer at ``index`` and the index after it.

    Raises IndexError at the end of ``data``, and ValueError for more than ten bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = data[index]
        index += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index
    raise ValueError("it isn't a protocol buffer")


def packed_varints(data: bytes) -> list[int]:
    """Return the integers of a packed field. Raises ValueError."""
    values, index = [], 0
    try:
        while index < len(data):
            value, index = varint(data, index)
            values.append(value)
    except IndexError:
        raise ValueError("it ends in the middle of a field") from None
    return values
