"""``effnet-edge predict``: photos to labels."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effnet_edge.classifier import EdgeClassifier, Prediction
from effnet_edge.cli.arguments import at_least, positive_int
from effnet_edge.cli.output import note, print_json
from effnet_edge.cli.select import SelectionProgress, add_limits
from effnet_edge.engines import ENGINES, available_engines, named_engine
from effnet_edge.errors import ImageError, ModelNotFoundError, UsageError
from effnet_edge.image_folder import images_below
from effnet_edge.ranking import merit
from effnet_edge.store import ModelStore
from effnet_edge.tables import counted

_DESCRIPTION = """\
Label photos, or what a camera sees, with a model of the store.

  effnet-edge predict cat.jpg                          the best model of the store
  effnet-edge predict *.jpg holiday/ --top-k 1         many files, and folders with all below
  effnet-edge predict cat.jpg --model efficientnet-lite0-fp32 --json
  curl -s URL | effnet-edge predict -                  from a pipe
  effnet-edge predict --stream /dev/video0             a camera, until Ctrl-C is pressed
  effnet-edge predict --stream 0 --budget-ms 30        with the best model that takes 30 ms
  rpicam-vid -t 0 -n --codec mjpeg -o - | effnet-edge predict --stream -
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
        "images", nargs="*", metavar="IMAGE", help="image files, folders, or - for standard input"
    )
    parser.add_argument(
        "--model",
        metavar="NAME_OR_FILE",
        help="a name that 'effnet-edge models list' shows, or a model file "
        "(default: the one of the store that is expected to label best)",
    )
    parser.add_argument(
        "--top-k", type=positive_int, help="labels per image (default: 5, of a stream 1)"
    )
    parser.add_argument(
        "--engine", choices=tuple(ENGINES), help="default: the first of these that runs the model"
    )
    parser.add_argument("--threads", type=positive_int, help="default: the fast cores it may use")
    parser.add_argument(
        "--json", action="store_true", help="print JSON, of a stream a line for each frame"
    )
    stream = parser.add_argument_group("frames as they come")
    stream.add_argument(
        "--stream",
        metavar="SOURCE",
        help="a camera (/dev/video0 or 0), a folder, or Motion JPEG from a file or - for standard "
        "input; of live frames the newest is labelled and stale ones are dropped",
    )
    stream.add_argument("--frames", type=positive_int, help="end after so many labelled frames")
    stream.add_argument("--seconds", type=at_least(0.001), help="end after so many seconds")
    add_limits(parser)
    # None tells an option that wasn't given, which `EdgeClassifier.auto` has the default of.
    parser.set_defaults(run=run, percentile=None)


def run(args: argparse.Namespace) -> int:
    """Label every image; one that can't be read doesn't stop the others."""
    if args.stream is not None:
        return _run_stream(args)
    if not args.images:
        raise UsageError("give images to label, or --stream with a camera")
    if args.frames is not None or args.seconds is not None:
        raise UsageError("--frames and --seconds are for --stream")
    images = list(_expand(args.images))
    results: list[dict[str, Any]] = []
    with _load(args) as classifier:
        try:
            for image in _with_progress(images, hidden=not args.json and sys.stdout.isatty()):
                results.append(_label(classifier, image, args.top_k or 5, quiet=args.json))
        finally:  # Ctrl-C doesn't lose the answers of an hour
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
    return ImageError.exit_code if any("error" in result for result in results) else 0


def _run_stream(args: argparse.Namespace) -> int:
    from effnet_edge.cli.predict_stream import label_stream

    if args.images:
        raise UsageError("give either images or --stream")
    if not args.stream:
        raise UsageError("--stream is empty; is a variable unset?")
    with _load(args) as classifier:
        return label_stream(classifier, args)


def _load(args: argparse.Namespace) -> EdgeClassifier:
    if args.budget_ms is None and args.memory_mb is None:
        if args.percentile is not None or args.nearest:
            option = "--nearest" if args.percentile is None else "--percentile"
            raise UsageError(f"{option} is about limits: give --budget-ms or --memory-mb too")
        model = _best_model(args.engine) if args.model is None else args.model
        return EdgeClassifier.load(model, engine=args.engine, threads=args.threads)
    percentile = {} if args.percentile is None else {"percentile": args.percentile}
    with SelectionProgress() as progress, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        classifier = EdgeClassifier.auto(
            args.budget_ms,
            args.memory_mb,
            **percentile,
            engine=args.engine,
            threads=args.threads,
            models=args.model,
            strict=not args.nearest,
            progress=progress.tell,
        )
    for warning in caught:
        note(f"note: {warning.message}")
    threads = counted(classifier.threads, "thread")
    note(f"using {classifier.metadata.name} on {classifier.engine}, {threads}")
    return classifier


def _label(classifier: EdgeClassifier, image: str, top_k: int, *, quiet: bool) -> dict[str, Any]:
    try:
        if _is_folder(image):
            raise ImageError(f"there are no image files in {image}")
        source = sys.stdin.buffer.read() if image == STANDARD_INPUT else image
        predictions = classifier.predict(source, top_k=top_k)
    except ImageError as error:
        note(f"effnet-edge: {error}")
        return {"image": image, "error": str(error)}
    if not quiet:
        _print_predictions(image, predictions)
    return {"image": image, "predictions": [vars(prediction) for prediction in predictions]}


def _expand(arguments: list[str]) -> Iterator[str]:
    """Files as they are, folders as the images below them; one without any as itself."""
    for argument in arguments:
        if not argument:
            raise UsageError("an image's name is empty; is a variable unset?")
        if _is_folder(argument):
            yield from [str(path) for path in images_below(Path(argument))] or [argument]
        else:
            yield argument


def _is_folder(argument: str) -> bool:
    # Unlike Path.is_dir, os.path.isdir answers for names that are too long as well.
    return argument != STANDARD_INPUT and os.path.isdir(argument)  # noqa: PTH112


def _best_model(engine: str | None) -> Path:
    """The most accurate model of the store that ``engine``, or an installed one, can run."""
    engines = available_engines() if engine is None else (named_engine(engine),)
    stored = ModelStore().list()
    models = [
        (model, merit(model.metadata), order)
        for model in stored
        if model.metadata is not None
        for order, each in enumerate(engines)
        if each.runs(model.format, model.metadata.precision)
    ]
    if not models:
        if stored:
            raise ModelNotFoundError(
                f"no model of the store runs on {engine or 'an installed engine'}: "
                "'effnet-edge models list' shows them"
            )
        raise ModelNotFoundError(
            "there is no model in the store yet: 'effnet-edge convert --phi 0' makes one, "
            "and 'effnet-edge demo' shows how it goes"
        )
    best, _, _ = max(models, key=lambda each: each[1])
    if len({model.name for model, _, _ in models}) > 1:
        note(f"using {best.name} (choose with --model)")
    same = [(order, model.path) for model, _, order in models if model.name == best.name]
    return min(same)[1]


def _with_progress(images: list[str], *, hidden: bool) -> Iterator[str]:
    """Show a bar on a terminal, unless the results themselves scroll by there."""
    from tqdm import tqdm

    disable = True if hidden or len(images) < 2 else None
    yield from tqdm(images, unit="image", file=sys.stderr, leave=False, disable=disable)


def _print_predictions(image: str, predictions: list[Prediction]) -> None:
    print(image)
    for prediction in predictions:
        print(f"  {prediction.probability:7.2%}  {prediction.label}  ({prediction.index})")
