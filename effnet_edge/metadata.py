"""What a model file says of itself; the same JSON in both formats.

In ONNX it is the metadata property ``effnet_edge`` (with ``labels`` beside it, one a line); in
TFLite the attached files ``effnet_edge.json`` and ``labels.txt``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from effnet_edge.errors import ModelError
from effnet_edge.recipe import Recipe

FORMAT_VERSION = 1
"""Raised when a file could no longer be read by an older package."""


@dataclass(frozen=True)
class Source:
    """Where the weights came from. ``sha256`` is the digest of the checkpoint file."""

    file: str
    sha256: str
    dialect: str
    weights: str | None = None
    """The known name (``torchvision``, ``lite``, ...), or None for the user's own file."""
    top1: float | None = None
    """Published ImageNet top-1 in percent at this recipe, or None where none is known."""


@dataclass(frozen=True)
class ModelMetadata:
    """A model's description of itself.

    ``macs`` is for one image at the recipe's resolution. ``fidelity`` holds figures measured
    against the float network, for precisions that lose some. ``tool`` names what wrote the file.
    """

    name: str
    family: str
    phi: int
    precision: str
    recipe: Recipe
    source: Source
    parameters: int
    macs: int
    padding: str
    tool: str
    labels: tuple[str, ...]
    fidelity: dict[str, float] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """How many classes the model tells apart."""
        return len(self.labels)

    def to_json(self) -> str:
        """All but the labels, which both formats keep in a place of their own."""
        data = asdict(self)
        del data["labels"]
        return json.dumps({"format": FORMAT_VERSION, **data}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, labels: tuple[str, ...]) -> ModelMetadata:
        """Rebuild from `to_json` and the labels. Raises ModelError for anything malformed."""
        try:
            data = json.loads(text)
            version = data.pop("format")
            if version > FORMAT_VERSION:
                raise ModelError(
                    f"the model has format {version}, and this effnet-edge reads up to "
                    f"{FORMAT_VERSION}: upgrade effnet-edge"
                )
            data["recipe"] = Recipe.from_json(data["recipe"])
            data["source"] = Source(**data["source"])
            return cls(**data, labels=labels)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ModelError(f"the model's own description is malformed: {error!r}") from error


def summary(metadata: ModelMetadata) -> dict[str, Any]:
    """The metadata as plain data for ``--json``, labels counted instead of listed."""
    data: dict[str, Any] = json.loads(metadata.to_json())
    return {**data, "classes": metadata.classes}
