"""Reads the pickle inside a PyTorch checkpoint without running anything in it.

A pickle is a program that may name any callable and call it. Here a name never becomes the thing
that it names: it is looked up in a list of what checkpoints hold, and stands for a tensor record
or for inert data. A name outside the list ends the reading.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from effnet_edge.converters.torch_tensors import (
    MAX_DIMENSIONS,
    STORAGE_DTYPES,
    TORCH_DTYPES,
    MalformedError,
    Storage,
    StoredTensor,
    counted,
    stored_tensor,
)
from effnet_edge.errors import CheckpointError


class _PickleFile(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...


@dataclass(eq=False)
class Inert:
    """Stands for an object that has no part in the weights: epochs, options, a learning rate."""

    name: str
    state: dict[str, Any] = field(default_factory=dict)

    def append(self, item: Any) -> None:
        """Take no notice of list items."""

    def extend(self, items: Any) -> None:
        """Take no notice of list items."""


@dataclass(frozen=True)
class _Global:
    """A name that the pickle mentioned. It is never imported."""

    name: str


def unpickle(file: _PickleFile) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle: containers and scalars as they are, tensors as `StoredTensor`, everything
    else as `Inert`; and all storages that it mentions, by key.

    Raises CheckpointError for a name outside the allow-list or a damaged stream.
    """
    try:
        reader = _Reader(file, encoding="utf-8", errors="replace")
        reader.storages = {}
        return reader.load(), reader.storages
    except CheckpointError:
        raise
    except Exception as error:
        # Whatever a broken stream makes the machine trip over is the file's fault, not ours.
        detail = str(error) or type(error).__name__
        raise CheckpointError(f"the pickle in it is damaged or cut short ({detail})") from error


# Names from which a file of weights is made. Mapped to what a call of them yields.
_Builder = Callable[..., Any]


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise MalformedError("a tensor without a storage")
    return stored_tensor(storage, storage.dtype, offset, size, stride)


def _rebuild_tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, meta: Any = None
) -> StoredTensor:
    if meta:
        raise MalformedError("a tensor is stored as a lazy conjugate or negative")
    return _rebuild_tensor(storage, offset, size, stride)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> StoredTensor:
    if not isinstance(storage, Storage) or not isinstance(dtype, _Global):
        raise MalformedError("a tensor without a storage or type")
    known = TORCH_DTYPES.get(dtype.name.removeprefix("torch."))
    if known is None:
        raise CheckpointError(
            f"it holds tensors of type {dtype.name}, which isn't read: convert them to float32 "
            "before saving"
        )
    return stored_tensor(storage, known, offset, size, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


def _rebuild_from_type(function: Any, _type: Any, arguments: Any, _state: Any = None) -> Any:
    return _call(function, arguments)


def _mapping(*arguments: Any) -> dict[Any, Any]:
    pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
    mapping = {pair[0]: pair[1] for pair in pairs if _plain_key(pair[0])}
    pairs.clear()  # a file could ask for a million copies of one long list
    return mapping


def _size(value: Any = ()) -> tuple[Any, ...]:
    if type(value) is not tuple or len(value) > MAX_DIMENSIONS:
        raise MalformedError("a size that is none")
    return value


_BUILDERS: dict[str, _Builder] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch.nn.parameter.Parameter": _first,
    "torch.nn.parameter.Buffer": _first,
    "torch.Size": _size,
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": _mapping,
}

# Data that training scripts leave beside the weights. Never imported, only set aside.
_INERT_NAMES = frozenset(
    {
        "_codecs.encode",
        "argparse.Namespace",
        "copyreg._reconstructor",
        "easydict.EasyDict",
        "torch.device",
        "torch.dtype",
        "torch.Tensor",
        "torch.torch_version.TorchVersion",
        "types.SimpleNamespace",
        "uuid.UUID",
        "yacs.config.CfgNode",
        *(f"builtins.{name}" for name in ("bool", "bytearray", "bytes", "complex", "dict")),
        *(f"builtins.{name}" for name in ("float", "frozenset", "int", "list", "object")),
        *(f"builtins.{name}" for name in ("range", "set", "slice", "str", "tuple")),
        *(f"torch.{name}" for name in TORCH_DTYPES),
    }
)
_INERT_PACKAGES = (
    "collections.",
    "datetime.",
    "decimal.",
    "lightning_fabric.utilities.data.",
    "lightning.fabric.utilities.data.",
    "numpy.",
    "omegaconf.",
    "pathlib.",
    "torch.optim.",
)
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_MODEL_PACKAGES = (
    "__main__.",
    "efficientnet_lite_pytorch.",
    "efficientnet_pytorch.",
    "fastai.",
    "geffnet.",
    "timm.",
    "torch.jit.",
    "torch.nn.",
    "torchvision.",
)


def _look_up(module: str, name: str) -> _Global:
    full = f"{_PYTHON_2.get(module, module)}.{name}"
    if full in _BUILDERS or full in _INERT_NAMES or full.startswith(_INERT_PACKAGES):
        return _Global(full)
    if module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage"):
        return _Global(full)
    if "_rebuild_q" in name or name.startswith("QInt"):
        raise CheckpointError(
            "it holds tensors that PyTorch has quantized: bring the float checkpoint"
        )
    if full.startswith(_MODEL_PACKAGES):
        raise CheckpointError(
            f"it holds a whole pickled model ({full}), which can't be read without running its "
            "code; nothing was run. Load it where it was trained and save the weights alone: "
            "torch.save(model.state_dict(), FILE)"
        )
    raise CheckpointError(
        f"it asks for {full}, which a file of weights has no need of; nothing was run. If you "
        "trust the file, load it where it was made and save the weights alone: "
        "torch.save(model.state_dict(), FILE)"
    )


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Global) or type(arguments) is not tuple or len(arguments) > 16:
        raise MalformedError("a call of something that is no function")
    builder = _BUILDERS.get(function.name)
    if builder is not None:
        return builder(*arguments)
    if function.name == "copyreg._reconstructor" and isinstance(arguments[0], _Global):
        return Inert(arguments[0].name)
    return Inert(function.name)


def _plain_key(key: Any) -> bool:
    # Hashing a tuple nested a million deep overflows the C stack, so tuples are no keys here.
    # Large numbers can be chosen so that all hash alike, which makes a dictionary quadratic.
    return isinstance(key, str | bytes) or (type(key) is int and 0 <= key < 1 << 20)


class _Reader(pickle._Unpickler):
    """The pure Python machine: the C one allocates a memo as large as a hostile index asks for,
    and doesn't let its opcodes be replaced."""

    stack: list[Any]
    append: Callable[[Any], None]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]
    storages: dict[str, Storage]

    def find_class(self, module: str, name: str) -> Any:
        """Return the name itself, or refuse it."""
        return _look_up(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Return the `Storage` that ``("storage", type, key, device, count)`` speaks of."""
        if type(pid) is not tuple or len(pid) < 5 or pid[0] not in ("storage", b"storage"):
            raise CheckpointError(
                "it holds a whole pickled model with its source, which can't be read without "
                "running its code; nothing was run. Save the weights alone: "
                "torch.save(model.state_dict(), FILE)"
            )
        kind, key, count = pid[1], pid[2], pid[4]
        if len(pid) > 5 and pid[5] is not None:
            raise MalformedError(
                "a storage that is a view of another: save it with a newer PyTorch"
            )
        name = kind.name.rpartition(".")[2] if isinstance(kind, _Global) else ""
        if name not in STORAGE_DTYPES:
            raise CheckpointError(
                f"it holds a {name or 'nameless storage'}, which isn't read: convert the tensors "
                "to float32 before saving"
            )
        if type(key) is not str:
            raise MalformedError("a storage without a key")
        storage = Storage(key, STORAGE_DTYPES[name], counted(count))
        self.storages.setdefault(key, storage)
        return storage

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _call(self.stack[-1], arguments)

    def _new_object(self) -> None:
        self._reduce()

    def _new_object_with_keywords(self) -> None:
        self.stack.pop()
        self._reduce()

    def _old_instance(self) -> None:
        arguments = self.pop_mark()
        self.append(_call(arguments[0] if arguments else None, tuple(arguments[1:])))

    def _old_named_instance(self) -> None:
        module = self.readline()[:-1].decode("ascii")
        name = self.readline()[:-1].decode("ascii")
        arguments = tuple(self.pop_mark())
        self.append(_call(_look_up(module, name), arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Inert) and type(state) is dict:
            target.state = target.state or state  # not a copy, of which a file could ask many

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._store(items)

    def _set_item(self) -> None:
        value = self.stack.pop()
        self._store([self.stack.pop(), value])

    def _store(self, items: list[Any]) -> None:
        target = self.stack[-1]
        mapping = target.state if isinstance(target, Inert) else target
        if type(mapping) is not dict:
            raise MalformedError("an item set on something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if _plain_key(key):
                mapping[key] = value

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._store(items)

    def _empty_set(self) -> None:
        self.append([])

    def _frozen_set(self) -> None:
        self.append(self.pop_mark())

    def _refuse(self) -> None:
        raise MalformedError("an instruction that no checkpoint needs")

    _safe_opcodes: ClassVar[dict[int, Any]] = {
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _new_object,
        pickle.NEWOBJ_EX[0]: _new_object_with_keywords,
        pickle.OBJ[0]: _old_instance,
        pickle.INST[0]: _old_named_instance,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
        # Sets are kept as lists: nothing here asks them anything.
        pickle.EMPTY_SET[0]: _empty_set,
        pickle.FROZENSET[0]: _frozen_set,
        pickle.ADDITEMS[0]: pickle._Unpickler.dispatch[pickle.APPENDS[0]],
        pickle.EXT1[0]: _refuse,
        pickle.EXT2[0]: _refuse,
        pickle.EXT4[0]: _refuse,
        pickle.PERSID[0]: _refuse,
        pickle.PUT[0]: _refuse,  # protocol 0's, whose index may be any number
        pickle.BYTEARRAY8[0]: _refuse,
        pickle.NEXT_BUFFER[0]: _refuse,
        pickle.READONLY_BUFFER[0]: _refuse,
    }
    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, **_safe_opcodes}
