"""Streams: always the newest of live frames, all of recorded ones, and nothing left behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import networks
import numpy as np
import pytest
from fake_camera import FakeCamera
from PIL import Image
from small_models import write_small_models

from effnet_edge import EdgeClassifier, camera
from effnet_edge.errors import CameraError, EngineError, ImageError, UsageError
from effnet_edge.frame_rate import FrameRate
from effnet_edge.frames import Frame, Source, open_source
from effnet_edge.streaming import LabelledFrame

PHOTOS = networks.photos(6, (60, 80))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_small_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=["onnx", "tflite"])
def classifier(request, models):
    with EdgeClassifier.load(models[request.param], threads=1) as classifier:
        yield classifier


@pytest.fixture
def one(models):
    with EdgeClassifier.load(models["onnx"], threads=1) as classifier:
        yield classifier


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and "effnet" in t.name]
    assert not left


def jpeg(photo, quality=90) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=quality)
    return file.getvalue()


class Baton:
    """A live source whose frames come exactly when the test says so."""

    def __init__(self) -> None:
        self.wanted = threading.Semaphore(0)
        self.given = threading.Semaphore(0)
        self.running = True

    def __iter__(self):
        for index in range(10**6):
            self.given.release()  # the frame before has been taken over
            self.wanted.acquire()
            if not self.running:
                break
            yield PHOTOS[index % len(PHOTOS)]

    def push(self, count=1) -> None:
        for _ in range(count):
            self.wanted.release()
            self.given.acquire()

    def first(self, stream):
        """What the stream makes of the first frame, which has to come from elsewhere meanwhile."""
        pushing = threading.Thread(target=lambda: (self.given.acquire(), self.push()))
        pushing.start()
        frame = next(stream)
        pushing.join()
        return frame

    def end(self) -> None:
        self.running = False
        self.wanted.release()


# Recorded frames


def test_every_frame_of_a_list_is_labelled_as_predict_does(classifier):
    frames = list(classifier.stream(list(PHOTOS), top_k=3))
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.dropped for frame in frames] == [0] * 6
    for frame, photo in zip(frames, PHOTOS, strict=True):
        expected = classifier.predict(photo, top_k=3)
        assert [p.index for p in frame.predictions] == [p.index for p in expected]
        assert frame.age_ms >= frame.latency_ms > 0
        assert frame.name is None


def test_an_array_of_frames_is_recorded_too(one):
    assert len(list(one.stream(PHOTOS))) == 6


def test_a_folder_is_labelled_in_the_order_of_its_paths(one, tmp_path):
    for name, photo in zip(("b/2.png", "a/9.png", "a/10.jpg", "c.png"), PHOTOS, strict=False):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(photo).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")
    for source in (tmp_path, str(tmp_path)):
        frames = list(one.stream(source))
        names = [Path(frame.name).relative_to(tmp_path).as_posix() for frame in frames]
        assert names == ["a/10.jpg", "a/9.png", "b/2.png", "c.png"]
        assert frames[-1].dropped == 0
        assert frames[3].predictions == one.predict(tmp_path / "c.png")


def test_a_file_and_bytes_of_motion_jpeg_are_recorded(one, tmp_path):
    images = [jpeg(photo) for photo in PHOTOS]
    path = tmp_path / "film.mjpeg"
    path.write_bytes(b"".join(images))
    expected = [one.predict(image) for image in images]
    assert [frame.predictions for frame in one.stream(path)] == expected
    with path.open("rb") as file:
        assert [frame.predictions for frame in one.stream(file)] == expected
        assert not file.closed
    memory = io.BytesIO(path.read_bytes())
    assert [frame.predictions for frame in one.stream(memory)] == expected


def test_a_generator_may_be_said_to_be_recorded(one):
    ready = []

    def frames():
        for photo in PHOTOS:
            ready.append(1)
            yield photo

    seen = [(len(ready), frame.index) for frame in one.stream(frames(), latest=False)]
    assert seen == [(index + 1, index) for index in range(6)]


# Live frames


def test_of_live_frames_the_newest_is_labelled_and_the_others_are_counted(one):
    baton = Baton()
    stream = one.stream(iter(baton))
    with closing(stream):
        first = baton.first(stream)
        assert (first.index, first.dropped) == (0, 0)
        baton.push(5)  # while nobody looks
        frame = next(stream)
        assert (frame.index, frame.dropped) == (5, 4)
        assert frame.predictions == one.predict(PHOTOS[5])
        baton.push(1)
        frame = next(stream)
        assert (frame.index, frame.dropped) == (6, 4)
        baton.push(3)
        baton.end()
        last = next(stream)  # the last frame isn't lost
        assert (last.index, last.dropped) == (9, 6)
        assert list(stream) == []


def test_the_age_of_a_label_is_that_of_its_frame(one):
    baton = Baton()
    with closing(one.stream(iter(baton))) as stream:
        baton.first(stream)
        baton.push(1)
        time.sleep(0.1)
        frame = next(stream)
        assert frame.age_ms >= 100 and frame.latency_ms < frame.age_ms - 50
        baton.end()


def test_a_list_may_be_said_to_be_live(one):
    frames = list(one.stream(list(PHOTOS), latest=True))
    assert frames[-1].index == 5 and frames[-1].dropped + len(frames) == 6


def test_an_array_that_is_filled_again_and_again_is_not_mixed_up(one):
    """As OpenCV and picamera2 do it: the frame that waits must be the one that was given."""
    baton = Baton()
    buffer = np.empty_like(PHOTOS[0])

    def frames():
        for photo in iter(baton):
            buffer[:] = photo
            yield buffer
            buffer[:] = 0

    with closing(one.stream(frames())) as stream:
        assert baton.first(stream).predictions == one.predict(PHOTOS[0])
        baton.push(2)
        assert next(stream).predictions == one.predict(PHOTOS[2])
        baton.end()


# Motion JPEG from what isn't a plain file


class Decrypted(io.BufferedIOBase):
    """Like a response over HTTPS: what it gives isn't what its descriptor has."""

    def __init__(self, descriptor: int, pieces) -> None:
        self.descriptor = descriptor
        self.pieces = iter(pieces)

    def fileno(self) -> int:
        return self.descriptor

    def read1(self, size: int = -1) -> bytes:
        return next(self.pieces, b"")


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as outlet, os.fdopen(writing, "wb", 0) as inlet:
        yield outlet, inlet


def test_objects_that_have_a_descriptor_are_asked_themselves(one, pipe):
    outlet, inlet = pipe
    inlet.write(b"\x17\x03\x03 encrypted")
    inlet.close()
    images = [jpeg(photo) for photo in PHOTOS]
    source = open_source(Decrypted(outlet.fileno(), images))
    assert source.live
    assert [frame.decode() for frame in source.frames()] == images


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_silent_pipe_can_be_stopped_even_with_a_buffer(one, pipe, buffering):
    outlet, inlet = pipe
    inlet.write(jpeg(PHOTOS[0]))
    with (
        os.fdopen(outlet.fileno(), "rb", buffering, closefd=False) as file,
        closing(one.stream(file)) as stream,
    ):
        assert next(stream).predictions == one.predict(jpeg(PHOTOS[0]))


def test_descriptors_beyond_what_select_takes_are_read(one, pipe):
    outlet, inlet = pipe
    resource = pytest.importorskip("resource", reason="Windows has no such descriptors")
    high = 1100
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] <= high:
        pytest.skip("this process may not have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], high + 1), limits[1]))
    try:
        os.dup2(outlet.fileno(), high)
        inlet.write(jpeg(PHOTOS[0]))
        with os.fdopen(high, "rb", 0) as file, closing(one.stream(file)) as stream:
            assert next(stream).index == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# The end


def test_leaving_the_loop_ends_the_reader(one):
    given = []

    def frames():
        while True:
            time.sleep(0.001)
            given.append(1)
            yield PHOTOS[0]

    for frame in one.stream(frames()):
        if frame.index > 3:
            break
    del frame
    count = len(given)
    time.sleep(0.02)
    assert len(given) <= count + 1


class Opened(Source):
    """A source that remembers what was done with it."""

    def __init__(self, live: bool, images) -> None:
        self.live = live
        self.images = images
        self.closed = 0

    def frames(self):
        for image in self.images:
            assert not self.closed
            yield Frame(lambda image=image: image, time.monotonic())

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("latest", [False, True])
@pytest.mark.parametrize("how", ["end", "break", "close", "image", "consumer", "never"])
def test_the_source_is_closed_once_however_the_stream_ends(one, monkeypatch, latest, how):
    images = [PHOTOS[0]] * 3 + ([b"no image"] * 9 if how == "image" else [])
    opened = Opened(latest, images)
    monkeypatch.setattr("effnet_edge.frames.open_source", lambda *args: opened)
    stream = one.stream("anything", latest=latest)
    if how == "end":
        assert list(stream)
    elif how == "break":
        for _ in stream:
            break
    elif how == "close":
        next(stream)
        stream.close()
    elif how == "image":
        with pytest.raises(ImageError):
            list(stream)
    elif how == "consumer":
        with pytest.raises(KeyboardInterrupt):
            for _ in stream:
                raise KeyboardInterrupt
    elif how == "never":
        stream.close()
    del stream
    assert opened.closed == 1


@pytest.mark.parametrize("latest", [False, True])
def test_an_error_of_the_source_reaches_the_consumer(one, latest):
    class LensCapError(Exception):
        pass

    def frames():
        yield PHOTOS[0]
        raise LensCapError("the lens cap is on")

    stream = one.stream(frames(), latest=latest)
    next(stream)
    with pytest.raises(LensCapError, match="lens cap"):
        next(stream)


def test_an_iterable_that_never_gives_another_frame_does_not_hold_the_program(one, monkeypatch):
    monkeypatch.setattr("effnet_edge.streaming._SECONDS_TO_STOP", 0.05)
    baton = Baton()
    stream = one.stream(iter(baton))
    baton.first(stream)
    stream.close()  # while the reader waits in the iterable
    (reader,) = (thread for thread in threading.enumerate() if "effnet" in thread.name)
    baton.end()
    reader.join(10)


@pytest.mark.parametrize("latest", [False, True])
def test_another_thread_may_end_a_stream_that_waits(one, fake, latest):
    fake.fields = {"bytesperline": 80}
    stream = one.stream(0, latest=latest)
    threading.Timer(0.1, stream.close).start()
    assert list(stream) == []
    assert fake.closed


def test_another_thread_may_end_a_stream_whose_iterable_is_silent(one, monkeypatch):
    monkeypatch.setattr("effnet_edge.streaming._SECONDS_TO_STOP", 0.05)
    baton = Baton()
    stream = one.stream(iter(baton))
    baton.first(stream)
    threading.Timer(0.1, stream.close).start()
    assert list(stream) == []
    (reader,) = (thread for thread in threading.enumerate() if "effnet" in thread.name)
    baton.end()
    reader.join(10)


def closed_elsewhere(stream) -> None:
    thread = threading.Thread(target=stream.close)
    thread.start()
    thread.join()


@pytest.mark.parametrize("when", ["between", "labelling"])
@pytest.mark.parametrize("latest", [False, True])
@pytest.mark.parametrize("kind", ["list", "generator", "folder", "motion jpeg", "own"])
def test_no_frame_comes_from_a_stream_that_another_thread_closed(
    one, monkeypatch, tmp_path, kind, latest, when
):
    for index, photo in enumerate(PHOTOS):
        Image.fromarray(photo).save(tmp_path / f"{index}.png")
    source = {
        "list": list(PHOTOS),
        "generator": iter(PHOTOS),
        "folder": tmp_path,
        "motion jpeg": io.BytesIO(b"".join(jpeg(photo) for photo in PHOTOS)),
        "own": "anything",
    }[kind]
    opened = Opened(latest, PHOTOS)
    if kind == "own":
        monkeypatch.setattr("effnet_edge.frames.open_source", lambda *args: opened)
    labelled = []
    predict = one.logits

    def logits(image):
        labelled.append(image)
        if when == "labelling":
            closed_elsewhere(stream)
        return predict(image)

    monkeypatch.setattr(one, "logits", logits)
    stream = one.stream(source, latest=latest)
    if when == "between":
        next(stream)
        closed_elsewhere(stream)
    assert list(stream) == [] and len(labelled) == 1
    assert kind != "own" or opened.closed == 1


def test_a_folder_of_unreadable_files_ends_when_another_thread_closes_the_stream(one, tmp_path):
    for index in range(9):
        (tmp_path / f"{index}.png").write_bytes(b"no image")
    told = []

    def tell(error):
        told.append(error)
        closed_elsewhere(stream)

    stream = one.stream(tmp_path, on_damaged=tell)
    assert list(stream) == [] and len(told) == 1


def test_a_closed_classifier_ends_its_streams_with_a_clear_error(models, monkeypatch):
    classifier = EdgeClassifier.load(models["onnx"])
    opened = Opened(True, PHOTOS)
    with monkeypatch.context() as patch:
        patch.setattr("effnet_edge.frames.open_source", lambda *args: opened)
        stream = classifier.stream(0)
    next(stream)
    classifier.close()
    with pytest.raises(EngineError, match="closed"):
        next(stream)
    assert opened.closed == 1 and list(stream) == []
    with pytest.raises(EngineError, match="closed"):
        classifier.stream(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
@pytest.mark.parametrize("latest", [False, True])
def test_a_forked_child_gets_an_error_and_the_parent_goes_on(models, latest):
    program = f"""
import itertools, os, sys, time, numpy as np
from effnet_edge import EdgeClassifier, EngineError
def frames():
    while True:
        time.sleep(0.001)
        yield np.zeros((50, 50, 3), np.uint8)
with EdgeClassifier.load({str(models["onnx"])!r}, threads=2) as classifier:
    stream = classifier.stream(frames(), latest={latest})
    next(stream)
    child = os.fork()
    if child == 0:
        try:
            next(stream)
        except EngineError as error:
            del stream
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(3)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for _ in itertools.islice(stream, 5):
        pass
    sys.exit(status)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr


# Damaged frames


def test_damaged_frames_of_motion_jpeg_are_dropped_and_counted(one):
    good, cut = jpeg(PHOTOS[0]), bytearray(jpeg(PHOTOS[1]))
    damaged = b"\xff\xd8\xff\xe0\0\x04no\xff\xd9"
    frames = list(one.stream(io.BytesIO(good + damaged + cut[: len(cut) // 2] + good)))
    assert [(frame.index, frame.dropped) for frame in frames] == [(0, 0), (3, 2)]


def test_motion_jpeg_of_damaged_frames_only_is_an_error(one):
    with pytest.raises(ImageError):
        list(one.stream(io.BytesIO(b"\xff\xd8\xff\xe0\0\x04no\xff\xd9" * 100)))


def test_a_damaged_file_of_a_folder_is_an_error_or_told(one, tmp_path):
    for name, photo in zip(("1.png", "3.png"), PHOTOS, strict=False):
        Image.fromarray(photo).save(tmp_path / name)
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"2\.png"):
        list(one.stream(tmp_path))
    told = []
    frames = list(one.stream(tmp_path, on_damaged=told.append))
    assert [(frame.index, frame.dropped) for frame in frames] == [(0, 0), (2, 1)]
    assert len(told) == 1 and "2.png" in str(told[0])


# Cameras


@pytest.fixture
def fake(monkeypatch):
    fake = FakeCamera(formats=["GREY"], size=(80, 60))
    monkeypatch.setattr(camera, "_open", lambda path: fake)
    return fake


def test_a_camera_gives_its_newest_frame_and_is_let_go(one, fake):
    grey = [photo[:, :, 0] for photo in PHOTOS]
    fake.fields = {"bytesperline": 80}
    stream = one.stream(0)
    fake.send(grey[0].tobytes())
    assert next(stream).predictions == one.predict(grey[0])
    for image in grey[1:]:
        while not fake.queued:
            time.sleep(0.001)
        fake.send(image.tobytes())
        while fake.filled:
            time.sleep(0.001)
    slot = stream._source
    while slot._frame is None or slot._frame.lost < 4:
        time.sleep(0.001)
    frame = next(stream)
    assert frame.predictions == one.predict(grey[5])
    assert (frame.index, frame.dropped) == (5, 4)
    assert not fake.closed
    stream.close()
    assert fake.closed


def test_a_waiting_camera_stops_at_once(one, fake):
    fake.fields = {"bytesperline": 80}
    stream = one.stream("/dev/video3")
    fake.send(bytes(80 * 60))
    next(stream)
    started = time.monotonic()
    stream.close()
    assert fake.closed and time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    ("needed", "asked"),
    [
        ((256, 256), (640, 480)),
        ((480, 640), (640, 480)),
        ((600, 600), (1280, 720)),
        ((800, 800), (1920, 1080)),
        ((4000, 4000), (1920, 1080)),
    ],
)
def test_a_camera_is_asked_for_no_less_than_the_model_needs(fake, needed, asked):
    open_source("/dev/video0", needed).close()
    assert fake.asked_size == asked


def test_the_models_own_size_is_what_it_needs(one, fake, monkeypatch):
    needed = []
    monkeypatch.setattr(
        "effnet_edge.frames.open_source",
        lambda source, at_least: needed.append(at_least) or Opened(False, []),
    )
    assert list(one.stream(0)) == []
    assert needed == [one.metadata.recipe.resize]


# What can't be streamed


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (PHOTOS[0], "several frames"),
        (b"\xff\xd8", "several frames"),
        (Image.fromarray(PHOTOS[0]), "several frames"),
        (None, "NoneType"),
        (3.5, "float"),
        (True, "bool"),
        ({1: 2}, "dict"),
        (-1, "numbered from 0"),
        ("", "give a camera"),
        ("a\0b", "give a camera"),
        ("rtsp://door/1", "ffmpeg .*rtsp://door/1 .*--stream -"),
        (io.StringIO("x"), "text mode"),
    ],
)
def test_what_gives_no_frames_is_refused_at_once(one, source, said):
    with pytest.raises(UsageError, match=said):
        one.stream(source)


def test_opencvs_captures_get_a_hint_about_colours(one):
    class Capture:
        def isOpened(self):  # noqa: N802
            return True

        def read(self):
            return True, PHOTOS[0]

    with pytest.raises(UsageError, match="COLOR_BGR2RGB"):
        one.stream(Capture())


def test_missing_paths_and_empty_folders_are_named(one, tmp_path):
    with pytest.raises(CameraError, match="nowhere"):
        one.stream(tmp_path / "nowhere")
    with pytest.raises(CameraError, match="no image files"):
        one.stream(tmp_path)


@pytest.mark.parametrize("top_k", [0, 2.5, None])
def test_a_bad_top_k_is_refused_before_the_source_is_opened(one, top_k):
    with pytest.raises(UsageError, match="top_k"):
        one.stream("/nowhere", top_k=top_k)


# The report


def frame(index, dropped, latency, age) -> LabelledFrame:
    return LabelledFrame([], index, age, latency, dropped)


def test_the_report_counts_what_was_labelled_and_dropped(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("effnet_edge.frame_rate.time.monotonic", lambda: clock[0])
    rate = FrameRate()
    assert rate.report().latency_p50_ms is None and "0 frames" in str(rate.report())
    for index in range(1, 101):
        rate.add(frame(3 * index, 2 * index, float(index), 1000.0 + index))
    clock[0] = 110.0
    report = rate.report()
    assert (report.labelled, report.dropped, report.seconds) == (100, 200, 10.0)
    assert report.frames_per_second == 10.0
    assert report.latency_p50_ms == pytest.approx(50.5)
    assert report.latency_p95_ms == pytest.approx(95.05)
    assert report.age_p95_ms == pytest.approx(1095.05)
    assert "10.0 frames/s" in str(report) and "200 dropped" in str(report)


def test_the_report_of_a_year_takes_no_more_memory():
    rate = FrameRate()
    for index in range(5000):
        rate.add(frame(index, 0, 1e9 if index < 4000 else 1.0, 1.0))
    assert len(rate._latencies) == len(rate._ages) == 1000
    assert rate.report().latency_p95_ms == 1.0 and rate.report().labelled == 5000
