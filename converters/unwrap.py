"""Finds the network's weights among all that a training script saved with them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from effnet_edge.errors import CheckpointError

ANCHORS = ("features.0.0.weight", "conv_stem.weight", "_conv_stem.weight")
"""The stem's kernel in torchvision, in timm and geffnet, and in efficientnet-pytorch. What comes
before it in a key is the wrapper's prefix (``module.``, ``model.``, ``_orig_mod.``, ...)."""

# Counters of batch norm, of averaged models and of the thop profiler.
_IGNORED_SUFFIXES = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
_ARCHITECTURE_KEYS = ("arch", "model", "model_name", "architecture", "encoder_name", "backbone")
_OPTION_KEYS = ("args", "config", "hparams", "hyper_parameters", "opt")
_MAX_DEPTH = 4
_MAX_WRAPPERS = 2000
_MAX_NETWORKS = 32


@dataclass(frozen=True)
class Weights:
    """The chosen state dict, prefix stripped, and what was found around it."""

    tensors: dict[str, Any]
    architecture: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    label: str
    prefix: str
    tensors: dict[str, Any]

    @property
    def is_average(self) -> bool:
        return "ema" in re.split(r"[^a-z]+", self.label.lower())


def find_weights(root: Any, is_tensor: Callable[[Any], bool], where: str) -> Weights:
    """Choose the one set of EfficientNet weights in ``root``.

    An averaged (EMA) copy is preferred where there is one. Where no key looks like a known stem,
    the largest set of tensors is returned as it is, for the dialects to say what is wrong.
    Raises CheckpointError if there are no tensors, or two sets and no reason to prefer one.
    """
    sets = list(_tensor_sets(root, is_tensor))
    candidates = _distinct(
        [candidate for path, tensors in sets for candidate in _anchored(path, tensors)]
    )
    averages = [candidate for candidate in candidates if candidate.is_average]
    notes: list[str] = []
    if len(candidates) > 1 and len(averages) == 1:
        candidates = averages
        notes.append(f"used the averaged (EMA) copy of the weights, {averages[0].label}")
    if len(candidates) > 1:
        names = " and ".join(candidate.label for candidate in candidates[:3])
        raise CheckpointError(
            f"{where} holds several sets of weights, {names}: save the one you want by itself "
            "with torch.save"
        )
    if candidates:
        chosen = candidates[0]
        outside = [name for name in _names(sets, chosen) if not name.startswith(chosen.prefix)]
        if outside:
            notes.append(
                f"left out {len(outside)} tensors outside {chosen.prefix!r}, such as {outside[0]}"
            )
        return Weights(chosen.tensors, _architecture_name(root), tuple(notes))
    if not sets:
        raise CheckpointError(
            f"{where} holds no tensors by name. Save the weights with "
            "torch.save(model.state_dict(), FILE)"
        )
    largest = max((tensors for _, tensors in sets), key=len)
    return Weights(_without_counters(largest), _architecture_name(root), ())


def _names(sets: list[tuple[str, dict[str, Any]]], chosen: _Candidate) -> Iterator[str]:
    for path, tensors in sets:
        if chosen.label == _label(path, chosen.prefix):
            prefixes = [candidate.prefix for candidate in _anchored(path, tensors)]
            for name in _without_counters(tensors):
                if not any(name.startswith(prefix) for prefix in prefixes):
                    yield name


def _tensor_sets(
    root: Any, is_tensor: Callable[[Any], bool]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dictionary, nested at most four deep, that holds tensors under string keys."""
    seen: set[int] = set()
    queue: deque[tuple[str, Any, int]] = deque([("", root, 0)])
    while queue and len(seen) < _MAX_WRAPPERS:
        path, item, depth = queue.popleft()
        if not isinstance(item, Mapping) or id(item) in seen:
            continue
        seen.add(id(item))
        named = {key: value for key, value in item.items() if isinstance(key, str)}
        tensors = {key: value for key, value in named.items() if is_tensor(value)}
        if tensors:
            yield path, tensors
        if depth < _MAX_DEPTH:
            for key, value in named.items():
                if isinstance(value, Mapping):
                    queue.append((f"{path}.{key}" if path else key, value, depth + 1))


def _label(path: str, prefix: str) -> str:
    return f"{path}[{prefix}]" if path and prefix else path or prefix or "the top level"


def _anchored(path: str, tensors: dict[str, Any]) -> Iterator[_Candidate]:
    prefixes = {
        key.removesuffix(anchor): None
        for key in tensors
        for anchor in ANCHORS
        if key.endswith(anchor) and (key == anchor or key.endswith(f".{anchor}"))
    }
    if len(prefixes) > _MAX_NETWORKS:
        raise CheckpointError(f"{path or 'it'} holds {len(prefixes)} networks: save one by itself")
    for prefix in prefixes:
        own = {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
        yield _Candidate(_label(path, prefix), prefix, _without_counters(own))


def _distinct(candidates: list[_Candidate]) -> list[_Candidate]:
    """Drop candidates that hold the very same tensor objects under another key."""
    kept: dict[tuple[int, ...], _Candidate] = {}
    for candidate in candidates:
        kept.setdefault(tuple(map(id, candidate.tensors.values())), candidate)
    return list(kept.values())


def _without_counters(tensors: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tensors.items() if not key.endswith(_IGNORED_SUFFIXES)}


def _architecture_name(root: Any) -> str | None:
    """The model's name where the wrapper tells it: timm's ``arch``, or a training option."""
    if not isinstance(root, Mapping):
        return None
    options = [root.get(key) for key in _OPTION_KEYS]
    for holder in (root, *(getattr(option, "state", option) for option in options)):
        if isinstance(holder, Mapping):
            for key in _ARCHITECTURE_KEYS:
                value = holder.get(key)
                if isinstance(value, str) and 0 < len(value) < 200:
                    return value
    return None
