"""The quantization report: which parts are worst, and its three forms."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from effnet_edge.cli.quantization_output import check_report_path, report_lines, save_report
from effnet_edge.converters.quantization_plot import plot_svg
from effnet_edge.converters.quantization_report import PartReport, QuantizationReport
from effnet_edge.errors import StoreError, UsageError
from effnet_edge.fidelity import Fidelity

INF, NAN = math.inf, math.nan
SVG = "{http://www.w3.org/2000/svg}"


def report_of(
    *parts: PartReport, snr_db: float = 14.2, calibration: str = "synthetic"
) -> QuantizationReport:
    fidelity = Fidelity(images=100, agreement=95.0, kl=0.0321, snr_db=snr_db)
    return QuantizationReport(parts, fidelity, 100, calibration, {"equalisation": "on"})


def part(name: str, own: float, accumulated: float = 20.0, *notes: str) -> PartReport:
    return PartReport(name, accumulated, own, notes)


def long_report() -> QuantizationReport:
    blocks = [part(f"blocks.{i}", 20 + i / 2 + 5 * (i % 3), 40 - i / 3) for i in range(55)]
    return report_of(part("stem", 45.0, 45.0), *blocks, part("head", 31.0, 14.0, "balanced"))


ODD = report_of(
    part("stem", INF, INF),
    part("blocks.0", -3.0, -INF, "dead <channels> & more"),
    part("blocks.1", NAN, NAN),
    part("head", -INF, 12.0),
    snr_db=INF,
)


def test_the_worst_parts_are_those_with_most_noise_of_their_own() -> None:
    report = report_of(part("stem", 40.0), part("a", 21.0), part("b", 35.0), part("c", 19.0))
    assert [each.name for each in report.worst(2)] == ["c", "a"]


def test_nan_is_worse_than_anything_and_no_noise_is_never_worst() -> None:
    assert {each.name for each in ODD.worst(2)} == {"blocks.1", "head"}
    assert [each.name for each in ODD.worst(9)][-1] == "blocks.0"
    assert "stem" not in [each.name for each in ODD.worst(9)]


def test_parts_equally_bad_are_told_apart_by_what_comes_out() -> None:
    report = report_of(part("a", 20.0, 30.0), part("b", 20.0, 10.0))
    assert [each.name for each in report.worst()] == ["b", "a"]


def test_json_holds_every_figure() -> None:
    data = long_report().to_json()
    assert data["fidelity"] == {"agreement": 95.0, "kl": 0.0321, "snr_db": 14.2}
    assert (data["images"], data["calibration"]) == (100, "synthetic")
    assert data["settings"] == {"equalisation": "on"}
    assert data["worst"] == ["blocks.0", "blocks.3", "blocks.6"]
    assert len(data["parts"]) == 57
    assert data["parts"][-1] == {
        "name": "head",
        "snr_db": 14.0,
        "own_snr_db": 31.0,
        "notes": ["balanced"],
    }


def test_what_json_has_no_number_for_is_null() -> None:
    data = json.loads(json.dumps(ODD.to_json(), allow_nan=False))
    assert data["fidelity"]["snr_db"] is None
    assert [each["own_snr_db"] for each in data["parts"]] == [None, -3.0, None, None]


def test_the_table_has_a_line_per_part_the_worst_and_the_whole_model() -> None:
    lines = report_lines(long_report()).splitlines()
    assert lines[2].split()[:3] == ["stem", "45.0", "45.0"]
    assert [line.split()[0] for line in lines[2:59]][-1] == "head"
    assert lines[58].endswith("balanced")
    assert [line.split()[0] for line in lines if line.endswith("worst")] == [
        "blocks.0",
        "blocks.3",
        "blocks.6",
    ]
    assert lines[-2] == (
        "most noise of their own: blocks.0 (20.0 dB), blocks.3 (21.5 dB), blocks.6 (23.0 dB)"
    )
    assert lines[-1] == (
        "top-1 agreement with float 95.0 %, KL divergence 0.0321 nats, logit SNR 14.2 dB, "
        "on 100 synthetic images"
    )


def test_a_longer_bar_is_a_better_part() -> None:
    lines = report_lines(report_of(part("a", 10.0), part("b", 20.0), part("c", INF))).splitlines()
    bars = [line.count("#") for line in lines[2:5]]
    assert 0 < bars[0] < bars[1] <= bars[2]


def test_the_table_says_photos_where_there_were_photos() -> None:
    report = report_of(part("stem", 30.0), calibration="photos")
    assert "on 100 calibration photos" in report_lines(report)


def test_odd_figures_are_printed_as_words() -> None:
    text = report_lines(ODD)
    rows = [line.split()[:3] for line in text.splitlines()[2:6]]
    assert rows == [
        ["stem", "exact", "exact"],
        ["blocks.0", "-3.0", "-inf"],
        ["blocks.1", "NaN", "NaN"],
        ["head", "-inf", "12.0"],
    ]
    assert "logit SNR exact, on" in text


def test_a_network_without_noise_has_no_worst_part() -> None:
    report = report_of(part("stem", INF, INF))
    assert report.worst() == ()
    assert "most noise" not in report_lines(report)
    assert "most noise" not in plot_svg(report, "B0").lower()


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [each.text or "" for each in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("report", [long_report(), ODD, report_of()])
def test_the_plot_is_well_formed_and_names_every_part(report: QuantizationReport) -> None:
    svg = plot_svg(report, "B0 <int8> & co")
    assert {each.name for each in report.parts} <= set(texts(svg))
    assert "B0 <int8> & co" in texts(svg)
    root = ElementTree.fromstring(svg)
    height = float(root.attrib["height"])
    for each in root.iter(f"{SVG}rect"):
        x, y = float(each.attrib.get("x", 0)), float(each.attrib.get("y", 0))
        assert 0 <= x <= x + float(each.attrib["width"]) <= 1000
        assert 0 <= y <= y + float(each.attrib["height"]) <= height


def test_the_plot_highlights_the_worst_parts_only() -> None:
    root = ElementTree.fromstring(plot_svg(long_report(), "B7"))
    bold = [each.text for each in root.iter(f"{SVG}text") if each.get("font-weight") == "bold"]
    assert [name for name in bold if name and name.startswith("blocks")] == [
        "blocks.0",
        "blocks.3",
        "blocks.6",
    ]


def test_the_plot_asks_for_nothing_from_elsewhere() -> None:
    svg = plot_svg(long_report(), "B7").replace("http://www.w3.org/2000/svg", "")
    assert "http" not in svg
    assert "href" not in svg


def test_a_title_with_control_characters_gives_a_readable_plot() -> None:
    assert "a b" in texts(plot_svg(report_of(), "a\x00b"))


def test_the_ending_of_the_file_chooses_the_form(tmp_path: Path) -> None:
    save_report(ODD, tmp_path / "r.json", "efficientnet-b0-int8")
    save_report(ODD, tmp_path / "r.SVG", "efficientnet-b0-int8")
    data = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert data == {"model": "efficientnet-b0-int8", **ODD.to_json()}
    svg = (tmp_path / "r.SVG").read_text("utf-8")
    assert texts(svg)[0] == "efficientnet-b0-int8: what quantization cost"


@pytest.mark.parametrize("name", ["report.html", "report", "json", ".svg"])
def test_another_ending_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.json or \.svg"):
        check_report_path(tmp_path / name)
    with pytest.raises(UsageError):
        save_report(ODD, tmp_path / name, "b0")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        save_report(ODD, tmp_path / "file" / "report.json", "b0")
