"""``effnet-edge predict``: photos to labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effnet_edge.classifier import EdgeClassifier, Prediction
from effnet_edge.cli.arguments import positive_int
from effnet_edge.cli.output import note, print_json
from effnet_edge.engines import ENGINES
from effnet_edge.errors import ImageError, ModelNotFoundError, UsageError
from effnet_edge.store import ModelStore

_DESCRIPTION = """\
Label photos with a model of the store.

  effnet-edge predict cat.jpg                          the best model of the store
  effnet-edge predict *.jpg holiday/ --top-k 1         many files, and folders with all below
  effnet-edge predict cat.jpg --model efficientnet-lite0-fp32 --json
  curl -s URL | effnet-edge predict -                  from a pipe
"""

STANDARD_INPUT = "-"


def add_parser(commands: Any) -> None:
    """Add the command to the ``effnet-edge`` parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "predict",
        help="label photos",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image files, folders, or - for standard input"
    )
    parser.add_argument(
        "--model",
        metavar="NAME_OR_FILE",
        help="a name that 'effnet-edge models list' shows, or a model file "
        "(default: the model with the best published accuracy in the store)",
    )
    parser.add_argument(
        "--top-k", type=positive_int, default=5, help="labels per image (default: 5)"
    )
    parser.add_argument("--engine", choices=tuple(ENGINES), help="default: the format's own")
    parser.add_argument("--threads", type=positive_int, help="default: all cores of this process")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Label every image; one that can't be read doesn't stop the others."""
    paths = list(_expand(args.images))
    model = args.model or _best_model()
    results: list[dict[str, Any]] = []
    status = 0
    with EdgeClassifier.load(model, engine=args.engine, threads=args.threads) as classifier:
        for path in _with_progress(paths, hidden=not args.json and sys.stdout.isatty()):
            try:
                source = sys.stdin.buffer.read() if path == STANDARD_INPUT else path
                predictions = classifier.predict(source, top_k=args.top_k)
            except ImageError as error:
                note(f"effnet-edge: {error}")
                results.append({"image": path, "error": str(error)})
                status = error.exit_code
                continue
            if args.json:
                results.append({"image": path, "predictions": [vars(p) for p in predictions]})
            else:
                _print_predictions(path, predictions)
        if args.json:
            print_json(
                {
                    "model": classifier.metadata.name,
                    "file": str(classifier.path),
                    "engine": classifier.engine,
                    "threads": classifier.threads,
                    "results": results,
                }
            )
    return status


def _expand(arguments: list[str]) -> Iterator[str]:
    from effnet_edge.images import is_image_name

    for argument in arguments:
        path = Path(argument)
        if argument == STANDARD_INPUT or not path.is_dir():
            yield argument
            continue
        found = sorted(str(p) for p in path.rglob("*") if is_image_name(p) and p.is_file())
        if not found:
            raise UsageError(f"there are no image files in {argument}")
        yield from found


def _best_model() -> str:
    models = [model.metadata for model in ModelStore().list() if model.metadata is not None]
    if not models:
        raise ModelNotFoundError(
            "there is no model in the store yet: 'effnet-edge convert --phi 0' makes one, "
            "and 'effnet-edge demo' shows how it goes"
        )
    best = max(models, key=lambda model: (model.source.top1 or 0.0, model.macs, model.name))
    if len({model.name for model in models}) > 1:
        note(f"using {best.name} (choose with --model)")
    return best.name


def _with_progress(paths: list[str], *, hidden: bool) -> Iterator[str]:
    """Show a bar on a terminal, unless the results themselves scroll by there."""
    from tqdm import tqdm

    disable = True if hidden or len(paths) < 2 else None
    yield from tqdm(paths, unit="image", file=sys.stderr, leave=False, disable=disable)


def _print_predictions(path: str, predictions: list[Prediction]) -> None:
    print(path)
    for prediction in predictions:
        print(f"  {prediction.probability:7.2%}  {prediction.label}  ({prediction.index})")
