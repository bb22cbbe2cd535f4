"""Keras's files: ``.keras`` archives, ``.weights.h5``, legacy ``.h5`` with or without the model.

All become tensors named ``layer/variable`` (``stem_conv/kernel``, ``stem_bn/moving_mean``) in
Keras's own layout, and the list of layers where the file holds the model's configuration.
Formats: ``keras/src/saving/saving_lib.py`` and ``keras/src/legacy/saving/legacy_h5_format.py``.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from effnet_edge.converters.hdf5_file import Hdf5Contents, read_hdf5
from effnet_edge.errors import CheckpointError
from effnet_edge.models.architecture import BlockSpec, architecture, phis

CONFIG = "config.json"
_WEIGHTS = "model.weights.h5"
_MAX_CONFIG_BYTES = 64 << 20
_MAX_WEIGHTS_BYTES = 2 << 30
_MAX_EXPANSION = 20
_FREE_BYTES = 4 << 20
"""An entry may unpack to that many times its size, and these (configurations shrink well)."""
_MAX_NESTING = 8
_CONTAINERS = ("Functional", "Model", "Sequential")
_KERAS_MODULES = ("keras", "tf_keras", "tensorflow")
_NOT_WEIGHTS = ("optimizer", "optimizer_weights", "top_level_model_weights", "_metrics")

# What each layer class stores, in the order of its numbered variables.
_VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel",),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "normalization": ("mean", "variance", "count"),
}
_BACKBONE = re.compile(
    r"(?P<name>stem_conv|stem_bn|top_conv|top_bn|block\d[a-z]_"
    r"(?:expand_conv|expand_bn|dwconv|bn|se_reduce|se_expand|project_conv|project_bn))(?:_\d+)?"
)
_FIRST_VARIABLE = re.compile(
    r"(?P<layer>(?P<container>.*/)?(?P<kind>[^/]+?)(?:_(?P<number>[0-9]{1,6}))?)/vars/0"
)


_NUMBER = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True)
class KerasLayer:
    """One layer of the model's configuration. ``kind`` is its class, with the package or module
    before it where that isn't Keras."""

    name: str
    kind: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class KerasModel:
    """The layers in order of execution, nested models opened up; None in a weights-only file."""

    layers: tuple[KerasLayer, ...] | None


def read_keras_archive(path: Path) -> tuple[dict[str, NDArray[Any]], KerasModel]:
    """Read a ``.keras`` archive. Raises CheckpointError."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = _member(archive, CONFIG, _MAX_CONFIG_BYTES, path)
            weights = _member(archive, _WEIGHTS, _MAX_WEIGHTS_BYTES, path)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path} is a Keras archive that is cut short or damaged ({error}): bring it again"
        ) from error
    layers = _layers(config, str(path))
    contents = read_hdf5(io.BytesIO(weights), str(path), _NOT_WEIGHTS)
    return _tensors(contents, str(path)), KerasModel(layers)


def read_keras_hdf5(path: Path) -> tuple[dict[str, NDArray[Any]], KerasModel]:
    """Read a Keras HDF5 file, weights only or whole model. Raises CheckpointError."""
    contents = read_hdf5(path, str(path), _NOT_WEIGHTS)
    config = contents.attributes.get(("", "model_config"))
    layers = None if config is None else _layers(config.encode(), str(path))
    return _tensors(contents, str(path)), KerasModel(layers)


def _member(archive: zipfile.ZipFile, name: str, limit: int, path: Path) -> bytes:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise CheckpointError(
            f"{path} is a Keras archive without {name}: save it again with model.save"
        ) from None
    # zipfile stops at the declared size, so this bounds what is unpacked.
    if entry.file_size > min(limit, _MAX_EXPANSION * entry.compress_size + _FREE_BYTES):
        raise CheckpointError(f"{path}: {name} unpacks to {entry.file_size >> 20} MB: refused")
    return archive.read(entry)


def _layers(config: bytes, where: str) -> tuple[KerasLayer, ...]:
    try:
        return tuple(_open_up(json.loads(config), 0))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where} has a model configuration that can't be read") from error


def _open_up(layer: Any, depth: int) -> Iterator[KerasLayer]:
    config = layer["config"]
    if depth > _MAX_NESTING:
        raise ValueError("nested too deep")
    if "layers" in config and layer["class_name"] in _CONTAINERS:
        for inner in config["layers"]:
            yield from _open_up(inner, depth + 1)
    else:
        yield KerasLayer(str(config["name"]), _kind(layer), config)


def _kind(layer: Mapping[str, Any]) -> str:
    """``Conv2D`` for Keras's own classes, ``package>Conv2D`` or ``module.Conv2D`` for others."""
    name, registered, module = (layer.get(k) for k in ("class_name", "registered_name", "module"))
    if isinstance(registered, str) and ">" in registered:
        return registered
    if isinstance(module, str) and module.partition(".")[0] not in (*_KERAS_MODULES, "builtins"):
        return f"{module}.{name}"
    return str(name)


def _tensors(contents: Hdf5Contents, where: str) -> dict[str, NDArray[Any]]:
    numbered = any("/vars/" in path for path in contents.datasets)
    named = _numbered_names(contents) if numbered else _legacy_names(contents)
    tensors: dict[str, NDArray[Any]] = {}
    for path, (layer, variable) in named.items():
        name = f"{backbone_layer(layer) or layer}/{variable}"
        if name in tensors:
            raise CheckpointError(
                f"{where} holds two layers named {name.partition('/')[0]}: it isn't one network"
            )
        tensors[name] = contents.datasets[path]
    if not tensors:
        raise CheckpointError(f"{where} is an HDF5 file without Keras weights in it")
    return tensors


def _legacy_names(contents: Hdf5Contents) -> dict[str, tuple[str, str]]:
    """``.../block1a_dwconv/depthwise_kernel:0`` -> (block1a_dwconv, kernel)."""
    names: dict[str, tuple[str, str]] = {}
    for path in contents.datasets:
        parts = path.split("/")
        if len(parts) >= 2 and not set(parts) & set(_NOT_WEIGHTS):
            variable = parts[-1].partition(":")[0].removeprefix("depthwise_")
            if not variable.startswith("seed_generator"):
                names[path] = parts[-2], variable
    return names


def _numbered_names(contents: Hdf5Contents) -> dict[str, tuple[str, str]]:
    """``layers/conv2d_3/vars/0`` -> (block2a_expand_conv, kernel).

    Later releases of Keras 3 write the layer's name beside its variables; before, only the count
    of each class in order of execution tells which layer it is.
    """
    names: dict[str, tuple[str, str]] = {}
    by_order = _names_by_order(contents)
    for path in contents.datasets:
        group, _, variable = path.rpartition("/")
        layer_path = group.removesuffix("/vars")
        kind = re.sub(r"_[0-9]+$", "", layer_path.rpartition("/")[2])
        if group == layer_path or kind == "seed_generator" or not _NUMBER.fullmatch(variable):
            continue
        variables = _VARIABLES.get(kind, ())
        index = int(variable)
        names[path] = (
            contents.attributes.get((group, "name"))
            or by_order.get(layer_path)
            or layer_path.rpartition("/")[2],
            variables[index] if index < len(variables) else variable,
        )
    return names


def _names_by_order(contents: Hdf5Contents) -> dict[str, str]:
    """Layer path -> name, for each container whose depthwise layers are as many as some B0..B7 has
    blocks. Architectures of equal block count have equal layer lists."""
    layers: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for path in contents.datasets:
        match = _FIRST_VARIABLE.fullmatch(path)
        if match and match["kind"] in _VARIABLES:
            key = match["container"] or "", match["kind"]
            layers.setdefault(key, []).append((int(match["number"] or 0), match["layer"]))
    blocks = {len(arch.blocks): arch.blocks for arch in map(architecture, phis("standard"))}
    names: dict[str, str] = {}
    for (container, kind), found in layers.items():
        spec = blocks.get(len(layers.get((container, "depthwise_conv2d"), ())))
        if spec is not None and kind != "dense":
            expected = _execution_order(spec)[kind]
            names.update(zip((path for _, path in sorted(found)), expected, strict=False))
    return names


def _execution_order(blocks: tuple[BlockSpec, ...]) -> dict[str, list[str]]:
    convs, norms, depthwise = ["stem_conv"], ["stem_bn"], []
    for block in blocks:
        name = block_name(block)
        if block.has_expand:
            convs.append(f"{name}_expand_conv")
            norms.append(f"{name}_expand_bn")
        depthwise.append(f"{name}_dwconv")
        convs += [f"{name}_se_reduce", f"{name}_se_expand", f"{name}_project_conv"]
        norms += [f"{name}_bn", f"{name}_project_bn"]
    return {
        "conv2d": [*convs, "top_conv"],
        "batch_normalization": [*norms, "top_bn"],
        "depthwise_conv2d": depthwise,
        "normalization": ["normalization"],
    }


def backbone_layer(name: str) -> str | None:
    """The layer's name in a fresh EfficientNet (Keras numbers repeated ones: ``stem_conv_1``), or
    None if it is no weighted part of one."""
    match = _BACKBONE.fullmatch(name)
    return match["name"] if match else None


def block_name(block: BlockSpec) -> str:
    """``block2a``: the stage, and a letter for the repeat."""
    return f"block{block.stage}{chr(ord('a') + block.repeat)}"
