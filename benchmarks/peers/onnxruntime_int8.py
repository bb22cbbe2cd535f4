"""ONNX Runtime's static quantisation: QDQ, uint8 activations, int8 weights per channel.

Started by ``benchmarks/accuracy.py`` in an environment with ``onnxruntime``, ``onnx`` and
``sympy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import common
import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    create_calibrator,
    save_tensors_data,
)
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

STRIDE = 16
"""Images whose activations the histograms' calibrators hold in memory at once."""


@dataclass(frozen=True)
class Configuration:
    """A calibrator, and what is quantised: all that can be, or the convolutions' inputs only, so
    that SiLU stays in float as it does with other quantisers."""

    method: CalibrationMethod
    percentile: float = 0.0
    average: bool = False
    convolutions_only: bool = False


CONFIGURATIONS = {
    "minmax": Configuration(CalibrationMethod.MinMax),
    "minmax-average": Configuration(CalibrationMethod.MinMax, average=True),
    "entropy": Configuration(CalibrationMethod.Entropy),
    **{
        f"percentile-{percentile}{'-convolutions' if only else ''}": Configuration(
            CalibrationMethod.Percentile, percentile, convolutions_only=only
        )
        for percentile in (99.9, 99.99, 99.999)
        for only in (False, True)
    },
}


class Reader(CalibrationDataReader):
    """Hands out the calibration images one by one."""

    def __init__(self, images: common.Images) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        """The next input by its name, or None behind the last."""
        image = next(self._left, None)
        return None if image is None else {"image": image[None]}


def make(task: common.Task, name: str, configuration: Configuration) -> tuple[Path, ...]:
    """Quantise after the recommended preprocessing."""
    prepared = _prepared(task)
    calibrator = _calibrated(task, configuration.method, configuration.average)
    if configuration.method is CalibrationMethod.Percentile:
        calibrator.collector.percentile = configuration.percentile
    ranges = task.folder / "ranges.json"
    save_tensors_data(calibrator.compute_data(), ranges)
    path = task.folder / f"{name}.onnx"
    only = ["Conv", "Gemm"]
    quantize_static(
        prepared,
        path,
        None,
        per_channel=True,
        reduce_range=False,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=configuration.method,
        op_types_to_quantize=only if configuration.convolutions_only else _operators(),
        # 256 steps for 1000 logits would help nobody.
        extra_options={
            "OpTypesToExcludeOutputQuantization": only
            if configuration.convolutions_only
            else ["Gemm"]
        },
        calibration_cache_path=ranges,
    )
    return (path,)


@cache
def _prepared(task: common.Task) -> Path:
    path = task.folder / "prepared.onnx"
    quant_pre_process(task.model, path)
    return path


@cache
def _calibrated(task: common.Task, method: CalibrationMethod, average: bool) -> Any:
    """A calibrator that has seen the images: all percentiles come from one set of histograms."""
    calibrator = create_calibrator(
        _prepared(task),
        _operators(),
        augmented_model_path=str(task.folder / "augmented.onnx"),
        calibrate_method=method,
        extra_options={"moving_average": average},
    )
    # The extremes are averaged over what is collected at once.
    stride = len(task.calibration) if method is CalibrationMethod.MinMax else STRIDE
    for start in range(0, len(task.calibration), stride):
        calibrator.collect_data(Reader(task.calibration[start : start + stride]))
    return calibrator


def _operators() -> list[str]:
    """What is quantised by default, but for Softmax, whose probabilities nothing here reads."""
    return sorted({*QLinearOpsRegistry, *QDQRegistry} - {"Softmax"})


def run(path: Path, images: common.Images) -> common.Logits:
    """Logits by ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in images])


if __name__ == "__main__":
    common.main(make, run, CONFIGURATIONS, ("onnxruntime", "onnx"))
