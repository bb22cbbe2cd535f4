"""litert-quantizer's ``static_wi8_ai8`` recipe and its variations, run by LiteRT.

Started by ``benchmarks/accuracy.py`` in an environment with ``litert-quantizer`` and
``ai-edge-litert``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import common
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import recipe
from litert_quantizer.algorithm_manager import AlgorithmName
from litert_quantizer.calibrator import Calibrator
from litert_quantizer.qtyping import TFLOperationName
from litert_quantizer.quantizer import Quantizer
from litert_quantizer.recipe_manager import RecipeManager
from litert_quantizer.utils import qsv_utils

SIGNATURE = "serving_default"
RANGES = {"average": qsv_utils.moving_average_update, "minmax": qsv_utils.min_max_update}
WEIGHTS = {"plain": None, "mse": AlgorithmName.MSE, "octav": AlgorithmName.OCTAV}
CONFIGURATIONS = {
    f"{ranges}-{weights}": (RANGES[ranges], WEIGHTS[weights])
    for ranges, weights in product(RANGES, WEIGHTS)
}
"""How activations' ranges are gathered, and how weights' scales are chosen. A moving average and
the weights' extremes are the recipe's own choice."""


def make(task: common.Task, name: str, options: tuple[Any, AlgorithmName | None]) -> tuple[Path]:
    """Quantise with every calibration image, one at a time."""
    update, weights = options
    manager = RecipeManager()
    manager.load_quantization_recipe(_recipe(weights))
    # Quantizer.calibrate always takes the moving average.
    calibrator = Calibrator(str(task.model), num_threads=1, qsv_update_func=update)
    calibrator.calibrate({SIGNATURE: list(_inputs(task.calibration))}, manager)
    quantizer = Quantizer(str(task.model), _recipe(weights))
    path = task.folder / f"{name}.tflite"
    result = quantizer.quantize(calibrator.get_model_qsvs(), enable_progress_report=False)
    result.export_model(path, overwrite=True)
    return (path,)


def _recipe(weights: AlgorithmName | None) -> Any:
    manager = RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    # The file's input is uint8 already: 8 bits more for its mean would only add an error. And
    # logits of 256 steps, clipped where an average says so, would spoil any model.
    for each in (TFLOperationName.SUB, TFLOperationName.SOFTMAX, TFLOperationName.OUTPUT):
        manager.add_quantization_config(".*", each, algorithm_key=AlgorithmName.NO_QUANTIZE)
    manager.add_dynamic_config(".*", TFLOperationName.FULLY_CONNECTED, num_bits=8)
    if weights is not None:
        for each in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            manager.add_static_config(".*", TFLOperationName(each), 8, 8, algorithm_key=weights)
    return manager.get_quantization_recipe()


def _inputs(images: common.Images) -> Iterator[dict[str, common.Images]]:
    return ({"image": image[None]} for image in images)


def run(path: Path, images: common.Images) -> common.Logits:
    """Logits by LiteRT, made real numbers where the recipe left int8."""
    runner = Interpreter(str(path), num_threads=1).get_signature_runner(SIGNATURE)
    logits = np.concatenate([runner(**each)["logits"].copy() for each in _inputs(images)])
    if logits.dtype == np.float32:
        return logits
    scale, zero_point = runner.get_output_details()["logits"]["quantization"]
    return np.float32(scale) * (logits.astype(np.float32) - zero_point)


if __name__ == "__main__":
    common.main(make, run, CONFIGURATIONS, ("litert-quantizer", "ai-edge-litert"))
