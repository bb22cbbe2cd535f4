"""Resize and crop in one step equal resize, then crop, at a fraction of the cost."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from effnet_edge.preprocessing import preprocess, resized_size
from effnet_edge.recipe import Recipe

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def noise(height, width, seed=0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def resize_then_crop(image, recipe) -> np.ndarray:
    """The long way round: Pillow resizes everything, numpy pads and crops."""
    height, width = resized_size((image.height, image.width), recipe.resize)
    pixels = np.asarray(image.resize((width, height), RESAMPLING[recipe.interpolation]))
    crop_height, crop_width = recipe.resolution
    missing = max(crop_height - height, 0), max(crop_width - width, 0)
    padding = [(gap // 2, gap - gap // 2) for gap in missing]
    pixels = np.pad(pixels, [*padding, (0, 0)])
    top = round((pixels.shape[0] - crop_height) / 2)
    left = round((pixels.shape[1] - crop_width) / 2)
    return pixels[top : top + crop_height, left : left + crop_width]


def difference(a, b) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize(
    ("height", "width"),
    [(480, 640), (640, 480), (256, 256), (224, 400), (37, 53), (1, 1), (3, 60), (777, 431)],
)
def test_the_result_is_that_of_resize_then_crop(height, width, interpolation):
    image = noise(height, width)
    for resolution, resize in [
        ((224, 224), (256, 256)),
        ((64, 64), (64, 64)),
        ((97, 97), (64, 64)),
        ((64, 160), (73, 182)),
        ((160, 64), (182, 73)),
        ((90, 40), (60, 60)),
    ]:
        recipe = Recipe(resolution, resize, interpolation)
        got = preprocess(image, recipe)
        assert got.shape == (*resolution, 3)
        assert got.dtype == np.uint8 and got.flags.c_contiguous
        assert difference(got, resize_then_crop(image, recipe)) <= 1


@pytest.mark.parametrize("seed", range(12))
def test_no_size_is_special(seed):
    rng = np.random.default_rng(seed)
    for _ in range(10):
        height, width = (int(size) for size in np.exp(rng.uniform(0, np.log(900), 2)))
        if max(height, width) > 60 * min(height, width):
            continue
        image = noise(height, width, seed)
        resize, crop = (int(size) for size in rng.integers(8, 120, 2))
        recipe = Recipe((crop, crop), (resize, resize), rng.choice(list(RESAMPLING)))
        assert difference(preprocess(image, recipe), resize_then_crop(image, recipe)) <= 1


def test_a_tall_photo_is_resized_in_the_order_that_pillow_would_choose():
    # Pillow 13 takes the height first here, but not if it only sees the crop; and the other way.
    for height, width in [(1200, 200), (1300, 560), (560, 1300), (900, 400), (2000, 500)]:
        image = noise(height, width)
        for crop in (40, 90, 130):
            recipe = Recipe((crop, crop), (130, 130), "lanczos")
            assert difference(preprocess(image, recipe), resize_then_crop(image, recipe)) <= 1


def test_an_image_of_the_right_size_is_passed_through():
    image = noise(224, 224)
    for interpolation in RESAMPLING:
        for antialias in (True, False):
            recipe = Recipe((224, 224), (224, 224), interpolation, antialias)
            assert (preprocess(image, recipe) == np.asarray(image)).all()


def test_sizes_round_as_in_torchvision_and_timm():
    assert resized_size((480, 640), (256, 256)) == (256, 341)
    assert resized_size((640, 480), (256, 256)) == (341, 256)
    assert resized_size((333, 1000), (100, 100)) == (100, 300)
    # timm's ResizeKeepRatio rounds to nearest: 480 * (100 / 320) = 150, 427 * 150 / 320 = 200.2
    assert resized_size((320, 427), (150, 100)) == (150, 200)
    assert resized_size((333, 1000), (100, 101)) == (100, 300)
    assert resized_size((335, 1001), (100, 101)) == (100, 299)


def test_an_image_smaller_than_the_crop_gets_a_black_border():
    recipe = Recipe((10, 10), (5, 5), "nearest")
    result = preprocess(Image.new("RGB", (5, 5), "white"), recipe)
    assert (result[2:7, 2:7] == 255).all()
    assert result.sum() == 25 * 3 * 255


# Without antialiasing


def by_hand(source, resized, interpolation) -> np.ndarray:
    """Interpolate one row of numbers, a number at a time."""
    result = []
    for x in range(resized):
        center = (x + 0.5) * len(source) / resized - 0.5
        base = int(np.floor(center))
        total = weights = 0.0
        for tap in range(base - 1, base + 3):
            t = abs(center - tap)
            if interpolation == "bilinear":
                weight = max(0.0, 1 - t)
            elif t < 1:
                weight = 1.5 * t**3 - 2.5 * t**2 + 1
            else:
                weight = max(0.0, 2 - t) * -0.5 * (t - 1) * (2 - t)
            if 0 <= tap < len(source):
                total, weights = total + weight * float(source[tap]), weights + weight
        result.append(total / weights)
    return np.clip(np.rint(result), 0, 255)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "resized"), [(31, 9), (31, 30), (9, 31), (2, 7), (1, 5)])
def test_interpolation_without_antialias_is_that_of_the_formula(size, resized, interpolation):
    row = np.asarray(noise(1, size))[0, :, 0]
    image = Image.fromarray(np.repeat(np.repeat(row[None, :, None], size, 0), 3, 2))
    recipe = Recipe((resized, resized), (resized, resized), interpolation, antialias=False)
    got = preprocess(image, recipe)
    assert difference(got[0, :, 1], by_hand(row, resized, interpolation)) <= 1
    turned = preprocess(image.transpose(Image.Transpose.TRANSPOSE), recipe)
    assert difference(turned, got.transpose(1, 0, 2)) == 0


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_antialias_makes_no_difference_when_an_image_grows(interpolation):
    # Half the contrast: Pillow clips overshoots between its passes, where we don't.
    image = Image.eval(noise(60, 85), lambda value: 64 + value // 2)
    pixels = [
        preprocess(image, Recipe((120, 128), (140, 140), interpolation, antialias))
        for antialias in (True, False)
    ]
    assert difference(*pixels) <= 1


def test_a_photo_that_shrinks_without_antialias_keeps_single_pixels():
    image = Image.new("RGB", (900, 900))
    image.putpixel((451, 451), (255, 255, 255))
    shrunk = [
        preprocess(image, Recipe((300, 300), (300, 300), "bilinear", antialias))
        for antialias in (True, False)
    ]
    assert shrunk[0].max() < 64 and shrunk[1].max() == 255


# Extreme shapes


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("antialias", [True, False])
def test_a_line_of_pixels_shows_its_middle(interpolation, antialias):
    recipe = Recipe((224, 224), (256, 256), interpolation, antialias)
    row = np.zeros((1, 100_000, 3), np.uint8)
    row[:, 50_000:] = 200
    wide = preprocess(Image.fromarray(row), recipe)
    assert (wide[:, :60] <= wide[:, -60:]).all()
    assert wide[:, :5].max() < 130 and wide[:, -5:].min() > 70
    tall = preprocess(Image.fromarray(row.transpose(1, 0, 2).copy()), recipe)
    assert difference(tall, wide.transpose(1, 0, 2)) <= 1


def test_a_gradient_over_a_very_long_image_is_cut_at_the_right_place():
    # Single-precision coordinates alone would be off by several of the 224 columns.
    row = np.zeros((2, 100_001, 3), np.uint8)
    row[:, 50_000] = 255
    recipe = Recipe((224, 224), (256, 256), "bilinear")
    wide = preprocess(Image.fromarray(row), recipe)[100, :, 0].astype(int)
    assert difference(wide, wide[::-1]) <= 1
    assert wide.argmax() in (111, 112)


def test_memory_stays_bounded_for_an_image_of_one_pixel_by_100000():
    program = """
import resource, sys
from PIL import Image
from effnet_edge.preprocessing import preprocess
from effnet_edge.recipe import Recipe
image = Image.new("RGB", (100_000, 1))
preprocess(image.resize((300, 300)), Recipe((224, 224), (256, 256)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for size in ((100_000, 1), (1, 100_000)):
    for interpolation in ("nearest", "bilinear", "bicubic", "lanczos"):
        for antialias in (True, False):
            recipe = Recipe((224, 224), (256, 256), interpolation, antialias)
            preprocess(image.resize(size), recipe)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown / (2**20 if sys.platform == "darwin" else 2**10))
"""
    pytest.importorskip("resource")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 40, "MB; the whole resized image would take 26 GB"
