"""``effnet-edge convert``: trained weights to model files."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnet_edge.cli.arguments import channel_values, phi_list, positive_int, resolution
from effnet_edge.cli.output import (
    image_size,
    mac_count,
    megabytes,
    millions,
    note,
    print_json,
    table,
)
from effnet_edge.cli.quantization_output import check_report_path, report_lines, save_report
from effnet_edge.errors import EffnetEdgeError, UsageError
from effnet_edge.metadata import summary
from effnet_edge.models.weights import DEFAULT_WEIGHTS, KNOWN_WEIGHTS
from effnet_edge.recipe import INTERPOLATIONS
from effnet_edge.store import FORMATS, ModelStore

if TYPE_CHECKING:
    from effnet_edge.converters.convert import Conversion, Job

_DESCRIPTION = """\
Turn trained EfficientNet weights into ONNX and TFLite models in the model store.

  effnet-edge convert --phi 2                      torchvision's ImageNet weights of B2
  effnet-edge convert --phi 0-7                    all of B0..B7
  effnet-edge convert --phi 2 --int8               the same in a quarter of the size, and faster
  effnet-edge convert --phi 2 --int8 --calibration photos/ --report
                                                   int8 fitted to your photos; what it cost
  effnet-edge convert --weights lite --phi 0       Lite0, from the installed package
  effnet-edge convert --phi 2 --fp16               half the size, nearly the same logits
  effnet-edge convert --weights flowers.pth --labels flowers.txt --name flowers
                                                   your own fine-tuned checkpoint

Checkpoints of torchvision, timm, efficientnet-pytorch and Keras are recognised by what is in
them: .pth, .pt, .safetensors, .keras, .h5. Nothing in a checkpoint is ever executed.
"""

_STEP_LENGTHS = {"preparing": 2, "quantizing": 20}
"""How long a step, called by its first word, takes where it isn't short."""


def add_parser(commands: Any) -> None:
    """Add the command to the ``effnet-edge`` parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="turn trained weights into ONNX and TFLite models",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--phi", type=phi_list, help="which of the family: 2, 0,2,4 or 0-7; read from a checkpoint"
    )
    parser.add_argument(
        "--weights",
        default=DEFAULT_WEIGHTS,
        metavar="NAME_OR_FILE",
        help="known weights (see --list-weights) or a checkpoint file (default: torchvision)",
    )
    parser.add_argument("--list-weights", action="store_true", help="list the known weights")
    parser.add_argument(
        "--dialect",
        choices=("torchvision", "timm", "tf", "efficientnet-pytorch", "keras"),
        help="whose checkpoint this is, where its names can't tell: 'timm' pads symmetrically with "
        "batch-norm epsilon 1e-5 (efficientnet_bX), 'tf' pads SAME with 1e-3 (tf_efficientnet_bX)",
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="class names, one a line")
    parser.add_argument("--name", help="what to call the model (default: efficientnet-b2-fp32 ...)")
    parser.add_argument(
        "--format",
        choices=(*FORMATS, "both"),
        default="both",
        help="which files to write (default: both)",
    )
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument(
        "--int8",
        dest="precision",
        action="store_const",
        const="int8",
        default="fp32",
        help="quantize weights and activations to 8 bits: a quarter of the size, and faster",
    )
    precision.add_argument(
        "--fp16",
        dest="precision",
        action="store_const",
        const="fp16",
        help="store the weights as float16: half the size; computed in float32 all the same",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="write here, not in the store"
    )
    parser.add_argument(
        "--mirror", metavar="URL", help="get known weights from this address or folder"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    int8 = parser.add_argument_group("how --int8 is made")
    int8.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="a folder of photos like those that the model will see, 100 or so, no labels needed "
        "(default: synthetic images, a little less accurate)",
    )
    int8.add_argument(
        "--calibration-samples",
        type=positive_int,
        metavar="N",
        help="use at most so many of them (default: 128)",
    )
    int8.add_argument(
        "--prefer",
        choices=("accuracy", "speed"),
        help="where one form of a block is more accurate and slower (default: accuracy)",
    )
    int8.add_argument(
        "--report",
        nargs="?",
        const="",
        action="append",
        metavar="FILE",
        help="show how much noise every block adds; FILE.json or FILE.svg writes it instead, and "
        "may be given beside it",
    )
    fed = parser.add_argument_group(
        "how the images were fed in training (default: as the weights' own recipe says)"
    )
    fed.add_argument("--mean", nargs="+", metavar="M", help="one or three numbers, 0..1 scale")
    fed.add_argument("--std", nargs="+", metavar="S", help="one or three numbers, 0..1 scale")
    fed.add_argument(
        "--resolution", type=resolution, metavar="PIXELS", help="240, or height x width as 240x320"
    )
    fed.add_argument(
        "--crop", type=float, metavar="FRACTION", help="part of the short side kept: 0.875"
    )
    fed.add_argument("--interpolation", choices=INTERPOLATIONS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert every asked phi; a failure of one doesn't lose the others."""
    if args.list_weights:
        return _list_weights(as_json=args.json)
    jobs = _jobs(args)
    reports = _report_files(args, jobs)
    from effnet_edge.converters.convert import convert

    store = ModelStore()
    done: list[Conversion] = []
    status = 0
    for job in jobs:
        try:
            with _StepBar(job) as bar:
                result = convert(
                    job, store, output=args.output, mirror=args.mirror, progress=bar.step
                )
        except EffnetEdgeError as error:
            if len(jobs) == 1:
                raise
            note(f"effnet-edge: phi {job.phi}: {error}")
            status = error.exit_code
            continue
        done.append(result)
        for line in result.notes:
            note(f"note: {line}")
        for line in result.warnings:
            note(f"WARNING: {line}")
        if not args.json:
            _print_summary(result, in_store=args.output is None)
        if result.report is not None:
            if "" in (args.report or ()) and not args.json:
                print(f"\n{report_lines(result.report)}")
            for path in reports:
                save_report(result.report, path, result.metadata.name)
    if args.json:
        print_json([_conversion_json(result) for result in done])
    return status


def _jobs(args: argparse.Namespace) -> list[Job]:
    try:
        from effnet_edge.converters.convert import QuantizationSettings, plan
        from effnet_edge.converters.overrides import Overrides
    except ModuleNotFoundError as error:
        raise EffnetEdgeError(
            f"converting needs the package {error.name!r}: pip install 'effnet-edge[convert]'"
        ) from error
    settings = {
        "calibration": args.calibration,
        "samples": args.calibration_samples,
        "prefer": args.prefer,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if args.precision != "int8" and (given or args.report):
        raise UsageError("--calibration, --calibration-samples, --prefer and --report need --int8")
    try:
        mean = channel_values(args.mean) if args.mean else None
        std = channel_values(args.std) if args.std else None
    except ValueError as error:
        raise UsageError(f"--mean and --std are on the 0..1 scale: {error}") from None
    return plan(
        args.weights,
        args.phi,
        dialect=args.dialect,
        labels=args.labels,
        name=args.name,
        formats=FORMATS if args.format == "both" else (args.format,),
        overrides=Overrides(args.resolution, args.crop, args.interpolation, mean, std),
        precision=args.precision,
        quantization=QuantizationSettings(**given),
    )


def _report_files(args: argparse.Namespace, jobs: list[Job]) -> list[Path]:
    paths = [Path(name) for name in args.report or () if name]
    for path in paths:
        check_report_path(path)
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent} to write --report {path} to")
    if paths and len(jobs) > 1:
        raise UsageError("--report FILE is for one model: convert the phis one by one")
    return paths


class _StepBar:
    """A progress bar over the steps of one conversion, on a terminal only."""

    def __init__(self, job: Job) -> None:
        self._what = str(job.weights if isinstance(job.weights, Path) else job.weights.file)
        steps = ["fetching"] if not isinstance(job.weights, Path) else []
        steps += ["reading"]
        steps += ["preparing", "quantizing"] if job.precision == "int8" else []
        steps += ["writing"] * len(job.formats) + ["checking"]
        self._total = sum(_STEP_LENGTHS.get(step, 1) for step in steps)
        self._step, self._length, self._begun = "", 0, 0

    def __enter__(self) -> _StepBar:
        from tqdm import tqdm

        self._bar = tqdm(
            total=self._total,
            desc=self._what,
            bar_format="{desc}: {bar:20} {elapsed} {postfix}",
            file=sys.stderr,
            leave=False,
            disable=None,
        )
        return self

    def step(self, name: str, done: float) -> None:
        """Show that the step ``name`` is ``done``, 0 to 1."""
        if done == 0 or name.split()[0] != self._step:
            self._begun += self._length
            self._step = name.split()[0]
            self._length = _STEP_LENGTHS.get(self._step, 1)
        self._bar.n = self._begun + done * self._length
        self._bar.set_postfix_str(name)

    def __exit__(self, *exception: object) -> None:
        self._bar.close()


def _print_summary(result: Conversion, *, in_store: bool) -> None:
    metadata = result.metadata
    print(f"{metadata.name}  ({result.seconds:.1f} s)")
    print(
        f"  {millions(metadata.parameters)} parameters, {mac_count(metadata.macs)} MACs, "
        f"input {image_size(metadata.recipe.resolution)}, {metadata.classes} classes"
    )
    for path in result.files.values():
        print(f"  {megabytes(path.stat().st_size):>9}  {path}")
    if result.report is not None:
        from effnet_edge.converters.quantization_report import whole_model_text

        print(f"  {whole_model_text(result.report)}")
    model = metadata.name if in_store else shlex.quote(str(next(iter(result.files.values()))))
    print(f"  run it: effnet-edge predict PHOTO --model {model}")


def _conversion_json(result: Conversion) -> dict[str, Any]:
    return {
        **summary(result.metadata),
        "files": {
            model_format: {"path": str(path), "bytes": path.stat().st_size}
            for model_format, path in result.files.items()
        },
        "seconds": round(result.seconds, 3),
        "notes": list(result.notes),
        "warnings": list(result.warnings),
        **({} if result.report is None else {"report": result.report.to_json()}),
    }


def _list_weights(*, as_json: bool) -> int:
    if as_json:
        print_json(
            [
                {
                    "weights": row.name,
                    "family": row.family,
                    "phi": row.phi,
                    "file": row.file,
                    "url": row.url,
                    "package": row.package,
                    "top1": row.top1,
                    "resolution": row.recipe.resolution,
                }
                for row in KNOWN_WEIGHTS
            ]
        )
        return 0
    print(
        table(
            ("weights", "phi", "input", "top-1 %", "file"),
            [
                (
                    row.name,
                    str(row.phi),
                    image_size(row.recipe.resolution),
                    "-" if row.top1 is None else f"{row.top1:.2f}",
                    row.file,
                )
                for row in KNOWN_WEIGHTS
            ],
        )
    )
    return 0
