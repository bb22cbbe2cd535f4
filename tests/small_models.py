"""Model files of a random network that runs in a millisecond, in both formats, sealed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networks

from effnet_edge import seal
from effnet_edge.converters.onnx_writer import onnx_model
from effnet_edge.converters.tflite_writer import tflite_model
from effnet_edge.recipe import Recipe

NAME = "efficientnet-b0-fp32"
CLASSES = 10
RESOLUTION = (40, 48)


def write_small_models(folder: Path, **changes) -> dict[str, Path]:
    """Write ``<NAME>.onnx`` and ``.tflite`` into ``folder``; ``changes`` go into the metadata."""
    network = networks.random_network(resolution=RESOLUTION, classes=CLASSES)
    metadata = networks.describe(network)
    recipe = Recipe(RESOLUTION, (50, 60), mean=network.mean, std=network.std)
    metadata = replace(metadata, **{"name": NAME, "recipe": recipe, **changes})
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for kind, write in (("onnx", onnx_model), ("tflite", tflite_model)):
        data = write(network, metadata)
        seal.seal(data)
        paths[kind] = folder / f"{NAME}.{kind}"
        paths[kind].write_bytes(data)
    return paths
