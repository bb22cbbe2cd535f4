"""Benchmarks as JSON: what is written is read back, and nothing else is."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace

import bench_sessions as sessions
import pytest

from effnet_edge.bench import document
from effnet_edge.bench.comparison import compare
from effnet_edge.bench.page import page
from effnet_edge.bench.results import MOST_LATENCIES
from effnet_edge.bench.spreadsheet import to_csv
from effnet_edge.cli.bench_report import print_comparison, print_session
from effnet_edge.errors import BenchmarkError


@pytest.fixture(scope="module")
def text() -> str:
    board = sessions.a_hot_board(seconds=5)
    failed = sessions.a_board().cells[-1]
    return document.to_json(replace(board, cells=(*board.cells, failed), complete=False))


def test_a_session_survives_the_file(tmp_path):
    session = sessions.a_board()
    document.write(session, tmp_path / "a.json")
    back = document.read(tmp_path / "a.json")
    assert back.cells[-2:] == session.cells[-2:]
    for cell, other in zip(back.cells, session.cells, strict=True):
        assert cell.model == other.model
        assert [each.latencies_ms for each in cell.rounds] == [
            each.latencies_ms for each in other.rounds
        ]
    assert document.to_json(back) == document.to_json(session)


def test_the_document_names_its_format_and_version(text):
    data = json.loads(text)
    assert (data["format"], data["version"]) == ("effnet-edge bench", 1)
    assert {"board", "started", "environment", "device", "cells"} <= set(data)


@pytest.mark.parametrize("part", [0.001, 0.3, 0.9, 0.999])
def test_a_document_that_was_cut_short_is_told_from_a_foreign_one(text, tmp_path, part):
    path = tmp_path / "cut.json"
    path.write_text(text[: max(40, int(len(text) * part))])
    with pytest.raises(BenchmarkError, match=r"cut\.json was cut short"):
        document.read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "isn't JSON"),
        (b"\xff\xfe\x00", "isn't text"),
        (b"model,p50\n", "isn't JSON"),
        (b"[1, 2]", "is no benchmark"),
        (b'{"format": 1, "name": "pi5"}', "is no benchmark"),
        (b'{"format": "effnet-edge bench"}', "states no version"),
        (b'{"format": "effnet-edge bench", "version": true}', "states no version"),
        (b'{"format": "effnet-edge bench", "version": 99}', "upgrade"),
        (b'{"format": "effnet-edge bench", "version": 1}', "'tool' is missing"),
        (b"[" * 100_000, "isn't JSON"),
    ],
)
def test_what_is_no_benchmark_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=said) as caught:
        document.read(path)
    assert "other.json" in str(caught.value)


def test_missing_files_and_folders_are_told(tmp_path):
    with pytest.raises(BenchmarkError, match="there is no benchmark"):
        document.read(tmp_path / "none.json")
    with pytest.raises(BenchmarkError, match="can't be read"):
        document.read(tmp_path)


def places(value, path=()):
    """Every place in nested data."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value[:2])
    for key, child in children if isinstance(value, (dict, list)) else ():
        if isinstance(child, (dict, list)):
            yield from places(child, (*path, key))
        else:
            yield (*path, key)


@pytest.mark.parametrize(
    "junk",
    [
        None,
        True,
        -1,
        0,
        1.5,
        1e-320,
        1e300,
        10**400,
        "x",
        "",
        [],
        {},
        [None],
        {"a": {}},
        "a\x1b[2J",
    ],
    ids=repr,
)
def test_no_damage_to_a_document_escapes_as_another_error(text, junk):
    small = json.loads(text)
    for cell in small["cells"]:
        for each in cell["rounds"]:
            for name in ("latencies_ms", "preprocessing_ms", "inference_ms", "started_s"):
                each[name] = each[name][:3]
            each["conditions"] = each["conditions"][:2]
    small["cells"] = small["cells"][1:]
    source = json.dumps(small)
    for place in list(places(small))[1:]:
        damaged = json.loads(source)
        holder = damaged
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = junk
        try:
            session = document.from_json(json.dumps(damaged))
        except BenchmarkError:
            continue
        assert "\x1b" not in f"{session.board}{session.facts}{session.cells}"
        for cell in session.measured:
            assert cell.summary.p50 > 0
        document.to_json(session)
        with redirect_stdout(io.StringIO()):
            print_session(session)
        to_csv([session]).encode()
        page([session]).encode()
        print_comparison_of(session)


def print_comparison_of(session):
    """Show it as the older and the newer half of a comparison."""
    if session.measured:
        with redirect_stdout(io.StringIO()):
            comparison = compare(session, session)
            print_comparison(comparison)
            page([session], comparison)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("conditions",), [], "no conditions"),
        (("started_s", 0), 100.0, "one after the other"),
        (("started_s", 2), 0.0, "one after the other"),
        (("latencies_ms", 0), 1e-320, "next to 0"),
        (("min_ms",), 1e12, "beyond its shortest"),
        (("max_ms",), 0.001, "beyond its shortest"),
    ],
)
def test_a_round_that_no_device_can_have_run_is_refused(text, place, value, said):
    data = json.loads(text)
    holder = data["cells"][0]["rounds"][-1]
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    with pytest.raises(BenchmarkError, match=said):
        document.from_json(json.dumps(data))


def test_documents_from_before_faithfulness_was_noted_are_read(text):
    data = json.loads(text)
    for cell in data["cells"]:
        if cell["model"]:
            del cell["model"]["faithful"]
    session = document.from_json(json.dumps(data))
    assert all(cell.model.faithful for cell in session.measured)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_lacks_are_refused(text, constant):
    damaged = text.replace('"load_ms":80.0', f'"load_ms":{constant}', 1)
    assert damaged != text
    with pytest.raises(BenchmarkError):
        document.from_json(damaged)


def test_series_of_different_lengths_are_refused(text):
    data = json.loads(text)
    data["cells"][0]["rounds"][0]["inference_ms"].pop()
    with pytest.raises(BenchmarkError, match="latencies and"):
        document.from_json(json.dumps(data))


def test_more_latencies_than_are_ever_written_are_refused(text):
    data = json.loads(text)
    first = data["cells"][0]["rounds"][0]
    first["runs"] = MOST_LATENCIES + 1
    for name in ("latencies_ms", "preprocessing_ms", "inference_ms", "started_s"):
        first[name] = [1.0] * (MOST_LATENCIES + 1)
    with pytest.raises(BenchmarkError, match="at most"):
        document.from_json(json.dumps(data))
