"""From an RGB image to the model's input: resize and central crop, as torchvision and timm
evaluate. Cost and memory stay bounded however long and narrow the image is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effnet_edge.recipe import Interpolation, Recipe

PixelArray = NDArray[np.uint8]

_RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_WHOLE_UP_TO_PIXELS = 2**24
"""50 MB. A resize to 600, which B7 takes, reaches it at an aspect ratio of 46."""
_SUPPORT: dict[Interpolation, int] = {"bilinear": 1, "bicubic": 2, "lanczos": 3}
"""How far a filter reaches to each side, in pixels of the coarser of source and result."""


@dataclass(frozen=True)
class _Axis:
    """One axis of resize and crop: of ``source`` pixels resized to ``resized``, those from
    ``start`` on, ``count`` of them, land at ``offset`` in the result of ``target`` pixels."""

    source: int
    resized: int
    target: int

    @property
    def start(self) -> int:
        # torchvision's CenterCrop rounds half to even, as Python does.
        return round((self.resized - self.target) / 2.0) if self.resized > self.target else 0

    @property
    def count(self) -> int:
        return min(self.resized, self.target)

    @property
    def offset(self) -> int:
        return (self.target - self.resized) // 2 if self.resized < self.target else 0

    @property
    def box(self) -> tuple[float, float]:
        """The source interval, in pixels, that the result shows."""
        stop = self.start + self.count
        return self.start * self.source / self.resized, stop * self.source / self.resized

    def reach(self, support: int) -> tuple[int, int]:
        """The source pixels, first and behind the last, that a filter of ``support`` may read."""
        first, last = self.box
        margin = support * max(1.0, self.source / self.resized) + 2
        return max(0, math.floor(first - margin)), min(self.source, math.ceil(last + margin))


def preprocess(image: Image.Image, recipe: Recipe) -> PixelArray:
    """Return ``image`` as the model's input, uint8 ``[height, width, 3]``, C-contiguous.

    ``image`` must be of mode RGB (see `effnet_edge.images.open_image`). It is resized so that it
    covers ``recipe.resize``, then cropped centrally to ``recipe.resolution``; where the resized
    image is smaller than that, black is put around it. Sizes round as in torchvision's Resize and
    CenterCrop, or, for a resize that isn't square, as in timm's ResizeKeepRatio.
    """
    height, width = resized_size((image.height, image.width), recipe.resize)
    rows = _Axis(image.height, height, recipe.resolution[0])
    columns = _Axis(image.width, width, recipe.resolution[1])
    if recipe.interpolation == "nearest":
        pixels = _pick(image, _nearest(rows), _nearest(columns))
    elif recipe.antialias:
        pixels = _resize(image, rows, columns, recipe.interpolation)
    else:
        pixels = _interpolate(image, rows, columns, recipe.interpolation)
    if pixels.shape[:2] == recipe.resolution:
        return pixels
    canvas = np.zeros((*recipe.resolution, 3), np.uint8)
    canvas[
        rows.offset : rows.offset + rows.count, columns.offset : columns.offset + columns.count
    ] = pixels
    return canvas


def resized_size(size: tuple[int, int], resize: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) to which an image of ``size`` is resized so that it covers ``resize``.

    Square ``resize``: the short side becomes that and the long side is rounded down (torchvision,
    ``_compute_resized_output_size``). Otherwise both sides are divided by the smaller ratio and
    rounded (timm, ``ResizeKeepRatio``).
    """
    height, width = size
    if resize[0] == resize[1]:
        short = resize[0]
        if width <= height:
            return int(short * height / width), short
        return short, int(short * width / height)
    ratio = min(height / resize[0], width / resize[1])
    return round(height / ratio), round(width / ratio)


def _resize(
    image: Image.Image, rows: _Axis, columns: _Axis, interpolation: Interpolation
) -> PixelArray:
    """The part that the crop shows of Pillow's antialiased resize.

    The whole image is resized and cropped, bit for bit as the evaluation transforms do it, unless
    an extreme aspect ratio makes the whole huge: then only the crop's surroundings are cut out
    and resized through Pillow's ``box``. Its single precision, and 8 bits between the two passes
    whose order depends on the sizes, make pixels there differ by a level or two.
    """
    resampling = _RESAMPLING[interpolation]
    if rows.resized * columns.resized <= _WHOLE_UP_TO_PIXELS:
        whole = image.resize((columns.resized, rows.resized), resampling)
        x, y = columns.start, rows.start
        return np.asarray(whole.crop((x, y, x + columns.count, y + rows.count)))
    support = _SUPPORT[interpolation]
    first_row, behind_row = rows.reach(support)
    first_column, behind_column = columns.reach(support)
    region = image.crop((first_column, first_row, behind_column, behind_row))
    (top, bottom), (left, right) = rows.box, columns.box
    box = (left - first_column, top - first_row, right - first_column, bottom - first_row)
    return np.asarray(region.resize((columns.count, rows.count), resampling, box))


def _nearest(axis: _Axis) -> NDArray[np.intp]:
    """The source pixel under each result pixel's centre.

    Pillow adds up the step in double precision, which decides where a centre falls on the edge
    between two pixels; so that we land on the same side, so does this, up to a length at which
    that no longer pays.
    """
    step = axis.source / axis.resized
    stop = axis.start + axis.count
    if stop <= 2**16:
        steps = np.full(stop, step)
        steps[0] *= 0.5
        centres = np.add.accumulate(steps)[axis.start :]
    else:
        centres = (np.arange(axis.start, stop) + 0.5) * step
    return np.minimum(centres.astype(np.intp), axis.source - 1)


def _pick(image: Image.Image, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> PixelArray:
    first_row, first_column = int(rows[0]), int(columns[0])
    region = image.crop((first_column, first_row, int(columns[-1]) + 1, int(rows[-1]) + 1))
    return np.asarray(region)[np.ix_(rows - first_row, columns - first_column)]


def _interpolate(
    image: Image.Image, rows: _Axis, columns: _Axis, interpolation: Interpolation
) -> PixelArray:
    """Interpolate between the nearest source pixels however much the image shrinks, with
    half-pixel centres: ``tf.image.resize`` of TensorFlow 2 without antialias."""
    support = _SUPPORT[interpolation]
    first_row, behind_row = rows.reach(support)
    first_column, behind_column = columns.reach(support)
    region = np.asarray(image.crop((first_column, first_row, behind_column, behind_row)))
    row_taps, row_weights = _taps(rows, interpolation)
    column_taps, column_weights = _taps(columns, interpolation)
    total = np.zeros((rows.count, columns.count, 3), np.float32)
    for row, row_weight in zip(row_taps - first_row, row_weights, strict=True):
        for column, column_weight in zip(column_taps - first_column, column_weights, strict=True):
            weight = row_weight[:, None, None] * column_weight[None, :, None]
            total += weight * region[np.ix_(row, column)]
    return np.rint(np.clip(total, 0, 255)).astype(np.uint8)


def _taps(
    axis: _Axis, interpolation: Interpolation
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Source pixels and their weights, both ``[taps, count]``.

    Taps outside the image weigh nothing and the others are scaled to sum to 1, as in TensorFlow's
    and Pillow's bicubic; for bilinear that equals repeating the border pixel.
    """
    support = _SUPPORT[interpolation]
    positions = np.arange(axis.start, axis.start + axis.count)
    centres = (positions + 0.5) * (axis.source / axis.resized) - 0.5
    taps = np.floor(centres) + np.arange(1 - support, support + 1)[:, None]
    weights = _KERNELS[interpolation](np.abs(centres - taps))
    weights[(taps < 0) | (taps >= axis.source)] = 0
    weights /= weights.sum(axis=0)
    return np.clip(taps, 0, axis.source - 1).astype(np.intp), weights.astype(np.float32)


def _triangle(distance: NDArray[Any]) -> NDArray[Any]:
    return np.maximum(0.0, 1.0 - distance)


def _cubic(distance: NDArray[Any]) -> NDArray[Any]:
    """Keys 1981, equation 15: the cubic of a = -0.5, which TensorFlow 2 and Pillow use."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def _lanczos3(distance: NDArray[Any]) -> NDArray[Any]:
    return np.where(distance < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


_KERNELS: dict[Interpolation, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "bilinear": _triangle,
    "bicubic": _cubic,
    "lanczos": _lanczos3,
}
