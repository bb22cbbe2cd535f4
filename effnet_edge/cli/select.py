"""``effnet-edge select``: the largest model that a device can afford."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from effnet_edge.cli.arguments import positive_int
from effnet_edge.cli.output import note, print_json, table
from effnet_edge.engines import ENGINES
from effnet_edge.errors import UsageError
from effnet_edge.selection.selection import NothingFitsError, Selection, describe
from effnet_edge.tables import counted

_DESCRIPTION = """\
Find the most accurate model of the store that this device can afford, by measuring.

  effnet-edge select --budget-ms 30                    latency of one prediction, 95th percentile
  effnet-edge select --budget-ms 30 --memory-mb 200    and how far memory may grow
  effnet-edge select --budget-ms 30 --all              every engine and thread count
  effnet-edge select --budget-ms 30 --device pi5       plan for a board that isn't here
  effnet-edge select --list-devices

A few models are measured, which takes seconds on a fast machine and up to two minutes on a small
one. What was measured is remembered, so the second time is quick, and so is
EdgeClassifier.auto(budget_ms=30), which makes the same choice.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the ``effnet-edge`` parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "select",
        help="find the best model for a latency and memory budget",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_limits(parser)
    parser.add_argument("--models", metavar="PATTERN", help="only models of this name or pattern")
    parser.add_argument("--engine", choices=tuple(ENGINES), help="default: all that are installed")
    parser.add_argument(
        "--threads", type=positive_int, help="default: what is fastest on the fast cores"
    )
    parser.add_argument("--refresh", action="store_true", help="measure anew")
    parser.add_argument(
        "--seconds",
        type=positive_int,
        help="measure no longer than this (default: 120)",
    )
    parser.add_argument("--all", action="store_true", help="show every way of running every model")
    parser.add_argument("--json", action="store_true", help="print JSON")
    elsewhere = parser.add_argument_group("a device that isn't here")
    elsewhere.add_argument(
        "--device",
        metavar="NAME_OR_FILE",
        help="estimate for this device instead of measuring: a name that --list-devices shows, or "
        "a profile that 'effnet-edge bench --save-profile' wrote",
    )
    elsewhere.add_argument("--list-devices", action="store_true", help="list the known devices")
    parser.set_defaults(run=run)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a prediction may cost."""
    group = parser.add_argument_group("what a prediction may cost")
    group.add_argument(
        "--budget-ms", type=float, metavar="MS", help="latency from image array to labels"
    )
    group.add_argument(
        "--memory-mb",
        type=float,
        metavar="MB",
        help="growth of memory by loading and predicting (default: what is free)",
    )
    group.add_argument(
        "--percentile", type=float, default=95, help="which latency must keep to it (default: 95)"
    )
    group.add_argument(
        "--nearest", action="store_true", help="if nothing fits, take what exceeds the limits least"
    )


def run(args: argparse.Namespace) -> int:
    """Choose, and show the table."""
    if args.list_devices:
        return _list_devices(as_json=args.json)
    if args.device is not None:
        return _plan(args)
    from effnet_edge.selection.asking import Question
    from effnet_edge.selection.choose import SECONDS_LIMIT, choose

    question = Question(
        args.budget_ms,
        args.memory_mb,
        percentile=args.percentile,
        engine=args.engine,
        threads=args.threads,
        models=args.models,
    )
    try:
        with SelectionProgress() as progress:
            selection = choose(
                question,
                strict=not args.nearest,
                refresh=args.refresh,
                seconds_limit=args.seconds or SECONDS_LIMIT,
                progress=progress.tell,
            )
    except NothingFitsError as error:
        if args.json:
            print_json(_json(error.selection))
        elif args.all:
            print(error.selection.text(error.selection.rows))
        raise
    if args.json:
        print_json(_json(selection))
    else:
        _show(selection, every=args.all)
    return 0


def _list_devices(*, as_json: bool) -> int:
    from effnet_edge.selection.planning import device_rows
    from effnet_edge.selection.profile_file import profile_json
    from effnet_edge.selection.profiles import profiles

    known = profiles()
    if as_json:
        print_json([json.loads(profile_json(profile)) for profile in known])
    else:
        print(table(("device", "what it is", "CPU", "known latencies"), device_rows(known)))
    return 0


def _plan(args: argparse.Namespace) -> int:
    from effnet_edge.selection import planning
    from effnet_edge.selection.profiles import find_profile

    for option in ("models", "refresh", "nearest", "all", "seconds"):
        if getattr(args, option):
            raise UsageError(f"--{option} is about this device: leave it out with --device")
    plan = planning.plan(
        find_profile(args.device),
        args.budget_ms,
        args.memory_mb,
        percentile=args.percentile,
        engine=args.engine,
        threads=args.threads,
    )
    if args.json:
        print_json(planning.to_json(plan))
    else:
        within = describe(plan.limits, "half of its memory")
        print(f"{plan.profile.title}, within {within}, by estimate:\n")
        print(table(planning.header(plan), planning.rows(plan)))
        print("\n" + "\n".join(planning.summary(plan)))
    return 1 if plan.recommended is None and plan.ambitious is None else 0


class SelectionProgress:
    """Says on a terminal what is being measured."""

    def __enter__(self) -> SelectionProgress:
        from tqdm import tqdm

        self._bar = tqdm(
            total=1.0,
            bar_format="{desc}: {bar:20} {elapsed}",
            file=sys.stderr,
            leave=False,
            disable=None,
        )
        return self

    def tell(self, step: str, part: float) -> None:
        """Show the step and how much of it is done, 0 to 1."""
        self._bar.n = part
        self._bar.set_description_str(step)

    def __exit__(self, *exception: object) -> None:
        self._bar.close()


def _show(selection: Selection, *, every: bool) -> None:
    print(f"Within {describe(selection.limits)}:\n")
    print(selection.text(selection.rows if every else None))
    if any(not row.top1_published for row in selection.rows):
        print("\n?: weights of your own; top-1 is that of the architecture's published weights")
    for text in selection.notes:
        note(f"note: {text}")
    chosen = selection.chosen
    if chosen is not None:
        how = (
            f"{selection.measured_now} measured in {selection.seconds:.0f} s"
            if selection.measured_now
            else "from earlier measurements (--refresh measures anew)"
        )
        threads = counted(chosen.threads, "thread")
        print(f"\n{chosen.model} on {chosen.engine} with {threads}, {how}.")
        print(
            f"Run it: effnet-edge predict PHOTO --model {chosen.model} --engine {chosen.engine} "
            f"--threads {chosen.threads}"
        )


def _json(selection: Selection) -> dict[str, Any]:
    chosen = selection.chosen
    name = None if chosen is None else chosen.model
    return {"chosen": name, **selection.to_json()}
