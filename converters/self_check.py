"""The last step of a conversion: the files are run before they get their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effnet_edge.engines import available_engines, choose_engine, open_session
from effnet_edge.errors import ConversionError
from effnet_edge.metadata import Precision
from effnet_edge.model_file import ModelFormat

MAX_DISAGREEMENT: dict[Precision, float] = {"fp32": 1e-3, "fp16": 1e-3, "int8": 0.25}
"""Largest difference of two engines' logits, relative to the largest logit. Both compute in
float32 in different orders; an error of the conversion (a border, a scale) is far above it. In
int8 the formats hold the same integers, but one that is rounded otherwise in an early block
has consequences in all that follow."""


def check_models(
    models: Mapping[ModelFormat, Path], resolution: tuple[int, int], precision: Precision
) -> None:
    """Run every model file on one image and compare.

    A format whose engine isn't installed isn't run. Raises ConversionError if a result isn't
    finite or two formats disagree, and EngineError if an engine refuses its file.
    """
    image = test_image(*resolution)
    # Engines of other people, which run a file as anybody's program would.
    runnable = {engine.format for engine in available_engines() if engine.computes(None)}
    logits: dict[ModelFormat, NDArray[np.float32]] = {}
    for model_format, path in models.items():
        if model_format not in runnable:
            continue
        with open_session(path, choose_engine(model_format)) as session:
            logits[model_format] = session.run(image[None])[0]
    for made, values in logits.items():
        if not np.isfinite(values).all():
            raise ConversionError(
                f"the {made} model gives values that aren't finite for a plain image: "
                "the weights overflow float32; check the checkpoint"
            )
    if len(logits) == 2:
        first, second = logits.values()
        scale = max(float(np.abs(first).max()), 1e-6)
        difference = float(np.abs(first - second).max()) / scale
        if difference > MAX_DISAGREEMENT[precision]:
            raise ConversionError(
                f"the ONNX and TFLite models disagree by {difference:.2g} of the largest logit "
                f"(allowed: {MAX_DISAGREEMENT[precision]:g}), so one is wrong and neither was "
                "kept; please report this with the checkpoint's origin"
            )


def test_image(height: int, width: int) -> NDArray[np.uint8]:
    """A repeatable uint8 [height, width, 3] image with smooth areas, edges and busy borders."""
    rows = np.linspace(0, 255, height)[:, None, None]
    columns = np.linspace(255, 0, width)[None, :, None]
    noise = np.random.default_rng(0).integers(-40, 41, (height, width, 3))
    channels = np.array([1.0, 0.8, 0.6])
    pixels: NDArray[np.float64] = np.clip((rows + columns) / 2 * channels + noise, 0, 255)
    return pixels.astype(np.uint8)
