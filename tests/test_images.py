"""Everything that can come as an image becomes upright RGB, or an ImageError with a name in it."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from effnet_edge.errors import ImageError
from effnet_edge.images import MAX_PIXELS, is_image_name, open_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def pixels(source) -> np.ndarray:
    image = open_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height=9, width=7, channels=3, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, color: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand; ``rows`` are the unfiltered rows without their filter bytes."""
    stride = len(rows) // height if height else 0
    raw = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", zlib.compress(raw))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


# What a source may be


def test_every_kind_of_source_gives_the_same_pixels(tmp_path):
    array = noise()
    data = encoded(Image.fromarray(array))
    path = tmp_path / "photo ü.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        sources = [path, str(path), data, bytearray(data), memoryview(data), file]
        sources += [io.BytesIO(data), Image.open(path), Image.fromarray(array), array]
        for source in sources:
            assert (pixels(source) == array).all(), type(source)


def test_a_file_is_closed_and_a_file_object_is_left_open(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(Image.fromarray(noise())))
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(2):
            open_image(file)
            assert not file.closed
        open_image(path)
        path.write_bytes(b"no image")
        with pytest.raises(ImageError):
            open_image(path)
        gc.collect()
        file.seek(0)


def test_a_file_object_that_cannot_seek_is_read():
    class Pipe(io.RawIOBase):
        def __init__(self, data):
            self.data = io.BytesIO(data)

        def read(self, size=-1):
            return self.data.read(size)

        def seek(self, *args):
            raise io.UnsupportedOperation("seek")

    array = noise()
    assert (pixels(Pipe(encoded(Image.fromarray(array)))) == array).all()


def test_an_array_is_copied_so_that_the_caller_may_change_it():
    for array in (noise(), noise(channels=4), noise()[:, :, 0]):
        image = open_image(array)
        before = np.asarray(image).copy()
        array[:] = 0
        assert (np.asarray(image) == before).all()


def test_an_array_may_be_a_view_with_any_strides():
    array = noise(20, 30)
    assert (pixels(array[::-1, ::2, ::-1]) == array[::-1, ::2, ::-1]).all()
    assert (pixels(np.asfortranarray(array)) == array).all()


def test_grey_arrays_become_three_equal_channels():
    grey = noise()[:, :, 0]
    for array in (grey, grey[:, :, None]):
        assert (pixels(array) == grey[:, :, None]).all()


def test_rgba_arrays_are_laid_over_white():
    array = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    assert pixels(array).tolist() == [[[255, 0, 0], [255, 255, 255], [127, 127, 127]]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_arrays_are_divided_by_257_and_rounded(order):
    array = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], f"{order}u2")
    expected = [0, 0, 1, 1, 128, 254, 255, 255]
    assert pixels(array)[0, :, 0].tolist() == expected
    assert pixels(np.stack([array] * 3, 2))[0, :, 1].tolist() == expected


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "uint32", "bool", "O"])
def test_arrays_of_other_types_are_refused_with_advice(dtype):
    with pytest.raises(ImageError, match="give uint8 pixels of 0 to 255"):
        open_image(np.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((0, 5, 3), "no pixels"),
        ((5, 0), "no pixels"),
        ((3, 20, 20), "channels first"),
        ((2, 8, 8, 3), "predict_batch"),
        ((8, 8, 2), "shape is"),
        ((8,), "shape is"),
        ((), "shape is"),
    ],
)
def test_arrays_of_other_shapes_are_refused_with_advice(shape, said):
    with pytest.raises(ImageError, match=said):
        open_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("source", [None, 3, [[0, 1]], object()])
def test_other_objects_are_refused_by_their_type(source):
    with pytest.raises(ImageError, match=type(source).__name__):
        open_image(source)


def test_a_file_in_text_mode_is_refused_with_advice(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    with (tmp_path / "x.txt").open() as file, pytest.raises(ImageError, match="'rb'"):
        open_image(file)


# What an image may be


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_obeyed(kind, orientation):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24], upright[:16, 24:], upright[16:, :24] = RED, GREEN, BLUE
    # What a camera held that way stores, from the EXIF standard's "row 0 is the visual ... side".
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    for source in (data, Image.open(io.BytesIO(data))):
        got = pixels(source)
        assert got.shape == upright.shape
        assert np.abs(got.astype(int) - upright).max() <= 3


def test_a_palette_shows_its_colours():
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image)).tolist() == [[list(RED), list(BLUE)]]


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
def test_a_transparent_palette_entry_shows_white(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    data = encoded(image, transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(data).tolist() == [[list(RED), list(WHITE)]]


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA", "La", "RGBa"])
def test_transparency_shows_white_and_opacity_changes_nothing(mode):
    grey = Image.fromarray(np.array([[10, 20, 30]], np.uint8))
    grey.putalpha(Image.fromarray(np.array([[255, 0, 255]], np.uint8)))
    image = grey if mode in ("LA", "La") else grey.convert("RGBA")
    if mode == "PA":
        image = Image.frombytes("PA", (3, 1), bytes([10, 255, 20, 0, 30, 255]))
        image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    elif mode in ("La", "RGBa"):
        image = image.convert(mode)
    assert image.mode == mode
    assert pixels(image).tolist() == [[[10] * 3, list(WHITE), [30] * 3]]


def test_a_png_colour_key_shows_white():
    rgb = png(2, 1, 8, 2, bytes([*RED, *BLUE]), png_chunk(b"tRNS", struct.pack(">HHH", *BLUE)))
    assert pixels(rgb).tolist() == [[list(RED), list(WHITE)]]
    grey = png(2, 1, 8, 0, bytes([7, 9]), png_chunk(b"tRNS", struct.pack(">H", 9)))
    assert pixels(grey).tolist() == [[[7] * 3, list(WHITE)]]
    deep = png(2, 1, 16, 0, struct.pack(">HH", 514, 771), png_chunk(b"tRNS", b"\x03\x03"))
    assert pixels(deep).tolist() == [[[2] * 3, list(WHITE)]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_files_are_scaled_not_clipped(kind):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    data = encoded(Image.fromarray(values), kind)
    assert pixels(data)[0, :, 2].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_modes_of_pillow_are_scaled():
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    for image in (
        Image.fromarray(values.astype(np.int32)),
        Image.frombytes("I;16", (4, 1), values.astype("<u2").tobytes()),
        Image.frombytes("I;16B", (4, 1), values.astype(">u2").tobytes()),
    ):
        assert pixels(image)[0, :, 0].tolist() == [0, 1, 128, 255], image.mode


@pytest.mark.parametrize("mode", ["array", "I;16", "I;16B", "I"])
def test_a_large_sixteen_bit_image_is_converted_in_little_memory(mode):
    values = np.random.default_rng(0).integers(0, 65536, (1500, 2000), dtype=np.uint16)
    if mode == "array":
        source = values
    elif mode == "I":
        source = Image.fromarray(values.astype(np.int32))
    else:
        order = ">u2" if mode == "I;16B" else "<u2"
        source = Image.frombytes(mode, (2000, 1500), values.astype(order).tobytes())
    expected = np.round(values / 257)
    tracemalloc.start()
    try:
        image = open_image(source)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (np.asarray(image)[:, :, 0] == expected).all()
    # One byte a pixel for the result, and a band of a million pixels; NumPy's share, not Pillow's.
    assert used < values.size + (14 << 20)


def test_sixteen_bit_colour_png_keeps_its_colours():
    rows = struct.pack(">HHH", 65535, 32896, 0)
    assert np.abs(pixels(png(1, 1, 16, 2, rows))[0, 0].astype(int) - [255, 128, 0]).max() <= 1


def test_cmyk_and_adobe_inverted_cmyk_look_alike():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(cmyk, "JPEG", quality=100)
    for source in (cmyk, data):
        red, green, blue = pixels(source)[8, 8].astype(int)
        assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("mode", ["1", "L", "YCbCr", "HSV", "LAB", "RGBX"])
def test_white_is_white_in_every_mode(mode):
    white = {"1": 1, "L": 255, "YCbCr": (255, 128, 128), "HSV": (0, 0, 255), "LAB": (255, 128, 128)}
    image = Image.new(mode, (4, 4), white.get(mode, WHITE))
    assert pixels(image).min() >= 253


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, GREEN, BLUE)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(pixels(data)[4, 4].astype(int) - RED).max() <= 10, kind


def test_a_folders_search_knows_images_by_their_ending():
    assert is_image_name(Path("a/B.JPG")) and is_image_name(Path("a.webp"))
    for name in ("a.txt", "jpg", ".jpg", "._a.jpg", "a.eps"):
        assert not is_image_name(Path(name)), name


# What an image must not do


def refused(source, *said: str) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(source)
    for text in said:
        assert text in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_an_image_cut_short_anywhere_is_refused_by_name(kind, tmp_path):
    data = encoded(Image.fromarray(noise(64, 64)), kind)
    path = tmp_path / "cut.img"
    for length in range(1, len(data) * 9 // 10, max(1, len(data) // 50)):
        path.write_bytes(data[:length])
        refused(path, "cut.img")


def test_an_empty_file_is_refused_as_empty(tmp_path):
    (tmp_path / "empty.jpg").touch()
    refused(tmp_path / "empty.jpg", "empty.jpg", "is empty")
    refused(b"", "is empty")


def test_text_is_refused_as_no_image(tmp_path):
    (tmp_path / "letter.jpg").write_text("Dear all, " * 50)
    refused(tmp_path / "letter.jpg", "letter.jpg", "not an image")


def test_a_folder_and_a_missing_file_are_refused_as_such(tmp_path):
    refused(tmp_path, "is a folder")
    refused(tmp_path / "none.jpg", "none.jpg", "no such file")
    refused("", "path is empty")
    refused("nul\0byte.jpg", "nul")
    refused("x" * 5000 + ".jpg", "can't be opened")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_or_a_device_is_refused_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero"), Path("/dev/null")):
        refused(path, path.name, "a pipe or a device")


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    refused(png(60_000, 60_000, 8, 0, b"", png_chunk(b"tEXt", b"")), "too large")


def test_the_pixel_limit_holds_where_the_application_has_lifted_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    side = int(MAX_PIXELS**0.5) + 1
    refused(png(side, side, 8, 0, b"", png_chunk(b"tEXt", b"")), f"{side} x {side}", "too large")


def test_pillows_own_limits_are_left_alone():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    open_image(encoded(Image.fromarray(noise())))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_a_header_without_pixels_is_refused():
    refused(png(0, 0, 8, 2, b""), "image in memory")
    refused(Image.new("RGB", (0, 5)), "no pixels")


def test_absurd_exif_is_ignored():
    image = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    for exif in (
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0" + b"\xff" * 100,
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x02\0\0\0\x04ab\0\0" * 3,
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, about the EXIF
            assert pixels(encoded(image, "JPEG", exif=exif)).shape == (8, 8, 3)


def test_a_broken_palette_is_refused_or_shows_what_it_holds():
    short = png(2, 1, 8, 3, bytes([0, 250]), png_chunk(b"PLTE", bytes(RED)))
    assert pixels(short)[0, 0].tolist() == list(RED)
    long = png_chunk(b"PLTE", bytes(RED)) + png_chunk(b"tRNS", bytes(300))
    refused(png(2, 1, 8, 3, bytes([0, 1]), long), "image in memory")
    refused(png(2, 1, 8, 3, bytes([0, 1])), "image in memory")


def test_floating_point_and_32_bit_images_are_refused_with_the_reason():
    refused(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "floating-point")
    refused(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "32-bit")


def test_formats_that_run_other_programs_are_refused():
    eps = encoded(Image.fromarray(noise()), "EPS")
    refused(eps, "EPS is not supported", "save it as PNG")
    refused(b"%PDF-1.7 ...", "PDF is not supported")


def test_parsers_of_other_formats_never_see_the_bytes(monkeypatch):
    Image.init()
    seen = []
    for kind in {"EPS", "FLI", "PDF", "WMF", "GRIB", "HDF5", "FITS"} & set(Image.OPEN):
        monkeypatch.setitem(Image.OPEN, kind, (None, seen.append))
    refused(b"no image at all" * 10, "not an image")
    refused(encoded(Image.fromarray(noise()), "EPS"), "EPS")
    assert seen == []


def test_a_format_that_this_pillow_lacks_breaks_no_other(monkeypatch):
    Image.init()
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind not in ("AVIF", "BMP")])
    monkeypatch.delitem(Image.OPEN, "BMP")
    assert pixels(encoded(Image.fromarray(noise()))).shape == (9, 7, 3)
    refused(encoded(Image.fromarray(noise()), "BMP"), "isn't supported")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM", "TGA"])
def test_no_damage_to_a_file_raises_anything_but_image_error(kind):
    data = encoded(Image.fromarray(noise(40, 40)), kind)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            damaged = bytearray(data)
            for position in rng.integers(0, min(len(data), 400), 4):
                damaged[position] = rng.integers(256)
            with contextlib.suppress(ImageError):
                assert open_image(bytes(damaged)).mode == "RGB"
