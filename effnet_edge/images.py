"""The one place that opens images: whatever the caller has becomes an upright 8-bit RGB image."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import numpy as np
import PIL.ImageFile  # noqa: F401 - otherwise Pillow imports it in the first prediction
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from effnet_edge.errors import ImageError
from effnet_edge.files import open_regular

ImageSource: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | IO[bytes]
    | Image.Image
    | NDArray[np.uint8]
    | NDArray[np.uint16]
)

MAX_PIXELS = 178_956_970
"""Largest image that is decoded: Pillow's own hard limit, held even where an application has
lifted that. Arrays and PIL images are in memory already and may be larger."""

# Pillow opens more than this, some of it by running other programs (Ghostscript for EPS).
_FORMATS = frozenset(
    {
        "AVIF",
        "BMP",
        "DDS",
        "DIB",
        "GIF",
        "ICNS",
        "ICO",
        "IM",
        "JPEG",
        "JPEG2000",
        "MPO",
        "MSP",
        "PCX",
        "PNG",
        "PPM",
        "PSD",
        "QOI",
        "SGI",
        "SPIDER",
        "SUN",
        "TGA",
        "TIFF",
        "WEBP",
        "XBM",
        "XPM",
    }
)

# First bytes of what people take for images, to name it in the error.
_FOREIGN = {b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"<svg": "SVG"}

_BAND_PIXELS = 1 << 20

_ORIENTATION_TAG = 0x0112
# EXIF 2.32, section 4.6.4: what undoes each value of the Orientation tag.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(source: ImageSource) -> Image.Image:
    """Return ``source`` as a loaded PIL image of mode RGB, as a person sees it in a viewer.

    ``source`` is a path, an encoded image as bytes, an open binary file, a PIL image, or an array:
    ``[H, W, 3]`` RGB, ``[H, W, 4]`` RGBA, ``[H, W]`` or ``[H, W, 1]`` grey, uint8 or uint16.
    EXIF orientation is obeyed, transparency is laid over white, and of an animation the first
    frame counts. 16-bit arrays and grey images are divided by 257 and rounded; of 16-bit colour
    files Pillow hands out the high bytes. A file object is read from its start and stays open; a
    path must lead to a regular file. The result may be the caller's own PIL image and must not be
    modified; of an array it is always a copy.

    Raises ImageError, naming the file, for anything that can't be read as an image.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _checked(source, "the PIL image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        size = memoryview(source).nbytes
        return _decode(io.BytesIO(source), f"the image in memory ({size} bytes)")
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source)
    if isinstance(source, io.TextIOBase):
        raise ImageError("the image file is open in text mode: open it with mode 'rb'")
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return _decode(source, name if isinstance(name, str) else "the open image file")
    raise ImageError(
        f"can't read an image from {type(source).__name__}: give a path, bytes, an open binary "
        "file, a PIL image or a numpy array"
    )


def is_image_name(path: Path) -> bool:
    """Whether a folder's search takes the file for an image: by its ending, unless it is hidden
    (as macOS's ``._`` companions of photos are). The file isn't opened."""
    hidden = path.name.startswith(".")
    return not hidden and Image.registered_extensions().get(path.suffix.lower()) in _FORMATS


def _from_path(source: str | os.PathLike[str]) -> Image.Image:
    name = os.fsdecode(source)
    if not name:
        raise ImageError("the image's path is empty: give the path of an image file")
    path = Path(name)
    try:
        with open_regular(path) as file:
            return _decode(file, str(path))
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder, not an image") from None
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ImageError(f"{str(path)!r}: can't be opened: {reason or error}") from error


def _decode(file: IO[bytes], name: str) -> Image.Image:
    """Decode the first image in ``file`` and leave the file open."""
    try:
        # Nothing but the parsers of these formats sees the bytes, tried in Pillow's own order.
        Image.init()
        image = Image.open(file, formats=tuple(kind for kind in Image.ID if kind in _FORMATS))
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(file, name)) from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name}: has more than {MAX_PIXELS} pixels, too large to be decoded: scale it down"
        ) from None
    except Exception as error:
        # Pillow's plugins raise nearly anything on hostile input: struct.error, KeyError, ...
        raise ImageError(f"{name}: not a readable image: {_reason(error)}") from error
    # Not `with image`: that closes the file, which is the caller's.
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width} x {height} is more than {MAX_PIXELS} pixels, too large to be "
            "decoded: scale it down"
        )
    return _checked(image, name)


def _checked(image: Image.Image, name: str) -> Image.Image:
    if 0 in image.size:
        raise ImageError(f"{name}: has no pixels ({image.width} x {image.height})")
    try:
        image.load()
        orientation = _orientation(image)
        image = _to_rgb(image, name)
        return image if orientation is None else image.transpose(orientation)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name}: damaged or cut short: {_reason(error)}") from error


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:
        # Viewers show a photo whose EXIF is nonsense as it is stored; so do we.
        return None


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _sixteen_bit_to_rgb(image, name)
    if image.mode == "F":
        raise ImageError(
            f"{name}: holds floating-point pixels, whose black and white are anyone's guess: "
            "convert it to 8 bits"
        )
    if image.mode == "La":  # which Pillow converts to LA only
        image = image.convert("LA")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image.convert("RGB")


def _sixteen_bit_to_rgb(image: Image.Image, name: str) -> Image.Image:
    # Mode I is 32 bits wide, but what Pillow opens as such (PNG, PGM) has 16.
    if image.mode == "I":
        low, high = cast(tuple[int, int], image.getextrema())
        if low < 0 or high > 65535:
            raise ImageError(f"{name}: holds 32-bit pixels, from {low} to {high}")
    transparent = image.info.get("transparency")
    grey = np.empty((image.height, image.width), np.uint8)
    for rows in _bands(image.height, image.width):
        values = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        grey[rows] = _to_eight_bits(values)
        if isinstance(transparent, int):
            grey[rows][values == transparent] = 255  # white shows through
    return Image.fromarray(grey).convert("RGB")


def _over_white(rgba: Image.Image) -> Image.Image:
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.size == 0:
        raise ImageError(f"the array has no pixels: its shape is {array.shape}")
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise ImageError(
            f"the array is {array.dtype}: give uint8 pixels of 0 to 255 (or uint16 of 0 to 65535)"
        )
    if array.dtype.itemsize == 2 and array.ndim > 0:
        deep, array = array, np.empty(array.shape, np.uint8)
        for rows in _bands(len(deep), deep.size // len(deep)):
            array[rows] = _to_eight_bits(deep[rows])
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
    if array.ndim == 3 and array.shape[2] == 3:
        # Not `fromarray`: that copies a camera's frame twice.
        size = (array.shape[1], array.shape[0])
        return Image.frombuffer("RGB", size, np.ascontiguousarray(array), "raw", "RGB", 0, 1)
    if array.ndim == 3 and array.shape[2] == 4:
        return _over_white(Image.fromarray(np.ascontiguousarray(array)))
    hint = ""
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        hint = "; this looks like channels first: transpose it with array.transpose(1, 2, 0)"
    elif array.ndim == 4:
        hint = "; for a batch of images use predict_batch"
    raise ImageError(
        f"the array's shape is {array.shape}: give [height, width, 3] RGB, [height, width, 4] RGBA "
        f"or [height, width] grey{hint}"
    )


def _bands(height: int, row: int) -> Iterator[slice]:
    """Slices over ``height`` rows of ``row`` values: wide intermediates of one at a time are small,
    those of a whole image are many times its size."""
    step = max(1, _BAND_PIXELS // row)
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def _to_eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Divide by 257, rounded: 65535 becomes 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _why_unidentified(file: IO[bytes], name: str) -> str:
    try:
        file.seek(0)
        start = file.read(4)
    except (OSError, ValueError, AttributeError):
        start = b"?"
    if not start:
        return f"{name}: is empty (0 bytes)"
    if start in _FOREIGN:
        return f"{name}: {_FOREIGN[start]} is not supported: save it as PNG or JPEG"
    return f"{name}: not an image, or of a format that isn't supported: save it as PNG or JPEG"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
