"""The one place that opens images: whatever the caller has becomes an upright 8-bit RGB image."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from effnet_edge.errors import ImageError

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
        *(
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
        ),
        *("PCX", "PNG", "PPM", "PSD", "QOI", "SGI", "SPIDER", "SUN", "TGA", "TIFF", "WEBP", "XBM"),
        "XPM",
    }
)

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
    EXIF orientation is obeyed, transparency is laid over white, 16-bit values are divided by 257
    and rounded, and of an animation the first frame counts. A file object is read from its start
    and stays open. The result may be the caller's own PIL image and must not be modified; of an
    array it is always a copy.

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
    path = Path(source)
    try:
        with path.open("rb") as file:
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
        image = Image.open(file)
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
    if image.format not in _FORMATS:
        raise ImageError(f"{name}: {image.format} is not supported: save it as PNG or JPEG")
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
    values = np.asarray(image)
    if image.mode == "I" and (values.min() < 0 or values.max() > 65535):
        raise ImageError(f"{name}: holds 32-bit pixels, from {values.min()} to {values.max()}")
    grey = Image.fromarray(_to_eight_bits(values))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
        return _over_white(grey.convert("RGBA"))
    return grey.convert("RGB")


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
    if array.dtype.itemsize == 2:
        array = _to_eight_bits(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 2:
        return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
    if array.ndim == 3 and array.shape[2] == 3:
        return Image.fromarray(np.ascontiguousarray(array))
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


def _to_eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Divide by 257, rounded: 65535 becomes 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _why_unidentified(file: IO[bytes], name: str) -> str:
    try:
        file.seek(0)
        empty = not file.read(1)
    except (OSError, ValueError, AttributeError):
        empty = False
    if empty:
        return f"{name}: is empty (0 bytes)"
    return f"{name}: not an image, or of a format that Pillow can't read here"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
