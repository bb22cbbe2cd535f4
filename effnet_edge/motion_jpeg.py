"""Motion JPEG: JPEG images one after the other, as cameras and ffmpeg write them to a pipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from effnet_edge.errors import CameraError

MAX_FRAME_BYTES = 1 << 26
MAX_BYTES_BETWEEN_FRAMES = 1 << 22

_START = b"\xff\xd8\xff"
_START_OF_IMAGE, _END_OF_IMAGE = b"\xd8", b"\xd9"
# ITU-T T.81, B.1.1: within coded data FF is followed by 00 or by D0..D7 (a restart), and any
# marker may have more FF before it. What this finds is a marker that structures the image.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)


def split_frames(read: Callable[[], bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield (a whole JPEG image, how many cut short ones were passed over before it).

    ``read`` returns what there is next, and nothing at the end. An image that the end cuts short
    is left out. Markers are followed from segment to segment, so a thumbnail inside an image
    doesn't end it. Raises CameraError for what isn't Motion JPEG.
    """
    buffer = bytearray()
    position = 0  # all before it is searched; 0: no image has begun
    lost = 0
    passed_over = 0  # bytes since the last image
    found_any = False
    while chunk := read():
        buffer += chunk
        while True:
            if position == 0:
                start = buffer.find(_START)
                if start < 0:
                    foreign = max(0, len(buffer) - len(_START) + 1)
                    del buffer[:foreign]
                    passed_over += foreign
                    break
                del buffer[:start]
                passed_over += start
                position = len(_START) - 1
                found_any = True
            marker = _MARKER.search(buffer, position)
            if marker is None:
                position = max(position, len(buffer) - 1)
                break
            kind = marker[1]
            if kind == _END_OF_IMAGE:
                yield bytes(buffer[: marker.end()]), lost
                del buffer[: marker.end()]
                position = lost = passed_over = 0
            elif kind == _START_OF_IMAGE:
                del buffer[: marker.start()]
                position = len(_START) - 1
                lost += 1
            else:
                length = buffer[marker.end() : marker.end() + 2]
                if len(length) < 2:
                    position = marker.start()
                    break
                position = marker.end() + int.from_bytes(length, "big")
        if len(buffer) > MAX_FRAME_BYTES or passed_over > MAX_BYTES_BETWEEN_FRAMES:
            raise _foreign(passed_over + len(buffer))
    if buffer and not found_any:
        raise _foreign(passed_over + len(buffer))


def _foreign(size: int) -> CameraError:
    return CameraError(
        f"there is no whole image in {size} bytes: is it Motion JPEG? 'rpicam-vid --codec mjpeg "
        "-o -' and 'ffmpeg -i INPUT -f mjpeg -' write it; without --codec rpicam-vid writes H.264"
    )
