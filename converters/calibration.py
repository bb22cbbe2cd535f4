"""The images that a network is quantized by: the user's photos, or synthetic ones."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.synthetic_images import synthetic_images
from effnet_edge.errors import ImageError, UsageError
from effnet_edge.image_folder import images_below
from effnet_edge.images import open_image
from effnet_edge.preprocessing import preprocess
from effnet_edge.recipe import Recipe

PixelArray = NDArray[np.uint8]
Kind = Literal["photos", "synthetic", "photos and synthetic"]
Progress = Callable[[int, int], None]
"""Told how many images are done, and of how many."""

DEFAULT_SAMPLES = 128
_SYNTHETIC_IMAGES = 64
_ENOUGH_PHOTOS = 16
"""Fewer than these say too little of the ranges: synthetic images are added."""
_FLAT = 2.0
"""A standard deviation, in levels of 255, under which an image shows nothing."""
_SEED = 2019
_NAMED = 3


@dataclass(frozen=True, eq=False)
class CalibrationImages:
    """``pixels`` uint8 [N, H, W, 3] as the model's recipe prepares them, N > 0; what they are; the
    SHA-256 of all pixels; and what the user should know."""

    pixels: PixelArray
    kind: Kind
    sha256: str
    notes: tuple[str, ...] = ()


def calibration_images(
    folder: Path | None,
    recipe: Recipe,
    *,
    samples: int = DEFAULT_SAMPLES,
    progress: Progress | None = None,
) -> CalibrationImages:
    """Take ``samples`` images from anywhere below ``folder``; synthetic ones if there is none.

    The choice is arbitrary but always the same for the same files. Images that can't be read and
    images of one flat colour are passed over, and said so in the notes. Raises UsageError if no
    image is left.
    """
    tell = progress or (lambda done, total: None)
    if folder is None:
        return _calibration(_synthetic(_SYNTHETIC_IMAGES, recipe, tell), "synthetic", ())
    photos, notes = _photos(folder, recipe, samples, tell)
    if len(photos) >= _ENOUGH_PHOTOS:
        return _calibration(photos, "photos", notes)
    notes = (
        *notes,
        f"{_counted(len(photos), 'photo')} of {folder} can't tell enough alone, so "
        f"{_SYNTHETIC_IMAGES} synthetic images were added: give {_ENOUGH_PHOTOS} or more, better "
        "100, like those that the model will see",
    )
    photos += _synthetic(_SYNTHETIC_IMAGES, recipe, tell)
    return _calibration(photos, "photos and synthetic", notes)


def _calibration(images: list[PixelArray], kind: Kind, notes: tuple[str, ...]) -> CalibrationImages:
    pixels = np.stack(images)
    return CalibrationImages(pixels, kind, hashlib.sha256(pixels.tobytes()).hexdigest(), notes)


def _synthetic(count: int, recipe: Recipe, tell: Progress) -> list[PixelArray]:
    images = []
    for image in synthetic_images(count, recipe.resolution):
        images.append(image)
        tell(len(images), count)
    return images


def _photos(
    folder: Path, recipe: Recipe, samples: int, tell: Progress
) -> tuple[list[PixelArray], tuple[str, ...]]:
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "doesn't exist"
        raise UsageError(f"{folder} {problem}: give --calibration a folder of photos")
    paths = images_below(folder)
    if not paths:
        raise UsageError(
            f"there are no image files in {folder}: give --calibration a folder of photos like "
            "those that the model will see, or leave it out"
        )
    random.Random(_SEED).shuffle(paths)  # noqa: S311 - nothing here is secret
    photos: list[PixelArray] = []
    unreadable: list[str] = []
    flat: list[str] = []
    for path in paths:
        if len(photos) == samples:
            break
        try:
            pixels = preprocess(open_image(path), recipe)
        except ImageError as error:
            unreadable.append(str(error))
            continue
        if pixels.std(axis=(0, 1)).max() < _FLAT:
            flat.append(path.name)
            continue
        photos.append(pixels)
        tell(len(photos), min(samples, len(paths)))
    if not photos:
        raise UsageError(
            f"of {_counted(len(paths), 'image')} in {folder} none can be used: "
            f"{_some(unreadable + [f'{name} is one flat colour' for name in flat])}"
        )
    notes = []
    if unreadable:
        passed = _counted(len(unreadable), "calibration image")
        notes.append(f"{passed} passed over: {_some(unreadable)}")
    if flat:
        passed = _counted(len(flat), "calibration image")
        notes.append(f"{passed} of one flat colour passed over: {_some(flat)}")
    return photos, tuple(notes)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _some(messages: list[str]) -> str:
    more = len(messages) - _NAMED
    return "; ".join(messages[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
