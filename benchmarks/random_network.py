"""A random EfficientNet whose batch norms hold the statistics of real photos.

For structure checks where no trained weights can be had. Left as initialised, the signal dies
within a few blocks; with its own statistics every layer's output has the spread that batch norm
says it has, as in a trained network. What a trained one has and this hasn't: channels that matter
more than others.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from effnet_edge.converters.dialects.names import ConvNames
from effnet_edge.converters.dialects.recognition import expected_shapes
from effnet_edge.converters.dialects.timm import names as timm_names
from effnet_edge.images import open_image
from effnet_edge.models.architecture import Architecture, architecture

Array = NDArray[np.float32]

EPSILON = 1e-3
FLOOR = 0.1
"""Part of a layer's mean variance that is added to each channel's: without it, channels that
hardly vary are blown up."""
CLASSES = 1000
SPREAD = 4.0
"""Standard deviation of the logits over classes and photos. It puts a photo's largest logit about 8
above the mean of all, where Lite0's is too."""
OPTIONS = ("--dialect", "tf", "--mean", "0.5", "--std", "0.5")
"""How ``effnet-edge convert`` is to read the checkpoint."""


def write_checkpoint(phi: int, photos: Iterable[Path], path: Path, seed: int = 0) -> None:
    """Write B0..B7 as a .safetensors file with the names of timm's ``tf_efficientnet_bX``.

    ``photos`` go through the network as one batch: eight are plenty, and B3 takes 0.7 GB for them.
    """
    arch = architecture(phi)
    rng = np.random.default_rng(seed)
    tensors = _random_tensors(arch, rng)
    images = np.stack([_normalised(photo, arch.resolution) for photo in photos])
    graph = _CalibrationGraph(arch, tensors)
    session = onnxruntime.InferenceSession(graph.model(), providers=["CPUExecutionProvider"])
    values = dict(zip(graph.outputs, session.run(graph.outputs, {"x": images}), strict=True))
    features = values.pop("features")
    tensors |= {name: value.reshape(-1) for name, value in values.items()}
    tensors |= _classifier(arch, features, rng)
    save_file(tensors, path)


def _normalised(photo: Path, size: int) -> Array:
    image = open_image(photo).resize((size, size))
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)
    return pixels / np.float32(127.5) - np.float32(1)


def _random_tensors(arch: Architecture, rng: np.random.Generator) -> dict[str, Array]:
    """Convolutions as He et al. 2015 (fan out), batch norms' gamma and beta spread about theirs."""
    tensors = {}
    for name, shape in expected_shapes(arch, timm_names(arch)):
        if len(shape) == 4:
            depthwise = shape[1] == 1 and shape[2] > 1
            fan_out = shape[2] * shape[3] * (1 if depthwise else shape[0])
            values = rng.normal(0, np.sqrt(2 / fan_out), shape)
        elif ".se." in name:
            values = np.zeros(shape)
        elif name.endswith(".weight"):
            values = rng.uniform(0.3, 0.9, shape)
        else:
            values = rng.normal(0, 0.3, shape)
        tensors[name] = values.astype(np.float32)
    return tensors


def _classifier(arch: Architecture, features: Array, rng: np.random.Generator) -> dict[str, Array]:
    """Centred on the photos, so that they fall into different classes."""
    weight = rng.normal(size=(CLASSES, arch.head_channels)).astype(np.float32)
    mean = features.mean(axis=0)
    weight *= SPREAD / ((features - mean) @ weight.T).std()
    return {"classifier.weight": weight, "classifier.bias": -weight @ mean}


class _CalibrationGraph:
    """The network with batch norms that normalise by their own batch and give away what they
    found, so that one run calibrates them all in turn."""

    def __init__(self, arch: Architecture, tensors: dict[str, Array]) -> None:
        self._tensors = tensors
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self.outputs: list[str] = []
        names = timm_names(arch)
        x = self._activate(self._normalise(self._conv("x", names.stem, stride=2), names.stem))
        for spec, block in zip(arch.blocks, names.blocks, strict=True):
            y = x
            if block.expand is not None:
                y = self._activate(self._normalise(self._conv(y, block.expand), block.expand))
            y = self._conv(y, block.depthwise, spec.stride, spec.expanded_channels)
            y = self._activate(self._normalise(y, block.depthwise))
            if block.reduce is not None and block.excite is not None:
                gate = self._mean(y, [2, 3])
                gate = self._activate(self._conv(gate, block.reduce))
                gate = self._node("Sigmoid", self._conv(gate, block.excite))
                y = self._node("Mul", y, gate)
            y = self._normalise(self._conv(y, block.project), block.project)
            x = self._node("Add", x, y) if spec.has_residual else y
        x = self._activate(self._normalise(self._conv(x, names.head), names.head))
        self._output("features", self._node("Flatten", self._mean(x, [2, 3])))

    def model(self) -> bytes:
        """The serialised ONNX model: input ``x``, normalised float32 [N, 3, H, W]."""
        declare = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "calibration",
            [declare("x", TensorProto.FLOAT, None)],
            [declare(name, TensorProto.FLOAT, None) for name in self.outputs],
            self._constants,
        )
        opset = helper.make_opsetid("", 17)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        return bytes(model.SerializeToString())

    def _node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}.{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def _constant(self, name: str, values: Array) -> str:
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def _output(self, name: str, value: str) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(name)

    def _conv(self, x: str, names: ConvNames, stride: int = 1, groups: int = 1) -> str:
        inputs = [x, self._constant(names.weight, self._tensors[names.weight])]
        if names.bias is not None:
            inputs.append(self._constant(names.bias, self._tensors[names.bias]))
        strides = [stride, stride]
        return self._node("Conv", *inputs, auto_pad="SAME_UPPER", strides=strides, group=groups)

    def _activate(self, x: str) -> str:
        return self._node("Mul", x, self._node("Sigmoid", x))

    def _mean(self, x: str, axes: list[int]) -> str:
        return self._node("ReduceMean", x, axes=axes, keepdims=1)

    def _normalise(self, x: str, names: ConvNames) -> str:
        norm = names.norm
        assert norm is not None
        mean = self._mean(x, [0, 2, 3])
        centred = self._node("Sub", x, mean)
        variance = self._mean(self._node("Mul", centred, centred), [0, 2, 3])
        floor = self._constant(f"{norm.variance}.floor", np.float32(FLOOR).reshape(1))
        variance = self._node("Add", variance, self._node("Mul", self._mean(variance, [1]), floor))
        self._output(norm.mean, mean)
        self._output(norm.variance, variance)
        epsilon = self._constant(f"{norm.mean}.epsilon", np.float32(EPSILON).reshape(1))
        deviation = self._node("Sqrt", self._node("Add", variance, epsilon))
        gamma, beta = (
            self._constant(name, self._tensors[name].reshape(1, -1, 1, 1))
            for name in (norm.gamma, norm.beta)
        )
        scaled = self._node("Mul", self._node("Div", centred, deviation), gamma)
        return self._node("Add", scaled, beta)
