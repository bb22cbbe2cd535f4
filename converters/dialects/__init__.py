"""The dialects of trained checkpoints: who names, pads, normalises and feeds how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from effnet_edge.converters.checkpoint import Checkpoint
from effnet_edge.converters.dialects import efficientnet_pytorch, keras, timm, torchvision
from effnet_edge.converters.dialects.folding import (
    PYTORCH_EPSILON,
    TENSORFLOW_EPSILON,
    as_two_classes,
    fold_network,
)
from effnet_edge.converters.dialects.keras_checks import check_geometry
from effnet_edge.converters.dialects.names import NetworkNames, Tensors
from effnet_edge.converters.dialects.recognition import check_kinship, recognise
from effnet_edge.converters.overrides import NO_OVERRIDES, Overrides
from effnet_edge.errors import CheckpointError, UsageError
from effnet_edge.models.architecture import Architecture, Family, architecture
from effnet_edge.models.geometry import PaddingMode
from effnet_edge.models.network import Network
from effnet_edge.models.recipes import default_recipe
from effnet_edge.recipe import Recipe

__all__ = ["DIALECTS", "Dialect", "ReadNetwork", "default_recipe", "read_network"]


@dataclass(frozen=True)
class Dialect:
    """Conventions of one library. ``classifier`` is the module of the last layer, which fine-tuners
    replace by their own; None for Keras, whose adapter finds it."""

    anchor: str
    names: Callable[[Architecture], NetworkNames]
    padding: PaddingMode
    epsilon: Callable[[Architecture], float]
    classifier: str | None


DIALECTS: dict[str, Dialect] = {
    "torchvision": Dialect(
        torchvision.ANCHOR,
        torchvision.names,
        "symmetric",
        torchvision.epsilon,
        torchvision.CLASSIFIER,
    ),
    "timm": Dialect(
        timm.ANCHOR, timm.names, "symmetric", lambda arch: PYTORCH_EPSILON, timm.CLASSIFIER
    ),
    "tf": Dialect(
        timm.ANCHOR, timm.names, "same", lambda arch: TENSORFLOW_EPSILON, timm.CLASSIFIER
    ),
    "efficientnet-pytorch": Dialect(
        efficientnet_pytorch.ANCHOR,
        efficientnet_pytorch.names,
        "same",
        lambda arch: TENSORFLOW_EPSILON,
        efficientnet_pytorch.CLASSIFIER,
    ),
    "keras": Dialect(keras.ANCHOR, keras.names, "same", lambda arch: TENSORFLOW_EPSILON, None),
}


@dataclass(frozen=True)
class ReadNetwork:
    """A network, the dialect it was read in, its recipe, and what the user should know."""

    network: Network
    dialect: str
    recipe: Recipe
    notes: tuple[str, ...] = ()


def read_network(
    checkpoint: Checkpoint,
    *,
    dialect: str | None = None,
    phi: int | None = None,
    family: Family | None = None,
    recipe: Recipe | None = None,
    overrides: Overrides = NO_OVERRIDES,
) -> ReadNetwork:
    """Read the network in a checkpoint; dialect and architecture are found from names and shapes.

    ``dialect``, ``phi`` and ``family``, where given, must agree with the file. ``recipe`` is that
    of known weights; without it the dialect and the file imply one. ``overrides`` replace its
    parts. Raises UsageError for an unknown dialect or values that make no recipe, CheckpointError
    for everything about the file.
    """
    where = str(checkpoint.path)
    candidates = _candidates(checkpoint, dialect, where)
    names = DIALECTS[candidates[0]].names
    notes: list[str] = []
    read = None
    if checkpoint.keras is not None:
        read = keras.adapt(checkpoint.tensors, checkpoint.keras.layers, where)
        notes += read.notes
        tensors = read.tensors
    else:
        check_kinship(checkpoint.tensors, names, where)
        tensors = _own_classifier(checkpoint.tensors, DIALECTS[candidates[0]], where)
    arch = recognise(tensors, names, where, phi, family)
    key = candidates[0]
    if len(candidates) > 1:  # asked last: who brings another network has no use for the question
        hint = checkpoint.arch_hint or ""
        key = timm.dialect_of(hint, where)
        shown = hint if hint.isprintable() else ascii(hint)
        notes.append(f"read as {key}: the checkpoint's own model name is {shown}")
    chosen = DIALECTS[key]
    if recipe is None:
        recipe = default_recipe(key, arch)
        if read is not None:
            recipe = _of_keras_file(recipe, read, overrides, where)
    recipe = overrides.apply(recipe)
    if checkpoint.keras is not None and checkpoint.keras.layers is not None:
        check_geometry(checkpoint.keras.layers, arch, recipe, where)
    network = fold_network(
        tensors,
        chosen.names(arch),
        arch,
        padding=chosen.padding,
        epsilon=chosen.epsilon(arch) if read is None else read.epsilon,
        recipe=recipe,
        where=where,
    )
    if network.classes == 1:
        network = as_two_classes(network)
        notes.append("one output: read as a yes/no head; class 1 is its sigmoid, class 0 the rest")
    return ReadNetwork(network, key, recipe, tuple(notes))


def _of_keras_file(
    recipe: Recipe, read: keras.KerasWeights, overrides: Overrides, where: str
) -> Recipe:
    """The recipe with what the file says of its input: normalisation and resolution."""
    if read.mean is None and (overrides.mean is None or overrides.std is None):
        raise CheckpointError(
            f"{where} holds no Normalization layer, so it doesn't say how its images were fed: "
            "give --mean and --std (0.485,0.456,0.406 and 0.229,0.224,0.225 for ImageNet's)"
        )
    recipe = keras.with_normalization(recipe, read, where)
    return Overrides(resolution=read.resolution).apply(recipe)


def _candidates(checkpoint: Checkpoint, asked: str | None, where: str) -> list[str]:
    """The dialects that the checkpoint may be in; several only where they share all names."""
    if asked is not None and asked not in DIALECTS:
        raise UsageError(f"there is no dialect {asked!r}; there are {', '.join(DIALECTS)}")
    found = [
        key
        for key, one in DIALECTS.items()
        if one.anchor in checkpoint.tensors and (key == "keras") == (checkpoint.keras is not None)
    ]
    if not found:
        raise CheckpointError(
            f"{where} isn't one of EfficientNet-B0..B7 or -Lite0..4: none of its "
            f"{len(checkpoint.tensors)} tensors is the stem of one"
        )
    if asked is None:
        return found
    if asked not in found:
        raise CheckpointError(
            f"--dialect {asked} was given, but {where} has the names of {' or '.join(found)}"
        )
    return [asked]


def _own_classifier(tensors: Tensors, dialect: Dialect, where: str) -> Tensors:
    """Rename a fine-tuned classifier (``classifier.1.weight`` for ``classifier.weight``) to the
    dialect's own name, and add the bias that it may lack."""
    prefix = f"{dialect.classifier}."
    linear = [
        name.removesuffix("weight")
        for name, values in tensors.items()
        if name.startswith(prefix) and name.endswith(".weight") and values.ndim == 2
    ]
    if len(linear) > 1:
        raise CheckpointError(
            f"{where} ends in {len(linear)} linear layers, {linear[0][:-1]} and {linear[1][:-1]}: "
            "only networks with a single one after the pooling can be converted"
        )
    if not linear:
        raise CheckpointError(
            f"{where} holds no classifier ({dialect.classifier}): it may be a feature extractor's "
            "weights. Save the whole classification network"
        )
    renamed = dict(tensors)
    weight = renamed.pop(f"{linear[0]}weight")
    bias = renamed.pop(f"{linear[0]}bias", None)
    own_weight, own_bias = dialect.names(architecture(0)).classifier
    renamed[own_weight] = weight
    renamed[own_bias] = np.zeros(len(weight), np.float32) if bias is None else bias
    return renamed
