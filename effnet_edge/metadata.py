"""What a model file says of itself; the same JSON in both formats.

In ONNX it is the metadata property ``effnet_edge`` (with ``labels`` beside it, one a line); in
TFLite the attached files ``effnet_edge.json`` and ``labels.txt``.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from effnet_edge.errors import ModelError
from effnet_edge.recipe import Recipe

Precision = Literal["fp32", "fp16", "int8"]
"""How a model's weights are stored."""

SNR_FLOOR_DB = 10.0
"""A quantized model whose logits have more noise than this gives other labels too often to be
trusted."""

FORMAT_VERSION = 1
"""Raised when a file could no longer be read by an older package."""

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Terminals obey these, or can't encode them: the control characters, line and paragraph
separators, and halves of surrogate pairs."""


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
    against the float network on the calibration images, for precisions that lose some, and
    ``quantization`` the recipe that led to them. ``tool`` names what wrote the file.
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
    quantization: dict[str, str | int] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """How many classes the model tells apart."""
        return len(self.labels)

    def to_json(self) -> str:
        """All but the labels, which both formats keep in a place of their own.

        Characters of the checkpoint's file name that can't be printed become question marks.
        """
        data = asdict(self)
        del data["labels"]
        data["source"]["file"] = UNPRINTABLE.sub("?", self.source.file)
        return json.dumps({"format": FORMAT_VERSION, **data}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, labels: tuple[str, ...]) -> ModelMetadata:
        """Rebuild from `to_json` and the labels. Raises ModelError for anything malformed."""
        try:
            data = json.loads(text)
            version = data.pop("format")
            if isinstance(version, bool) or not isinstance(version, int):
                raise TypeError(f"format is {version!r}")
            if version > FORMAT_VERSION:
                raise ModelError(
                    f"the model has format {version}, and this effnet-edge reads up to "
                    f"{FORMAT_VERSION}: upgrade effnet-edge"
                )
            data["recipe"] = Recipe.from_json(data["recipe"])
            data["source"] = Source(**data["source"])
            metadata = cls(**data, labels=labels)
            _check(metadata)
            return metadata
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelError(f"the model's own description is malformed: {error!r}") from error
        except RecursionError:
            raise ModelError("the model's own description is malformed: nested too deep") from None


def _check(metadata: ModelMetadata) -> None:
    """Raise TypeError, ValueError or OverflowError for what the annotations rule out."""
    source = metadata.source
    _check_text(metadata, "name", "family", "precision", "padding", "tool")
    _check_text(source, "file", "sha256", "dialect")
    if source.weights is not None:
        _check_text(source, "weights")
    if metadata.family not in ("standard", "lite"):
        raise ValueError(f"family is {metadata.family!r}, neither standard nor lite")
    if metadata.padding not in ("same", "symmetric"):
        raise ValueError(f"padding is {metadata.padding!r}, neither same nor symmetric")
    for name in ("phi", "parameters", "macs"):
        value = getattr(metadata, name)
        # What doesn't fit 63 bits overflows where it is formatted.
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            raise ValueError(f"{name} is no count")
    if source.top1 is not None:
        _check_finite("top1", source.top1)
    if not isinstance(metadata.fidelity, dict):
        raise TypeError(f"fidelity is {metadata.fidelity!r}")
    for name, value in metadata.fidelity.items():
        _check_finite("fidelity", value)
        if UNPRINTABLE.search(name):
            raise ValueError(f"fidelity {name!r} has a control character")
    if not isinstance(metadata.quantization, dict):
        raise TypeError(f"quantization is {metadata.quantization!r}")
    for name, setting in metadata.quantization.items():
        if isinstance(setting, bool) or not isinstance(setting, (str, int)):
            raise TypeError(f"quantization's {name!r} is neither text nor a whole number")
        if UNPRINTABLE.search(f"{name}{setting}"):
            raise ValueError(f"quantization's {name!r} has a control character")
    for index, label in enumerate(metadata.labels):
        if UNPRINTABLE.search(label):
            raise ValueError(f"label {index}, {label[:100]!r}, has a control character")


def _check_text(owner: ModelMetadata | Source, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, str):
            raise TypeError(f"{name} is {type(value).__name__}, not text")
        if UNPRINTABLE.search(value):
            raise ValueError(f"{name} {value[:100]!r} has a control character")


def _check_finite(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is no finite number")


def summary(metadata: ModelMetadata) -> dict[str, Any]:
    """The metadata as plain data for ``--json``, labels counted instead of listed."""
    data: dict[str, Any] = json.loads(metadata.to_json())
    return {**data, "classes": metadata.classes}
