"""Images that stand in for photographs where a user has none to calibrate with.

Dead leaves: opaque shapes of every size that hide one another, which have the edges, the scale
invariance and the heavy tails of natural images (Lee, Mumford and Huang 2001, "Occlusion models
for natural images"). Each leaf has a colour, a shading and a texture with a 1/f amplitude
spectrum; the whole has a depth of field, a light from one side and a camera's tone curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

FloatArray = NDArray[np.float32]

# ImageNet's mean colour, the principal axes of its colours (rows: mostly light, yellow to blue,
# green to magenta) and their deviations, of 0..1, after Krizhevsky et al. 2012, section 4.1.
_MEAN_COLOUR = np.array([0.485, 0.456, 0.406])
_COLOUR_AXES = np.array(
    [[0.5675, 0.5808, 0.5836], [0.7192, -0.0045, -0.6948], [0.4009, -0.8140, 0.4203]]
)
_COLOUR_DEVIATIONS = np.array([0.40, 0.12, 0.06])

_SMALLEST_LEAF = 0.012
_LARGEST_LEAF = 0.6
_LIGHT_SIZE = 48


def synthetic_images(
    count: int, resolution: tuple[int, int], seed: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """Yield ``count`` RGB images, uint8 [height, width, 3].

    Image ``i`` depends on ``resolution``, ``seed`` and ``i`` alone. ``resolution`` is (height,
    width) in pixels.
    """
    for index in range(count):
        yield _image(np.random.default_rng([seed, index]), resolution)


def _image(rng: np.random.Generator, resolution: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = resolution
    leaves = _leaf_map(rng, resolution)
    count = int(leaves.max()) + 1
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    light = _enlarged(_noise(rng, (_LIGHT_SIZE, _LIGHT_SIZE), 2.0), resolution)

    palette = _palette(rng, int(rng.integers(2, 8)))
    spread = rng.uniform(0.02, 0.12)
    colours = palette[rng.integers(len(palette), size=count)]
    colours = colours + rng.normal(size=(count, 1)) * spread * _COLOUR_AXES[0]
    colours = colours + rng.normal(size=(count, 3)) @ (0.3 * spread * _COLOUR_AXES)
    grain = rng.exponential(rng.uniform(0.02, 0.15), count) * (rng.random(count) < 0.8)
    stripes = rng.exponential(0.15, count) * (rng.random(count) < rng.choice([0.0, 0.05, 0.4]))
    slope = rng.normal(size=(2, count)) * rng.uniform(0.0, 0.3)

    shade = _noise(rng, resolution, rng.uniform(0.7, 1.7)) * _at(leaves, grain)
    if stripes.any():
        shade += _stripes(rng, y, x, light) * _at(leaves, stripes)
    shade -= _edge_shadows(rng, leaves)
    shade += _at(leaves, slope[0]) * y + _at(leaves, slope[1]) * x
    pixels: FloatArray = colours.astype(np.float32)[leaves]
    pixels += shade[..., None]
    pixels *= _illumination(rng, y, x, light)[..., None]
    pixels = _tone(rng, pixels)
    image = Image.fromarray((pixels * 255 + 0.5).astype(np.uint8))
    return np.array(_focus(rng, image, leaves, count))


def _at(leaves: NDArray[np.int32], values: NDArray[np.float64]) -> FloatArray:
    """Each pixel's leaf's value."""
    result: FloatArray = values.astype(np.float32)[leaves]
    return result


def _leaf_map(rng: np.random.Generator, resolution: tuple[int, int]) -> NDArray[np.int32]:
    """Which leaf, 0 being the background, each pixel shows."""
    height, width = resolution
    size = min(resolution)
    canvas = Image.new("I", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    label = 0
    round_share = rng.random()
    # The radii's density falls with r^-3, which makes the image look the same at every scale.
    count = int(math.exp(rng.uniform(math.log(3), math.log(200))))
    smallest = math.exp(rng.uniform(math.log(_SMALLEST_LEAF), math.log(0.1)))
    radii = size / np.sqrt((1 - rng.random(count)) / smallest**2 + 1 / _LARGEST_LEAF**2)
    # Large ones tend to be behind, or they would hide all that was drawn before.
    for radius in radii[np.argsort(-radii * rng.lognormal(0, 0.7, count))]:
        label += 1
        outline = _outline(rng, radius, round_share) + rng.random(2) * (width, height)
        _fill(draw, outline, label)
    for _ in range(int(rng.integers(0, 4))):
        centre = np.array([width, height]) * rng.normal(0.5, 0.16, 2)
        label = _draw_thing(rng, draw, centre, size * rng.uniform(0.12, 0.5), label)
    return np.asarray(canvas, np.int32)


def _draw_thing(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    centre: NDArray[np.float64],
    radius: float,
    label: int,
) -> int:
    """Draw a thing of parts, alike on both sides as animals and tools are; return its last label.

    Late layers answer to things, hardly to a scatter of shapes.
    """
    round_share = rng.random()
    turn = rng.normal(0, 0.5) if rng.random() < 0.7 else rng.uniform(0, 2 * math.pi)
    axes = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    mirror = np.array([-1.0, 1.0])
    for part in range(int(rng.integers(3, 20))):
        size = radius * (0.8 if part == 0 else rng.uniform(0.04, 0.6))
        place = np.zeros(2) if part == 0 else rng.normal(0, 0.45, 2) * radius
        if rng.random() < 0.25:
            place[0] = 0.0
        outline = _outline(rng, size, round_share)
        rings = int(rng.integers(2, 4)) if rng.random() < 0.25 else 1
        for ring in range(rings):
            label += 1
            shape = outline * (1 - ring / rings) + place
            _fill(draw, shape @ axes + centre, label)
            _fill(draw, (shape * mirror) @ axes + centre, label)
    return label


def _fill(draw: ImageDraw.ImageDraw, outline: NDArray[np.float64], label: int) -> None:
    draw.polygon([float(each) for each in outline.ravel()], fill=label)


def _outline(rng: np.random.Generator, radius: float, round_share: float) -> NDArray[np.float64]:
    """A closed curve about 0 as [points, (x, y)]: a lobed ellipse, or a polygon."""
    stretch = math.exp(rng.normal(0, 0.5))
    turn = rng.uniform(0, math.pi)
    if rng.random() < round_share:
        angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        reach = 1 + rng.uniform(0, 0.3) * np.sin(rng.integers(2, 6) * angles + turn)
    else:
        points = int(rng.integers(3, 8))
        angles = (np.arange(points) + rng.uniform(0, 0.7, points)) * (2 * math.pi / points)
        reach = np.ones(points)
    across = radius * reach * np.cos(angles) * stretch
    along = radius * reach * np.sin(angles) / stretch
    xs = across * math.cos(turn) - along * math.sin(turn)
    ys = across * math.sin(turn) + along * math.cos(turn)
    outline: NDArray[np.float64] = np.stack([xs, ys], axis=1)
    return outline


def _palette(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    deviations = _COLOUR_DEVIATIONS * rng.lognormal(0, (0.1, 0.5, 0.5))
    cast = rng.normal(size=3) * (0.12, 0.08, 0.03)
    strengths = cast + rng.normal(size=(count, 3)) * deviations
    colours: NDArray[np.float64] = _MEAN_COLOUR + strengths @ _COLOUR_AXES
    return colours


def _noise(rng: np.random.Generator, resolution: tuple[int, int], exponent: float) -> FloatArray:
    """Noise of mean 0 and deviation 1, its amplitude 1 / frequency^exponent; half of the time
    drawn out in one direction, like fur or grass."""
    height, width = resolution
    spectrum = np.fft.rfft2(rng.standard_normal(resolution, dtype=np.float32))
    fy = (np.fft.fftfreq(height) * height).astype(np.float32)[:, None]
    fx = (np.fft.rfftfreq(width) * width).astype(np.float32)[None, :]
    turn = rng.uniform(0, math.pi)
    stretch = math.exp(rng.uniform(0.7, 2.0)) if rng.random() < 0.5 else 1.0
    along = (math.cos(turn) * fx + math.sin(turn) * fy) * stretch
    across = (math.cos(turn) * fy - math.sin(turn) * fx) / stretch
    power = np.maximum(along * along + across * across, 1)
    spectrum *= power ** np.float32(-exponent / 2)
    field: FloatArray = np.fft.irfft2(spectrum, resolution).astype(np.float32)
    field -= field.mean()
    field /= max(float(field.std()), 1e-9)
    return field


def _enlarged(field: FloatArray, resolution: tuple[int, int]) -> FloatArray:
    height, width = resolution
    image = Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)


def _edge_shadows(rng: np.random.Generator, leaves: NDArray[np.int32]) -> FloatArray:
    """How much darker the pixels near a leaf's edge are, for things are round and cast shadows."""
    edges = np.zeros(leaves.shape, np.uint8)
    edges[1:, :] |= leaves[1:, :] != leaves[:-1, :]
    edges[:, 1:] |= leaves[:, 1:] != leaves[:, :-1]
    reach = min(leaves.shape) * math.exp(rng.uniform(math.log(0.004), math.log(0.04)))
    near = Image.fromarray(edges * np.uint8(255)).filter(ImageFilter.GaussianBlur(reach))
    shadow = np.asarray(near, np.float32) * np.float32(reach / 255)
    shadow = np.minimum(shadow, 1) * np.float32(rng.uniform(-0.1, 0.4))
    result: FloatArray = shadow - shadow.mean()
    return result


def _stripes(
    rng: np.random.Generator, y: FloatArray, x: FloatArray, field: FloatArray
) -> FloatArray:
    """Stripes or checks from -1 to 1, bent by ``field``."""
    turn = rng.uniform(0, math.pi)
    pace = math.exp(rng.uniform(math.log(8), math.log(100)))
    bend = rng.uniform(0, 4) * field
    along = pace * (math.cos(turn) * x + math.sin(turn) * y) + bend
    waves: FloatArray = np.sin(along, dtype=np.float32)
    if rng.random() < 0.4:
        across = pace * (math.cos(turn) * y - math.sin(turn) * x) + bend
        waves = waves * np.sin(across, dtype=np.float32)
    waves *= np.float32(rng.uniform(1, 4))
    return np.clip(waves, -1, 1, out=waves)


def _illumination(
    rng: np.random.Generator, y: FloatArray, x: FloatArray, field: FloatArray
) -> FloatArray:
    """How much light falls on each pixel: from a side, in patches, less in the corners."""
    angle = rng.uniform(0, 2 * math.pi)
    tilt = rng.uniform(0, 0.35)
    side = 1 + tilt * (math.cos(angle) * x + math.sin(angle) * y)
    patches = 1 + rng.uniform(0, 0.25) * np.tanh(field)
    corners = 1 - rng.uniform(0, 0.2) * (x * x + y * y) / 2
    result: FloatArray = (side * patches * corners).astype(np.float32)
    return result


def _tone(rng: np.random.Generator, pixels: FloatArray) -> FloatArray:
    """Exposure, contrast and clipping, as a camera and its owner choose them."""
    contrast = rng.lognormal(0.1, 0.3)
    middle = float(pixels.mean())
    exposed = (pixels - middle) * np.float32(contrast) + np.float32(middle + rng.normal(0, 0.05))
    np.clip(exposed, 0, 1, out=exposed)
    return exposed


def _focus(
    rng: np.random.Generator, image: Image.Image, leaves: NDArray[np.int32], count: int
) -> Image.Image:
    """Half of the time, blur the leaves that are far behind."""
    sharp = image.filter(ImageFilter.BoxBlur(rng.uniform(0, 0.6)))
    if rng.random() < 0.5:
        return sharp
    near = np.where(leaves > count * rng.uniform(0.2, 0.8), 255, 0).astype(np.uint8)
    radius = rng.uniform(0.003, 0.03) * min(image.size)
    # A strong blur needs no fine grid.
    shrinkage = max(1.0, radius / 2)
    width, height = (max(1, round(side / shrinkage)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BOX)
    blurred = small.filter(ImageFilter.GaussianBlur(radius / shrinkage))
    far = blurred.resize(image.size, Image.Resampling.BICUBIC)
    return Image.composite(sharp, far, Image.fromarray(near).filter(ImageFilter.BoxBlur(0.7)))
