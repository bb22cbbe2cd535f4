"""The evaluation recipe of a set of weights: how a photo becomes the model's input."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

HALF = (0.5, 0.5, 0.5)
"""Mean and std that scale pixels to -1..1."""

MAX_RESOLUTION = 4096
"""Pixels per side; more is a mistake, and would exhaust memory long before it classified."""


@dataclass(frozen=True)
class Recipe:
    """Resize so that the image covers ``resize``, keeping its aspect; take the central
    ``resolution``; normalise with ``mean`` and ``std``.

    ``resolution`` and ``resize`` are (height, width) in pixels. ``mean`` and ``std`` are per RGB
    channel on the 0..1 scale; they are recorded here and folded into the model file, so that the
    runtime feeds it plain uint8 pixels.
    """

    resolution: tuple[int, int]
    resize: tuple[int, int]
    interpolation: Interpolation = "bicubic"
    antialias: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name, size in (("resolution", self.resolution), ("resize", self.resize)):
            if len(size) != 2 or not all(1 <= side <= MAX_RESOLUTION for side in size):
                raise ValueError(f"{name} must be 1 to {MAX_RESOLUTION} pixels a side, not {size}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, "
                f"not {self.interpolation!r}"
            )
        if len(self.mean) != 3 or not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean must be three finite numbers, not {self.mean}")
        if len(self.std) != 3 or not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ValueError(f"std must be three positive numbers, not {self.std}")

    @property
    def crop(self) -> float:
        """The part of the resized short side that the central crop keeps."""
        return min(side / around for side, around in zip(self.resolution, self.resize, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        """Rebuild a recipe from `to_json`; raises KeyError, TypeError or ValueError."""
        red, green, blue = (float(value) for value in data["mean"])
        std_red, std_green, std_blue = (float(value) for value in data["std"])
        return cls(
            resolution=_pair(data["resolution"]),
            resize=_pair(data["resize"]),
            interpolation=data["interpolation"],
            antialias=bool(data["antialias"]),
            mean=(red, green, blue),
            std=(std_red, std_green, std_blue),
        )


def resize_for_crop(resolution: tuple[int, int], crop: float) -> tuple[int, int]:
    """The ``resize`` of which a central ``resolution`` is the fraction ``crop``, rounded down
    as timm does (``create_transform``: ``floor(size / crop_pct)``)."""
    if not 0 < crop <= 1:
        raise ValueError(f"crop must be over 0 and at most 1, not {crop}")
    height, width = resolution
    return math.floor(height / crop), math.floor(width / crop)


def _pair(values: Any) -> tuple[int, int]:
    height, width = (int(value) for value in values)
    return height, width
