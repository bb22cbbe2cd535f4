"""``effnet-edge models``: what is in the model store."""

from __future__ import annotations

import argparse
from typing import Any

from effnet_edge.cli.output import image_size, mac_count, megabytes, millions, print_json, table
from effnet_edge.errors import ModelError
from effnet_edge.metadata import ModelMetadata, summary
from effnet_edge.store import FORMATS, ModelStore, StoredModel

_DESCRIPTION = """\
Look after the model store.

  effnet-edge models list
  effnet-edge models show efficientnet-lite0-fp32
  effnet-edge models verify                       check every file against its digest
  effnet-edge models remove efficientnet-lite0-fp32 --format onnx

The store is the folder EFFNET_EDGE_HOME, or your platform's place for application data.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its four actions to the ``effnet-edge`` parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "models",
        help="list, show, verify or remove models",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, run, explanation, names in (
        ("list", _list, "list the models", None),
        ("show", _show, "show what a model says of itself", 1),
        ("verify", _verify, "check files against their digests (default: all)", "*"),
        ("remove", _remove, "delete models", "+"),
    ):
        action = actions.add_parser(
            name,
            help=explanation,
            description=f"{explanation[0].upper()}{explanation[1:]}.",
            epilog=f"example: effnet-edge models {name}{' efficientnet-b0-fp32' if names else ''}",
        )
        if names is not None:
            action.add_argument("names", nargs=names, metavar="NAME")
        if name in ("show", "remove"):
            action.add_argument("--format", choices=FORMATS, help="only this file")
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(run=run)


def _list(args: argparse.Namespace) -> int:
    store = ModelStore()
    models = store.list()
    if args.json:
        print_json({"store": str(store.home), "models": [_model_json(model) for model in models]})
        return 0
    if not models:
        print(f"The store {store.home} is empty: 'effnet-edge convert --phi 0' makes a model.")
        return 0
    print(
        table(
            ("name", "format", "size", "input", "parameters", "MACs", "top-1 %", "weights"),
            [_row(model) for model in models],
        )
    )
    print(f"\nin {store.folder}")
    for model in models:
        if model.error is not None:
            print(f"broken: {model.error}")
    return 0


def _row(model: StoredModel) -> tuple[str, ...]:
    metadata = model.metadata
    size = megabytes(model.size)
    if metadata is None:
        return (model.name, model.format, size, "broken", "", "", "", "")
    return (
        model.name,
        model.format,
        size,
        image_size(metadata.recipe.resolution),
        millions(metadata.parameters),
        mac_count(metadata.macs),
        "-" if metadata.source.top1 is None else f"{metadata.source.top1:.2f}",
        metadata.source.weights or metadata.source.file,
    )


def _model_json(model: StoredModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "format": model.format,
        "path": str(model.path),
        "bytes": model.size,
        "error": model.error,
        "metadata": None if model.metadata is None else summary(model.metadata),
    }


def _show(args: argparse.Namespace) -> int:
    store = ModelStore()
    name = args.names[0]
    wanted = (args.format,) if args.format else FORMATS
    store.find(name, wanted)
    models = [model for model in store.list() if model.name == name and model.format in wanted]
    if args.json:
        print_json([_model_json(model) for model in models])
        return 0
    for model in models:
        if model.metadata is None:
            raise ModelError(model.error or f"{model.path} can't be used")
    while models and (described := models[0].metadata) is not None:
        _print_description(described, [model for model in models if model.metadata == described])
        models = [model for model in models if model.metadata != described]
    return 0


def _print_description(described: ModelMetadata, models: list[StoredModel]) -> None:
    recipe, source = described.recipe, described.source
    more = ", ..." if described.classes > 3 else ""
    print(described.name)
    for label, value in (
        (
            "network",
            f"{described.family} phi {described.phi}, {described.precision}, "
            f"{described.padding} padding",
        ),
        ("cost", f"{millions(described.parameters)} parameters, {mac_count(described.macs)} MACs"),
        ("input", f"uint8 RGB {image_size(recipe.resolution)}"),
        (
            "recipe",
            f"resize to cover {image_size(recipe.resize)} ({recipe.interpolation}"
            f"{', antialias' if recipe.antialias else ''}), central crop",
        ),
        ("normalise", f"mean {_three(recipe.mean)}, std {_three(recipe.std)} (folded in)"),
        ("classes", f"{described.classes}: {', '.join(described.labels[:3])}{more}"),
        ("weights", f"{source.weights or 'own'} ({source.dialect}), {source.file}"),
        ("digest", f"sha256 {source.sha256}"),
        ("accuracy", _accuracy(described)),
        *((("quantized", _quantization(described)),) if described.quantization else ()),
        ("made by", described.tool),
    ):
        print(f"  {label:10} {value}")
    for model in models:
        print(f"  {model.format:10} {megabytes(model.size)}  {model.path}")


def _accuracy(described: ModelMetadata) -> str:
    if described.source.top1 is None:
        return "not published"
    whose = "" if described.precision == "fp32" else " (of the float network)"
    return f"{described.source.top1:.2f} % top-1{whose}"


def _quantization(described: ModelMetadata) -> str:
    """How a model was quantized, and how it follows the float one; older files may tell less."""
    recipe, figures = described.quantization, described.fidelity
    parts = [f"by {recipe.get('images', '?')} images ({recipe.get('calibration', 'unknown')})"]
    for name, text in (("agreement", "{:.1f} % agreement"), ("kl", "KL {:.3g}")):
        if name in figures:
            parts.append(text.format(figures[name]))
    if "snr_db" in figures:
        parts.append(f"logit SNR {figures['snr_db']:.1f} dB")
    return ", ".join(parts)


def _three(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _verify(args: argparse.Namespace) -> int:
    store = ModelStore()
    checked = [model for name in args.names or (None,) for model in store.verify(name)]
    if args.json:
        print_json([_model_json(model) for model in checked])
    else:
        for model in checked:
            print(f"{'ok' if model.error is None else 'BROKEN':6}  {model.path}")
            if model.error is not None:
                print(f"        {model.error}")
        if not checked:
            print(f"The store {store.home} is empty.")
    return 1 if any(model.error for model in checked) else 0


def _remove(args: argparse.Namespace) -> int:
    store = ModelStore()
    for name in args.names:  # before any is removed
        store.find(name, (args.format,) if args.format else FORMATS)
    removed = [path for name in args.names for path in store.remove(name, args.format)]
    if args.json:
        print_json({"removed": [str(path) for path in removed]})
    else:
        for path in removed:
            print(f"removed {path}")
    return 0
