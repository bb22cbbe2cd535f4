"""What a benchmark runs: models by phi, name, pattern or path; what is missing is a row."""

from __future__ import annotations

import bench_sessions as sessions
import numpy as np
import pytest
import small_models

from effnet_edge.bench import cells as bench_cells
from effnet_edge.bench.cells import Wanted, asks_for, plan_cells
from effnet_edge.engines import ENGINES
from effnet_edge.store import ModelStore


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ModelStore:
    """B0 in fp32 in both formats, "B1" in int8 as .onnx, Lite0 as .tflite, and a broken file."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "models"
    small_models.write_small_models(folder)
    for name, kept, changes in (
        ("efficientnet-b1-int8", "onnx", {"phi": 1, "precision": "int8"}),
        ("efficientnet-lite0-fp32", "tflite", {"family": "lite"}),
    ):
        made = small_models.write_small_models(home / name, name=name, **changes)
        made[kept].rename(folder / f"{name}.{kept}")  # its name is the default one's
    (folder / "broken.onnx").write_bytes(b"\x08\x08 no model")
    return ModelStore(home)


@pytest.fixture(autouse=True)
def both_engines(monkeypatch):
    installed = (ENGINES["onnxruntime"], ENGINES["litert"])
    monkeypatch.setattr(bench_cells, "available_engines", lambda: installed)


def planned(store, **wanted):
    return plan_cells(Wanted(**{"threads": (2,), **wanted}), store)


def rows(cells):
    return [(cell.name, cell.engine, cell.error is None) for cell in cells]


def test_by_default_all_models_run_on_all_installed_engines(store):
    assert rows(planned(store)) == [
        ("efficientnet-lite0-fp32", "litert", True),
        ("efficientnet-b0-fp32", "onnxruntime", True),
        ("efficientnet-b0-fp32", "litert", True),
        ("efficientnet-b1-int8", "onnxruntime", True),
        ("broken", "onnxruntime", False),
    ]


def test_phi_names_the_standard_family_and_what_it_lacks(store):
    found = planned(store, phis=(0, 1, 5))
    assert rows(found)[:3] == [
        ("efficientnet-b0-fp32", "onnxruntime", True),
        ("efficientnet-b0-fp32", "litert", True),
        ("efficientnet-b1-int8", "onnxruntime", True),
    ]
    (missing,) = found[3:]
    assert missing.name == "efficientnet-b5"
    assert "effnet-edge convert --phi 5" in missing.error


def test_a_broken_member_of_the_family_is_no_missing_one(store):
    path = store.folder / "efficientnet-b3-int8.onnx"
    path.write_bytes(b"\x08\x08 no model")
    try:
        for precisions in ((), ("int8",)):
            (cell,) = planned(store, phis=(3,), precisions=precisions)
            assert cell.name == "efficientnet-b3-int8"
            assert "not in the store" not in cell.error
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("name", "wanted", "shown"),
    [
        ("efficientnet-b3-int8", {"precisions": ("int8",)}, True),
        ("efficientnet-b3-int8", {"precisions": ("fp32",)}, False),
        ("efficientnet-lite1-int8", {"lite": True}, True),
        ("efficientnet-b3-int8", {"lite": True}, False),
        ("flowers", {"lite": True, "precisions": ("int8",)}, True),
        ("flowers", {"phis": (0,)}, False),
    ],
)
def test_a_broken_model_is_told_of_unless_its_name_says_it_was_not_asked_for(
    store, tmp_path, name, wanted, shown
):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{name}.onnx").write_bytes(b"\x08\x08 no model")
    found = {cell.name for cell in planned(ModelStore(tmp_path), **wanted)}
    assert (name in found) == shown


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ({}, True),
        ({"phis": (2,), "precisions": ("int8",)}, True),
        ({"phis": (3,)}, False),
        ({"lite": True}, False),
        ({"precisions": ("fp32",)}, False),
        ({"engines": ("onnxruntime",)}, False),
        ({"threads": (2,)}, False),
        ({"models": ("efficientnet-b2-*",)}, True),
        ({"models": ("models/efficientnet-b2-int8.onnx",)}, True),
        ({"models": ("flowers",)}, False),
    ],
    ids=str,
)
def test_what_was_measured_once_is_asked_for_again_by_the_same_words(wanted, asked):
    model = sessions.facts(phi=2)
    cell = sessions.a_cell(np.random.default_rng(0), 20.0, model, "litert", threads=4)
    assert asks_for(Wanted(**{"threads": (4,), **wanted}), cell) == asked


def test_lite_with_a_precision_names_what_to_convert(store):
    found = planned(store, phis=(0, 1), lite=True, precisions=("fp32", "int8"))
    assert rows(found)[0] == ("efficientnet-lite0-fp32", "litert", True)
    lacking = {cell.name: cell.error for cell in found[1:]}
    assert set(lacking) == {
        "efficientnet-lite0-int8",
        "efficientnet-lite1-fp32",
        "efficientnet-lite1-int8",
    }
    assert "convert --phi 0 --weights lite --int8" in lacking["efficientnet-lite0-int8"]


def test_threads_multiply_the_cells(store):
    found = planned(store, models=("efficientnet-b1-int8",), threads=(1, 2, 4))
    assert [cell.threads for cell in found] == [1, 2, 4]


def test_models_are_named_by_pattern_path_or_name(store, tmp_path):
    made = small_models.write_small_models(tmp_path, name="flowers")
    found = planned(
        store, models=("efficientnet-*-fp32", str(made["onnx"]), "none-*", "efficientnet-b7-int8")
    )
    assert {cell.name for cell in found if cell.error is None} == {
        "efficientnet-lite0-fp32",
        "efficientnet-b0-fp32",
        "flowers",
    }
    lacking = {cell.name: cell.error for cell in found if cell.error is not None}
    assert "no model of the store" in lacking["none-*"]
    assert "convert --phi 7 --int8" in lacking["efficientnet-b7-int8"]


def test_two_files_of_one_name_are_told_apart(store, tmp_path):
    made = small_models.write_small_models(tmp_path)
    found = planned(
        store, models=("efficientnet-b0-fp32", str(made["onnx"])), engines=("onnxruntime",)
    )
    assert [cell.name for cell in found] == [
        "efficientnet-b0-fp32",
        f"efficientnet-b0-fp32 ({made['onnx']})",
    ]
    assert found[0].path != found[1].path


def test_an_engine_that_was_asked_for_but_cannot_run_is_a_row(store, tmp_path):
    found = planned(store, phis=(0, 1), engines=("litert", "tflite-runtime"))
    errors = {(cell.name, cell.engine): cell.error for cell in found}
    assert errors["efficientnet-b0-fp32", "litert"] is None
    assert "no .tflite file" in errors["efficientnet-b1-int8", "litert"]
    assert "pip install tflite-runtime" in errors["efficientnet-b0-fp32", "tflite-runtime"]


def test_a_model_that_no_installed_engine_runs_says_what_to_install(store, monkeypatch):
    monkeypatch.setattr(bench_cells, "available_engines", lambda: (ENGINES["onnxruntime"],))
    (cell,) = planned(store, models=("efficientnet-lite0-fp32",))
    assert "pip install ai-edge-litert" in cell.error


def test_our_kernels_get_int8_models_only(store, monkeypatch):
    everything = (ENGINES["native"], *bench_cells.available_engines())
    monkeypatch.setattr(bench_cells, "available_engines", lambda: everything)
    found = [cell for cell in planned(store) if cell.engine == "native"]
    assert rows(found) == [("efficientnet-b1-int8", "native", True)]
    (cell,) = planned(store, models=("efficientnet-b0-fp32",), engines=("native",))
    assert "native runs int8 models, not fp32" in cell.error


def test_a_missing_file_is_a_row(store, tmp_path):
    (cell,) = planned(store, models=(str(tmp_path / "none.onnx"),))
    assert "there is no model file" in cell.error


def test_an_empty_store_has_nothing_to_run(tmp_path):
    assert planned(ModelStore(tmp_path)) == ()
