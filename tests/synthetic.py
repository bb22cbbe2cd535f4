"""Checkpoints made up without torch or Keras: complete, plausible, and as hostile as asked for."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from dataclasses import dataclass

import h5py
import numpy as np

from effnet_edge.converters.dialects import DIALECTS
from effnet_edge.converters.dialects.recognition import expected_shapes

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


def state_dict(dialect, arch, classes=3, seed=0):
    """Random tensors under the dialect's names, in PyTorch's layout; variances are positive."""
    rng = np.random.default_rng(seed)
    names = DIALECTS[dialect].names(arch)
    tensors = {}
    for name, shape in expected_shapes(arch, names):
        values = rng.standard_normal(shape, np.float32)
        if len(shape) == 4:
            values /= np.sqrt(np.prod(shape[1:])).astype(np.float32)
        elif name.endswith(("running_var", "moving_variance", "bn.weight", "gamma")):
            values = 0.5 + np.abs(values)
        tensors[name] = values
    weight, bias = names.classifier
    tensors[weight] = rng.standard_normal((classes, arch.head_channels), np.float32)
    tensors[bias] = rng.standard_normal(classes, np.float32)
    return tensors


@dataclass(frozen=True, eq=False)
class Name:
    """A global of the pickle; it need not exist."""

    module: str
    name: str

    def __call__(self):
        raise AssertionError("names are only written")


@dataclass(frozen=True, eq=False)
class Call:
    """What unpickling would call, and with what."""

    function: Name
    arguments: tuple
    state: object = None


@dataclass(frozen=True, eq=False)
class Bfloat16:
    """An array to be stored in half as many bytes."""

    values: np.ndarray


@dataclass(frozen=True, eq=False)
class View:
    """A tensor over ``values`` with whatever geometry is claimed."""

    values: np.ndarray
    offset: int
    shape: tuple
    strides: tuple


@dataclass(frozen=True, eq=False)
class _Storage:
    kind: str
    key: str
    count: int


class _Pickler(pickle._Pickler):
    dispatch = pickle._Pickler.dispatch.copy()

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = {}

    def persistent_id(self, obj):
        if isinstance(obj, _Storage):
            return ("storage", Name("torch", obj.kind), obj.key, "cpu", obj.count)
        return None

    def save_name(self, obj):
        self.write(f"c{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    def save_call(self, obj):
        self.save_reduce(obj.function, obj.arguments, obj.state, obj=obj)

    def save_array(self, obj):
        if isinstance(obj, Bfloat16):
            data = (obj.values.astype("<f4").view("<u4") >> 16).astype("<u2")
            shape, kind = obj.values.shape, "BFloat16Storage"
        else:
            data = obj.values if isinstance(obj, View) else obj
            shape, kind = data.shape, _STORAGES[data.dtype.name]
        key = str(len(self.storages))
        self.storages[key] = data
        strides = [int(np.prod(shape[axis + 1 :], dtype=int)) for axis in range(len(shape))]
        geometry = (0, tuple(shape), tuple(strides))
        if isinstance(obj, View):
            geometry = (obj.offset, obj.shape, obj.strides)
        storage = _Storage(kind, key, data.size)
        rebuild = Name("torch._utils", "_rebuild_tensor_v2")
        hooks = Call(Name("collections", "OrderedDict"), ())
        self.save_reduce(rebuild, (storage, *geometry, False, hooks), obj=obj)

    dispatch[Name] = save_name
    dispatch[Call] = save_call
    for kind in (np.ndarray, Bfloat16, View):
        dispatch[kind] = save_array


def pickled(obj):
    """The pickle of ``obj`` and its storages by key."""
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(obj)
    return stream.getvalue(), pickler.storages


def write_torch_zip(path, obj, *, compression=zipfile.ZIP_STORED, order="little", extra=()):
    document, storages = pickled(obj)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", document)
        archive.writestr("archive/byteorder", order)
        for key, data in storages.items():
            swapped = data.astype(data.dtype.newbyteorder(">" if order == "big" else "<"))
            archive.writestr(f"archive/data/{key}", swapped.tobytes())
        archive.writestr("archive/version", "3\n")
        for name, content in extra:
            archive.writestr(name, content)
    return path


def write_torch_legacy(path, obj):
    document, storages = pickled(obj)
    with path.open("wb") as file:
        for header in (LEGACY_MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}):
            pickle.dump(header, file, protocol=2)
        file.write(document)
        pickle.dump(list(storages), file, protocol=2)
        for data in storages.values():
            file.write(struct.pack("<q", data.size) + data.tobytes())
    return path


def keras_variables(arch, classes=3, seed=0, mean=(0, 0, 0), variance=(1, 1, 1)):
    """Layer -> variables by name, in Keras's layout."""
    layers = {
        "normalization": {
            "mean": np.asarray(mean, np.float32),
            "variance": np.asarray(variance, np.float32),
            "count": np.asarray(0, np.int64),
        }
    }
    for name, values in state_dict("keras", arch, classes, seed).items():
        layer, variable = name.split("/")
        if values.ndim == 4:
            order = (2, 3, 0, 1) if layer.endswith("dwconv") else (2, 3, 1, 0)
            values = values.transpose(order)
        if layer == "predictions" and variable == "kernel":
            values = values.T
        layers.setdefault(layer, {})[variable] = values
    return layers


def write_keras_legacy(path, layers, config=None):
    """Keras 2's ``.h5``: weights only, or below ``model_weights`` with the configuration."""
    with h5py.File(path, "w") as file:
        root = file if config is None else file.create_group("model_weights")
        root.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, variables in layers.items():
            for name, values in variables.items():
                name = f"depthwise_{name}" if layer.endswith("dwconv") else name
                root.create_dataset(f"{layer}/{layer}/{name}:0", data=values)
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
    return path


def write_keras_numbered(path, layers, *, names=True):
    """Keras 3's ``.weights.h5``; early releases wrote no names."""
    kinds = {"kernel": "conv2d", "gamma": "batch_normalization", "mean": "normalization"}
    counts = {}
    with h5py.File(path, "w") as file:
        for layer, variables in layers.items():
            kind = kinds[next(iter(variables))]
            kind = "depthwise_conv2d" if layer.endswith("dwconv") else kind
            kind = "dense" if layer == "predictions" else kind
            number = counts.get(kind, 0)
            counts[kind] = number + 1
            group = file.create_group(f"layers/{kind}{f'_{number}' if number else ''}/vars")
            if names:
                group.attrs["name"] = layer
            for index, values in enumerate(variables.values()):
                group.create_dataset(str(index), data=values)
    return path
