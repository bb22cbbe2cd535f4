"""Watching the float network at work: what quantization has to know of every tensor.

The network is run part by part (stem, block, head) by ONNX Runtime, because only one part's
activations are then held at a time. Of each tensor a random, repeatable choice of positions is
kept, and the exact range of every channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effnet_edge.converters.onnx_writer import float_part_model
from effnet_edge.device import default_threads
from effnet_edge.engines.base import import_engine
from effnet_edge.engines.onnxruntime import ask_for_exact_products
from effnet_edge.errors import ConversionError
from effnet_edge.models.architecture import Activation
from effnet_edge.models.geometry import PaddingMode, output_size, padding_before_after
from effnet_edge.models.network import Conv, FloatArray, Head, MBConv

Matrix = NDArray[np.float64]

SAMPLES = 8192
"""About how many positions are kept of a map over all images."""
PATCHES = 1024
"""About how many windows of a depthwise convolution's input are looked at over all images."""
_BATCH_ELEMENTS = 1 << 24
"""So many values of the largest tensor are computed at once: 64 MB."""


@dataclass(frozen=True, eq=False)
class Observed:
    """One tensor over all images: ``samples`` float32 [channels, n] at random positions, and each
    channel's exact ``low`` and ``high`` [channels]."""

    samples: FloatArray
    low: FloatArray
    high: FloatArray

    def scaled(self, factors: FloatArray) -> Observed:
        """The same tensor with every channel times its positive factor."""
        return Observed(self.samples * factors[:, None], self.low * factors, self.high * factors)

    def activated(self, activation: Activation) -> Observed:
        """What the activation makes of the tensor; the ends of the ranges go the same way."""
        return Observed(*(activate(x, activation) for x in (self.samples, self.low, self.high)))

    def few(self, count: int) -> FloatArray:
        """About ``count`` samples of each channel, evenly from all images, and its extremes:
        float32 [channels, at most count + 2]."""
        available = self.samples.shape[1]
        columns = np.linspace(0, available - 1, min(count, available)).astype(int)
        return np.concatenate(
            [self.samples[:, columns], self.low[:, None], self.high[:, None]], axis=1
        )

    def moment(self) -> Matrix:
        """E[x x^T] over the samples, [channels, channels]."""
        return _second_moment(self.samples)


@dataclass(frozen=True, eq=False)
class PartObservation:
    """A part's tensors by name, the depthwise (or the stem's) window moments E[x x^T] by name, and
    its result: a map [N, C, H, W], or the head's logits [N, classes]."""

    tensors: dict[str, Observed]
    moments: dict[str, Matrix]
    output: FloatArray


def observe_stem(
    stem: Conv, centred: FloatArray, activation: Activation, padding: PaddingMode
) -> PartObservation:
    """Watch the stem on ``centred``, float32 [N, 3, H, W]: pixels less the offset."""
    watch = _Watch(len(centred))
    result = f"stem.{activation}"
    for x, (convolved, activated) in _runs(stem, centred, activation, padding, ["stem", result]):
        watch.sample("stem", convolved)
        watch.windows("stem", x, stem, padding)
        watch.keep(activated)
    return watch.result()


def observe_block(
    block: MBConv, inputs: FloatArray, activation: Activation, padding: PaddingMode
) -> PartObservation:
    """Watch a block on ``inputs``, float32 [N, C, H, W].

    Tensors: ``input``, ``expand`` and ``depthwise`` (before their activations), ``pool``,
    ``reduce``, ``gate`` (before the sigmoid), ``project_input``, ``project`` and ``output``.
    """
    names = {"depthwise": "block.depthwise", "project": "block.project"}
    if block.expand is not None:
        names["expand"] = "block.expand"
    if block.squeeze_excite is not None:
        names |= {
            "pool": "block.squeeze_excite.pool",
            "reduce": "block.squeeze_excite.reduce",
            "gate": "block.squeeze_excite.expand",
            "project_input": "block.squeeze_excite",
        }
    if block.residual:
        names["output"] = "block.residual"
    watch = _Watch(len(inputs))
    for x, values in _runs(block, inputs, activation, padding, list(names.values())):
        found = dict(zip(names, values, strict=True))
        watch.sample("input", x)
        for name, value in found.items():
            watch.sample(name, value)
        wide = x if block.expand is None else found["expand"]
        applied = None if block.expand is None else activation
        watch.windows("depthwise", wide, block.depthwise, padding, applied)
        watch.keep(found["output" if block.residual else "project"])
    observation = watch.result()
    if block.squeeze_excite is None:
        before = observation.tensors["depthwise"]
        observation.tensors["project_input"] = before.activated(activation)
    return observation


def observe_head(
    head: Head, inputs: FloatArray, activation: Activation, padding: PaddingMode
) -> PartObservation:
    """Watch the head. Tensors: ``input``, ``conv`` (before its activation) and ``features``."""
    watch = _Watch(len(inputs))
    names = ["head.conv", "head.features", "logits"]
    for x, (convolved, features, logits) in _runs(head, inputs, activation, padding, names):
        watch.sample("input", x)
        watch.sample("conv", convolved)
        watch.sample("features", features[:, :, None, None])
        watch.keep(logits)
    return watch.result()


def activate(x: FloatArray, activation: Activation) -> FloatArray:
    """SiLU or ReLU6 of ``x``."""
    if activation == "relu6":
        return np.clip(x, 0, 6)
    return x * sigmoid(x)


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):
        result: FloatArray = np.reciprocal(1 + np.exp(-x))
    return result


class _Watch:
    """Gathers samples, ranges and moments batch by batch."""

    def __init__(self, images: int) -> None:
        self._random = np.random.default_rng(0)
        self._positions = -(-SAMPLES // images)
        self._windows = -(-PATCHES // images)
        self._samples: dict[str, list[FloatArray]] = {}
        self._low: dict[str, FloatArray] = {}
        self._high: dict[str, FloatArray] = {}
        self._moments: dict[str, tuple[int, Matrix]] = {}
        self._images = images
        self._kept = 0
        self._output: FloatArray = np.empty(0, np.float32)

    def sample(self, name: str, maps: FloatArray) -> None:
        """Take samples of ``maps`` [n, C, H, W]."""
        images, channels = maps.shape[:2]
        flat = maps.reshape(images, channels, -1)
        low, high = flat.min(axis=(0, 2)), flat.max(axis=(0, 2))
        _check_finite(name, low, high)
        self._low[name] = np.minimum(self._low.get(name, low), low)
        self._high[name] = np.maximum(self._high.get(name, high), high)
        count = min(self._positions, flat.shape[2])
        for image in flat:
            where = self._random.choice(flat.shape[2], count, replace=False, shuffle=False)
            self._samples.setdefault(name, []).append(image[:, where])

    def windows(
        self,
        name: str,
        maps: FloatArray,
        conv: Conv,
        padding: PaddingMode,
        activation: Activation | None = None,
    ) -> None:
        """Add the second moments of what windows of ``conv`` see of ``maps`` [n, C, H, W], after
        ``activation``: [C, k * k, k * k] for a depthwise one, else [C * k * k, C * k * k]."""
        channels, height, width = maps.shape[1:]
        k, stride = conv.kernel, conv.stride
        above, left_of = (
            padding_before_after(padding, side, k, stride)[0] for side in (height, width)
        )
        high, wide = output_size(height, stride), output_size(width, stride)
        count = min(self._windows, high * wide)
        dy, dx = (axis.ravel() for axis in np.mgrid[:k, :k])
        for image in maps:
            where = self._random.choice(high * wide, count, replace=False, shuffle=False)
            rows = (where // wide)[:, None] * stride - above + dy
            columns = (where % wide)[:, None] * stride - left_of + dx
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            # C, count, k * k; what is outside of the map is zero, before and after activation.
            patches = image[:, rows.clip(0, height - 1), columns.clip(0, width - 1)] * inside
            if activation is not None:
                patches = activate(patches, activation)
            if conv.groups == 1:
                patches = patches.transpose(0, 2, 1).reshape(channels * k * k, count)
                moment = _second_moment(patches)
            else:
                moment = (patches.transpose(0, 2, 1) @ patches).astype(np.float64) / count
            seen, mean = self._moments.get(name, (0, np.zeros_like(moment)))
            total = seen + count
            self._moments[name] = total, mean * (seen / total) + moment * (count / total)

    def keep(self, output: FloatArray) -> None:
        """Take a batch of the part's result."""
        _check_finite("result", output)
        if self._kept == 0:  # filled batch by batch: to join a list would need it twice
            self._output = np.empty((self._images, *output.shape[1:]), np.float32)
        self._output[self._kept : self._kept + len(output)] = output
        self._kept += len(output)

    def result(self) -> PartObservation:
        """All that was seen."""
        return PartObservation(
            {
                name: Observed(np.concatenate(chunks, axis=1), self._low[name], self._high[name])
                for name, chunks in self._samples.items()
            },
            {name: moment for name, (_, moment) in self._moments.items()},
            self._output,
        )


def _check_finite(name: str, *values: FloatArray) -> None:
    if not all(np.isfinite(each).all() for each in values):
        raise ConversionError(
            f"the float network's {name} gives values that aren't finite: "
            "check the checkpoint, it can't be quantized"
        )


def _second_moment(samples: FloatArray) -> Matrix:
    moment: Matrix = (samples @ samples.T).astype(np.float64) / samples.shape[1]
    return moment


def _runs(
    part: Conv | MBConv | Head,
    inputs: FloatArray,
    activation: Activation,
    padding: PaddingMode,
    outputs: list[str],
) -> Iterator[tuple[FloatArray, list[FloatArray]]]:
    """Run the part on ``inputs`` in batches; yield each batch and the outputs asked for."""
    size = (inputs.shape[2], inputs.shape[3])
    session = part_session(float_part_model(part, activation, padding, size, outputs))
    widest = part.expand or part.depthwise if isinstance(part, MBConv) else None
    channels = widest.out_channels if widest is not None else inputs.shape[1]
    batch = max(1, min(16, _BATCH_ELEMENTS // (channels * size[0] * size[1])))
    for start in range(0, len(inputs), batch):
        x = inputs[start : start + batch]
        yield x, session.run(outputs, {"x": x})


def part_session(model: bytes) -> Any:
    """An ONNX Runtime session of a part's model, on all fast cores that this process may use."""
    onnxruntime = import_engine("onnxruntime", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = default_threads()
    options.log_severity_level = 3
    ask_for_exact_products(options)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
