"""Motion JPEG: images are told apart in a stream of bytes, however it is cut."""

from __future__ import annotations

import contextlib
import io
import random

import networks
import numpy as np
import pytest
from PIL import Image

from effnet_edge.errors import CameraError
from effnet_edge.images import open_image
from effnet_edge.motion_jpeg import split_frames


def jpeg(seed: int = 0, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(networks.photos(1, (48, 64), seed)[0]).save(file, "JPEG", **options)
    return file.getvalue()


def in_pieces(data: bytes, sizes):
    """A ``read`` that gives ``data`` in pieces of these sizes, the last again and again."""
    file, sizes = io.BytesIO(data), iter(sizes)
    size = next(sizes)

    def read() -> bytes:
        nonlocal size
        piece = file.read(size)
        size = next(sizes, size)
        return piece

    return read


def split(data: bytes, *sizes: int):
    return list(split_frames(in_pieces(data, sizes or [1 << 16])))


IMAGES = [jpeg(seed, quality=quality) for seed, quality in enumerate((30, 75, 95, 100))]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1 << 20])
def test_images_come_out_whole_in_pieces_of_any_size(size):
    assert split(b"".join(IMAGES), size) == [(image, 0) for image in IMAGES]


def test_images_come_out_whole_however_the_stream_is_cut():
    rng = random.Random(0)
    for _ in range(30):
        sizes = [rng.randrange(1, 3000) for _ in range(20)]
        assert split(b"".join(IMAGES), *sizes) == [(image, 0) for image in IMAGES]


def test_an_image_is_given_as_soon_as_it_is_whole():
    def read():
        yield IMAGES[0]
        raise AssertionError("nobody should ask for more yet")

    pieces = read()
    assert next(split_frames(lambda: next(pieces))) == (IMAGES[0], 0)


def test_a_thumbnail_inside_an_image_does_not_end_it():
    exif = Image.Exif()
    exif[0x010E] = "a thumbnail:"
    photo = jpeg(1, exif=exif.tobytes() + IMAGES[0])
    assert photo.count(b"\xff\xd9") > 1
    assert split(photo + IMAGES[1], 50) == [(photo, 0), (IMAGES[1], 0)]


def test_restart_markers_and_padding_between_images_are_passed_over():
    photo = jpeg(2, restart_marker_blocks=1)
    if b"\xff\xd3" not in photo:
        pytest.skip("Pillow before 10.2 writes no restart markers")
    data = b"\0\0--boundary\r\n" + photo + b"\xff\xff\0\r\n" + IMAGES[1] + b"\0"
    assert split(data, 33) == [(photo, 0), (IMAGES[1], 0)]


def test_progressive_images_with_many_scans_are_one_image_each():
    photo = jpeg(3, progressive=True)
    assert photo.count(b"\xff\xda") > 2
    assert split(photo * 3, 77) == [(photo, 0)] * 3


def test_an_image_that_another_one_cuts_short_is_counted():
    cut = IMAGES[2][: len(IMAGES[2]) // 2]
    assert split(IMAGES[0] + cut + IMAGES[1], 64) == [(IMAGES[0], 0), (IMAGES[1], 1)]


def test_an_image_that_the_end_cuts_short_is_left_out():
    for missing in (1, 2, 500):
        assert split(IMAGES[0] + IMAGES[1][:-missing], 64) == [(IMAGES[0], 0)]
    assert split(b"") == []


@pytest.mark.parametrize("data", [b"GIF89a" * 20, b"\0\0\0\1gB" * 9, b"\xff" * 50])
def test_what_is_no_motion_jpeg_says_what_to_ask_for(data):
    with pytest.raises(CameraError, match="rpicam-vid --codec mjpeg"):
        split(data, 10)


def test_a_stream_of_something_else_is_not_read_into_memory_for_ever(monkeypatch):
    monkeypatch.setattr("effnet_edge.motion_jpeg.MAX_FRAME_BYTES", 1000)
    monkeypatch.setattr("effnet_edge.motion_jpeg.MAX_BYTES_BETWEEN_FRAMES", 2000)
    with pytest.raises(CameraError, match="no whole image in 1"):
        next(split_frames(lambda: b"\xff\xd8\xff" + b"x" * 100))
    h264 = b"\0\0\0\1gB\xff" + b"x" * 93
    with pytest.raises(CameraError, match=r"no whole image in 2.*--codec mjpeg"):
        next(split_frames(lambda: h264))
    frames = split_frames(iter([IMAGES[0], *[h264] * 50]).__next__)
    assert next(frames) == (IMAGES[0], 0)
    with pytest.raises(CameraError, match="no whole image in 2"):
        next(frames)


def test_what_stands_between_images_is_not_kept(monkeypatch):
    """Searching it again with each piece would take ever longer."""
    monkeypatch.setattr("effnet_edge.motion_jpeg.MAX_FRAME_BYTES", len(IMAGES[0]) + 200)
    pieces = [b"x" * 100] * 1000 + [IMAGES[0][:2], IMAGES[0][2:]]
    assert next(split_frames(iter(pieces).__next__)) == (IMAGES[0], 0)


def test_random_bytes_never_hang_or_crash():
    rng = np.random.default_rng(0)
    for _ in range(200):
        noise = rng.choice(np.array([0, 0xD8, 0xD9, 0xDA, 0xE1, 0xFF], np.uint8), 300).tobytes()
        with contextlib.suppress(CameraError):
            split(noise + IMAGES[0], int(rng.integers(1, 200)))


def test_frames_without_huffman_tables_as_webcams_send_them_can_be_decoded():
    # The tables that a camera leaves out are those of ITU-T T.81, annex K, which Pillow writes.
    photo = jpeg(1)
    bare = bytearray(photo)
    while (at := bare.find(b"\xff\xc4")) >= 0:
        del bare[at : at + 2 + int.from_bytes(bare[at + 2 : at + 4], "big")]
    ((frame, _),) = split(bytes(bare))
    assert (np.asarray(open_image(frame)) == np.asarray(open_image(photo))).all()
