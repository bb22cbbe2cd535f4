"""``effnet-edge bench``: how fast models are on this device, and whether that changed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

from effnet_edge.cli.arguments import (
    at_least,
    name_list,
    phi_list,
    positive_int,
    positive_int_list,
)
from effnet_edge.cli.output import note
from effnet_edge.engines import ENGINES
from effnet_edge.errors import BenchmarkError, EffnetEdgeError, UsageError
from effnet_edge.files import atomic_write, user_path
from effnet_edge.metadata import Precision

if TYPE_CHECKING:
    from pathlib import Path

    from effnet_edge.bench.cells import Wanted
    from effnet_edge.bench.comparison import Comparison
    from effnet_edge.bench.results import Session
    from effnet_edge.bench.running import Benchmark

_DESCRIPTION = """\
Measure models on this device: latency of a whole prediction, load time, memory, heat.

  effnet-edge bench                                 the whole store, on all installed engines
  effnet-edge bench --phi 0-7 --html report.html    B0..B7; a page with charts
  effnet-edge bench --lite --precision int8 --threads 1,2,4 --json today.json
  effnet-edge bench --models 'flowers-*' b0.onnx    your own models, by name, pattern or file
  effnet-edge bench --compare before.json           what became faster or slower, and is it chance
  effnet-edge bench --phi 2 --duration 300          five minutes each: what heat does
  effnet-edge bench --merge pi4.json pi5.json --html boards.html
                                                    several boards on one page
"""

_STANDARD_OUTPUT = "-"
_INTERRUPTED = 130
_PRECISIONS = get_args(Precision)


def add_parser(commands: Any) -> None:
    """Add the command to the ``effnet-edge`` parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="measure models on this device",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what to measure (default: every model of the store)")
    what.add_argument("--phi", type=phi_list, default=(), help="of the family: 2, 0,2,4 or 0-7")
    what.add_argument("--lite", action="store_true", help="the Lite family instead of B0..B7")
    what.add_argument(
        "--precision",
        type=name_list(_PRECISIONS),
        default=(),
        metavar="P,...",
        help=f"only these of {', '.join(_PRECISIONS)}",
    )
    what.add_argument(
        "--models",
        nargs="+",
        default=(),
        metavar="MODEL",
        help="names that 'effnet-edge models list' shows, patterns of them, or model files",
    )
    what.add_argument(
        "--engine",
        type=name_list(tuple(ENGINES)),
        default=(),
        metavar="E,...",
        help=f"of {', '.join(ENGINES)} (default: all installed)",
    )
    what.add_argument(
        "--threads",
        type=positive_int_list,
        metavar="N,...",
        help="numbers of threads (default: the fast cores that this process may use)",
    )
    how = parser.add_argument_group("how to measure")
    how.add_argument(
        "--rounds",
        type=positive_int,
        metavar="N",
        help="measure everything N times, each time in fresh processes (default: 3)",
    )
    how.add_argument(
        "--seconds",
        type=at_least(0.01),
        metavar="S",
        help="how long a cell runs in each round, after warming up (default: 2)",
    )
    how.add_argument(
        "--duration",
        type=at_least(1),
        metavar="S",
        help="run each cell once, for so many seconds without a pause, to see what heat does",
    )
    out = parser.add_argument_group("what to do with the results, besides the table")
    out.add_argument("--json", metavar="FILE", help="write everything raw (-: standard output)")
    out.add_argument("--csv", metavar="FILE", help="write a line a cell (-: standard output)")
    out.add_argument("--html", metavar="FILE", help="write a page with charts")
    out.add_argument(
        "--save-profile",
        metavar="NAME_OR_FILE",
        help=("write a measured profile of this device, for 'effnet-edge select --device'"),
    )
    out.add_argument("--compare", metavar="OLD.json", help="with what an earlier --json wrote")
    out.add_argument(
        "--fail-on-regression",
        type=at_least(0),
        metavar="PERCENT",
        help="exit with 1 if a cell became slower by more than this, and not by chance, or is "
        "measured no more",
    )
    out.add_argument(
        "--merge",
        nargs="+",
        metavar="JSON",
        help="measure nothing: show what earlier runs, of any boards, wrote by --json",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, or read what was measured; then show it."""
    _check(args)
    from effnet_edge.bench import document

    if args.merge:
        sessions = [document.read(user_path(name)) for name in args.merge]
        _show(args, sessions, None)
        return 0
    # Read first: a mistake in its name shouldn't cost an hour.
    old = None if args.compare is None else document.read(user_path(args.compare))
    if old is not None and args.fail_on_regression is not None:
        _check_rounds(old, args.compare)
    session = _measured(args)
    comparison = None
    problem: EffnetEdgeError | None = None
    if old is not None:
        from effnet_edge.bench.comparison import compare

        try:
            comparison = compare(old, session)
        except BenchmarkError as error:  # the results are still to be shown
            problem = error
    _show(args, [session], comparison)
    if args.save_profile is not None:
        try:
            _save_profile(args.save_profile, session)
        except BenchmarkError as error:
            problem = problem or error
    if not session.complete:
        note("effnet-edge: interrupted")
        return _INTERRUPTED
    if problem is not None:
        raise problem
    return _status(args, session, comparison)


def _check(args: argparse.Namespace) -> None:
    from effnet_edge.bench.results import MOST_ROUNDS

    if args.merge:
        given = [
            f"--{name.replace('_', '-')}"
            for name in (
                *("phi", "lite", "precision", "models", "engine", "threads", "rounds", "seconds"),
                *("duration", "compare", "fail_on_regression", "save_profile", "json"),
            )
            if getattr(args, name) not in (None, False, ())
        ]
        if given:
            raise UsageError(f"--merge shows what was measured: {given[0]} doesn't go with it")
    if args.duration is not None and (args.rounds or args.seconds):
        raise UsageError("--duration is one long round: leave --rounds and --seconds out")
    if args.fail_on_regression is not None and args.compare is None:
        raise UsageError("--fail-on-regression needs --compare OLD.json")
    if args.fail_on_regression is not None and (args.duration or args.rounds == 1):
        raise UsageError(
            "--fail-on-regression needs two rounds at least to tell a change from chance: leave "
            f"{'--duration' if args.duration else '--rounds 1'} out"
        )
    if args.rounds is not None and args.rounds > MOST_ROUNDS:
        raise UsageError(f"--rounds {args.rounds}: at most {MOST_ROUNDS}")
    _check_targets(args)


def _check_targets(args: argparse.Namespace) -> None:
    """Refuse files that can't be written before an hour is spent on what they were to hold."""
    if args.json == args.csv == _STANDARD_OUTPUT:
        raise UsageError("--json - and --csv - would mix: write one of them to a file")
    for name in ("json", "csv", "html"):
        target = getattr(args, name)
        if target is None or (target == _STANDARD_OUTPUT and name != "html"):
            continue
        path = user_path(target)
        if not target:
            raise UsageError(f"--{name} {target!r}: give the name of a file")
        _check_file(name, path)
    if args.save_profile is not None:
        from effnet_edge.selection.profiles import profile_path, user_folder

        path = profile_path(args.save_profile)
        if path.parent != user_folder():  # which is made when needed
            _check_file("save-profile", path)


def _check_file(option: str, path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"--{option} {path}: give the name of a file")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--{option} {path}: there is no folder {path.absolute().parent}")


def _check_rounds(old: Session, name: str) -> None:
    from effnet_edge.bench.comparison import LEAST_ROUNDS

    if max((len(cell.rounds) for cell in old.cells), default=0) < LEAST_ROUNDS:
        raise BenchmarkError(
            f"{name} has too few rounds to tell a change from chance, so --fail-on-regression "
            "could never fail: measure it again with --rounds 3 or more"
        )


def _wanted(args: argparse.Namespace) -> Wanted:
    from effnet_edge import device
    from effnet_edge.bench.cells import Wanted

    return Wanted(
        threads=args.threads or (device.default_threads(),),
        phis=args.phi,
        lite=args.lite,
        precisions=args.precision,
        models=tuple(args.models),
        engines=args.engine,
    )


def _measured(args: argparse.Namespace) -> Session:
    """Measure what was asked for; after Ctrl-C what there is until then."""
    from effnet_edge.bench.cells import plan_cells
    from effnet_edge.bench.running import DEFAULT_ROUNDS, DEFAULT_SECONDS, Benchmark, Settings
    from effnet_edge.store import ModelStore

    store = ModelStore()
    cells = plan_cells(_wanted(args), store)
    if not cells:
        raise BenchmarkError(
            f"there is nothing to measure in {store.folder}: 'effnet-edge models list' shows what "
            "is there, and 'effnet-edge convert --phi 0 --int8' makes a model"
        )
    settings = Settings(
        rounds=1 if args.duration else args.rounds or DEFAULT_ROUNDS,
        seconds=args.seconds or DEFAULT_SECONDS,
        duration_s=args.duration,
    )
    benchmark = Benchmark(cells, settings)
    with suppress(KeyboardInterrupt):  # what took an hour isn't lost
        _run_with_progress(benchmark)
    return benchmark.session()


def _run_with_progress(benchmark: Benchmark) -> None:
    from tqdm import tqdm

    with tqdm(
        total=benchmark.measurements,
        file=sys.stderr,
        leave=False,
        disable=None,
        bar_format="{desc} {bar} {percentage:3.0f} % [{elapsed}, {remaining} left]",
    ) as bar:

        def advance(what: str, part: float) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(part)

        benchmark.run(advance)


def _show(
    args: argparse.Namespace, sessions: Sequence[Session], comparison: Comparison | None
) -> None:
    """Print the table unless standard output is for data, and write the files."""
    from effnet_edge.bench import document
    from effnet_edge.bench.spreadsheet import to_csv
    from effnet_edge.cli.bench_report import print_comparison, print_session

    if _STANDARD_OUTPUT not in (args.json, args.csv):
        for number, session in enumerate(sessions):
            if number:
                print()
            print_session(session)
        if comparison is not None:
            print_comparison(comparison)
    files = [name for name in (args.json, args.csv, args.html) if name is not None]
    measured = any(cell.rounds for session in sessions for cell in session.cells)
    if files and not measured and not sessions[0].complete:
        # Interrupted too early: what an earlier run wrote is worth more.
        note(f"nothing was measured, so {' and '.join(files)} stays as it is")
        return
    if args.json is not None:
        _write(args.json, document.to_json(sessions[0]))
    if args.csv is not None:
        _write(args.csv, to_csv(sessions))
    if args.html is not None:
        from effnet_edge.bench.page import page

        _write(args.html, page(sessions, comparison))


def _write(target: str, text: str) -> None:
    if target == _STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    path = user_path(target)
    atomic_write(path, text.encode())
    note(f"wrote {path}")


def _status(args: argparse.Namespace, session: Session, comparison: Comparison | None) -> int:
    """0; or 1 for a regression, or a cell that failed otherwise than for want of memory, which
    is a finding like any other."""
    if comparison is not None and args.fail_on_regression is not None:
        faults = _faults(comparison, args.fail_on_regression, _wanted(args))
        for fault in faults:
            note(f"effnet-edge: {fault}")
        if faults:
            return 1
    failed = any(cell.error is not None and cell.reason != "memory" for cell in session.cells)
    return 1 if failed or not session.measured else 0


def _faults(comparison: Comparison, percent: float, wanted: Wanted) -> list[str]:
    """What a check for regressions must not let pass, in words: a cell that can't be judged has
    not stood the test."""
    from effnet_edge.bench import words
    from effnet_edge.bench.cells import asks_for

    return [
        *(
            f"{words.title(change.cell)} became slower by {100 * (change.ratio - 1):.1f} %"
            for change in comparison.regressions(percent)
        ),
        *(
            f"{words.title(change.cell)}: one round, then or now, can't tell a change from chance"
            for change in comparison.untold
        ),
        *(
            f"{words.title(cell)} was measured then and is not measured now"
            for cell in comparison.only_old
            if asks_for(wanted, cell)
        ),
    ]


def _save_profile(target: str, session: Session) -> None:
    from effnet_edge.bench.profile import save_profile

    note(f"wrote {save_profile(target, session)}")
