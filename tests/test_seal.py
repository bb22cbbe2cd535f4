from __future__ import annotations

import hashlib
import tracemalloc

import pytest

from effnet_edge.errors import ModelError, ModelNotFoundError
from effnet_edge.seal import MARKER, PLACEHOLDER, seal, verify


@pytest.fixture
def sealed(tmp_path):
    data = bytearray(b"before " + PLACEHOLDER + b" after")
    digest = seal(data)
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return path, digest


def test_the_seal_is_the_digest_of_the_file_with_its_digits_zeroed(sealed):
    path, digest = sealed
    data = path.read_bytes()
    assert digest.encode() in data
    assert hashlib.sha256(data.replace(digest.encode(), b"0" * 64)).hexdigest() == digest
    assert verify(path) == digest


def test_a_change_of_any_byte_is_noticed(sealed):
    path, _ = sealed
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ModelError):
            verify(path)


def test_a_file_cut_anywhere_is_noticed(sealed):
    path, _ = sealed
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError, match="again"):
            verify(path)


def test_bytes_appended_are_noticed(sealed):
    path, _ = sealed
    with path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="changed or damaged"):
        verify(path)


def test_a_second_seal_is_refused(sealed):
    path, _ = sealed
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ModelError, match="two seals"):
        verify(path)


@pytest.mark.parametrize("early", range(0, len(PLACEHOLDER) + 2, 5))
def test_a_seal_across_the_border_of_two_pieces_is_found(tmp_path, early):
    data = bytearray(b"x" * ((1 << 20) - early)) + PLACEHOLDER + b"y" * 100
    digest = seal(data)
    path = tmp_path / "model"
    path.write_bytes(data)
    assert verify(path) == digest


def test_the_beginning_of_a_marker_is_not_a_seal(tmp_path):
    data = bytearray(MARKER[:-1] + b"?" + PLACEHOLDER + MARKER[:5])
    path = tmp_path / "model"
    digest = seal(data)
    path.write_bytes(data)
    assert verify(path) == digest


def test_a_foreign_file_has_no_seal(tmp_path):
    path = tmp_path / "foreign.onnx"
    path.write_bytes(b"\x08\x08 something else")
    with pytest.raises(ModelError, match=r"no seal.*effnet-edge convert"):
        verify(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no model file"):
        verify(tmp_path / "absent.onnx")


def test_a_folder_cannot_be_verified(tmp_path):
    with pytest.raises(ModelError, match="can't be read"):
        verify(tmp_path)


@pytest.mark.parametrize("data", [b"", b"no seal", MARKER + b"1" * 64, MARKER + b"0" * 63])
def test_only_a_place_that_was_kept_free_is_sealed(data):
    with pytest.raises(ModelError):
        seal(bytearray(data))


def test_a_label_that_looks_like_a_seal_is_refused():
    with pytest.raises(ModelError, match="label"):
        seal(bytearray(PLACEHOLDER + b"\ncat\n" + MARKER))


def test_verifying_a_large_file_takes_little_memory(tmp_path):
    path = tmp_path / "large"
    data = bytearray(64 << 20)
    data[1000 : 1000 + len(PLACEHOLDER)] = PLACEHOLDER
    digest = seal(data)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        assert verify(path) == digest
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
