"""``effnet-edge predict --stream``: labels of frames as they come."""

from __future__ import annotations

import argparse
import json
import os
import threading
from typing import IO, Any

from effnet_edge.classifier import EdgeClassifier
from effnet_edge.cli.output import note
from effnet_edge.errors import CameraError, ImageError
from effnet_edge.frame_rate import FrameRate
from effnet_edge.streaming import FrameStream, LabelledFrame

STANDARD_INPUT = "-"

_SECONDS_BETWEEN_REPORTS = 5.0


def label_stream(classifier: EdgeClassifier, args: argparse.Namespace) -> int:
    """Label frames until the source ends, or ``--frames`` or ``--seconds`` are over.

    As text, a file gets a line, and a camera's frame gets one if it shows another class than the
    one before. As JSON each frame is an object on a line of its own. How fast it goes is told on
    stderr, every few seconds and in the end.
    """
    unreadable = []

    def tell(error: ImageError) -> None:
        unreadable.append(error)
        note(f"effnet-edge: {error}")

    is_folder = os.path.isdir(args.stream)  # noqa: PTH112 - unlike pathlib's, false for any text
    stream = classifier.stream(
        _standard_input() if args.stream == STANDARD_INPUT else args.stream,
        args.top_k or 1,
        on_damaged=tell if is_folder else None,
    )
    with stream:
        _follow(stream, args)
    return ImageError.exit_code if unreadable else 0


def _follow(stream: FrameStream, args: argparse.Namespace) -> None:
    rate = FrameRate()
    next_report = _SECONDS_BETWEEN_REPORTS
    shown: int | None = None
    # Not a look at the clock after each frame: of a silent camera there is none.
    end = threading.Timer(min(args.seconds or 0.0, threading.TIMEOUT_MAX), stream.close)
    end.daemon = True
    if args.seconds is not None:
        end.start()
    try:
        for frame in stream:
            rate.add(frame)
            best = frame.predictions[0].index
            if args.json:
                print(json.dumps(_as_json(frame)), flush=True)
            elif frame.name is not None or best != shown:
                print(_line(frame, rate.seconds), flush=True)
            shown = best
            if rate.labelled == args.frames:
                return
            if rate.seconds >= next_report:
                next_report = rate.seconds + _SECONDS_BETWEEN_REPORTS
                note(str(rate.report()))
    finally:  # also on Ctrl-C, which is how most streams end
        end.cancel()
        note(str(rate.report()))


def _as_json(frame: LabelledFrame) -> dict[str, Any]:
    named = {} if frame.name is None else {"image": frame.name}
    return {
        "frame": frame.index,
        **named,
        "age_ms": round(frame.age_ms, 3),
        "latency_ms": round(frame.latency_ms, 3),
        "dropped": frame.dropped,
        "predictions": [vars(prediction) for prediction in frame.predictions],
    }


def _line(frame: LabelledFrame, seconds: float) -> str:
    labels = ", ".join(
        f"{prediction.probability:.1%} {prediction.label} ({prediction.index})"
        for prediction in frame.predictions
    )
    return f"{f'{seconds:8.1f} s' if frame.name is None else frame.name}  {labels}"


def _standard_input() -> IO[bytes]:
    try:
        # Not sys.stdin: a thread that waits in its buffer would keep Python from ending.
        return open(0, "rb", buffering=0, closefd=False)
    except OSError as error:
        raise CameraError(f"standard input can't be read: {error.strerror or error}") from error
