"""Which images a network is quantized by."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from effnet_edge.converters import calibration
from effnet_edge.converters.calibration import calibration_images
from effnet_edge.errors import UsageError
from effnet_edge.recipe import Recipe

RECIPE = Recipe((24, 32), (27, 36))


def write_photos(folder, count, *, start=0, size=(40, 40), suffix=".png"):
    """``count`` images, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:04}{suffix}")
    return folder


def write_flat(path, level=128):
    Image.new("RGB", (40, 40), (level, level, level)).save(path)


def test_without_a_folder_there_are_synthetic_images_of_the_models_size():
    made = calibration_images(None, RECIPE)
    assert made.kind == "synthetic"
    assert made.notes == ()
    assert len(made.pixels) > 30
    assert made.pixels.shape[1:] == (24, 32, 3)
    assert made.pixels.dtype == np.uint8
    assert made.sha256 == calibration_images(None, RECIPE).sha256


def test_photos_of_any_size_and_kind_below_the_folder_are_prepared_as_the_model_wants(tmp_path):
    write_photos(tmp_path / "a" / "b", 8, size=(90, 20))
    write_photos(tmp_path, 8, start=8, size=(13, 70), suffix=".jpg")
    Image.new("L", (50, 50)).save(tmp_path / "notes.txt", "png")  # not by its name
    made = calibration_images(tmp_path, RECIPE)
    assert (made.kind, made.notes) == ("photos", ())
    assert made.pixels.shape == (16, 24, 32, 3)


def test_an_empty_folder_is_named_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"no image files in .*: give --calibration a folder"):
        calibration_images(tmp_path, RECIPE)


@pytest.mark.parametrize("kind", ["file", "missing"])
def test_what_is_no_folder_is_refused(tmp_path, kind):
    path = tmp_path / "photo.png"
    if kind == "file":
        write_flat(path)
    said = "is no folder" if kind == "file" else "doesn't exist"
    with pytest.raises(UsageError, match=said):
        calibration_images(path, RECIPE)


def test_broken_images_are_passed_over_by_name(tmp_path):
    write_photos(tmp_path, 16)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    (tmp_path / "empty.png").touch()
    made = calibration_images(tmp_path, RECIPE)
    assert len(made.pixels) == 16
    (note,) = made.notes
    assert note.startswith("2 calibration images passed over")
    assert "broken.jpg" in note
    assert "empty.png" in note
    write_photos(tmp_path / "clean", 16)
    assert made.kind == "photos"


def test_many_broken_images_do_not_fill_the_screen(tmp_path):
    write_photos(tmp_path, 16)
    for index in range(50):
        (tmp_path / f"broken{index}.jpg").touch()
    (note,) = calibration_images(tmp_path, RECIPE).notes
    assert "and 47 more" in note
    assert len(note) < 1000 + 3 * len(str(tmp_path))


def test_nothing_but_broken_images_is_an_error_that_says_why(tmp_path):
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_text("no image")
    with pytest.raises(UsageError, match=r"of 2 images in .* none can be used: .*a\.jpg"):
        calibration_images(tmp_path, RECIPE)


def test_flat_images_are_passed_over_and_said_so(tmp_path):
    write_photos(tmp_path, 16)
    write_flat(tmp_path / "white.png", 255)
    made = calibration_images(tmp_path, RECIPE)
    assert len(made.pixels) == 16
    (note,) = made.notes
    assert "1 calibration image of one flat colour passed over: white.png" in note


def test_one_flat_image_is_an_error(tmp_path):
    write_flat(tmp_path / "grey.png")
    with pytest.raises(UsageError, match=r"grey\.png is one flat colour"):
        calibration_images(tmp_path, RECIPE)


def test_one_photo_is_helped_by_synthetic_images(tmp_path):
    write_photos(tmp_path, 1)
    made = calibration_images(tmp_path, RECIPE)
    assert made.kind == "photos and synthetic"
    (note,) = made.notes
    assert note.startswith("1 photo of")
    alone = calibration_images(None, RECIPE)
    assert len(made.pixels) == 1 + len(alone.pixels)
    assert made.sha256 != alone.sha256


def test_of_many_images_no_more_are_opened_than_asked_for(tmp_path, monkeypatch):
    write_photos(tmp_path, 300, size=(8, 8))
    opened = []
    real = calibration.open_image
    monkeypatch.setattr(
        calibration, "open_image", lambda path: opened.append(path.name) or real(path)
    )
    made = calibration_images(tmp_path, RECIPE, samples=20)
    assert len(made.pixels) == len(opened) == 20
    assert max(opened) > "0100.png"  # from all over the folder, not its first


def test_the_choice_does_not_depend_on_order_age_or_place_of_the_files(tmp_path):
    write_photos(tmp_path / "one", 40)
    for index in reversed(range(40)):
        write_photos(tmp_path / "two", 1, start=index)
        os.utime(tmp_path / "two" / f"{index:04}.png", (index * 1000, index * 1000))
    one, two = (calibration_images(tmp_path / name, RECIPE, samples=17) for name in ("one", "two"))
    assert one.sha256 == two.sha256
    np.testing.assert_array_equal(one.pixels, two.pixels)


def test_the_digest_is_of_the_pixels(tmp_path):
    write_photos(tmp_path / "one", 16)
    before = calibration_images(tmp_path / "one", RECIPE).sha256
    write_photos(tmp_path / "one", 1, start=99)
    (tmp_path / "one" / "0003.png").unlink()
    assert calibration_images(tmp_path / "one", RECIPE).sha256 != before


def test_progress_counts_the_images(tmp_path):
    write_photos(tmp_path, 20)
    told = []
    calibration_images(
        tmp_path, RECIPE, samples=18, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(done, 18) for done in range(1, 19)]
    told.clear()
    calibration_images(None, RECIPE, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == len(told)
