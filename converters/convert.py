"""The road from weights to model files: fetch, read, write, check, put in place."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from effnet_edge import __version__
from effnet_edge.converters.calibration import (
    DEFAULT_SAMPLES,
    CalibrationImages,
    calibration_images,
)
from effnet_edge.converters.checkpoint import read_checkpoint
from effnet_edge.converters.dialects import read_network
from effnet_edge.converters.download import fetch
from effnet_edge.converters.labels import default_labels, read_labels
from effnet_edge.converters.onnx_writer import onnx_model
from effnet_edge.converters.overrides import NO_OVERRIDES, Overrides
from effnet_edge.converters.quantization import Preference, quantize
from effnet_edge.converters.quantization_report import QuantizationReport
from effnet_edge.converters.quantized_onnx_writer import quantized_onnx_model
from effnet_edge.converters.quantized_tflite_writer import quantized_tflite_model
from effnet_edge.converters.self_check import check_models
from effnet_edge.converters.tflite_writer import tflite_model
from effnet_edge.errors import ConversionError, ModelError, UsageError
from effnet_edge.files import staged, user_path
from effnet_edge.metadata import SNR_FLOOR_DB, ModelMetadata, Precision, Source
from effnet_edge.model_file import read_metadata
from effnet_edge.models.costs import costs
from effnet_edge.models.network import Network
from effnet_edge.models.quantized import QuantizedNetwork
from effnet_edge.models.weights import KnownWeights, known, weight_names
from effnet_edge.recipe import Recipe
from effnet_edge.seal import seal
from effnet_edge.store import FORMATS, ModelFormat, ModelStore

Progress = Callable[[str, float], None]
"""Told the name of each step as it begins, and in long ones how much of it is done, 0 to 1."""

KL_CEILING = 0.25
"""A quantized model whose divergence from the float one is larger, in nats, isn't to be trusted."""

_MANY_CLASSES = 100


@dataclass(frozen=True)
class QuantizationSettings:
    """How to make int8 of a network: photos below ``calibration`` (None: synthetic images), at most
    ``samples`` of them, and what to ``prefer`` where an accurate form is slower."""

    calibration: Path | None = None
    samples: int = DEFAULT_SAMPLES
    prefer: Preference = "accuracy"


@dataclass(frozen=True)
class Job:
    """One conversion: which weights, how to read them, what to call the result.

    ``weights`` is known weights or the path of a checkpoint. ``name`` defaults to
    ``efficientnet-b2-fp32`` and the like.
    """

    weights: KnownWeights | Path
    phi: int | None = None
    dialect: str | None = None
    labels: Path | None = None
    name: str | None = None
    formats: tuple[ModelFormat, ...] = FORMATS
    overrides: Overrides = NO_OVERRIDES
    precision: Precision = "fp32"
    quantization: QuantizationSettings = QuantizationSettings()


@dataclass(frozen=True)
class Conversion:
    """What a conversion made. ``notes`` are things that the user should know, ``warnings`` what
    may make the model useless; ``report`` is there for int8."""

    metadata: ModelMetadata
    files: dict[ModelFormat, Path]
    seconds: float
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    report: QuantizationReport | None = None


def plan(
    weights: str,
    phis: Sequence[int] | None,
    *,
    dialect: str | None = None,
    labels: Path | None = None,
    name: str | None = None,
    formats: tuple[ModelFormat, ...] = FORMATS,
    overrides: Overrides = NO_OVERRIDES,
    precision: Precision = "fp32",
    quantization: QuantizationSettings = QuantizationSettings(),
) -> list[Job]:
    """Turn what the user typed into jobs, refusing what can't work before anything is fetched.

    ``weights`` is a known name or else a path: whatever has a suffix, a separator, or exists.
    """
    path = user_path(weights)
    looks_like_a_path = path.suffix or len(path.parts) > 1 or os.path.exists(path)  # noqa: PTH110
    if looks_like_a_path and weights not in weight_names():
        if phis is not None and len(phis) > 1:
            raise UsageError(f"{weights} holds one model: give one --phi, or none")
        phi = phis[0] if phis else None
        return [Job(path, phi, dialect, labels, name, formats, overrides, precision, quantization)]
    if phis is None:
        raise UsageError(f"say which of the {weights} weights: --phi 2, --phi 0,2 or --phi 0-7")
    if dialect is not None:
        raise UsageError(f"the dialect of the {weights} weights is known: leave --dialect out")
    if name is not None and len(phis) > 1:
        raise UsageError("--name is for one model: convert the phis one by one, or leave it out")
    return [
        Job(
            known(weights, phi),
            phi,
            None,
            labels,
            name,
            formats,
            overrides,
            precision,
            quantization,
        )
        for phi in phis
    ]


def convert(
    job: Job,
    store: ModelStore,
    *,
    output: Path | None = None,
    mirror: str | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Make the model files of one job, in ``store`` or in the folder ``output``.

    Nothing appears under the model's name before every file has been written, loaded by an
    inference engine and found to agree with the others.
    """
    started = time.perf_counter()
    tell = progress or (lambda step, done: None)
    if job.name is not None:
        store.path_for(job.name, job.formats[0])  # refuse a bad name before the long work
    if isinstance(job.weights, KnownWeights):
        tell("fetching", 0)
        shown = None if progress is not None else False  # None: on a terminal
        path = fetch(job.weights, store.home, mirror=mirror, progress=shown)
    else:
        path = job.weights
    tell("reading", 0)
    checkpoint = read_checkpoint(path)
    known_weights = job.weights if isinstance(job.weights, KnownWeights) else None
    read = read_network(
        checkpoint,
        dialect=known_weights.dialect if known_weights else job.dialect,
        phi=job.phi,
        family=known_weights.family if known_weights else None,
        recipe=known_weights.recipe if known_weights else None,
        overrides=job.overrides,
    )
    network, recipe = read.network, read.recipe
    labels = read_labels(job.labels, network.classes) if job.labels else None
    notes = [*checkpoint.notes, *read.notes]
    if labels is None:
        labels, label_note = default_labels(network.classes)
        notes += [label_note] if label_note else []
    metadata = _describe(job, network, recipe, labels, path.name, checkpoint.sha256, read.dialect)
    destinations = {
        model_format: _destination(store, output, metadata.name, model_format)
        for model_format in FORMATS
    }
    replaced = _replaced(metadata, job.formats, destinations)
    paths = {model_format: destinations[model_format] for model_format in job.formats}
    made: Network | QuantizedNetwork = network
    report: QuantizationReport | None = None
    warnings: list[str] = []
    if job.precision == "int8":
        made, report, metadata, quantization_notes = _quantized(job, network, metadata, tell)
        notes += quantization_notes
        replaced = _replaced(metadata, job.formats, destinations)
        warnings += _poor_fidelity(report, metadata.classes)
    notes += replaced
    with ExitStack() as stack:
        files = {}
        for model_format, path in paths.items():
            tell(f"writing {'ONNX' if model_format == 'onnx' else 'TFLite'}", 0)
            data = _sealed_model(model_format, made, metadata)
            files[model_format] = stack.enter_context(staged(path, data))
            del data
        # B7's weights are 265 MB: give them back before the engines load theirs.
        del checkpoint, read, network, made
        tell("checking", 0)
        temporary = {key: file.temporary for key, file in files.items()}
        # A network that is warned of makes anything of one integer that two engines round to
        # either side: its formats are run, but can't be compared.
        checked = [{key: path} for key, path in temporary.items()] if warnings else [temporary]
        for models in checked:
            check_models(models, recipe.resolution, job.precision)
        for file in files.values():
            file.commit()
    seconds = time.perf_counter() - started
    return Conversion(metadata, paths, seconds, tuple(notes), tuple(warnings), report)


def _quantized(
    job: Job, network: Network, metadata: ModelMetadata, tell: Progress
) -> tuple[QuantizedNetwork, QuantizationReport, ModelMetadata, tuple[str, ...]]:
    """The quantized network, its report, the metadata with both in it, and notes for the user."""
    _check_finite(network)
    settings = job.quantization
    images = calibration_images(
        settings.calibration,
        metadata.recipe,
        samples=settings.samples,
        progress=lambda done, total: tell("preparing images", done / total),
    )
    quantized, report = quantize(
        network,
        images.pixels,
        calibration=images.kind,
        prefer=settings.prefer,
        progress=lambda name, index, total: tell(f"quantizing {name}", index / total),
    )
    figures = report.fidelity.finite()
    figures.pop("images")
    metadata = replace(
        metadata, fidelity=figures, quantization=_recipe(images, settings.prefer, report)
    )
    return quantized, report, metadata, images.notes


def _recipe(
    images: CalibrationImages, prefer: Preference, report: QuantizationReport
) -> dict[str, str | int]:
    """What made the integers what they are."""
    return {
        "calibration": images.kind,
        "images": len(images.pixels),
        "images_sha256": images.sha256,
        "prefer": prefer,
        "balanced": ", ".join(part.name for part in report.parts if "balanced" in part.notes),
    }


def _check_finite(network: Network) -> None:
    for name, array in network.arrays():
        if not np.isfinite(array).all():
            raise ConversionError(
                f"{name} has values that aren't finite, so there is nothing to quantize: "
                "check the checkpoint"
            )


def _poor_fidelity(report: QuantizationReport, classes: int) -> list[str]:
    """Warnings if the quantized network doesn't follow the float one well, or nobody can tell."""
    fidelity = report.fidelity
    # Of a few classes, synthetic images may well be all the same.
    telling = report.images > 1 and (report.calibration != "synthetic" or classes >= _MANY_CLASSES)
    if telling and report.labels == 1:
        return [
            f"the float network gives all {report.images} images the same label, so the figures "
            "of this int8 model say little: is the network trained, and are the images like "
            "those that it knows? Check it with 'effnet-edge evaluate'"
        ]
    if fidelity.snr_db >= SNR_FLOOR_DB and fidelity.kl <= KL_CEILING:
        return []
    worst = ", ".join(part.name for part in report.worst())
    advice = (
        "give --calibration a folder of photos like those that the model will see"
        if report.calibration == "synthetic"
        else "try other or more calibration photos, --prefer accuracy, or --fp16"
    )
    return [
        f"this int8 model follows the float one badly: logit SNR {fidelity.snr_db:.1f} dB (sound: "
        f"above {SNR_FLOOR_DB:g}), KL divergence {fidelity.kl:.2g} (sound: below {KL_CEILING:g}), "
        f"agreement {fidelity.agreement:.1f} %; the worst parts are {worst}. Don't ship it unseen: "
        f"{advice}, and check it with 'effnet-edge evaluate'"
    ]


def _destination(
    store: ModelStore, output: Path | None, name: str, model_format: ModelFormat
) -> Path:
    path = store.path_for(name, model_format)
    return path if output is None else output / path.name


def _replaced(
    metadata: ModelMetadata,
    written: tuple[ModelFormat, ...],
    destinations: dict[ModelFormat, Path],
) -> list[str]:
    """What to tell of a model of this name that is there already.

    Raises UsageError if one of its files would stay beside ours and be another model.
    """
    notes: list[str] = []
    for model_format, path in destinations.items():
        try:
            old = read_metadata(path)
        except ModelError:  # not there, or broken: nothing that could be confused with ours
            continue
        same = (old.source.sha256, old.precision, old.recipe, old.labels) == (
            metadata.source.sha256,
            metadata.precision,
            metadata.recipe,
            metadata.labels,
        )
        # Before the work is done, the quantization isn't known.
        if same and metadata.quantization in ({}, old.quantization):
            continue
        if model_format not in written:
            raise UsageError(
                f"{path} is another model of the same name, made from {old.source.file} "
                f"({_made(old)}): convert to both formats, give --name, or remove it first"
            )
        notes.append(f"replaced {path.name}, which was made from {old.source.file} ({_made(old)})")
    return notes


def _made(model: ModelMetadata) -> str:
    """How a model was made, in a few words: ``int8 by 128 photos``."""
    recipe = model.quantization
    if not recipe:
        return model.precision
    return f"{model.precision} by {recipe.get('images')} {recipe.get('calibration')}"


def _sealed_model(
    model_format: ModelFormat, network: Network | QuantizedNetwork, metadata: ModelMetadata
) -> bytearray:
    if isinstance(network, QuantizedNetwork):
        quantized = {"onnx": quantized_onnx_model, "tflite": quantized_tflite_model}
        data = quantized[model_format](network, metadata)
    else:
        data = {"onnx": onnx_model, "tflite": tflite_model}[model_format](network, metadata)
    seal(data)
    return data


def _describe(
    job: Job,
    network: Network,
    recipe: Recipe,
    labels: tuple[str, ...],
    file: str,
    digest: str,
    dialect: str,
) -> ModelMetadata:
    arch = network.architecture
    known_weights = job.weights if isinstance(job.weights, KnownWeights) else None
    return ModelMetadata(
        name=job.name or f"{arch.name}-{job.precision}",
        family=arch.family,
        phi=arch.phi,
        precision=job.precision,
        recipe=recipe,
        source=Source(
            file=file,
            sha256=digest,
            dialect=dialect,
            weights=known_weights.name if known_weights else None,
            top1=known_weights.top1 if known_weights and job.overrides == NO_OVERRIDES else None,
        ),
        parameters=network.parameters,
        macs=costs(arch, recipe.resolution, network.classes).macs,
        padding=network.padding,
        tool=f"effnet-edge {__version__}",
        labels=labels,
    )
