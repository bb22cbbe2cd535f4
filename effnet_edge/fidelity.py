"""How faithfully one model follows another: agreement, KL divergence and signal-to-noise ratio.

One definition for the converter's report and for ``effnet-edge evaluate``, so that their figures
can be compared. A few hundred images tell far more through these than through hits, which count
only what happens at the border between two classes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Fidelity:
    """How a model's logits compare with a reference's over ``images`` images.

    ``agreement`` is the percentage of images for which both have the same most probable class.
    ``kl`` is the mean Kullback-Leibler divergence from the model's probabilities to the
    reference's, KL(reference || model) = sum of p ln(p / q), in nats. ``snr_db`` is the logits'
    signal-to-noise ratio, 10 log10(sum of f^2 / sum of (f - q)^2), where each image's mean over
    the classes is first taken off both, for it changes no probability; identical logits give
    infinity.
    """

    images: int
    agreement: float
    kl: float
    snr_db: float

    def finite(self) -> dict[str, float]:
        """The figures by name as a model file records them, where infinity has no place."""
        return {name: value for name, value in asdict(self).items() if math.isfinite(value)}


class FidelityMeter:
    """Gathers `Fidelity` image by image, in memory that doesn't grow with their number."""

    def __init__(self) -> None:
        self._images = 0
        self._agreeing = 0
        self._kl = 0.0
        self._signal = 0.0
        self._noise = 0.0

    def add(self, reference: Logits, logits: Logits) -> None:
        """Take in the logits of one image, ``[classes]``, or of several, ``[images, classes]``.

        Raises ValueError if the two differ in shape, are empty or hold a value that isn't finite.
        """
        expected, found = (np.asarray(each, np.float64) for each in (reference, logits))
        if expected.shape != found.shape or expected.ndim not in (1, 2) or expected.size == 0:
            raise ValueError(f"can't compare logits of shape {expected.shape} with {found.shape}")
        if not (np.isfinite(expected).all() and np.isfinite(found).all()):
            raise ValueError("there are logits that aren't finite")
        classes = expected.shape[-1]
        expected, found = expected.reshape(-1, classes), found.reshape(-1, classes)
        self._images += len(expected)
        self._agreeing += int(np.sum(expected.argmax(axis=1) == found.argmax(axis=1)))
        log_p, log_q = _log_softmax(expected), _log_softmax(found)
        divergence = np.sum(np.exp(log_p) * (log_p - log_q), axis=1)
        # Rounding takes that of equal logits a hair below zero, where none can be.
        self._kl += float(np.maximum(divergence, 0).sum())
        expected = expected - expected.mean(axis=1, keepdims=True)
        found = found - found.mean(axis=1, keepdims=True)
        self._signal += float(np.sum(expected**2))
        self._noise += float(np.sum((expected - found) ** 2))

    def result(self) -> Fidelity:
        """The figures over all that was added. Raises ValueError if nothing was."""
        if self._images == 0:
            raise ValueError("there are no images to compare the models on")
        return Fidelity(
            images=self._images,
            agreement=100 * self._agreeing / self._images,
            kl=self._kl / self._images,
            snr_db=decibels(self._signal, self._noise),
        )


def fidelity(reference: Logits, logits: Logits) -> Fidelity:
    """Compare logits ``[images, classes]`` at once; see `FidelityMeter.add` for what it raises."""
    meter = FidelityMeter()
    meter.add(reference, logits)
    return meter.result()


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise) of two powers: infinite without noise, minus infinite without
    a signal."""
    if noise == 0:
        return math.inf
    if signal == 0:
        return -math.inf
    return 10 * (math.log10(signal) - math.log10(noise))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
