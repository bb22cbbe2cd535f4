"""Label files as people have them, and the mistakes they hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnet_edge.converters.labels import default_labels, imagenet_labels, read_labels
from effnet_edge.errors import UsageError

ANIMALS = ("cat", "dog", "tench, Tinca tinca")


def write(tmp_path, content):
    path = tmp_path / "labels.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_imagenet_has_1000_distinct_names_in_the_order_everybody_uses():
    labels = imagenet_labels()
    assert len(labels) == 1000
    assert len({label.lower() for label in labels}) == 1000
    assert all(label == label.strip() and label.isprintable() for label in labels)
    assert labels[0] == "tench"
    assert labels[281] == "tabby"
    assert labels[388] == "giant panda"
    assert labels[967] == "espresso"
    assert labels[999] == "toilet tissue"


def test_names_that_two_classes_share_are_told_apart():
    labels = imagenet_labels()
    assert (labels[134], labels[517]) == ("crane bird", "crane")
    assert (labels[638], labels[639]) == ("maillot", "maillot tank suit")
    assert (labels[264], labels[474]) == ("Cardigan Welsh corgi", "cardigan")


def test_a_head_with_a_background_class_is_recognised():
    labels, note = default_labels(1001)
    assert labels[0] == "background"
    assert labels[1:] == imagenet_labels()
    assert "1001" in note
    assert default_labels(1000) == (imagenet_labels(), None)


def test_classes_without_names_are_numbered_with_a_note():
    labels, note = default_labels(3)
    assert labels == ("class 0", "class 1", "class 2")
    assert "--labels" in note


@pytest.mark.parametrize(
    "content",
    [
        "cat\ndog\ntench, Tinca tinca\n",
        "cat\ndog\ntench, Tinca tinca",
        "cat\r\ndog\r\ntench, Tinca tinca\r\n\r\n\n",
        "cat\rdog\rtench, Tinca tinca",
        b"\xef\xbb\xbfcat\ndog\ntench, Tinca tinca\n",
        "  cat \n\tdog\ntench, Tinca tinca\n",
        '["cat", "dog", "tench, Tinca tinca"]',
        '{"0": "cat", "2": "tench, Tinca tinca", "1": "dog"}',
        '{"dog": 1, "cat": 0, "tench, Tinca tinca": 2}',
        "0,cat\n1,dog\n2,tench, Tinca tinca\n",
        '2, "tench, Tinca tinca"\n0, cat\n1, dog\n',
        b'\xef\xbb\xbf\r\n ["cat", "dog", "tench, Tinca tinca"]',
    ],
)
def test_every_common_form_gives_the_same_labels(tmp_path, content):
    assert read_labels(write(tmp_path, content), 3) == ANIMALS


def test_labels_that_are_numbers_stay_labels(tmp_path):
    assert read_labels(write(tmp_path, "7\n8\n9\n"), 3) == ("7", "8", "9")


def test_two_classes_may_share_a_label_in_a_users_own_file(tmp_path):
    assert read_labels(write(tmp_path, "other\ncat\nother\n"), 3) == ("other", "cat", "other")


def test_labels_of_any_language_are_kept(tmp_path):
    assert read_labels(write(tmp_path, "Küche\n猫\nقطة\n"), 3) == ("Küche", "猫", "قطة")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("cat\ndog\n", "has 2 labels, and the checkpoint has 3 classes"),
        ("a\nb\nc\nd\n", "has 4 labels, and the checkpoint has 3 classes"),
        ("", "has 0 labels, and the checkpoint has 3 classes"),
        ("a\n\nc\n", "line 2 is empty"),
        ('["a", "", "c"]', "class 1 is empty"),
        ('["a", 1, "c"]', "strings only"),
        ('["a", "b"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"0": "a", "1": "b", "3": "c"}', "class 2 has no label; indices go from 0 to 2"),
        ('{"a": 0, "b": 1, "c": 1}', "class 1 is both 'b' and 'c'"),
        ('{"0": "a", "0": "b", "1": "c"}', "'0' occurs twice"),
        ('{"a": -1, "b": 0, "c": 1}', "class 2 has no label"),
        ('{"a": true, "b": 0, "c": 1}', "neither"),
        ('{"a": "x", "b": "y", "c": "z"}', "neither"),
        ("0,a\n0,b\n1,c\n", "class 0 is both 'a' and 'b'"),
        ("0,a\n1,b\n5,c\n", "class 2 has no label"),
        (b"a\n\0b\nc\n", "control character"),
        ('["a", "b\\nc", "d"]', "control character"),
        ('["a", "\\ud800", "d"]', "control character"),
        (b"a\n\x1b[31mb\nc\n", "control character"),
        ("a\nb\u2028c\nd\n", "control character"),
        (b"caf\xe9\nb\nc\n", "not UTF-8"),
        ("a\nb\nc".encode("utf-16"), "not UTF-8"),
        ("a\n" + "b" * 501 + "\nc\n", "501 characters"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_reason(tmp_path, content, complaint):
    path = write(tmp_path, content)
    with pytest.raises(UsageError, match=complaint) as caught:
        read_labels(path, 3)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no label file"):
        read_labels(tmp_path / "none.txt", 3)
    with pytest.raises(UsageError, match="can't read the label file"):
        read_labels(tmp_path, 3)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(UsageError, match="too large"):
        read_labels(path, 3)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_escape_the_user_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_bytes(data)
    try:
        labels = read_labels(path, 2)
    except UsageError:
        return
    assert len(labels) == 2
    assert all("\n" not in label and label for label in labels)


@given(st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1)))
def test_a_json_list_gives_back_what_went_in(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    path.write_text(json.dumps(labels), encoding="utf-8")
    assert read_labels(path, len(labels)) == tuple(labels)
