"""``effnet-edge evaluate``: a model's accuracy, and its faithfulness to another, on your images."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from effnet_edge.classifier import EdgeClassifier
from effnet_edge.cli.arguments import positive_int
from effnet_edge.cli.evaluation_report import Report, print_report, report_json
from effnet_edge.cli.output import image_size, note, print_json
from effnet_edge.engines import ENGINES
from effnet_edge.errors import ImageError, UsageError
from effnet_edge.evaluation import Evaluation
from effnet_edge.image_set import EvaluationImage, ImageSet, read_image_set
from effnet_edge.images import open_image
from effnet_edge.recipe import Recipe

_DESCRIPTION = """\
Count how many images a model gets right, and compare it with another image by image.

  effnet-edge evaluate efficientnet-b0-int8 --data imagenet/val
                         one folder per class, named by label, index or WordNet number
  effnet-edge evaluate efficientnet-b0-int8 --data imagenet/val --labels-file val.txt
                         one folder of images; lines 'ILSVRC2012_val_00000001.JPEG 65'
  effnet-edge evaluate efficientnet-b0-int8 --data photos/ --against efficientnet-b0-fp32
                         what int8 changes, on your own photos; needs no labels
  effnet-edge evaluate NAME --data DIR --limit 1000 --json
                         a repeatable sample of 1000 images, for a script
"""

_DEFAULT_RANKS = (1, 5)


def add_parser(commands: Any) -> None:
    """Add the command to the ``effnet-edge`` parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "evaluate",
        help="measure accuracy on labelled images, or how far two models agree",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a name that 'effnet-edge models list' shows, or a model file",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="the folder with the images"
    )
    parser.add_argument(
        "--labels-file",
        type=Path,
        metavar="FILE",
        help="an image's name and its class on each line, apart by a comma, tab or space; "
        "a class is a label, an index from 0 or a WordNet number",
    )
    parser.add_argument(
        "--against",
        metavar="OTHER",
        help="the model to compare with, as the reference: top-1 agreement, KL divergence, "
        "signal-to-noise ratio of the logits, and the images on which the two differ",
    )
    parser.add_argument(
        "--top",
        type=_ranks,
        metavar="K,...",
        help="count as a hit what is among the K most probable (default: 1,5)",
    )
    parser.add_argument(
        "--limit",
        type=positive_int,
        metavar="N",
        help="take a sample of N images, always the same ones",
    )
    parser.add_argument(
        "--engine", choices=tuple(ENGINES), help="default: the first of these that runs the model"
    )
    parser.add_argument(
        "--against-engine", choices=tuple(ENGINES), help="OTHER's (default: likewise)"
    )
    parser.add_argument("--threads", type=positive_int, help="default: the fast cores it may use")
    parser.add_argument("--json", action="store_true", help="print JSON, with all differences")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run every image through the model or models; one that can't be read is named and counted."""
    if args.against_engine and not args.against:
        raise UsageError("--against-engine is for the model that --against names")
    with ExitStack() as stack:
        model = stack.enter_context(
            EdgeClassifier.load(args.model, engine=args.engine, threads=args.threads)
        )
        reference = None
        if args.against is not None:
            reference = stack.enter_context(
                EdgeClassifier.load(args.against, engine=args.against_engine, threads=args.threads)
            )
            _check_comparable(model, reference)
        ranks = _fitting_ranks(args.top, len(model.labels))
        image_set = read_image_set(
            args.data, model.labels, args.labels_file, need_labels=reference is None
        )
        for line in image_set.notes:
            note(f"note: {line}")
        return _evaluate(args, model, reference, image_set, ranks)


def _evaluate(
    args: argparse.Namespace,
    model: EdgeClassifier,
    reference: EdgeClassifier | None,
    image_set: ImageSet,
    ranks: Sequence[int],
) -> int:
    images = image_set.sample(args.limit)
    evaluation = Evaluation(ranks)
    started = time.perf_counter()
    try:
        _run_models(images, model, reference, evaluation)
    finally:  # Ctrl-C doesn't lose the answers of an hour
        if evaluation.images:
            report = Report(
                data=args.data,
                model=model,
                reference=reference,
                labelled=image_set.labelled,
                found=len(image_set.images),
                wanted=len(images),
                seconds=time.perf_counter() - started,
                evaluation=evaluation,
            )
            if args.json:
                print_json(report_json(report))
            else:
                print_report(report)
    if not evaluation.images:
        raise ImageError(f"no image in {args.data} could be read, of {len(images)}")
    return ImageError.exit_code if evaluation.unreadable else 0


def _run_models(
    images: Sequence[EvaluationImage],
    model: EdgeClassifier,
    reference: EdgeClassifier | None,
    evaluation: Evaluation,
) -> None:
    from tqdm import tqdm

    with tqdm(images, unit="image", file=sys.stderr, leave=False, disable=None) as bar:
        for image in bar:
            try:
                pixels = open_image(image.path)
                logits = model.logits(pixels)
                expected = None if reference is None else reference.logits(pixels)
            except ImageError as error:
                tqdm.write(f"effnet-edge: {error}", file=sys.stderr)
                evaluation.unreadable.append((image.path, str(error)))
                continue
            evaluation.add(image, logits, expected)


def _check_comparable(model: EdgeClassifier, reference: EdgeClassifier) -> None:
    """Raise UsageError unless both have the same classes; tell if they are fed differently."""
    ours, theirs = model.labels, reference.labels
    names = f"{model.metadata.name} and {reference.metadata.name}"
    if len(ours) != len(theirs):
        raise UsageError(
            f"{names} can't be compared: they have {len(ours)} and {len(theirs)} classes"
        )
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if one != other:
            raise UsageError(
                f"{names} can't be compared: their class {index} is {one!r} and {other!r}"
            )
    fed, fed_otherwise = _feeding(model.metadata.recipe), _feeding(reference.metadata.recipe)
    if fed != fed_otherwise:
        note(
            f"note: each model gets the images as its own preprocessing says: "
            f"{model.metadata.name} {fed}; {reference.metadata.name} {fed_otherwise}"
        )


def _feeding(recipe: Recipe) -> str:
    """What of a recipe changes the pixels; mean and std are inside the model."""
    filtered = f"{recipe.interpolation}{'' if recipe.antialias else ', not antialiased'}"
    return f"{image_size(recipe.resolution)} of {image_size(recipe.resize)}, {filtered}"


def _ranks(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(positive_int(part.strip()) for part in text.split(",")))


def _fitting_ranks(asked: Sequence[int] | None, classes: int) -> tuple[int, ...]:
    """The K of top-K: as asked, or those by default that say anything of so many classes."""
    if asked is None:
        return tuple(k for k in _DEFAULT_RANKS if k == 1 or k < classes)
    if max(asked) > classes:
        raise UsageError(f"--top {max(asked)} is more than the model's {classes} classes")
    return tuple(asked)
