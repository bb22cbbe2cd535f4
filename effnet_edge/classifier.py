"""`EdgeClassifier`: a model file and an engine, from image to labels."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from effnet_edge import seal
from effnet_edge.engines import (
    ENGINES,
    NATIVE,
    Engine,
    Session,
    available_engines,
    choose_engine,
    importing,
    named_engine,
    open_session,
    positive_int,
)
from effnet_edge.errors import (
    EffnetEdgeError,
    EngineError,
    ImageError,
    ModelError,
    ModelNotFoundError,
    StoreError,
    UsageError,
)
from effnet_edge.files import user_path
from effnet_edge.images import ImageSource, open_image
from effnet_edge.metadata import ModelMetadata
from effnet_edge.model_file import ModelFormat, check_self_contained, model_format, read_metadata
from effnet_edge.preprocessing import preprocess

if TYPE_CHECKING:
    from effnet_edge.frames import FrameSource
    from effnet_edge.selection.limits import Limits
    from effnet_edge.selection.selection import Selection
    from effnet_edge.store import ModelStore
    from effnet_edge.streaming import FrameStream

_LOADS = 4
_FEW = 16


@dataclass(frozen=True)
class Prediction:
    """One class of an image; ``probability`` is the softmax over all classes."""

    index: int
    label: str
    probability: float


class EdgeClassifier:
    """A loaded model that labels images. Make one with `EdgeClassifier.load`.

    May be used from several threads. After a fork, the child has to load its own.
    """

    def __init__(
        self, path: Path, metadata: ModelMetadata, engine: Engine, session: Session
    ) -> None:
        self._path = path
        self._metadata = metadata
        self._engine = engine
        self._session: Session | None = session
        self._process = os.getpid()
        self._selection: Selection | None = None
        self._recall: Callable[[], Selection] | None = None

    @classmethod
    def load(
        cls,
        name_or_path: str | os.PathLike[str],
        engine: str | None = None,
        threads: int | None = None,
    ) -> EdgeClassifier:
        """Load a model by its name in the store (``efficientnet-b2-fp32``) or from its file.

        ``engine`` is ``native`` (our own kernels, for int8 .onnx), ``onnxruntime``, ``litert`` or
        ``tflite-runtime``; by default the first of them that is installed and runs the file, and of
        a stored model the file that an installed engine runs.
        ``threads`` defaults to the fast cores that this process may use. A name without a folder
        and without ``.onnx`` or ``.tflite`` is looked for in the store first.

        Raises ModelNotFoundError; ModelError for a file that is damaged, was changed since it was
        written, or isn't one of ours; EngineError if the engine is missing or fails; UsageError
        for an unknown engine or one that doesn't run such a model, a bad thread count, or what is
        neither a name nor a path.
        """
        path = _find(name_or_path, engine)
        for _ in range(_LOADS):
            # The file is opened several times: all must have seen the same one.
            before = _identity(path)
            try:
                classifier = cls._load(path, engine, threads)
            except EffnetEdgeError:
                if _identity(path) == before:
                    raise
                continue
            if _identity(path) == before:
                return classifier
            classifier.close()
        raise ModelError(f"{path} was replaced while it was being loaded: load it again")

    @classmethod
    def auto(
        cls,
        budget_ms: float | None = None,
        memory_mb: float | None = None,
        *,
        percentile: float = 95,
        store: ModelStore | str | os.PathLike[str] | None = None,
        engine: str | None = None,
        threads: int | None = None,
        models: str | None = None,
        strict: bool = True,
        refresh: bool = False,
        seconds_limit: float = 120,
        progress: Callable[[str, float], object] | None = None,
    ) -> EdgeClassifier:
        """Load the most accurate model of the store that this device can afford.

        ``budget_ms`` is for one `predict` of a 640 x 480 array at ``percentile``, warmed up;
        ``memory_mb`` (10^6 bytes) for how far memory grows by loading and predicting, and what the
        device has free limits it in any case. Both are measured, for a few models that a cost
        model points at, in a process of their own, and remembered: only the first call takes its
        time, which is bounded by about ``seconds_limit``. ``refresh`` measures anew.

        ``store`` is a `ModelStore` or the path of its home; ``models`` restricts the choice to a
        name or a pattern (``flowers-*``), ``engine`` and ``threads`` to one way of running them.
        ``progress`` is told what is being measured and how much of that is done, 0 to 1.
        `selection` tells what was tried and why this one was chosen.

        Raises NothingFitsError, with a table of what was tried, if no model fits; with
        ``strict=False`` the nearest is loaded, with a warning. Raises ModelNotFoundError for a
        store without models, UsageError for limits that can't be meant and for models that have
        different labels, and EngineError where no engine is installed.
        """
        from effnet_edge.selection.asking import Question

        question = Question(
            budget_ms,
            memory_mb,
            percentile=percentile,
            store=store,
            engine=engine,
            threads=threads,
            models=models,
        )
        answer = None if refresh else question.recall()
        if answer is not None:
            # A file that was spoilt since: the choice is made again, and avoids it.
            with suppress(ModelError):
                classifier = cls.load(Path(answer["path"]), answer["engine"], answer["threads"])
                classifier._recall = partial(_recalled, answer, question.limits)
                return classifier
        from effnet_edge.selection.choose import choose

        selection = choose(
            question,
            strict=strict,
            refresh=refresh or answer is not None,
            seconds_limit=seconds_limit,
            progress=progress,
        )
        if selection.nearest:
            warnings.warn(selection.notes[-1], stacklevel=2)
        chosen = selection.chosen
        assert chosen is not None  # noqa: S101 - choose raises if nothing fits
        classifier = cls.load(chosen.path, chosen.engine, chosen.threads)
        classifier._selection = selection
        return classifier

    @classmethod
    def _load(cls, path: Path, engine: str | None, threads: int | None) -> EdgeClassifier:
        kind = model_format(path)
        try:
            metadata = read_metadata(path)
        except ModelError:
            seal.verify(path)  # that a file is cut short says more than what is missing then
            raise
        chosen = choose_engine(kind, engine, metadata.precision)
        with importing(chosen):  # hashing leaves the interpreter to other threads
            digest = seal.verify(path)
        if kind == "onnx" and chosen.name != NATIVE:  # which opens no other file
            check_self_contained(path)
        try:
            session = open_session(path, chosen, threads, digest)
        except EngineError:
            other = None if engine is not None else _engine_after(chosen, kind, metadata.precision)
            if other is None:
                raise
            check_self_contained(path)
            chosen, session = other, open_session(path, other, threads, digest)
        found = (session.input_shape, session.classes)
        described = (metadata.recipe.resolution, metadata.classes)
        if found != described:
            session.close()
            raise ModelError(
                f"{path} contradicts itself: it takes images of {found[0]} and has {found[1]} "
                f"classes, but describes itself with {described[0]} and {described[1]}"
            )
        return cls(path, metadata, chosen, session)

    @property
    def metadata(self) -> ModelMetadata:
        """What the model file says of itself."""
        return self._metadata

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each class, by index."""
        return self._metadata.labels

    @property
    def engine(self) -> str:
        """The name of the engine that runs the model."""
        return self._engine.name

    @property
    def threads(self) -> int:
        """How many threads the engine computes with."""
        return self._open_session().threads

    @property
    def path(self) -> Path:
        """The model's file."""
        return self._path

    @property
    def selection(self) -> Selection | None:
        """How `auto` chose this model; None for one that was loaded by name."""
        if self._selection is None and self._recall is not None:
            self._selection = self._recall()
        return self._selection

    def predict(self, image: ImageSource, top_k: int = 5) -> list[Prediction]:
        """Return the ``top_k`` most probable classes of one image, the most probable first.

        ``image`` is a path, bytes, an open binary file, a PIL image or a numpy array, see
        `effnet_edge.images.open_image`. A ``top_k`` above the number of classes gives all.

        Raises ImageError for an image that can't be read, UsageError for a ``top_k`` that isn't an
        integer from 1, ModelError for weights that give no finite logits, and EngineError if the
        engine fails or the classifier is closed.
        """
        top_k = positive_int("top_k", top_k)
        return self._top(self.logits(image), top_k)

    def predict_batch(
        self, images: Iterable[ImageSource], top_k: int = 5, batch_size: int = 1
    ) -> list[list[Prediction]]:
        """Return what `predict` returns for each of ``images``, which may be any iterable.

        ``batch_size`` images at a time are read and go through the engine together, so that
        memory doesn't grow with their number. On a CPU larger batches seldom gain anything.
        The ImageError of an image says which one it is, counted from 0.
        """
        top_k = positive_int("top_k", top_k)
        batch_size = min(positive_int("batch_size", batch_size), sys.maxsize)
        results: list[list[Prediction]] = []
        inputs = self._inputs(images)
        while batch := list(islice(inputs, batch_size)):
            results += [self._top(logits, top_k) for logits in self._run(np.stack(batch))]
        return results

    def stream(
        self,
        source: FrameSource,
        top_k: int = 5,
        *,
        latest: bool | None = None,
        on_damaged: Callable[[ImageError], object] | None = None,
    ) -> FrameStream:
        """Label frames as they come: ``for frame in classifier.stream(0): ...``, each a
        `effnet_edge.streaming.LabelledFrame`.

        ``source`` is a camera, by its number or path (Linux: ``0`` is ``/dev/video0``); a folder
        of images, in the order of their paths; a file, named pipe or open binary file of Motion
        JPEG; or any iterable of images. With ``latest`` a frame that isn't taken up before the
        next one is there is dropped, so that predictions are always of the newest frame and never
        fall behind. By default that is so for live sources, where frames come whether or not
        anybody looks: cameras, pipes, and iterables without a length, such as generators. A
        folder, a file or a list is labelled completely. Give ``latest=False`` with a generator of
        which every frame counts. With ``latest`` another thread reads the source.

        Of cameras and Motion JPEG, frames that can't be decoded are dropped too; of other sources
        they raise ImageError. ``on_damaged`` is told of either instead, and labelling goes on.
        Leaving the loop ends the stream and frees the camera; a stream that is kept in a variable
        ends with ``close()`` or as a context manager.

        Raises UsageError for what can give no frames, CameraError for a source that can't be
        opened, and what `predict` raises; then, as frames are read, also what the iterable raises.
        """
        top_k = positive_int("top_k", top_k)
        self._open_session()
        # Few programs need these.
        from effnet_edge.frames import open_source
        from effnet_edge.streaming import FrameStream

        opened = open_source(source, self._metadata.recipe.resize)
        return FrameStream(
            opened,
            lambda image: self._top(self.logits(image), top_k),
            latest=opened.live if latest is None else latest,
            on_damaged=on_damaged,
            check=self._open_session,
        )

    def logits(self, image: ImageSource) -> NDArray[np.float32]:
        """Return the logits of one image, float32 ``[classes]``. Raises as `predict` does."""
        self._open_session()
        pixels = preprocess(open_image(image), self._metadata.recipe)
        logits: NDArray[np.float32] = self._run(pixels[None])[0]
        return logits

    def close(self) -> None:
        """Free the model. Any number of times; what needs the model raises EngineError then."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def __enter__(self) -> EdgeClassifier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._session is not None else ", closed"
        return f"<EdgeClassifier {self._metadata.name} on {self.engine}{state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an EdgeClassifier can't be pickled or copied: pass its path and load it there, "
            f"EdgeClassifier.load({str(self._path)!r})"
        )

    def _open_session(self) -> Session:
        session = self._session
        if session is None:
            raise EngineError("this classifier is closed: load it again")
        if os.getpid() != self._process:
            # The engine's threads don't survive a fork, and a run would wait for them for ever.
            raise EngineError(
                "this classifier was loaded before the process forked: load it in each process"
            )
        return session

    def _run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = self._open_session().run(batch)
        if not np.isfinite(logits).all():
            raise ModelError(
                f"{self._path} gives values that aren't finite: its weights are broken, "
                "convert the model again"
            )
        return logits

    def _inputs(self, images: Iterable[ImageSource]) -> Iterator[NDArray[np.uint8]]:
        one_image = isinstance(
            images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)
        )
        one_image = one_image or hasattr(images, "read")
        if one_image or (isinstance(images, np.ndarray) and images.ndim != 4):
            raise UsageError("predict_batch takes several images: give a list, or call predict")
        if not isinstance(images, Iterable):
            raise UsageError(f"predict_batch takes several images, not {type(images).__name__}")
        for index, image in enumerate(images):
            try:
                yield preprocess(open_image(image), self._metadata.recipe)
            except ImageError as error:
                raise ImageError(f"image {index}: {error}") from error

    def _top(self, logits: NDArray[np.float32], top_k: int) -> list[Prediction]:
        order = _largest(logits, top_k)
        powers = np.exp(logits.astype(np.float64) - float(logits.max()))
        total = powers.sum()
        return [Prediction(int(i), self.labels[i], float(powers[i] / total)) for i in order]


def _engine_after(refused: Engine, model_format: ModelFormat, precision: str) -> Engine | None:
    """An engine for what our kernels refuse, numbers that they can't compute with perhaps."""
    if refused.name != NATIVE:
        return None
    engines = available_engines()
    runs = (each for each in engines if each != refused and each.runs(model_format, precision))
    return next(runs, None)


def _recalled(answer: dict[str, Any], limits: Limits) -> Selection:
    # Few ask, so that importing this waits for them.
    from effnet_edge.selection.selection import Selection

    return Selection.recalled(answer, limits)


def _largest(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """The indices of the ``count`` largest of finite values, largest first, equal ones by index."""
    if count > _FEW:
        return np.argsort(-logits, kind="stable")[:count]
    # Several times faster than sorting a thousand classes to see five of them.
    remaining = logits.copy()
    indices = np.empty(min(count, len(logits)), np.intp)
    for place in range(len(indices)):
        indices[place] = best = remaining.argmax()
        remaining[best] = -np.inf
    return indices


def _identity(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced or rewritten; None for one that can't be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _find(name_or_path: str | os.PathLike[str], engine: str | None) -> Path:
    text = os.fspath(name_or_path) if isinstance(name_or_path, os.PathLike) else name_or_path
    if not isinstance(text, str):
        raise UsageError(f"give a model's name or its file's path, not {type(text).__name__}")
    if not text:
        raise UsageError("the model's name is empty: give a name of the store or a file's path")
    if engine is not None:
        named_engine(engine)
    path = user_path(text)
    is_name = isinstance(name_or_path, str) and path.suffix not in (".onnx", ".tflite")
    if not is_name or path.name != text:
        return _existing(path)
    try:
        return _stored(text, engine)
    except (ModelNotFoundError, StoreError, UsageError):
        if os.path.isfile(path):  # noqa: PTH113 - unlike pathlib's, false for impossible names
            return path
        raise


def _existing(path: Path) -> Path:
    if os.path.isdir(path):  # noqa: PTH112 - as above
        raise ModelNotFoundError(f"{path} is a folder: give the model file in it")
    if not os.path.exists(path):  # noqa: PTH110 - as above
        raise ModelNotFoundError(f"there is no model file {path}")
    return path


def _stored(name: str, engine: str | None) -> Path:
    """The file of a stored model that can be run, or else one of another format, so that the error
    is about the missing engine."""
    from effnet_edge.store import ModelStore

    store = ModelStore()
    if engine is not None:
        return store.find(name, (named_engine(engine).format,))
    engines = available_engines()
    path = store.find(name, _formats([*engines, *ENGINES.values()]))
    precision = read_metadata(path).precision
    with suppress(ModelNotFoundError):
        return store.find(name, _formats([each for each in engines if each.computes(precision)]))
    return path


def _formats(engines: Iterable[Engine]) -> tuple[ModelFormat, ...]:
    return tuple(dict.fromkeys(engine.format for engine in engines))
