"""The ``effnet-edge`` command."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from effnet_edge import __version__
from effnet_edge.cli import bench, convert, demo, device, evaluate, models, predict, scale, select
from effnet_edge.cli.output import note
from effnet_edge.errors import EffnetEdgeError

INTERRUPTED = 130
"""The shell's exit status for a command ended by Ctrl-C (128 + SIGINT)."""

_DESCRIPTION = """\
EfficientNet at the edge: convert trained weights, run them on the device.

  effnet-edge demo                              classify a photo, right now
  effnet-edge convert --weights lite --phi 0    make a model
  effnet-edge predict cat.jpg                   label a photo
"""

_EPILOG = """\
exit status: 0 done, 1 something failed, 2 wrong usage, 130 interrupted
environment: EFFNET_EDGE_HOME    where models and downloaded weights live
             EFFNET_EDGE_MIRROR  where to download known weights from instead
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status (see ``effnet-edge --help``)."""
    _prepare_streams()
    # Pillow warns, with a line of its own source, of images that open_image takes on purpose.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except EffnetEdgeError as error:
        note(f"effnet-edge: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        note("effnet-edge: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`| head`). Python would complain once more at exit.
        _discard_output()
        return 1
    except OSError as error:
        _discard_output()
        note(f"effnet-edge: {error}")
        return 1


def _prepare_streams() -> None:
    """Make printing safe: streams that are closed, file names that the terminal can't show."""
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BytesIO())
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="effnet-edge",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"effnet-edge {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (convert, select, predict, evaluate, models, bench, device, scale, demo):
        command.add_parser(commands)
    return parser
