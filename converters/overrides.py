"""What a user says of how the images were fed in training, against what the dialect implies."""

from __future__ import annotations

from dataclasses import dataclass, replace

from effnet_edge.errors import UsageError
from effnet_edge.recipe import Interpolation, Recipe, resize_for_crop


@dataclass(frozen=True)
class Overrides:
    """Parts of a recipe to replace; None keeps the recipe's own.

    A new ``resolution`` (height, width) keeps the recipe's crop fraction unless ``crop`` is given.
    ``mean`` and ``std`` are per RGB channel on the 0..1 scale.
    """

    resolution: tuple[int, int] | None = None
    crop: float | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def apply(self, recipe: Recipe) -> Recipe:
        """Return ``recipe`` changed as asked. Raises UsageError for values that can't be."""
        resolution = self.resolution or recipe.resolution
        resize = recipe.resize
        try:
            if resolution != recipe.resolution or self.crop is not None:
                crop = recipe.crop if self.crop is None else self.crop
                resize = resize_for_crop(resolution, crop)
            return replace(
                recipe,
                resolution=resolution,
                resize=resize,
                interpolation=self.interpolation or recipe.interpolation,
                mean=self.mean or recipe.mean,
                std=self.std or recipe.std,
            )
        except OverflowError:
            raise UsageError(
                "the images can't be fed like this: the crop is too small or the resolution too "
                "large"
            ) from None
        except ValueError as error:
            raise UsageError(f"the images can't be fed like this: {error}") from None


NO_OVERRIDES = Overrides()
