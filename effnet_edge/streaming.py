"""Labels for frames as they come, of a live source always for the newest frame."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from effnet_edge.errors import ImageError
from effnet_edge.frames import Frame, Source
from effnet_edge.images import ImageSource

if TYPE_CHECKING:
    from effnet_edge.classifier import Prediction

_SECONDS_TO_STOP = 2.0
_MOST_DAMAGED_IN_A_ROW = 100


@dataclass(frozen=True)
class LabelledFrame:
    """What the model sees in one frame of a stream.

    ``index`` counts the source's frames from 0, those that were dropped too; ``dropped`` is how
    many those are by now: skipped because a newer one was there, lost by the camera, or damaged.
    ``latency_ms`` is the time from taking the frame up to its predictions, ``age_ms`` from its
    capture to the predictions. ``name`` is the frame's file, if it has one.
    """

    predictions: list[Prediction]
    index: int
    age_ms: float
    latency_ms: float
    dropped: int
    name: str | None = None


class FrameStream(Iterator[LabelledFrame]):
    """The labels of a source's frames, see `EdgeClassifier.stream`.

    An iterator, and a context manager. It lets its source go at the end, on an error, on
    `close()`, and when nobody holds it any more. ``check`` raises if this process can't go on.
    """

    def __init__(
        self,
        source: Source,
        predict: Callable[[ImageSource], list[Prediction]],
        *,
        latest: bool,
        on_damaged: Callable[[ImageError], object] | None,
        check: Callable[[], object],
    ) -> None:
        self._check = check
        self._process = os.getpid()
        self._closed = self._released = False
        self._taking = threading.Lock()
        self._source = _Newest(source) if latest else source
        # Not a method: the generator would hold this object, which then nobody else could end.
        self._frames = _label(self._source, predict, on_damaged)

    def __next__(self) -> LabelledFrame:
        if self._closed:
            raise StopIteration
        try:
            self._check()
            with self._taking:
                frame = next(self._frames)
        except BaseException:
            self.close()
            raise
        if self._closed:  # by another thread, meanwhile
            self._release()
            raise StopIteration
        return frame

    def close(self) -> None:
        """End the stream and let its source go. Any number of times, and from any thread: one that
        waits for a frame, or labels one, gets no more."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        # A forked child has neither the thread nor the right to turn its parent's camera off.
        if os.getpid() != self._process:
            return
        if not self._taking.acquire(blocking=False):
            self._source.stop()  # who takes a frame finds the stream closed, and comes here
            return
        try:
            if not self._released:
                self._released = True
                self._frames.close()
                self._source.close()
        finally:
            self._taking.release()

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _label(
    source: Source,
    predict: Callable[[ImageSource], list[Prediction]],
    on_damaged: Callable[[ImageError], object] | None,
) -> Generator[LabelledFrame, None, None]:
    index, dropped, damaged = -1, 0, 0
    for frame in source.frames():
        if source.stopped:
            return
        started = time.monotonic()
        index += 1 + frame.lost
        dropped += frame.lost
        try:
            predictions = predict(frame.decode())
        except ImageError as error:
            damaged += 1
            dropped += 1
            if on_damaged is not None:
                on_damaged(error)
            elif not source.may_be_damaged or damaged == _MOST_DAMAGED_IN_A_ROW:
                raise
            continue
        damaged = 0
        done = time.monotonic()
        yield LabelledFrame(
            predictions,
            index,
            1e3 * (done - frame.captured),
            1e3 * (done - started),
            dropped,
            frame.name,
        )


class _Newest(Source):
    """A slot for one frame: a thread puts each there, in place of one that nobody took."""

    live = True

    def __init__(self, source: Source) -> None:
        self.may_be_damaged = source.may_be_damaged
        self._source = source
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._thread: threading.Thread | None = None

    def frames(self) -> Iterator[Frame]:
        """Wait for the newest frame, again and again, until the source ends or raises."""
        thread = threading.Thread(target=self._read, name="effnet-edge frames", daemon=True)
        thread.start()
        self._thread = thread
        while True:
            with self._changed:
                while self._frame is None and not self._ended and not self.stopped:
                    self._changed.wait()
                frame, self._frame = self._frame, None
            if frame is None:
                if self._error is not None and not self.stopped:
                    raise self._error
                return
            yield frame

    def stop(self) -> None:
        """End `frames` at once, and the thread as soon as the source can be stopped."""
        with self._changed:
            self.stopped = True
            self._changed.notify()
        self._source.stop()

    def close(self) -> None:
        """End the thread, which closes the source. One that waits for frames of the caller's own
        iterable can't be woken: it ends with the next."""
        self.stop()
        if self._thread is None:
            self._source.close()
        elif self._thread is not threading.current_thread():  # which may be collecting garbage
            self._thread.join(_SECONDS_TO_STOP)

    def _read(self) -> None:
        try:
            for frame in self._source.frames():
                with self._changed:
                    if self._frame is not None:
                        frame = replace(frame, lost=frame.lost + self._frame.lost + 1)
                    self._frame = frame
                    self._changed.notify()
        except BaseException as error:
            self._error = error
        finally:
            try:
                self._source.close()
            finally:
                with self._changed:
                    self._ended = True
                    self._changed.notify()
