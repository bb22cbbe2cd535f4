"""Whether a Keras model is an EfficientNet and nothing more, as its list of layers tells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from effnet_edge.converters.dialects.folding import TENSORFLOW_EPSILON
from effnet_edge.converters.keras_file import KerasLayer, backbone_layer, block_name
from effnet_edge.errors import CheckpointError
from effnet_edge.models.architecture import Architecture
from effnet_edge.models.geometry import padding_before_after
from effnet_edge.recipe import Recipe

# Layers that change nothing at inference, or that are EfficientNet's own parts.
_PARTS = frozenset(
    {
        "Activation",
        "Add",
        "BatchNormalization",
        "Conv2D",
        "Dense",
        "DepthwiseConv2D",
        "Dropout",
        "FixedDropout",
        "GaussianNoise",
        "GlobalAveragePooling2D",
        "InputLayer",
        "Multiply",
        "Normalization",
        "Rescaling",
        "Reshape",
        "Softmax",
        "ZeroPadding2D",
    }
)
# Augmentations that pass images on unchanged at inference. RandomCrop isn't among them: it resizes.
_AUGMENTATIONS = frozenset(
    {
        "RandomBrightness",
        "RandomColorDegeneration",
        "RandomColorJitter",
        "RandomContrast",
        "RandomElasticTransform",
        "RandomErasing",
        "RandomFlip",
        "RandomGaussianBlur",
        "RandomGrayscale",
        "RandomHeight",
        "RandomHue",
        "RandomInvert",
        "RandomPerspective",
        "RandomPosterization",
        "RandomRotation",
        "RandomSaturation",
        "RandomSharpness",
        "RandomShear",
        "RandomTranslation",
        "RandomWidth",
        "RandomZoom",
    }
)
_SWISH = ("swish", "silu")
_LINEAR = ("linear", None)
# Layers without weights take effect by where they stand, which only their names tell.
_PLACES = {
    "Activation": re.compile(r"(stem|top|block\d[a-z](_expand)?)_activation(_\d+)?"),
    "Add": re.compile(r"block\d[a-z]_add(_\d+)?"),
    "Multiply": re.compile(r"block\d[a-z]_se_excite(_\d+)?"),
    "ZeroPadding2D": re.compile(r"(?P<name>stem_conv_pad|block\d[a-z]_dwconv_pad)(_\d+)?"),
}


def check_layers(layers: tuple[KerasLayer, ...], where: str, notes: list[str]) -> float:
    """Return batch norm's epsilon; add to ``notes`` what the user should know.

    Raises CheckpointError for what isn't EfficientNet.
    """
    epsilons: set[float] = set()
    in_backbone = dense_seen = False
    classes: Any = None
    for layer in layers:
        if layer.kind not in _PARTS | _AUGMENTATIONS:
            raise CheckpointError(
                f"{where} has a layer {layer.name} of class {layer.kind}, which is no part of an "
                "EfficientNet classifier: it can't be converted as one"
            )
        if layer.config.get("data_format", "channels_last") not in ("channels_last", None):
            raise CheckpointError(f"{where} is built channels first: save it channels last")
        if in_backbone and layer.kind in ("Normalization", "Rescaling"):
            raise CheckpointError(
                f"{where} scales in layer {layer.name}, behind its first convolution: it can't be "
                "converted as an EfficientNet"
            )
        if layer.kind == "BatchNormalization":
            epsilons.add(_epsilon(layer, where))
        elif layer.kind in ("Conv2D", "DepthwiseConv2D"):
            in_backbone = True
            _check_convolution(layer, where)
        elif layer.kind == "Dense" or dense_seen:
            classes = layer.config.get("units", classes)
            _check_end(layer, classes, where, notes)
            dense_seen = True
        else:
            _check_place(layer, where)
    if len(epsilons) > 1:
        raise CheckpointError(f"{where} has batch norms of different epsilon: {sorted(epsilons)}")
    return epsilons.pop() if epsilons else TENSORFLOW_EPSILON


def _epsilon(layer: KerasLayer, where: str) -> float:
    epsilon = float(layer.config.get("epsilon", TENSORFLOW_EPSILON))
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise CheckpointError(f"{where}: {layer.name} has an epsilon of {epsilon}: it is damaged")
    return epsilon


def _check_convolution(layer: KerasLayer, where: str) -> None:
    config = layer.config
    name = backbone_layer(layer.name) or layer.name
    if _pair(config.get("dilation_rate", 1)) != (1, 1):
        raise CheckpointError(
            f"{where} dilates in layer {layer.name}, which EfficientNet doesn't: it can't be "
            "converted as one"
        )
    expected: tuple[str | None, ...] = _LINEAR
    if name.endswith("_se_reduce"):
        expected = _SWISH
    elif name.endswith("_se_expand"):
        expected = ("sigmoid",)
    if config.get("activation") not in expected:
        raise _wrong_activation(layer, where, expected[0] or "linear")


def _check_end(layer: KerasLayer, classes: Any, where: str, notes: list[str]) -> None:
    """The classifier and what follows it: nothing but an activation."""
    activation = "softmax" if layer.kind == "Softmax" else layer.config.get("activation")
    if layer.kind not in ("Activation", "Dense", "Dropout", "InputLayer", "Reshape", "Softmax"):
        raise CheckpointError(
            f"{where} has a layer {layer.name} of class {layer.kind} behind its classifier: it "
            "can't be converted"
        )
    if layer.kind == "Activation" and activation not in ("softmax", "sigmoid", "linear"):
        raise _wrong_activation(layer, where, "softmax")
    if activation == "sigmoid" and classes == 1:  # read as two classes, so it is their softmax
        return
    if activation not in ("softmax", *_LINEAR):
        notes.append(
            f"the classifier ends in {activation!r:.60}; the converted model gives its logits, and "
            "predictions are their softmax"
        )


def _check_place(layer: KerasLayer, where: str) -> None:
    """Refuse a layer without weights that stands where EfficientNet has none."""
    if layer.kind == "Softmax":
        raise CheckpointError(f"{where} has a softmax before its classifier: it can't be converted")
    if layer.kind == "Activation" and layer.config.get("activation") not in _SWISH:
        raise _wrong_activation(layer, where, _SWISH[0])
    place = _PLACES.get(layer.kind)
    if place is not None and not place.fullmatch(layer.name):
        raise CheckpointError(
            f"{where} has a layer {layer.name} of class {layer.kind} where EfficientNet has none: "
            "it can't be converted as one"
        )


def _wrong_activation(layer: KerasLayer, where: str, right: str) -> CheckpointError:
    return CheckpointError(
        f"{where} uses the activation {layer.config.get('activation')!r:.60} in layer "
        f"{layer.name}, where EfficientNet has {right}: it can't be converted as one"
    )


def check_geometry(
    layers: Iterable[KerasLayer], arch: Architecture, recipe: Recipe, where: str
) -> None:
    """Check that convolutions stride as ``arch``'s do, and that the ZeroPadding2D layers do what
    SAME does at ``recipe``'s resolution.

    Keras fixes them when the model is built: for even sizes if the input's size was left open.
    Raises CheckpointError.
    """
    kernels = {"stem_conv": 3}
    kernels |= {f"{block_name(b)}_dwconv": b.kernel for b in arch.blocks if b.stride == 2}
    paddings = {}
    convolutions = []
    for layer in layers:
        name = backbone_layer(layer.name)
        if layer.kind == "ZeroPadding2D" and (match := _PLACES[layer.kind].fullmatch(layer.name)):
            paddings[match["name"]] = layer
        elif layer.kind in ("Conv2D", "DepthwiseConv2D") and name is not None:
            convolutions.append((name, layer))
    for name, layer in convolutions:
        stride = 2 if name in kernels else 1
        padded = f"{name}_pad" in paddings
        if _pair(layer.config.get("strides", 1)) != (stride, stride):
            raise CheckpointError(
                f"{where} strides otherwise than {arch.title} in layer {layer.name}: it can't be "
                "converted as one"
            )
        if layer.config.get("padding", "same") != ("valid" if padded else "same"):
            raise CheckpointError(
                f"{where} pads otherwise than {arch.title} in layer {layer.name}: it can't be "
                "converted as one"
            )
    size = recipe.resolution
    for name, kernel in kernels.items():
        wanted = [list(padding_before_after("same", side, kernel, 2)) for side in size]
        padding = paddings.pop(f"{name}_pad", None)
        with reading_configuration(where):
            found = [list(pair) for pair in padding.config["padding"]] if padding else wanted
        if found != wanted:
            raise CheckpointError(
                f"{where} was built for another input size: at {recipe.resolution[0]} x "
                f"{recipe.resolution[1]} its layer {name}_pad would pad {found}, where {wanted} is "
                "right. Give --resolution as in training, or build the model for this size"
            )
        size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    for name in paddings:
        raise CheckpointError(f"{where} pads in layer {name}, where {arch.title} doesn't")


@contextmanager
def reading_configuration(where: str) -> Iterator[None]:
    """Turn what a configuration of unexpected shape causes into an error about the file."""
    try:
        yield
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where} has a model configuration that can't be read") from error


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value, value)
