"""Our preprocessing against torchvision's and timm's own evaluation transforms, pixel for pixel."""

from __future__ import annotations

import io
import sys
import types

import numpy as np
import pytest

pytest.importorskip("torch")
# torchvision registers operators that a CPU build of torch may lack; nothing here calls them.
sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("unused"))

import torch  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402
from timm.data.transforms_factory import create_transform  # noqa: E402
from torchvision import models, transforms  # noqa: E402
from torchvision.transforms import InterpolationMode  # noqa: E402

from effnet_edge.images import open_image  # noqa: E402
from effnet_edge.models.weights import KNOWN_WEIGHTS, known  # noqa: E402
from effnet_edge.preprocessing import preprocess  # noqa: E402
from effnet_edge.recipe import Recipe, resize_for_crop  # noqa: E402

pytestmark = pytest.mark.oracle

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
SIZES = (
    (480, 640),
    (640, 480),
    (375, 500),
    (500, 333),
    (1080, 1920),
    (1600, 1200),
    (224, 224),
    (256, 256),
    (100, 75),
    (31, 200),
    (900, 60),
    (3, 4),
    (1, 1),
)


def noise(height, width, seed=0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def difference(got, expected) -> int:
    assert got.shape == expected.shape
    return int(np.abs(got.astype(int) - expected).max())


def torchvision_pixels(image, resize, crop, interpolation) -> np.ndarray:
    steps = [
        transforms.Resize(resize, InterpolationMode(interpolation), antialias=True),
        transforms.CenterCrop(crop),
    ]
    return np.asarray(transforms.Compose(steps)(image))


def timm_pixels(image, resolution, crop, interpolation) -> np.ndarray:
    transform = create_transform(
        (3, *resolution), interpolation=interpolation, crop_pct=crop, use_prefetcher=True
    )
    return np.asarray(transform(image)).transpose(1, 2, 0)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_torchvisions_resize_and_crop(size, interpolation):
    image = noise(*size)
    for resize, crop in ((256, 224), (255, 240), (320, 300), (288, 288), (100, 150)):
        recipe = Recipe((crop, crop), (resize, resize), interpolation)
        expected = torchvision_pixels(image, resize, crop, interpolation)
        assert difference(preprocess(image, recipe), expected) <= 1


def test_torchvisions_resize_and_crop_at_random_sizes():
    rng = np.random.default_rng(7)
    for trial in range(250):
        height, width = (int(size) for size in np.exp(rng.uniform(0, np.log(1500), 2)))
        if max(height, width) > 60 * min(height, width):
            continue
        resize, crop = (int(size) for size in rng.integers(16, 320, 2))
        interpolation = INTERPOLATIONS[trial % 4]
        image = noise(height, width, trial)
        recipe = Recipe((crop, crop), (resize, resize), interpolation)
        expected = torchvision_pixels(image, resize, crop, interpolation)
        case = (height, width, resize, crop, interpolation)
        assert difference(preprocess(image, recipe), expected) <= 1, case


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_timms_own_transform(size, interpolation):
    image = noise(*size)
    for resolution in ((224, 224), (300, 300), (160, 256), (256, 160), (97, 100)):
        for crop in (0.875, 0.904, 1.0):
            resize = resize_for_crop(resolution, crop)
            recipe = Recipe(resolution, resize, interpolation)
            expected = timm_pixels(image, resolution, crop, interpolation)
            assert difference(preprocess(image, recipe), expected) <= 1, (resolution, crop)


TORCHVISION = [row for row in KNOWN_WEIGHTS if row.name in ("torchvision", "torchvision-v2")]


@pytest.mark.parametrize("row", TORCHVISION, ids=lambda row: f"{row.name}-{row.phi}")
def test_torchvisions_weights_are_fed_as_their_own_transforms_do(row):
    entry = {"torchvision": "IMAGENET1K_V1", "torchvision-v2": "IMAGENET1K_V2"}[row.name]
    preset = models.get_model_weights(f"efficientnet_b{row.phi}")[entry].transforms()
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (preset.mean, preset.std))
    for size in ((480, 640), (700, 500), (120, 90)):
        image = noise(*size)
        expected = np.rint((preset(image).numpy() * std + mean) * 255).transpose(1, 2, 0)
        assert difference(preprocess(image, row.recipe), expected) <= 1


def test_every_recipe_of_the_known_weights_is_that_of_torchvisions_transforms():
    recipes = {
        (row.recipe.resize, row.recipe.resolution, row.recipe.interpolation)
        for row in KNOWN_WEIGHTS
        if row.recipe.antialias
    }
    assert len(recipes) > 10
    for size in ((375, 500), (900, 700)):
        image = noise(*size)
        for resize, resolution, interpolation in recipes:
            assert resize[0] == resize[1]
            expected = torchvision_pixels(image, resize[0], resolution[0], interpolation)
            recipe = Recipe(resolution, resize, interpolation)
            assert difference(preprocess(image, recipe), expected) <= 1


@pytest.mark.parametrize("phi", range(8))
def test_the_tf_weights_are_fed_as_timms_own_configuration_says(phi):
    import timm
    from timm.data import resolve_data_config

    name = "efficientnet_b{}.{}_in1k".format(phi, "ra" if phi in (5, 7) else "aa")
    data = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(f"tf_{name}").to_dict())
    image = noise(480, 640)
    expected = timm_pixels(image, data["input_size"][1:], data["crop_pct"], data["interpolation"])
    assert difference(preprocess(image, known("tf", phi).recipe), expected) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_held_any_way_goes_in_as_torchvision_would_take_it_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    noise(90, 130).save(file, "JPEG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    recipe = Recipe((56, 56), (64, 64), "bicubic")
    got = preprocess(open_image(file.getvalue()), recipe)
    assert difference(got, torchvision_pixels(upright, 64, 56, "bicubic")) <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA"])
def test_an_opaque_image_of_any_mode_goes_in_as_torchvision_would_take_it(mode):
    image = noise(90, 130).convert("L" if mode == "LA" else "RGB").convert(mode)
    recipe = Recipe((56, 56), (64, 64), "bilinear")
    expected = torchvision_pixels(image.convert("RGB"), 64, 56, "bilinear")
    assert difference(preprocess(open_image(image), recipe), expected) <= 1


@pytest.mark.parametrize("size", [(480, 640), (75, 100), (20, 300), (1, 1), (3, 2)])
def test_bilinear_without_antialias_is_torchs(size):
    image = noise(*size)
    recipe = Recipe((100, 110), (120, 130), "bilinear", antialias=False)
    ratio = min(size[0] / 120, size[1] / 130)
    whole = [round(side / ratio) for side in size]
    tensor = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())[None].float()
    resized = torch.nn.functional.interpolate(tensor, whole, mode="bilinear", antialias=False)
    expected = transforms.functional.center_crop(resized[0], [100, 110]).round()
    assert difference(preprocess(image, recipe), expected.numpy().transpose(1, 2, 0)) <= 1


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (384, 380), (600, 600), (200, 224)])
def test_up_to_long_panoramas_every_pixel_is_torchvisions(resize, crop, interpolation):
    for height, width in ((480, 640), (37, 1100), (1100, 37), (91, 90)):
        image = noise(height, width)
        got = preprocess(image, Recipe((crop, crop), (resize, resize), interpolation))
        expected = torchvision_pixels(image, resize, crop, interpolation)
        assert difference(got, expected) == 0
