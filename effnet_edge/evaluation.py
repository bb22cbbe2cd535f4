"""Counting hits, and comparing two models image by image, in memory that hardly grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effnet_edge.fidelity import Fidelity, FidelityMeter
from effnet_edge.image_set import EvaluationImage

NORMAL_97_5 = 1.959963984540054
"""Quantile of the normal distribution that leaves 2.5 % above it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model's most probable class of an image."""

    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class Difference:
    """An image for which two models choose different classes; ``label`` is the true one's index,
    or None where it isn't known."""

    path: Path
    label: int | None
    model: Choice
    reference: Choice


class Evaluation:
    """What is known of a model, and of a reference beside it, after the images added so far.

    ``ranks`` are the K of top-K. ``hits`` and ``reference_hits`` count by K; ``lost`` counts the
    hits of the reference that the model doesn't have, ``gained`` the opposite. ``unreadable`` are
    images that count nowhere, and why.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self.images = 0
        self.hits = dict.fromkeys(ranks, 0)
        self.reference_hits = dict.fromkeys(ranks, 0)
        self.lost = dict.fromkeys(ranks, 0)
        self.gained = dict.fromkeys(ranks, 0)
        self.differences: list[Difference] = []
        self.unreadable: list[tuple[Path, str]] = []
        self._fidelity = FidelityMeter()

    def add(
        self,
        image: EvaluationImage,
        logits: NDArray[np.float32],
        reference: NDArray[np.float32] | None = None,
    ) -> None:
        """Take in one image's logits, ``[classes]``, and those of the reference."""
        self.images += 1
        if reference is not None:
            self._fidelity.add(reference, logits)
            ours, theirs = choice(logits), choice(reference)
            if ours.index != theirs.index:
                self.differences.append(Difference(image.path, image.label, ours, theirs))
        if image.label is None:
            return
        place = rank(logits, image.label)
        reference_place = None if reference is None else rank(reference, image.label)
        for k in self.hits:
            hit = place <= k
            self.hits[k] += hit
            if reference_place is not None:
                reference_hit = reference_place <= k
                self.reference_hits[k] += reference_hit
                self.lost[k] += reference_hit and not hit
                self.gained[k] += hit and not reference_hit

    def fidelity(self) -> Fidelity:
        """How faithfully the model follows the reference. Raises ValueError without images."""
        return self._fidelity.result()


def choice(logits: NDArray[np.float32]) -> Choice:
    """The most probable class (the first of equals) and its softmax probability."""
    index = int(logits.argmax())
    below = logits.astype(np.float64) - float(logits[index])
    return Choice(index, float(1 / np.exp(below).sum()))


def rank(logits: NDArray[np.float32], label: int) -> int:
    """The place of ``label`` among the classes, 1 for the most probable. Of equals, the one with
    the lower index comes first, as in `EdgeClassifier.predict`."""
    above = int(np.sum(logits > logits[label]))
    return 1 + above + int(np.sum(logits[:label] == logits[label]))


def wilson_interval(hits: int, images: int) -> tuple[float, float]:
    """The 95 % confidence interval of ``hits / images``, as fractions.

    Wilson's score interval (1927), which stays within 0..1 and is right for few images too.
    """
    if images == 0:
        return 0.0, 1.0
    share, z2 = hits / images, NORMAL_97_5**2
    center = share + z2 / (2 * images)
    spread = NORMAL_97_5 * math.sqrt(share * (1 - share) / images + z2 / (4 * images**2))
    scale = 1 + z2 / images
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)
