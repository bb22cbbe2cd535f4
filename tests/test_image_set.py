"""Which images an evaluation takes, and what their classes are."""

from __future__ import annotations

import pytest

from effnet_edge.class_names import class_indices, imagenet_synsets
from effnet_edge.converters.labels import imagenet_labels
from effnet_edge.errors import UsageError
from effnet_edge.image_set import read_image_set

PETS = ("cat", "dog", "Great Dane")


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def classes(image_set, folder):
    return {image.path.relative_to(folder).as_posix(): image.label for image in image_set.images}


def labelled(folder, text, labels=PETS):
    file = folder.parent / "labels.txt"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_image_set(folder, labels, file)


def test_folders_named_by_label_in_any_case_and_with_underscores(tmp_path):
    make(tmp_path, "Cat/a.jpg", "great_dane/b.png", "great_dane/deep/c.JPEG", "dog/notes.txt")
    found = read_image_set(tmp_path, PETS)
    assert classes(found, tmp_path) == {
        "Cat/a.jpg": 0,
        "great_dane/b.png": 2,
        "great_dane/deep/c.JPEG": 2,
    }
    assert found.labelled and not found.notes


def test_folders_named_by_index_are_not_sorted_as_text(tmp_path):
    make(tmp_path, *(f"{index}/a.jpg" for index in range(12)))
    found = classes(read_image_set(tmp_path, [f"label {i}" for i in range(12)]), tmp_path)
    assert found["2/a.jpg"] == 2 and found["10/a.jpg"] == 10


def test_labels_that_are_numbers_go_before_indices(tmp_path):
    make(tmp_path, "1/a.jpg", "2/a.jpg")
    found = read_image_set(tmp_path, ("1", "10", "2"))
    assert classes(found, tmp_path) == {"1/a.jpg": 0, "2/a.jpg": 2}


def test_a_few_of_imagenets_classes_by_their_wordnet_numbers(tmp_path):
    make(tmp_path, "n07920052/a.jpg", "n01440764/b.jpg")
    found = read_image_set(tmp_path, imagenet_labels())
    assert classes(found, tmp_path) == {"n01440764/b.jpg": 0, "n07920052/a.jpg": 967}
    shifted = read_image_set(tmp_path, ("background", *imagenet_labels()))
    assert classes(shifted, tmp_path) == {"n01440764/b.jpg": 1, "n07920052/a.jpg": 968}


def test_the_table_of_wordnet_numbers_is_in_order_and_whole():
    synsets = imagenet_synsets()
    assert len(set(synsets)) == 1000 and list(synsets) == sorted(synsets)
    labels = imagenet_labels()
    for synset, label in (("n02123045", "tabby"), ("n03642806", "laptop"), ("n07753592", "banana")):
        assert labels[synsets.index(synset)] == label


def test_foreign_names_as_many_as_classes_are_taken_alphabetically_and_it_is_said(tmp_path):
    make(tmp_path, "katze/a.jpg", "hund/b.jpg", ".cache/x.jpg")
    (tmp_path / "dogge").mkdir()
    found = read_image_set(tmp_path, PETS)
    assert classes(found, tmp_path) == {"hund/b.jpg": 1, "katze/a.jpg": 2}
    assert "dogge for cat, ..., katze for Great Dane" in found.notes[0]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("cat/a.jpg", "dgo/a.jpg", "Great Dane/a.jpg"), "'dgo' is no class.*did you mean dog"),
        (("hund/a.jpg", "katze/a.jpg"), "'hund' is no class.*give its labels .cat, dog"),
        (("cat/a.jpg", "7/a.jpg"), "'7' is no class of the model, while 'cat' is its class 0"),
        (("0/a.jpg", "3/a.jpg"), "'3' is no class of the model, while '0' is its class 0 .cat.*2"),
    ],
)
def test_a_folder_that_is_no_class_is_named(tmp_path, names, said):
    make(tmp_path, *names)
    with pytest.raises(UsageError, match=said):
        read_image_set(tmp_path, PETS)


def test_images_beside_the_class_folders_are_left_out_with_a_note(tmp_path):
    make(tmp_path, "cat/a.jpg", "stray.jpg", "stray2.jpg")
    found = read_image_set(tmp_path, PETS)
    assert len(found.images) == 1
    assert "2 images beside" in found.notes[0]


def test_a_flat_folder_needs_a_label_file_or_another_model(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(UsageError, match=r"--labels-file FILE.*--against OTHER"):
        read_image_set(tmp_path, PETS)
    found = read_image_set(tmp_path, PETS, need_labels=False)
    assert classes(found, tmp_path) == {"a.jpg": None, "b.jpg": None}
    assert not found.labelled and not found.notes


def test_without_need_of_labels_unknown_folders_are_just_folders(tmp_path):
    make(tmp_path, "2024/a.jpg", "b.jpg")
    found = read_image_set(tmp_path, PETS, need_labels=False)
    assert len(found.images) == 2 and not found.labelled
    assert "no hits are counted" in found.notes[0] and "'2024'" in found.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg 0\nsub/b.jpg 2\n",
        "a.jpg\tcat\r\nb.jpg\tGreat Dane\r\n",
        "name,class\na.jpg,0\nsub/b.jpg,2",
        "\ufefffile;x y\na 0\nb 2\n",
        'a.jpg,cat,train\n\n"val/sub/b.jpg", "great_dane",test\n',
        "a.jpg cat\nb.jpg Great Dane",
        "sub\\b.jpg 2\nval\\a.jpg 0\n",
    ],
)
def test_label_files_as_people_have_them(tmp_path, text):
    folder = make(tmp_path / "data", "a.jpg", "sub/b.jpg")
    assert classes(labelled(folder, text), folder) == {"a.jpg": 0, "sub/b.jpg": 2}


def test_names_and_labels_with_spaces_and_commas(tmp_path):
    folder = make(tmp_path / "data", "my photo, 1.jpg", "a.jpg")
    text = '"my photo, 1.jpg",cat\na.jpg,"dog, big"\n'
    found = labelled(folder, text, ("cat", "dog, big"))
    assert classes(found, folder) == {"a.jpg": 1, "my photo, 1.jpg": 0}
    make(folder, "my photo.jpg")
    found = labelled(folder, "my photo.jpg   cat\na.jpg dog, big", ("cat", "dog, big"))
    assert classes(found, folder) == {"my photo.jpg": 0, "a.jpg": 1}


def test_kaggles_file_of_classes_with_boxes(tmp_path):
    folder = make(tmp_path / "data", "ILSVRC2012_val_00048981.JPEG", "ILSVRC2012_val_00037956.JPEG")
    text = (
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00048981,n03995372 85 1 499 272 \n"
        "ILSVRC2012_val_00037956,n03481172 131 0 499 254 n03481172 0 0 3 4\n"
    )
    found = classes(labelled(folder, text, imagenet_labels()), folder)
    assert found == {"ILSVRC2012_val_00037956.JPEG": 587, "ILSVRC2012_val_00048981.JPEG": 740}


def test_images_on_one_side_only_are_counted_in_notes(tmp_path):
    folder = make(tmp_path / "data", "a.jpg", "b.jpg", "c.jpg")
    found = labelled(folder, "a.jpg 0\nz.jpg 1\n")
    assert classes(found, folder) == {"a.jpg": 0}
    assert "1 of 2 images of" in found.notes[0] and "left out: 2 images" in found.notes[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("490\n361\n", r"line 1: expected an image's name and its class.*not '490'"),
        ("a.jpg 0\nb.jpg\n", "line 2: expected"),
        ("a.jpg 0\nb.jpg 3\n", "'3' is no class of the model, while '0'"),
        ("a.jpg 0\na.jpg 1\n", "line 2: a.jpg has another class"),
        ("x.jpg 0\ny.jpg 1\n", "names 2 images, and none is in .*the first is x.jpg"),
        ("same.jpg 0\n", "several images called same.jpg"),
        ('a.jpg,"0\n', "line 1"),
        ("", "names no images"),
        ("image,label\n", "names no images"),
        (b"a.jpg \xff\n", "not UTF-8"),
    ],
)
def test_bad_label_files_are_refused_with_the_place(tmp_path, text, said):
    folder = make(tmp_path / "data", "a.jpg", "b.jpg", "1/same.jpg", "2/same.jpg")
    with pytest.raises(UsageError, match=said) as refused:
        labelled(folder, text)
    assert str(tmp_path / "labels.txt") in str(refused.value)


def test_missing_folders_and_files_are_usage_errors(tmp_path):
    make(tmp_path, "notes.txt", "data/a.jpg")
    for folder, said in (
        ("none", "doesn't exist"),
        ("notes.txt", "is no folder"),
        ("a" * 300, "a doesn't exist"),
    ):
        with pytest.raises(UsageError, match=said):
            read_image_set(tmp_path / folder, PETS)
    with pytest.raises(UsageError, match="there is no label file"):
        read_image_set(tmp_path / "data", PETS, tmp_path / "none.txt")
    (tmp_path / "data" / "a.jpg").unlink()
    with pytest.raises(UsageError, match="no image files"):
        read_image_set(tmp_path / "data", PETS)


def test_a_sample_is_always_the_same_and_of_all_classes(tmp_path):
    make(tmp_path, *(f"{label}/{number:03}.jpg" for label in PETS for number in range(100)))
    found = read_image_set(tmp_path, PETS)
    sample = found.sample(60)
    assert sample == found.sample(60) == found.sample(90)[:60]
    assert len(set(sample)) == 60
    for label in range(3):
        assert 10 <= sum(image.label == label for image in sample) <= 30
    assert sorted(found.sample(), key=lambda image: image.path) == list(found.images)
    assert len(found.sample(1000)) == 300


def test_two_labels_that_differ_by_case_only_are_told_apart():
    assert class_indices(["Crane", "crane"], ("crane", "Crane")) == {"Crane": 1, "crane": 0}
    with pytest.raises(UsageError, match="'CRANE'"):
        class_indices(["CRANE"], ("crane", "Crane"))
    with pytest.raises(UsageError, match="'cat'"):
        class_indices(["cat"], ("cat", "cat"))
