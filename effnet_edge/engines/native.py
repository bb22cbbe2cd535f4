"""Our own kernels without any engine, for int8 .onnx files.

The file's graph is a chain of calls, one for a part of the network (docs/model-files.md), so that
running it takes the C library alone: no graph is loaded and none is optimised.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from ctypes import CDLL, c_void_p
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from effnet_edge.engines import native_library
from effnet_edge.engines.base import (
    INPUT,
    OUTPUT,
    Session,
    image_and_class_sizes,
    wrong_tensors,
)
from effnet_edge.engines.native_library import last_error, library_at
from effnet_edge.engines.native_parts import PIXELS, Arguments, Part, make_part
from effnet_edge.engines.onnx_graph import FLOAT, UINT8, Graph, Node, read_graph
from effnet_edge.errors import EngineError, ModelError, ModelNotFoundError
from effnet_edge.files import open_regular
from effnet_edge.kernels import find_kernels
from effnet_edge.protocol_buffer import ProtocolBuffer

_DOMAIN = "effnet_edge"
_NORMALISATION = ("Cast", "Sub", "QuantizeLinear")
_NOT = ", so it isn't one of ours: make one with 'effnet-edge convert --int8'"


def library() -> ModuleType:
    """Import what an engine's library is to others. Raises EngineError if there are no kernels."""
    error = find_kernels().error
    if error is not None:
        raise EngineError(f"there are no kernels: {error}")
    return native_library


def load(path: Path, threads: int, digest: str | None) -> Session:
    """Load a model from its file; nothing is kept of it. Raises EngineError or ModelError.

    Raises UsageError if the environment asks for kernels that can't be.
    """
    return _NativeSession(path, threads)


class _Network:
    """An ``ee_network`` and the threads that it runs on, freed when nobody holds this any more."""

    def __init__(
        self, library: CDLL, parts: list[Part], image: tuple[int, int], threads: int
    ) -> None:
        """Take ``parts`` over, whatever happens. Raises EngineError."""
        self._library = library
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._threads: int | None = None
        addresses = (c_void_p * len(parts))(*parts)
        self._network: int | None = library.ee_make_network(addresses, len(parts), *image, threads)
        if self._network is None:
            raise EngineError(last_error(library))
        self.classes: int = library.ee_network_classes(self._network)
        self._scheduler: int | None = None
        if threads > 1:
            self._threads = library.ee_start_threads(threads)
            if self._threads is None:
                raise EngineError(last_error(library))
            self._scheduler = library.ee_threads_scheduler(self._threads)

    def run(self, image: NDArray[np.uint8], logits: NDArray[np.float32]) -> None:
        """Write the logits of one C-contiguous ``image``. Raises EngineError."""
        with self._lock:
            failed = self._library.ee_run_network(
                self._network, image.ctypes.data, logits.ctypes.data, self._scheduler
            )
            if failed:
                raise EngineError(last_error(self._library))

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        # After a fork there are no threads, and to stop them would be to wait for ever. At the end
        # of a program there may be no module os any more.
        if getpid() != self._process:
            return
        if self._threads is not None:
            self._library.ee_stop_threads(self._threads)
        if self._network is not None:
            self._library.ee_free_network(self._network)


class _NativeSession(Session):
    def __init__(self, path: Path, threads: int) -> None:
        kernels = find_kernels()
        if kernels.library is None:
            raise EngineError(f"there are no kernels: {kernels.error}")
        try:
            library = library_at(str(Path(kernels.library).resolve()))
        except OSError as error:
            raise EngineError(f"the kernels don't load: {error}") from error
        try:
            with open_regular(path) as opened:
                file = ProtocolBuffer(opened)
                graph = read_graph(file)
                self.input_shape, self.classes = _sizes(path, graph)
                parts = _make_parts(library, file, graph)
                network = _Network(library, parts, self.input_shape, threads)
        except FileNotFoundError:
            raise ModelNotFoundError(f"there is no model file {path}") from None
        except OSError as error:
            raise ModelError(f"{path} can't be read: {error.strerror or error}") from error
        except (ValueError, EngineError) as error:
            raise EngineError(f"the native engine can't load {path}: {error}") from None
        if network.classes != self.classes:
            raise wrong_tensors(path, f"{network.classes} classes, and declares {self.classes}")
        self.threads = threads
        self.isa = kernels.isa
        self._network: _Network | None = network

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        network = self._network  # `close` in another thread doesn't pull it away
        if network is None:
            raise EngineError("the model is closed")
        logits = np.empty((len(batch), self.classes), np.float32)
        for image, row in zip(batch, logits, strict=True):
            network.run(image, row)
        return logits

    def close(self) -> None:
        """Let the network go; runs that hold it end first."""
        self._network = None


def _sizes(path: Path, graph: Graph) -> tuple[tuple[int, int], int]:
    """As `image_and_class_sizes`, which see."""
    outputs = {value.name: value for value in graph.outputs}
    if [value.name for value in graph.inputs] != [INPUT] or OUTPUT not in outputs:
        inputs = [value.name for value in graph.inputs]
        raise wrong_tensors(path, f"inputs {inputs} and outputs {list(outputs)}")
    (image,) = graph.inputs
    dtype = np.uint8 if image.kind == UINT8 else f"type {image.kind}"
    return image_and_class_sizes(path, dtype, image.shape, outputs[OUTPUT].shape)


def _make_parts(library: CDLL, file: ProtocolBuffer, graph: Graph) -> list[Part]:
    """Raises ValueError, and EngineError for what the library refuses."""
    nodes = calls(graph)
    parts: list[Part | None] = [None] * len(nodes)

    def weight(index: int) -> int:
        names = nodes[index].inputs[1:]
        return sum(graph.constants[name].bytes for name in names if name in graph.constants)

    try:
        # The largest first: while one is made, its weights are in memory several times.
        for index in sorted(range(len(nodes)), key=weight, reverse=True):
            node = nodes[index]
            # What was read of the file for one part goes before the next is read.
            arguments = Arguments(node.inputs[1:], graph.constants, file.read)
            try:
                parts[index] = make_part(library, node, arguments)
            except (ValueError, EngineError) as error:
                raise EngineError(f"{node.name or node.operator}: {error}") from None
    except BaseException:
        for part in parts:
            library.ee_free_part(part)
        raise
    return [part for part in parts if part is not None]


def calls(graph: Graph) -> list[Node]:
    """The calls from the image to the logits. Raises ValueError if the graph isn't such a chain.

    Normalisation written in standard operators becomes the call that it could have been.
    """
    nodes = list(graph.nodes)
    if nodes and (nodes[-1].domain, nodes[-1].operator) == ("", "Softmax"):
        del nodes[-1]  # the logits are all that is asked for
    kinds = tuple(node.operator for node in nodes[:3] if node.domain == "")
    if kinds == _NORMALISATION:
        nodes[:3] = [_pixels(*nodes[:3])]
    tensor = INPUT
    for node in nodes:
        if node.domain != _DOMAIN:
            raise ValueError(
                f"the operator {node.domain or 'ai.onnx'}::{node.operator} in it{_NOT}"
            )
        if node.inputs[:1] != (tensor,) or len(node.outputs) != 1:
            raise ValueError(f"{node.name or node.operator} doesn't follow what is before it{_NOT}")
        (tensor,) = node.outputs
    if not nodes or tensor != OUTPUT:
        raise ValueError(f"its last call doesn't give {OUTPUT!r}{_NOT}")
    return nodes


def _pixels(cast: Node, subtract: Node, quantize: Node) -> Node:
    """The call of three standard operators: image, offset, scale, zero point."""
    fits = (
        (len(cast.inputs), len(subtract.inputs), len(quantize.inputs)) == (1, 2, 3)
        and cast.attributes == {"to": (FLOAT,)}
        and cast.outputs == subtract.inputs[:1]
        and subtract.outputs == quantize.inputs[:1]
    )
    if not fits or quantize.attributes:
        raise ValueError(f"its normalisation{_NOT}")
    inputs = (*cast.inputs, *subtract.inputs[1:], *quantize.inputs[1:])
    return Node("normalisation", PIXELS, _DOMAIN, inputs, quantize.outputs, {})
