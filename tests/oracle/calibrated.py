"""Networks of the reference libraries, random but with batch norm calibrated on real photos.

With the statistics of a fresh model (mean 0, variance 1) the signal dies within a few blocks and a
wrong padding or epsilon changes next to nothing. With its own statistics the network behaves as a
trained one does: every layer's output has the spread that batch norm says it has.
"""

from __future__ import annotations

import copy
import os
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
# torchvision registers operators that a CPU build of torch may lack; nothing here calls them.
sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("unused"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CALIBRATION_PHOTOS = 8
FLOOR = 0.1
"""Part of a layer's mean variance that is added to each channel's: without it the channels that
hardly vary are blown up until float32's own rounding shows in the logits."""

LIBRARIES = (
    "torchvision",
    "timm",
    "tf",
    "geffnet",
    "geffnet-tf",
    "efficientnet-pytorch",
    "keras",
)
DIALECTS = {library: library for library in LIBRARIES} | {"geffnet": "timm", "geffnet-tf": "tf"}
"""The name under which effnet-edge knows each library's dialect."""


def photos(resolution: tuple[int, int]) -> np.ndarray:
    """Foolbox's 20 ImageNet photos as uint8 [20, H, W, 3]."""
    spec = find_spec("foolbox")
    assert spec is not None and spec.origin is not None
    files = sorted((Path(spec.origin).parent / "data").glob("imagenet_*.jpg"))
    size = resolution[::-1]
    return np.stack([np.asarray(Image.open(f).convert("RGB").resize(size)) for f in files])


def calibrated_model(
    library: str,
    phi: int,
    *,
    lite: bool = False,
    classes: int = 1000,
    resolution: int | tuple[int, int] | None = None,
) -> tuple[Any, Callable[[Path], Path]]:
    """Build B0..B7 (or Lite0..4) in one of `LIBRARIES`, in evaluation mode, calibrated.

    Returns the torch module or Keras model, and a function that saves it the library's own way
    (``torch.save`` of the state dict; ``model.save`` for Keras, whose path's suffix chooses the
    format) and returns the path. Batch norm's gamma and beta are random too. ``resolution`` is
    what the batch norms are calibrated at, what libraries with static padding are built for, and
    what to call `logits` at; without it B0..B3 and Lite take their own, and the others 160.
    """
    torch.manual_seed(phi)
    size = resolution or _default_resolution(phi, lite)
    height, width = (size, size) if isinstance(size, int) else size
    if library == "keras":
        return _keras(phi, classes, (height, width))
    model = _torch_model(library, phi, lite, classes, (height, width))
    batch = _normalised(photos((height, width))[:CALIBRATION_PHOTOS], MEAN, STD)
    _calibrate(model, batch.float())

    def save(path: Path) -> Path:
        torch.save(model.state_dict(), path)
        return path

    return model, save


def logits(model: Any, images: np.ndarray, mean: Any = MEAN, std: Any = STD) -> np.ndarray:
    """The reference's own logits [N, classes] for uint8 ``images`` [N, H, W, 3].

    The torch libraries compute them in float64, so that only the other side's rounding counts.
    Keras normalises inside the model, so ``mean`` and ``std`` are for the torch libraries.
    """
    with torch.no_grad():
        if isinstance(model, torch.nn.Module) and not hasattr(model, "get_config"):
            exact = copy.deepcopy(model).double()
            return exact(_normalised(images, mean, std)).numpy()
        return model(torch.from_numpy(images.astype(np.float32)), training=False).cpu().numpy()


def _default_resolution(phi: int, lite: bool) -> int:
    if lite:
        return (224, 240, 260, 280, 300)[phi]
    return (224, 240, 260, 300)[phi] if phi < 4 else 160


def _normalised(images: np.ndarray, mean: Any, std: Any) -> torch.Tensor:
    center, spread = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
    scaled = (torch.from_numpy(images).double() / 255 - center) / spread
    return scaled.permute(0, 3, 1, 2).contiguous()


def _torch_model(
    library: str, phi: int, lite: bool, classes: int, resolution: tuple[int, int]
) -> torch.nn.Module:
    member = f"lite{phi}" if lite else f"b{phi}"
    if library == "torchvision":
        from torchvision import models

        return getattr(models, f"efficientnet_{member}")(num_classes=classes)
    if library in ("timm", "tf"):
        import timm

        prefix = "tf_" if library == "tf" else ""
        return timm.create_model(f"{prefix}efficientnet_{member}", num_classes=classes)
    if library in ("geffnet", "geffnet-tf"):
        import geffnet

        prefix = "tf_" if library == "geffnet-tf" else ""
        return geffnet.create_model(f"{prefix}efficientnet_{member}", num_classes=classes)
    if library == "efficientnet-pytorch":
        from efficientnet_pytorch import EfficientNet

        return EfficientNet.from_name(
            f"efficientnet-{member}", num_classes=classes, image_size=list(resolution)
        )
    raise ValueError(library)


def _calibrate(model: torch.nn.Module, batch: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    model.eval()

    def calibrate(norm: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        mean, variance = _statistics(inputs[0], (0, 2, 3))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(0.3 + 0.6 * torch.rand(norm.weight.shape, generator=generator))
        norm.bias.copy_(0.3 * torch.randn(norm.bias.shape, generator=generator))

    # Layer by layer: each norm gets the statistics of what the norms before it let through.
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(calibrate) for norm in norms]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()


def _statistics(x: torch.Tensor, axes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    variance = x.var(axes, correction=0)
    return x.mean(axes), variance + FLOOR * variance.mean()


def _keras(
    phi: int, classes: int, resolution: tuple[int, int]
) -> tuple[Any, Callable[[Path], Path]]:
    import keras

    keras.utils.set_random_seed(phi)
    model = getattr(keras.applications, f"EfficientNetB{phi}")(
        weights=None,
        classes=classes,
        input_shape=(*resolution, 3),
        classifier_activation=None,
    )
    calibrate_keras(model, resolution)

    def save(path: Path) -> Path:
        if path.name.endswith(".weights.h5"):
            model.save_weights(path)
        else:
            model.save(path)
        return path

    return model, save


def calibrate_keras(model: Any, resolution: tuple[int, int]) -> None:
    """Set the normalisation of a Keras model to ImageNet's, and its batch norms to the photos'."""
    import keras

    rng = np.random.default_rng(1)
    norms = []
    for layer in _all_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign(np.asarray(MEAN, np.float32))
            layer.adapt_variance.assign(np.square(np.asarray(STD, np.float32)))
            layer.finalize_state()
        elif isinstance(layer, keras.layers.BatchNormalization):
            norms.append(layer)

    def calibrating(layer: Any) -> Any:
        def call(x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            mean, variance = _statistics(x, tuple(range(x.ndim - 1)))
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
            layer.gamma.assign(rng.uniform(0.3, 0.9, layer.gamma.shape))
            layer.beta.assign(0.3 * rng.standard_normal(layer.beta.shape))
            return type(layer).call(layer, x, training=False)

        return call

    for layer in norms:
        layer.call = calibrating(layer)
    batch = photos(resolution)[:CALIBRATION_PHOTOS].astype(np.float32)
    with torch.no_grad():
        model(torch.from_numpy(batch), training=False)
    for layer in norms:
        del layer.call


def _all_layers(model: Any) -> list[Any]:
    found = []
    for layer in model.layers:
        found += _all_layers(layer) if hasattr(layer, "layers") else [layer]
    return found
