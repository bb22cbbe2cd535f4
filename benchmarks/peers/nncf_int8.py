"""NNCF's post-training quantisation of the .onnx file, converted and run by OpenVINO.

Started by ``benchmarks/accuracy.py`` in an environment with ``nncf`` and ``openvino``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import common
import nncf
import numpy as np
import openvino
from nncf.quantization.advanced_parameters import OverflowFix
from nncf.quantization.range_estimator import (
    RangeEstimatorParameters,
    RangeEstimatorParametersSet,
)

PRESETS = {
    "mixed": nncf.QuantizationPreset.MIXED,
    "performance": nncf.QuantizationPreset.PERFORMANCE,
}
RANGES = {
    "": RangeEstimatorParameters(),
    "-minmax": RangeEstimatorParametersSet.MINMAX,
    "-histogram": RangeEstimatorParametersSet.HISTOGRAM,
}
"""NNCF's own choice is the mean of the photos' extremes; before a depthwise convolution, all
photos' extremes per channel."""


@dataclass(frozen=True)
class Configuration:
    """What `nncf.quantize` is told; ``model_type`` stays None, whose only other value is for
    transformers.

    The overflow fix takes a bit from the stem's weights, for the sake of x86 without VNNI; ARM and
    newer x86 don't need it, and it costs far more than anything else here.
    """

    preset: nncf.QuantizationPreset
    fast_bias_correction: bool = False
    ranges: str = ""
    overflow_fix: OverflowFix = OverflowFix.DISABLE


CONFIGURATIONS = {
    "default": Configuration(PRESETS["performance"], True, overflow_fix=OverflowFix.FIRST_LAYER),
    **{f"{name}-fast": Configuration(preset, True) for name, preset in PRESETS.items()},
    **{
        f"{name}-full{ranges}": Configuration(PRESETS[name], ranges=ranges)
        for name, ranges in product(PRESETS, RANGES)
    },
}


def make(task: common.Task, name: str, configuration: Configuration) -> tuple[Path, ...]:
    """Quantise with every calibration image, one at a time."""
    quantized = nncf.quantize(
        openvino.convert_model(task.model),
        nncf.Dataset([image[None] for image in task.calibration]),
        preset=configuration.preset,
        subset_size=len(task.calibration),
        fast_bias_correction=configuration.fast_bias_correction,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=configuration.overflow_fix,
            activations_range_estimator_params=RANGES[configuration.ranges],
        ),
    )
    path = task.folder / f"{name}.xml"
    openvino.save_model(quantized, path, compress_to_fp16=False)
    return path, path.with_suffix(".bin")


def run(path: Path, images: common.Images) -> common.Logits:
    """Logits by OpenVINO, with what isn't int8 in float32: by default it would take bfloat16 on
    some CPUs, which costs accuracy that isn't the quantiser's."""
    compiled = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    logits = [request.infer([image[None]])["logits"].copy() for image in images]
    return np.concatenate(logits)


if __name__ == "__main__":
    common.main(make, run, CONFIGURATIONS, ("nncf", "openvino", "onnx"))
