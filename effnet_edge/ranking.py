"""Which of two models is expected to label better."""

from __future__ import annotations

import math

from effnet_edge.metadata import SNR_FLOOR_DB, ModelMetadata
from effnet_edge.models.weights import KNOWN_WEIGHTS


def merit(metadata: ModelMetadata) -> tuple[float, int, int, str]:
    """A key to sort models by: the larger, the better they are expected to label.

    Top-1 accuracy first (`expected_top1`), none for a quantized model that doesn't follow its float
    network; then the larger network, and of one network the finer precision.
    """
    finest = {"fp32": 2, "fp16": 1}.get(metadata.precision, 0)
    accuracy = expected_top1(metadata) if is_faithful(metadata) else -1.0
    return accuracy, metadata.macs, finest, metadata.name


def is_faithful(metadata: ModelMetadata) -> bool:
    """Whether a model's logits follow its float network's well enough to trust its labels."""
    return metadata.fidelity.get("snr_db", math.inf) >= SNR_FLOOR_DB


def expected_top1(metadata: ModelMetadata) -> float:
    """Published ImageNet top-1 in percent; where none is, that of the architecture's usual weights.

    The latter stands in for weights of one's own: it orders them, no more.
    """
    if metadata.source.top1 is not None:
        return metadata.source.top1
    return published_top1(metadata.family, metadata.phi) or 0.0


def published_top1(family: str, phi: int) -> float | None:
    """ImageNet top-1 in percent of an architecture's usual weights, where it is published."""
    published = (
        row.top1
        for row in KNOWN_WEIGHTS
        if (row.family, row.phi) == (family, phi) and row.top1 is not None
    )
    return next(published, None)
