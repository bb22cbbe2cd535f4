"""Containers: what is read from a checkpoint file, and what is refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file
from synthetic import (
    Bfloat16,
    Call,
    Name,
    View,
    pickled,
    write_torch_legacy,
    write_torch_zip,
)

from effnet_edge.converters.checkpoint import read_checkpoint
from effnet_edge.errors import CheckpointError

STEM = "conv_stem.weight"


def small(dtype=np.float32):
    rng = np.random.default_rng(0)
    return {
        STEM: rng.standard_normal((4, 3, 3, 3)).astype(dtype),
        "bn1.weight": rng.standard_normal(4).astype(dtype),
        "bn1.num_batches_tracked": np.asarray(7, np.int64),
    }


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_torch_tensors_come_back_as_float32(tmp_path, write, dtype):
    saved = small(dtype)
    checkpoint = read_checkpoint(write(tmp_path / "a.bin", saved))
    assert list(checkpoint.tensors) == [STEM, "bn1.weight"]
    for name, values in checkpoint.tensors.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, saved[name].astype(np.float32))


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
def test_bfloat16_is_widened_exactly(tmp_path, write):
    values = np.asarray([1.0, -2.5, 3e38, 0.0078125], np.float32)
    checkpoint = read_checkpoint(write(tmp_path / "a.pt", {STEM: Bfloat16(values)}))
    expected = (values.view(np.uint32) >> 16 << 16).view(np.float32)
    np.testing.assert_array_equal(checkpoint.tensors[STEM], expected)


def test_a_big_endian_zip_is_read(tmp_path):
    saved = small()
    checkpoint = read_checkpoint(write_torch_zip(tmp_path / "a.pt", saved, order="big"))
    np.testing.assert_array_equal(checkpoint.tensors[STEM], saved[STEM])


def test_float32_is_mapped_and_not_copied(tmp_path):
    tensor = read_checkpoint(write_torch_zip(tmp_path / "a.pt", small())).tensors[STEM]
    assert not tensor.flags.owndata
    assert not tensor.flags.writeable


def test_strided_views_of_one_storage_are_read(tmp_path):
    data = np.arange(24, dtype=np.float32)
    saved = {STEM: View(data, 1, (3, 4), (1, 5))}
    tensor = read_checkpoint(write_torch_zip(tmp_path / "a.pt", saved)).tensors[STEM]
    np.testing.assert_array_equal(tensor, 1 + np.arange(3)[:, None] + 5 * np.arange(4))


def test_safetensors_of_all_float_types_are_read(tmp_path):
    saved = small()
    save_file(saved, tmp_path / "a.safetensors")
    checkpoint = read_checkpoint(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(checkpoint.tensors[STEM], saved[STEM])
    header = b'{"conv_stem.weight":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    body = np.asarray([1.5, -8.0], np.float32).view(np.uint16)[1::2].tobytes()
    (tmp_path / "b").write_bytes(struct.pack("<q", len(header)) + header + body)
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "b").tensors[STEM], [1.5, -8.0])


def test_the_digest_is_that_of_the_file(tmp_path):
    path = write_torch_zip(tmp_path / "a.pt", small())
    assert read_checkpoint(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "weights"])
def test_wrappers_are_opened(tmp_path, key):
    saved = {"epoch": 3, key: small(), "optimizer": {"state": {0: {"exp_avg": np.ones(3)}}}}
    assert STEM in read_checkpoint(write_torch_zip(tmp_path / "a.pt", saved)).tensors


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "net.", "backbone.", "module._orig_mod.model."]
)
def test_prefixes_are_stripped(tmp_path, prefix):
    saved = {prefix + name: values for name, values in small().items()}
    checkpoint = read_checkpoint(write_torch_zip(tmp_path / "a.pt", {"state_dict": saved}))
    assert list(checkpoint.tensors) == [STEM, "bn1.weight"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda plain, ema: {"state_dict": plain, "state_dict_ema": ema},
        lambda plain, ema: {"model": plain, "model_ema": ema},
        lambda plain, ema: {
            **{f"model.{key}": value for key, value in plain.items()},
            **{f"ema_model.{key}": value for key, value in ema.items()},
        },
    ],
)
def test_the_averaged_copy_is_preferred_and_said(tmp_path, wrap):
    plain = small()
    ema = {name: values * 2 for name, values in plain.items()}
    checkpoint = read_checkpoint(write_torch_zip(tmp_path / "a.pt", wrap(plain, ema)))
    np.testing.assert_array_equal(checkpoint.tensors[STEM], ema[STEM])
    assert any("EMA" in note for note in checkpoint.notes)


def test_an_empty_averaged_copy_is_passed_over(tmp_path):
    saved = {"state_dict": small(), "state_dict_ema": {}}
    checkpoint = read_checkpoint(write_torch_zip(tmp_path / "a.pt", saved))
    assert STEM in checkpoint.tensors
    assert checkpoint.notes == ()


def test_two_sets_without_a_reason_to_choose_are_both_named(tmp_path):
    message = refusal(write_torch_zip(tmp_path / "a.pt", {"student": small(), "teacher": small()}))
    assert "student" in message
    assert "teacher" in message


def test_what_training_scripts_leave_beside_the_weights_does_no_harm(tmp_path):
    options = Call(
        Name("copy_reg", "_reconstructor"),
        (Name("argparse", "Namespace"), Name("__builtin__", "object"), None),
        {"model": "tf_efficientnet_b0", "lr": 0.1},
    )
    scalar = Call(
        Name("numpy.core.multiarray", "scalar"),
        (Call(Name("numpy", "dtype"), ("f8", 0, 1)), "abc"),
    )
    saved = {
        "args": options,
        "metric": scalar,
        "device": Call(Name("torch", "device"), ("cuda", 0)),
        "path": Call(Name("pathlib", "PosixPath"), ("a", "b")),
        "version": Call(Name("torch.torch_version", "TorchVersion"), ("2.13",)),
        "size": Call(Name("torch", "Size"), ((1, 2),)),
        "history": Call(Name("collections", "defaultdict"), (Name("__builtin__", "list"),)),
        "state_dict": small(),
    }
    checkpoint = read_checkpoint(write_torch_zip(tmp_path / "a.pt", saved))
    assert STEM in checkpoint.tensors
    assert checkpoint.arch_hint == "tf_efficientnet_b0"


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
def test_a_pickle_that_calls_os_system_is_refused_by_name(tmp_path, write):
    witness = tmp_path / "witness"
    saved = {**small(), "x": Call(Name("os", "system"), (f"touch {witness}",))}
    message = refusal(write(tmp_path / "a.pt", saved))
    assert "os.system" in message
    assert "nothing was run" in message
    assert not witness.exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "builtins getattr", "posix system", "subprocess Popen", "torch load"]
)
def test_other_dangerous_names_are_refused(tmp_path, name):
    module, function = name.split()
    saved = {"a": Call(Name(module, function), ("1",)), **small()}
    assert f"{module}.{function}" in refusal(write_torch_zip(tmp_path / "a.pt", saved))


def test_a_protocol_4_stack_global_is_refused_too(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": Evil()}, protocol=4))
    assert "system" in refusal(path)


def test_a_whole_pickled_model_is_refused_with_the_way_out(tmp_path):
    model = Call(Name("timm.models.efficientnet", "EfficientNet"), ())
    message = refusal(write_torch_zip(tmp_path / "a.pt", {"model": model}))
    assert "torch.save(model.state_dict(), FILE)" in message


@pytest.mark.parametrize(
    "view",
    [
        View(np.ones(8, np.float32), 0, (3, 3), (3, 1)),
        View(np.ones(8, np.float32), 6, (3,), (1,)),
        View(np.ones(8, np.float32), -4, (3,), (1,)),
        View(np.ones(8, np.float32), 0, (3,), (-1,)),
        View(np.ones(8, np.float32), 0, (2**40, 2**40), (0, 0)),
        View(np.ones(8, np.float32), 0, (2,) * 60, (0,) * 60),
        View(np.ones(8, np.float32), 0, (True,), (1,)),
        View(np.ones(8, np.float32), 0, (0, 2**62), (1, 1)),
        View(np.ones(8, np.float32), 0, (1, 8), (2**70, 1)),
    ],
)
@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
def test_a_tensor_that_reaches_outside_its_storage_is_refused(tmp_path, write, view):
    refusal(write(tmp_path / "a.pt", {STEM: view}))


def test_no_elements_of_impossible_sides_are_no_elements(tmp_path):
    saved = {**small(), "x": View(np.ones(8, np.float32), 0, (2**31, 2**31, 2**31, 0), (0,) * 4)}
    tensors = read_checkpoint(write_torch_zip(tmp_path / "a.pt", saved)).tensors
    assert tensors["x"].size == 0


def test_safetensors_of_impossible_shape_are_refused(tmp_path):
    header = b'{"x":{"dtype":"F32","shape":[2147483648,2147483648,0],"data_offsets":[0,0]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<q", len(header)) + header)
    assert "tensor x has an impossible shape" in refusal(path)


def test_a_legacy_protocol_of_nested_lists_is_refused_without_being_shown(tmp_path):
    # Each list holds the one before twice: printed, these 40 would be a trillion.
    lists = b"]q\x00" + b"".join(
        b"](h%ch%ceq%c" % (level - 1, level - 1, level) for level in range(1, 40)
    )
    path = tmp_path / "a.pt"
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    path.write_bytes(magic + b"\x80\x02" + lists + b".")
    assert "protocol" in refusal(path)


def test_a_pickle_of_over_16_megabytes_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * (9 << 20) + b"N.")
    assert "MB of pickle" in refusal(path)


def test_a_storage_shorter_than_claimed_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    document, storages = pickled({STEM: np.ones(1000, np.float32)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", document)
        archive.writestr("archive/data/0", storages["0"][:10].tobytes())
    assert "shorter" in refusal(path)


def test_tensors_among_the_options_do_not_confuse_a_legacy_file(tmp_path):
    queue = Call(Name("collections", "deque"), ([np.ones(5, np.float16)],))
    saved = {"history": queue, "state_dict": small()}
    tensor = read_checkpoint(write_torch_legacy(tmp_path / "a.pt", saved)).tensors[STEM]
    np.testing.assert_array_equal(tensor, small()[STEM])


def test_a_thousand_copies_of_one_storage_are_refused(tmp_path):
    data = np.ones(1000, np.float16)
    shared = View(data, 0, (1000,), (1,))
    saved = {STEM: shared, **{f"t{index}": shared for index in range(1000)}}
    assert "refused" in refusal(write_torch_zip(tmp_path / "a.pt", saved))


def test_a_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    write_torch_zip(path, {STEM: np.zeros(10_000_000, np.float32)}, compression=8)
    assert path.stat().st_size < 1_000_000
    assert "compressed" in refusal(path)


def test_overlapping_zip_entries_are_refused(tmp_path):
    path = write_torch_zip(tmp_path / "a.pt", small())
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", directory + 4)
    third = data.index(b"PK\x01\x02", second + 4)
    data[third + 42 : third + 46] = data[second + 42 : second + 46]
    path.write_bytes(data)
    refusal(path)


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
def test_a_file_cut_anywhere_is_refused(tmp_path, write):
    whole = write(tmp_path / "whole", small()).read_bytes()
    cut = tmp_path / "cut"
    for length in range(1, len(whole) - 4, 37):
        cut.write_bytes(whole[:length])
        refusal(cut)


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_legacy])
def test_flipped_bytes_give_an_error_or_a_checkpoint_and_nothing_else(tmp_path, write):
    whole = write(tmp_path / "whole", small()).read_bytes()
    rng = random.Random(0)
    broken = tmp_path / "broken"
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        broken.write_bytes(data)
        try:
            read_checkpoint(broken)
        except CheckpointError:
            continue


@pytest.mark.parametrize(
    "document",
    [
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02}" + b"(" * 100_000 + b".",
        b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.",
    ],
    ids=["memo index", "bytes8", "bytearray8", "nested lists", "marks", "nested tuple as key"],
)
def test_pickles_that_ask_for_the_impossible_are_refused(tmp_path, document):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", document)
    refusal(path)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>403</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"\x1f\x8b" + bytes(100), "compressed"),
        (b"\x1c\0\0\0TFL3" + bytes(100), "TFLite"),
        (bytes(257) + b"ustar" + bytes(300), "tar"),
        (pickle.dumps({"a": 1}), "plain pickle"),
        (b"what is this?" * 10, "no checkpoint"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "damaged"),
        (struct.pack("<q", 20) + b'{"a":1              }', "safetensors"),
    ],
)
def test_other_files_are_told_apart(tmp_path, content, word):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert word in refusal(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    assert "no file" in refusal(tmp_path / "missing.pth")
    assert "folder" in refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is no regular file" in refusal(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    assert "is no regular file" in refusal(tmp_path / "link")
    assert "is no regular file" in refusal(tmp_path)


def test_a_path_with_a_nul_character_is_refused():
    with pytest.raises(CheckpointError, match="can't be read"):
        read_checkpoint(Path("a\0b.pth"))


def test_torchscript_and_numpy_archives_are_told_apart(tmp_path):
    path = tmp_path / "a.pt"
    write_torch_zip(path, {}, extra=[("archive/code/x.py", ""), ("archive/constants.pkl", "")])
    assert "TorchScript" in refusal(path)
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    assert "NumPy" in refusal(tmp_path / "a.npz")


def test_a_checkpoint_without_tensors_is_refused(tmp_path):
    assert "no tensors" in refusal(write_torch_zip(tmp_path / "a.pt", {"epoch": 3}))


def test_hdf5_that_reaches_into_other_files_is_refused(tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["kernel"] = np.ones(3)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["stem_conv/kernel"] = h5py.ExternalLink(str(secret), "kernel")
    assert "not followed" in refusal(tmp_path / "link.h5")
    (tmp_path / "raw").write_bytes(b"secret" * 10)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset(
            "stem_conv/kernel", (12,), "u1", external=[(str(tmp_path / "raw"), 0, 12)]
        )
    assert "not opened" in refusal(tmp_path / "external.h5")
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "kernel", (3,))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("stem_conv/kernel", layout)
    assert "not opened" in refusal(tmp_path / "virtual.h5")


def test_hdf5_that_declares_terabytes_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("stem_conv/kernel", (2**40,), "f4", chunks=(1024,), compression="gzip")
    assert "more values" in refusal(tmp_path / "a.h5")


@pytest.mark.parametrize("options", [{}, {"chunks": (4096,), "compression": "gzip"}])
def test_hdf5_that_declares_values_it_never_stored_is_refused(tmp_path, options):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("stem_conv/kernel", (60_000_000,), "f8", **options)
    assert (tmp_path / "a.h5").stat().st_size < 10_000
    assert "declares 480000000 bytes and stores 0" in refusal(tmp_path / "a.h5")


def test_hdf5_that_compresses_its_zeros_is_read(tmp_path):
    values = np.zeros((4, 3000), np.float32)
    values[0, ::7] = np.random.default_rng(0).standard_normal(429)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("stem_conv/kernel", data=values, compression="gzip")
        file["stem_conv/none"] = h5py.Empty("f4")
    tensors = read_checkpoint(tmp_path / "a.h5").tensors
    assert list(tensors) == ["stem_conv/kernel"]
    np.testing.assert_array_equal(tensors["stem_conv/kernel"], values)


@pytest.mark.parametrize("number", ["\N{SUPERSCRIPT TWO}", "9" * 5000])
def test_keras_variables_of_no_sensible_number_are_passed_over(tmp_path, number):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones(3, np.float32)
        file[f"layers/conv2d/vars/{number}"] = np.ones(3, np.float32)
        file[f"layers/conv2d_{number}/vars/0"] = np.ones(3, np.float32)
    assert "conv2d/kernel" in read_checkpoint(tmp_path / "a.h5").tensors


def test_hdf5_whose_groups_form_a_ring_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("a")
        group["again"] = group
    refusal(tmp_path / "a.h5")


def test_a_keras_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", 8) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(20_000_000))
    assert "refused" in refusal(path)
    rng = random.Random(0)
    sparse = b"".join(rng.randbytes(100) + bytes(9_900) for _ in range(2_000))
    with zipfile.ZipFile(path, "w", 8) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", sparse)
    assert path.stat().st_size > len(sparse) // 200
    assert "refused" in refusal(path)
