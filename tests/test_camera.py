"""Cameras: the kernel's interface laid out as the C compiler does, and clear words for trouble."""

from __future__ import annotations

import ctypes
import errno
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_camera import FakeCamera
from PIL import Image

from effnet_edge import camera as camera_module
from effnet_edge.camera import Camera, v4l2
from effnet_edge.camera.pixels import DECODERS, Layout
from effnet_edge.errors import CameraError, ImageError
from effnet_edge.images import open_image

NODE = Path("/dev/video7")

STRUCTURES = {
    "v4l2_capability": v4l2.Capability,
    "v4l2_fmtdesc": v4l2.FormatDescription,
    "v4l2_format": v4l2.Format,
    "v4l2_pix_format": v4l2.PixelFormat,
    "v4l2_requestbuffers": v4l2.RequestBuffers,
    "v4l2_buffer": v4l2.Buffer,
}
NUMBERS = {
    "VIDIOC_QUERYCAP": v4l2.QUERY_CAPABILITY,
    "VIDIOC_ENUM_FMT": v4l2.ENUMERATE_FORMATS,
    "VIDIOC_S_FMT": v4l2.SET_FORMAT,
    "VIDIOC_REQBUFS": v4l2.REQUEST_BUFFERS,
    "VIDIOC_QUERYBUF": v4l2.QUERY_BUFFER,
    "VIDIOC_QBUF": v4l2.QUEUE_BUFFER,
    "VIDIOC_DQBUF": v4l2.DEQUEUE_BUFFER,
    "VIDIOC_STREAMON": v4l2.STREAM_ON,
    "VIDIOC_STREAMOFF": v4l2.STREAM_OFF,
    "V4L2_BUF_TYPE_VIDEO_CAPTURE": v4l2.CAPTURE,
    "V4L2_MEMORY_MMAP": v4l2.MEMORY_MAP,
    "V4L2_FIELD_NONE": v4l2.PROGRESSIVE,
    "V4L2_CAP_VIDEO_CAPTURE": v4l2.CAN_CAPTURE,
    "V4L2_CAP_VIDEO_CAPTURE_MPLANE": v4l2.CAN_CAPTURE_PLANES,
    "V4L2_CAP_META_CAPTURE": v4l2.CAN_CAPTURE_METADATA,
    "V4L2_CAP_STREAMING": v4l2.CAN_STREAM,
    "V4L2_CAP_DEVICE_CAPS": v4l2.HAS_DEVICE_CAPABILITIES,
    "V4L2_PIX_FMT_PRIV_MAGIC": v4l2.EXTENDED_FIELDS,
    "V4L2_BUF_FLAG_ERROR": v4l2.BUFFER_DAMAGED,
    "V4L2_BUF_FLAG_TIMESTAMP_MASK": v4l2.TIMESTAMP_MASK,
    "V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC": v4l2.TIMESTAMP_MONOTONIC,
    "V4L2_COLORSPACE_JPEG": camera_module._JPEG_COLORSPACE,
    "V4L2_COLORSPACE_REC709": camera_module._REC709_COLORSPACE,
    "V4L2_COLORSPACE_DCI_P3": camera_module._DCI_P3_COLORSPACE,
    "V4L2_YCBCR_ENC_709": camera_module._ENCODINGS_709[0],
    "V4L2_YCBCR_ENC_XV709": camera_module._ENCODINGS_709[1],
    "V4L2_QUANTIZATION_FULL_RANGE": camera_module._FULL_RANGE,
    "V4L2_PIX_FMT_YUYV": v4l2.fourcc("YUYV"),
    "V4L2_PIX_FMT_MJPEG": v4l2.fourcc("MJPG"),
    "V4L2_PIX_FMT_JPEG": v4l2.fourcc("JPEG"),
    "V4L2_PIX_FMT_RGB24": v4l2.fourcc("RGB3"),
    "V4L2_PIX_FMT_BGR24": v4l2.fourcc("BGR3"),
    "V4L2_PIX_FMT_GREY": v4l2.fourcc("GREY"),
    "V4L2_PIX_FMT_UYVY": v4l2.fourcc("UYVY"),
    "V4L2_PIX_FMT_NV12": v4l2.fourcc("NV12"),
}


@pytest.fixture
def fake(monkeypatch) -> FakeCamera:
    fake = FakeCamera()
    monkeypatch.setattr(camera_module, "_open", lambda path: fake)
    return fake


def frames(camera: Camera, fake: FakeCamera, *sent: bytes):
    """What the camera makes of frames that are sent one by one."""
    found = camera.frames()
    for data in sent:
        fake.send(data)
        yield next(found)
    camera.stop()
    assert list(found) == []


# The binary interface


@pytest.fixture(scope="module")
def kernel_values(tmp_path_factory) -> dict[str, int]:
    """Sizes, offsets and numbers as the C compiler reads them from the kernel's own header."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("needs a C compiler and the kernel's headers")
    expressions = [f"sizeof(struct {name})" for name in STRUCTURES]
    for name, structure in STRUCTURES.items():
        fields = [field[0] for field in structure._fields_ if not field[0].startswith("_")]
        expressions += [f"offsetof(struct {name}, {field})" for field in fields]
    expressions += NUMBERS
    lines = "".join(f'P("{text}", {text});' for text in expressions)
    folder = tmp_path_factory.mktemp("c")
    (folder / "layout.c").write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <sys/time.h>\n"
        "#include <linux/videodev2.h>\n"
        '#define P(text, value) printf("%s=%llu\\n", text, (unsigned long long)(unsigned)(value))\n'
        f"int main(void) {{ {lines} return 0; }}\n"
    )
    subprocess.run([compiler, "-o", folder / "layout", folder / "layout.c"], check=True)
    out = subprocess.run([folder / "layout"], check=True, capture_output=True, text=True).stdout
    pairs = (line.rsplit("=", 1) for line in out.splitlines())
    return {name: int(value) for name, value in pairs}


def test_structures_are_laid_out_as_in_the_kernels_header(kernel_values):
    for name, structure in STRUCTURES.items():
        assert kernel_values[f"sizeof(struct {name})"] == ctypes.sizeof(structure), name
        for field in [field[0] for field in structure._fields_]:
            if f"offsetof(struct {name}, {field})" in kernel_values:
                found = getattr(structure, field).offset
                assert found == kernel_values[f"offsetof(struct {name}, {field})"], (name, field)


def test_numbers_are_those_of_the_kernels_header(kernel_values):
    for name, value in NUMBERS.items():
        assert value == kernel_values[name], name


def test_sizes_are_those_of_the_kernels_interface():
    is_64_bit = sys.maxsize > 2**32
    assert ctypes.sizeof(v4l2.Format) == (208 if is_64_bit else 204)
    assert ctypes.sizeof(v4l2.Buffer) == (88 if is_64_bit else 68)
    assert ctypes.sizeof(v4l2.Capability) == 104
    # As strace prints them on a 64-bit machine.
    if is_64_bit:
        assert v4l2.QUERY_CAPABILITY == 0x80685600
        assert v4l2.SET_FORMAT == 0xC0D05605
        assert v4l2.DEQUEUE_BUFFER == 0xC0585611
        assert v4l2.STREAM_ON == 0x40045612


def test_the_name_of_a_pixel_format_can_be_read():
    assert v4l2.fourcc_name(v4l2.fourcc("YUYV")) == "YUYV"
    assert v4l2.fourcc_name(v4l2.fourcc("Y16 ")) == "Y16"
    assert v4l2.fourcc_name(v4l2.fourcc("Y16 ") | 1 << 31) == "Y16"  # big-endian samples


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's system calls")
def test_the_system_calls_reach_the_kernel():
    device = v4l2.Device(Path("/dev/null"))
    with pytest.raises(OSError) as refused:
        device.call(v4l2.QUERY_CAPABILITY, v4l2.Capability())
    assert refused.value.errno == errno.ENOTTY
    device.close()


# Capturing


def test_frames_come_in_order_with_the_bytes_that_were_captured(fake):
    camera = Camera(NODE)
    grey = [bytes([16 + 20 * level, 128] * 32) for level in range(9)]
    levels = []
    for frame in frames(camera, fake, *grey):
        pixels = np.asarray(open_image(frame.decode()))
        assert pixels.shape == (4, 8, 3) and frame.lost == 0
        levels.append(int(pixels[0, 0, 0]))
        assert (pixels == levels[-1]).all()
    assert levels == [round(20 * level * 255 / 219) for level in range(9)]


def test_a_frame_knows_when_it_was_captured(fake):
    camera = Camera(NODE)
    stream = camera.frames()
    fake.send(b"\x80" * 64, age=0.5)
    assert time.monotonic() - next(stream).captured == pytest.approx(0.5, abs=0.2)
    # A camera that doesn't say, or whose clock is another, and one that is ahead.
    fake.send(b"\x80" * 64, flags=0, age=0.5)
    assert time.monotonic() - next(stream).captured < 0.2
    fake.send(b"\x80" * 64, age=-5)
    assert next(stream).captured <= time.monotonic()


def test_frames_that_the_driver_had_no_buffer_for_are_counted(fake):
    stream = Camera(NODE).frames()
    fake.send(b"\x80" * 64)
    assert next(stream).lost == 0
    fake.send(b"\x80" * 64, lost=3)
    assert next(stream).lost == 3
    fake.sequence = 0  # a driver that begins again
    fake.send(b"\x80" * 64)
    assert next(stream).lost == 0


def test_damaged_and_empty_buffers_are_lost_frames(fake):
    stream = Camera(NODE).frames()
    fake.send(b"\x80" * 64, flags=v4l2.BUFFER_DAMAGED)
    fake.send(b"")
    fake.send(b"\x80" * 64)
    assert next(stream).lost == 2


def test_a_frame_cut_short_is_an_image_error(fake):
    (frame,) = frames(Camera(NODE), fake, b"\x80" * 40)
    with pytest.raises(ImageError, match="cut short: 40 bytes, not 64"):
        frame.decode()


def test_closing_stops_the_stream_unmaps_and_lets_the_device_go(fake):
    camera = Camera(NODE)
    assert fake.streaming
    camera.close()
    camera.close()
    assert fake.closed and not fake.streaming and all(memory.closed for memory in fake.memory)


def test_a_passing_loss_of_signal_is_waited_for(fake):
    stream = Camera(NODE).frames()
    for _ in range(2):
        fake.fail(errno.EIO)
    fake.fail(errno.EAGAIN)
    time.sleep(0.001)
    fake.send(b"\x80" * 64)
    assert next(stream).lost == 0


def test_a_camera_that_falls_silent_is_an_error(fake, monkeypatch):
    monkeypatch.setattr(camera_module, "_SILENCE_SECONDS", 0.15)
    with pytest.raises(CameraError, match="gave no frame"):
        next(Camera(NODE).frames())


def test_a_camera_that_is_unplugged_is_an_error(fake):
    camera = Camera(NODE)
    stream = camera.frames()
    fake.send(b"\x80" * 64)
    next(stream)
    fake.fail(errno.ENODEV)
    fake.errors[v4l2.STREAM_OFF] = errno.ENODEV
    with pytest.raises(CameraError, match="unplugged"):
        next(stream)
    fake.streaming = False
    camera.close()
    assert fake.closed


# Choosing a format


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["YUYV", "MJPG"], "MJPG"),
        (["H264", "MJPG"], "MJPG"),
        (["GREY", "RGB3"], "RGB3"),
        (["Y16 ", "GREY"], "GREY"),
        (["NV12", "YUYV"], "YUYV"),
    ],
)
def test_the_format_that_is_quickest_to_decode_is_taken(fake, offered, chosen):
    fake.formats = [v4l2.fourcc(name) for name in offered]
    assert Camera(NODE).format == chosen


def test_the_driver_is_asked_for_a_size_and_its_answer_counts(fake):
    camera = Camera(NODE, (1280, 720))
    assert fake.asked_size == (1280, 720)
    assert (camera.layout.width, camera.layout.height, camera.layout.stride) == (8, 4, 16)


def test_a_format_that_the_driver_exchanges_for_another_is_not_believed(fake):
    fake.formats = [v4l2.fourcc("YUYV"), v4l2.fourcc("GREY")]
    fake.fields = {"pixelformat": v4l2.fourcc("GREY")}
    assert Camera(NODE).format == "GREY"


def test_a_camera_of_raw_pixels_is_refused_with_a_way_out(fake):
    fake.formats = [v4l2.fourcc("pBAA"), v4l2.fourcc("RG10")]
    with pytest.raises(CameraError, match=r"pBAA, RG10(.|\n)*rpicam-vid .*--stream -"):
        Camera(NODE)
    assert fake.closed


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        (v4l2.CAN_CAPTURE_METADATA | v4l2.CAN_STREAM, "metadata, not its pictures"),
        (v4l2.CAN_CAPTURE_PLANES | v4l2.CAN_STREAM, "part of a camera pipeline"),
        (v4l2.CAN_CAPTURE, "no streaming"),
        (0x8000, "is no camera"),
    ],
)
def test_a_node_that_gives_no_pictures_is_refused(fake, capabilities, said):
    fake.capabilities = capabilities
    with pytest.raises(CameraError, match=rf"/dev/video7 \(Fake camera\) .*{said}"):
        Camera(NODE)
    assert fake.closed


# Trouble


@pytest.mark.parametrize(
    ("request_number", "number", "said"),
    [
        (v4l2.SET_FORMAT, errno.EBUSY, "another program is using it"),
        (v4l2.REQUEST_BUFFERS, errno.EBUSY, "another program is using it"),
        (v4l2.STREAM_ON, errno.ENOSPC, "USB bandwidth"),
        (v4l2.QUERY_CAPABILITY, errno.ENOTTY, "no video device"),
        (v4l2.ENUMERATE_FORMATS, errno.ENODEV, "unplugged"),
        (v4l2.REQUEST_BUFFERS, errno.ENOMEM, "not enough memory"),
        (v4l2.QUERY_BUFFER, errno.EFAULT, "as asked"),
    ],
)
def test_what_the_driver_refuses_is_said_in_words(fake, request_number, number, said):
    fake.errors[request_number] = number
    with pytest.raises(CameraError, match=rf"/dev/video7: .*{said}"):
        Camera(NODE)
    assert fake.closed


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux says")


@linux
def test_a_missing_camera_is_named():
    with pytest.raises(CameraError, match="there is no camera /dev/video4000"):
        Camera(Path("/dev/video4000"))


@linux
def test_other_cameras_are_offered(monkeypatch):
    nodes = [Path(f"/dev/{name}") for name in ("video10", "video2", "video-dec0", "video7")]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(nodes))
    with pytest.raises(CameraError, match=r"try /dev/video2, /dev/video10$"):
        Camera(NODE)


@linux
def test_a_forbidden_camera_says_which_group(monkeypatch):
    def forbidden(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(v4l2, "Device", forbidden)
    with pytest.raises(CameraError, match="usermod -aG video"):
        Camera(Path("/dev/null"))


@linux
def test_another_device_is_no_camera(tmp_path):
    with pytest.raises(CameraError, match="no video device"):
        Camera(Path("/dev/null"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CameraError, match="no video device"):
        Camera(tmp_path / "file")


def test_other_systems_are_told_to_bring_their_own_frames(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(CameraError, match="only Linux has"):
        Camera(NODE)


# Pixels


RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 6, 10
COLOURS = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def ycbcr(rgb, red, blue, full):
    """ITU-R BT.601 and BT.709, 2.5.1: float [.., 3] of (Y, Cb, Cr) in 8-bit units."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0) / 255
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    if full:
        return np.stack([255 * y, 255 * cb + 128, 255 * cr + 128], axis=-1)
    return np.stack([219 * y + 16, 224 * cb + 128, 224 * cr + 128], axis=-1)


def paired(rgb):
    """Pairs of equal pixels: what formats with shared colours can show."""
    return np.repeat(rgb[:, ::2], 2, axis=1)


def padded(rows, stride):
    """Rows of bytes with rubbish behind them, except behind the last."""
    full = np.full((len(rows), stride), 0xAA, np.uint8)
    full[:, : rows.shape[1]] = rows
    return full.tobytes()[: len(rows) * stride - (stride - rows.shape[1])]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bt709", [False, True])
@pytest.mark.parametrize("name", ["YUYV", "UYVY", "NV12"])
def test_colours_of_every_encoding_come_back(name, full, bt709):
    red, blue = (0.2126, 0.0722) if bt709 else (0.299, 0.114)
    rgb = paired(COLOURS)
    if name == "NV12":
        rgb = np.repeat(rgb[::2], 2, axis=0)
    y, cb, cr = np.moveaxis(np.rint(ycbcr(rgb, red, blue, full)).clip(0, 255), -1, 0)
    if name == "NV12":
        colours = np.stack([cb[::2, ::2], cr[::2, ::2]], axis=-1).reshape(HEIGHT // 2, WIDTH)
        rows = np.concatenate([y, colours])
    else:
        order = (y[:, ::2], cb[:, ::2], y[:, 1::2], cr[:, ::2])
        order = order if name == "YUYV" else (order[1], order[0], order[3], order[2])
        rows = np.stack(order, axis=-1).reshape(HEIGHT, 2 * WIDTH)
    for stride in (rows.shape[1], rows.shape[1] + 6):
        layout = Layout(WIDTH, HEIGHT, stride, full, bt709)
        data = padded(rows.astype(np.uint8), stride)
        found = np.asarray(open_image(DECODERS[name](data, layout)))
        assert np.abs(found.astype(int) - rgb).max() <= 3  # steps of 8-bit YCbCr


@pytest.mark.parametrize("stride", [3 * WIDTH, 32])
def test_rgb_bgr_and_grey_are_taken_as_they_are(stride):
    layout = Layout(WIDTH, HEIGHT, stride)
    for name, colours in (("RGB3", COLOURS), ("BGR3", COLOURS[:, :, ::-1])):
        data = padded(colours.reshape(HEIGHT, -1), stride)
        assert (np.asarray(open_image(DECODERS[name](data, layout))) == COLOURS).all()
    grey = padded(COLOURS[:, :, 0], stride)
    found = np.asarray(open_image(DECODERS["GREY"](grey, layout)))
    assert (found == COLOURS[:, :, :1]).all()


@pytest.mark.parametrize("name", ["YUYV", "UYVY", "NV12", "RGB3", "BGR3", "GREY"])
def test_a_frame_with_too_few_bytes_is_refused_in_every_format(name):
    layout = Layout(WIDTH, HEIGHT, 3 * WIDTH)
    for size in (0, 1, HEIGHT * WIDTH - 1):
        with pytest.raises(ImageError, match="cut short"):
            DECODERS[name](bytes(size), layout)
    with pytest.raises(ImageError, match="cut short"):
        DECODERS[name](bytes(10_000), Layout(WIDTH, HEIGHT, WIDTH // 2))


@pytest.mark.parametrize(
    ("fields", "full", "bt709"),
    [
        ({}, False, False),
        ({"colorspace": 8}, False, False),
        ({"colorspace": 7}, True, False),
        ({"colorspace": 3}, False, True),
        ({"priv": v4l2.EXTENDED_FIELDS, "colorspace": 7, "quantization": 2}, False, False),
        ({"priv": v4l2.EXTENDED_FIELDS, "colorspace": 3, "ycbcr_enc": 1}, False, False),
        ({"priv": v4l2.EXTENDED_FIELDS, "ycbcr_enc": 2, "quantization": 1}, True, True),
        ({"priv": 0, "ycbcr_enc": 2, "quantization": 1}, False, False),
    ],
)
def test_range_and_encoding_are_what_the_driver_says_or_means(fake, fields, full, bt709):
    fake.fields = fields
    layout = Camera(NODE).layout
    assert (layout.full_range, layout.bt709) == (full, bt709)


def test_motion_jpeg_frames_are_decoded_by_pillow(fake):
    import io

    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, "JPEG", quality=100, subsampling=0)
    fake.formats = [v4l2.fourcc("MJPG")]
    (frame,) = frames(Camera(NODE), fake, file.getvalue())
    assert open_image(frame.decode()).size == (WIDTH, HEIGHT)


def test_the_formats_table_names_formats_that_exist():
    assert all(re.fullmatch(r"[A-Z0-9]{4}", name) for name in DECODERS)
