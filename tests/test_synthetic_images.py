"""Synthetic calibration images: repeatable, varied, and as bright and colourful as photographs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from effnet_edge.converters.synthetic_images import synthetic_images


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.stack(list(synthetic_images(60, (128, 128))))


@pytest.mark.parametrize("resolution", [(224, 224), (96, 160), (33, 17), (1, 1)])
def test_images_have_the_size_that_was_asked_for(resolution: tuple[int, int]) -> None:
    (image,) = synthetic_images(1, resolution)
    assert image.shape == (*resolution, 3)
    assert image.dtype == np.uint8


def test_the_same_seed_gives_the_same_images(images: NDArray[np.uint8]) -> None:
    again = np.stack(list(synthetic_images(60, (128, 128))))
    assert np.array_equal(images, again)


def test_an_image_does_not_depend_on_how_many_are_made(images: NDArray[np.uint8]) -> None:
    assert np.array_equal(images[:3], np.stack(list(synthetic_images(3, (128, 128)))))


def test_another_seed_gives_other_images(images: NDArray[np.uint8]) -> None:
    (other,) = synthetic_images(1, (128, 128), seed=1)
    assert not any(np.array_equal(other, image) for image in images)


def test_no_images_are_no_images() -> None:
    assert list(synthetic_images(0, (128, 128))) == []


def test_mean_and_deviation_are_those_of_photographs(images: NDArray[np.uint8]) -> None:
    pixels = images.reshape(-1, 3) / 255
    assert pixels.mean(axis=0) == pytest.approx([0.485, 0.456, 0.406], abs=0.07)
    assert pixels.std(axis=0) == pytest.approx([0.26, 0.26, 0.27], abs=0.05)


def test_channels_go_together_as_in_photographs(images: NDArray[np.uint8]) -> None:
    correlation = np.asarray(np.corrcoef(images.reshape(-1, 3).T))
    assert correlation[0, 1] > 0.6
    assert correlation[1, 2] > 0.6
    assert correlation.min() < 0.97  # but they aren't grey


def test_some_images_are_dark_some_bright_some_flat_and_some_busy(
    images: NDArray[np.uint8],
) -> None:
    means = images.mean(axis=(1, 2, 3)) / 255
    assert means.min() < 0.25
    assert means.max() > 0.65
    deviations = images.std(axis=(1, 2)).mean(axis=1) / 255
    assert deviations.min() < 0.12
    assert deviations.max() > 0.3


def test_energy_falls_with_frequency_as_in_photographs(images: NDArray[np.uint8]) -> None:
    grey = images.mean(axis=3)
    power = np.abs(np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128))) * 128
    bands = [(2, 4), (4, 8), (8, 16), (16, 32), (32, 64)]
    mean_power = power.mean(axis=0)
    energies = [mean_power[(frequency >= low) & (frequency < high)].mean() for low, high in bands]
    octaves = np.arange(len(bands))
    slope = np.polyfit(octaves, np.log2(energies), 1)[0]
    assert -3.0 < slope < -1.5  # photographs: about -2 (power falls with frequency^-2)
