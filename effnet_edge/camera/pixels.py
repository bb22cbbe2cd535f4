"""From the bytes of a camera's frame to an image, for the pixel formats that cameras offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effnet_edge.errors import ImageError
from effnet_edge.images import ImageSource


@dataclass(frozen=True)
class Layout:
    """How a frame lies in memory: ``stride`` is the bytes from one row (of the first plane) to the
    next. ``full_range`` and ``bt709`` say what the numbers of a YCbCr format mean."""

    width: int
    height: int
    stride: int
    full_range: bool = False
    bt709: bool = False


def _jpeg(data: bytes, layout: Layout) -> ImageSource:
    return data


def _rgb(data: bytes, layout: Layout) -> ImageSource:
    return _rows(data, layout, 3 * layout.width).reshape(layout.height, layout.width, 3)


def _bgr(data: bytes, layout: Layout) -> ImageSource:
    rows = _rows(data, layout, 3 * layout.width)
    return rows.reshape(layout.height, layout.width, 3)[:, :, ::-1]


def _grey(data: bytes, layout: Layout) -> ImageSource:
    return _rows(data, layout, layout.width)


def _yuyv(data: bytes, layout: Layout) -> ImageSource:
    """Y0 Cb Y1 Cr: two pixels share their colour."""
    return _packed(data, layout, luma=0, blue=1, red=3)


def _uyvy(data: bytes, layout: Layout) -> ImageSource:
    return _packed(data, layout, luma=1, blue=0, red=2)


def _packed(data: bytes, layout: Layout, luma: int, blue: int, red: int) -> Image.Image:
    height, half = layout.height, layout.width // 2
    pairs = _rows(data, layout, 4 * half).reshape(height, half, 4)
    pixels = np.empty((height, half, 2, 3), np.uint8)
    pixels[..., 0] = pairs[..., luma::2]
    pixels[..., 1] = pairs[..., blue, None]
    pixels[..., 2] = pairs[..., red, None]
    return _from_ycbcr(pixels.reshape(height, 2 * half, 3), layout)


def _nv12(data: bytes, layout: Layout) -> ImageSource:
    """All Y, then Cb and Cr in turn at half the size both ways."""
    height, width = layout.height // 2 * 2, layout.width // 2 * 2
    rows = _rows(data, layout, width, layout.height + height // 2)
    pixels = np.empty((height // 2, 2, width // 2, 2, 3), np.uint8)
    pixels[..., 0] = rows[:height].reshape(pixels.shape[:-1])
    colours = rows[layout.height :].reshape(height // 2, 1, width // 2, 1, 2)
    pixels[..., 1:] = colours
    return _from_ycbcr(pixels.reshape(height, width, 3), layout)


def _rows(data: bytes, layout: Layout, used: int, count: int | None = None) -> NDArray[np.uint8]:
    """The first ``used`` bytes of each row, uint8 ``[count, used]``; raises ImageError."""
    count = layout.height if count is None else count
    # The last row may end without its padding.
    need = (count - 1) * layout.stride + used
    if layout.stride < used or len(data) < need:
        raise ImageError(f"the camera's frame was cut short: {len(data)} bytes, not {need}")
    flat = np.frombuffer(data, np.uint8)
    return np.lib.stride_tricks.as_strided(flat, (count, used), (layout.stride, 1), writeable=False)


def _from_ycbcr(pixels: NDArray[np.uint8], layout: Layout) -> Image.Image:
    size = (pixels.shape[1], pixels.shape[0])
    image = Image.frombuffer("RGB", size, pixels, "raw", "RGB", 0, 1)
    return image.convert("RGB", matrix=_rgb_matrix(layout))


def _rgb_matrix(layout: Layout) -> tuple[float, ...]:
    """YCbCr to RGB as three rows of (Y, Cb, Cr, constant), for ITU-R BT.601 or BT.709: the weights
    of red and blue in Y are all they differ in. Of limited range, Y is 16..235 and colours are
    16..240."""
    red, blue = (0.2126, 0.0722) if layout.bt709 else (0.299, 0.114)
    green = 1 - red - blue
    luma, chroma, black = (1.0, 1.0, 0) if layout.full_range else (255 / 219, 255 / 224, 16)
    of_red, of_blue = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    rows = (
        (0.0, of_red),
        (-of_blue * blue / green, -of_red * red / green),
        (of_blue, 0.0),
    )
    return tuple(
        value
        for from_blue, from_red in rows
        for value in (luma, from_blue, from_red, -luma * black - 128 * (from_blue + from_red))
    )


DECODERS: dict[str, Callable[[bytes, Layout], ImageSource]] = {
    "RGB3": _rgb,
    "MJPG": _jpeg,
    "JPEG": _jpeg,
    "BGR3": _bgr,
    "YUYV": _yuyv,
    "UYVY": _uyvy,
    "NV12": _nv12,
    "GREY": _grey,
}
"""By the four characters that V4L2 calls the format, the preferred ones first. JPEG takes less
than half the time to decode that YCbCr takes to convert, and cameras on USB 2 reach their full
frame rate with it."""
