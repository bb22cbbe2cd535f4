"""The float .onnx as a torch module, for the engines that start from one.

It has what our writer writes and nothing else: convolutions, SiLU or ReLU6, the gate of
squeeze-excite, sums, the pool and the classifier.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import fx, nn
from torch.nn import functional

_CENTRED = "input.centred"
_MEAN = "input.mean"


def torch_network(path: Path) -> tuple[fx.GraphModule, np.ndarray]:
    """The network from float32 [1, 3, H, W] to logits; and what pixels are less by.

    The mean, [3, 1, 1], is subtracted from a pixel's 0..255 before.
    """
    graph = onnx.load(path).graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    builder = _Builder(constants)
    for node in graph.node:
        if node.op_type not in ("Transpose", "Cast", "Sub", "Softmax"):
            builder.add(node)
    return builder.module().eval(), constants[_MEAN].reshape(3, 1, 1)


class _Builder:
    """Translates node by node; a value has the name that it has in the .onnx."""

    def __init__(self, constants: dict[str, np.ndarray]) -> None:
        self._constants = constants
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._values: dict[str, fx.Node] = {_CENTRED: self._graph.placeholder("x")}

    def module(self) -> fx.GraphModule:
        """All that was added."""
        self._graph.output(self._values["logits"])
        self._graph.lint()
        module = fx.GraphModule(self._root, self._graph)
        module.graph.eliminate_dead_code()
        module.recompile()
        return module

    def add(self, node: onnx.NodeProto) -> None:
        """Translate a node whose inputs are there already."""
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        values = [self._values[name] for name in node.input if name in self._values]
        self._values[node.output[0]] = self._translate(node, values, attributes)

    def _translate(
        self, node: onnx.NodeProto, values: list[fx.Node], attributes: dict[str, Any]
    ) -> fx.Node:
        call = self._graph.call_function
        match node.op_type:
            case "Conv":
                return self._conv(node, values[0], attributes)
            case "Gemm":
                weight, bias = (torch.tensor(self._constants[name]) for name in node.input[1:])
                linear = nn.Linear(weight.shape[1], weight.shape[0])
                return self._layer(linear, values[0], weight, bias)
            case "Mul" if values[1].target is torch.sigmoid and values[1].args == (values[0],):
                return call(functional.silu, (values[0],))
            case "Mul":
                return call(torch.mul, tuple(values))
            case "Sigmoid":
                return call(torch.sigmoid, tuple(values))
            case "Clip":
                return call(functional.relu6, tuple(values))
            case "Add":
                return call(torch.add, tuple(values))
            case "GlobalAveragePool":
                return call(functional.adaptive_avg_pool2d, (values[0], 1))
            case "Flatten":
                return call(torch.flatten, (values[0], 1))
        raise ValueError(f"{node.op_type} isn't known here")

    def _conv(self, node: onnx.NodeProto, x: fx.Node, attributes: dict[str, Any]) -> fx.Node:
        weight, bias = (torch.tensor(self._constants[name]) for name in node.input[1:])
        top, left, bottom, right = attributes["pads"]
        even = (top, left) == (bottom, right)
        if not even:
            x = self._graph.call_function(functional.pad, (x, (left, right, top, bottom)))
        conv = nn.Conv2d(
            weight.shape[1] * attributes["group"],
            weight.shape[0],
            weight.shape[2:],
            attributes["strides"],
            (top, left) if even else 0,
            groups=attributes["group"],
        )
        return self._layer(conv, x, weight, bias)

    def _layer(
        self, layer: nn.Conv2d | nn.Linear, x: fx.Node, weight: torch.Tensor, bias: torch.Tensor
    ) -> fx.Node:
        layer.weight = nn.Parameter(weight, requires_grad=False)
        layer.bias = nn.Parameter(bias, requires_grad=False)
        name = f"layer{len(list(self._root.children()))}"
        self._root.add_module(name, layer)
        return self._graph.call_module(name, (x,))
