"""The page: everything on it, nothing from elsewhere, no text that acts."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import bench_sessions as sessions
import numpy as np
import pytest

from effnet_edge.bench.charts import drawing
from effnet_edge.bench.comparison import compare
from effnet_edge.bench.page import page
from effnet_edge.bench.spreadsheet import to_csv

HOSTILE = '</title></style><script>alert("1")</script><img src=x onerror=alert(1)>\u202e&amp;'
VOID = {"meta", "link", "br", "img", "input"}
IN_SVG = {"circle", "path", "rect"}


class Reader(HTMLParser):
    """Elements with their attributes, the text, and whether all tags are closed in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)

    def named(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]


def a_compared_page():
    old, new = sessions.a_board(seed=1), sessions.a_board(seed=2)
    return page([new], compare(old, new))


PAGES = {
    "board": lambda: page([sessions.a_board()]),
    "comparison": a_compared_page,
    "sustained": lambda: page([sessions.a_hot_board()]),
    "boards": lambda: page([sessions.a_board(), sessions.a_board(seed=1, board="other", speed=3)]),
    "one cell": lambda: page([sessions.a_session(sessions.a_board().cells[:1])]),
    "nothing measured": lambda: page([sessions.a_session(sessions.a_board().cells[-2:])]),
}


@pytest.mark.parametrize("kind", PAGES)
def test_the_page_is_whole_and_needs_nothing_else(kind):
    html = PAGES[kind]()
    reader = Reader(html)
    for _, attributes in reader.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "action", "srcset", "xlink:href"):
                assert value == "data:,"
            assert not name.startswith("on")
    assert not re.search(r"https?:|url\(|@import|//[a-z]", html.replace("// Sorting", ""))
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"<style>.*?</style>", "", html, flags=re.S))


@pytest.mark.parametrize("kind", PAGES)
def test_the_page_allows_its_own_script_alone(kind):
    html = PAGES[kind]()
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for a in Reader(html).named("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy


def test_hostile_names_are_text_wherever_they_stand():
    cells = list(sessions.a_board().cells)
    model = replace(
        cells[0].model, name=HOSTILE, family=HOSTILE, weights=HOSTILE, precision=HOSTILE
    )
    cells[0] = replace(cells[0], name=HOSTILE, engine=HOSTILE, model=model, error=HOSTILE)
    cells[-1] = replace(cells[-1], name=HOSTILE, error=HOSTILE)
    hot = replace(cells[0].rounds[0], throttling=(HOSTILE,))
    cells[1] = replace(cells[1], rounds=(hot,) * 3)
    session = sessions.a_session(
        cells,
        board=HOSTILE,
        tool=HOSTILE,
        started=HOSTILE,
        facts={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
        settings={"rounds": HOSTILE},
    )
    old = replace(session, environment={"onnxruntime": HOSTILE}, board="other")
    for html in (
        page([session], compare(old, session)),
        page([session, session]),
        page([replace(session, settings={"duration_s": 5.0, "rounds": 1})]),
    ):
        reader = Reader(html)
        assert len(reader.named("script")) == 1
        assert reader.named("img") == []
        assert "\u202e" not in html
        assert all(not name.startswith("on") for _, a in reader.elements for name in a)
        assert 'alert("1")' in reader.text


def test_every_cell_stands_in_the_table_and_failures_say_why():
    session = sessions.a_board()
    reader = Reader(page([session]))
    rows = [a for a in reader.named("th") if a.get("scope") == "row"]
    assert len(rows) == len(session.cells)
    assert "it takes more than 180 MB" in reader.text
    assert "not in the store" in reader.text


def test_a_percentile_that_the_runs_do_not_support_is_a_dash():
    rng = np.random.default_rng(0)
    few = sessions.a_round(rng, 900.0, runs=6)
    cell = replace(sessions.a_board().cells[0], rounds=(few,) * 3)
    reader = Reader(page([sessions.a_session([cell])]))
    assert reader.texts.count("-") == 2  # p95 and p99 of 18 runs


def test_what_fits_is_the_most_accurate_model_within_a_frame():
    rng = np.random.default_rng(0)
    cells = [
        sessions.a_cell(rng, 12.0, sessions.facts(phi=0)),
        sessions.a_cell(rng, 30.0, sessions.facts(phi=1)),
        sessions.a_cell(rng, 33.3, sessions.facts(phi=2)),
    ]
    html = page([sessions.a_session(cells)])
    picks = re.findall(r'class="pick">([^<]*)<', html)
    assert picks == ["B0 int8", "B1 int8", "B2 int8", "B2 int8"]


def test_a_model_of_no_known_accuracy_is_listed_but_not_plotted():
    cells = list(sessions.a_board().cells[:4])
    own = replace(cells[0].model, name="flowers", family="other", top1=None, usual_top1=None)
    cells[0] = replace(cells[0], name="flowers", model=own)
    html = page([sessions.a_session(cells)])
    assert "flowers" in Reader(html).text
    assert "not drawn: 1." in html
    chart = re.search(r"Accuracy against latency\..*?</figure>", html, re.S)[0]
    assert "flowers" not in chart


def test_weights_of_ones_own_stand_at_their_networks_accuracy_and_are_marked():
    cells = list(sessions.a_board().cells[:4])
    own = replace(cells[0].model, name="flowers", top1=None)
    cells[0] = replace(cells[0], name="flowers", model=own)
    html = page([sessions.a_session(cells)])
    assert Reader(html).texts.count("~75.1") == 1
    dashed = [a for _, a in Reader(html).elements if "dashed" in a.get("class", "").split()]
    assert len(dashed) == 2  # in two widths
    assert "1 whose own weights have no published accuracy" in html


def test_charts_are_described_for_those_who_do_not_see_them():
    reader = Reader(a_compared_page())
    charts = [a for a in reader.named("svg") if a.get("aria-hidden") != "true"]
    assert len(charts) == 6  # three, for two widths
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in charts)
    assert any("Not beaten by any other: Lite0 int8 on litert" in a["aria-label"] for a in charts)


def test_throttling_and_interruption_are_told_first():
    hot = replace(sessions.a_hot_board(), complete=False)
    head = page([hot]).split("<main>")[0]
    assert "interrupted" in head
    assert "slowed down during 1 of 2 cells (frequency lowered by heat)" in head


def test_several_boards_stand_side_by_side():
    boards = [
        sessions.a_board(board="Raspberry Pi 4", speed=3),
        sessions.a_board(board="Raspberry Pi 5"),
    ]
    reader = Reader(page(boards))
    assert "2 benchmarks compared" in reader.text
    assert reader.texts.count("Raspberry Pi 4") >= 18
    assert len([a for a in reader.named("ul") if a.get("class") == "fits"]) == 2


def test_one_board_on_two_days_is_told_apart():
    later = sessions.a_board(seed=1, started="2026-11-21T10:00:00Z")
    text = Reader(page([sessions.a_board(), later])).text
    assert "Rev 1.0, 2026-11-20T10:00:00Z" in text
    assert "Rev 1.0, 2026-11-21T10:00:00Z" in text


@pytest.mark.parametrize(
    ("low", "high", "most"), [(3, 700, 10), (20, 21, 5), (0.9, 1.1, 4), (1e-3, 1e6, 5), (4, 4.1, 3)]
)
def test_ticks_are_on_the_axis_and_not_too_many(low, high, most):
    for log in (True, False):
        ticks = drawing.Scale(low, high, 0, 100, log=log).ticks(most)
        assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)
        assert len(ticks) <= most + 1
        assert ticks == sorted(set(ticks))


def test_what_fits_is_no_model_that_lost_its_accuracy():
    rng = np.random.default_rng(0)
    cells = [
        sessions.a_cell(rng, 12.0, sessions.facts(phi=0)),
        sessions.a_cell(rng, 10.0, sessions.facts(phi=4, faithful=False)),
    ]
    html = page([sessions.a_session(cells)])
    assert set(re.findall(r'class="pick">([^<]*)<', html)) == {"B0 int8"}
    assert "follows its float network badly" in Reader(html).text


def test_every_one_of_many_boards_has_a_colour_that_the_style_knows():
    cells = sessions.a_board().cells[:2]
    boards = [sessions.a_session(cells, board=f"board {number}") for number in range(10)]
    html = page(boards)
    styled = set(re.findall(r"svg \.(s\d+)", html))
    drawn = {
        kind
        for _, attributes in Reader(html).elements
        for kind in (attributes.get("class") or "").split()
        if re.fullmatch(r"s\d+", kind)
    }
    assert drawn <= styled
    assert len(drawn) == 8  # seven colours of boards, and the grey of the legend


@pytest.mark.parametrize("value", [77.0, 0.0, 1e-320, 1e15])
def test_an_axis_of_values_that_are_one_but_for_rounding_has_room(value):
    for other in (value, value * (1 + 1e-15)):
        low, high = drawing.padded([value, other])
        assert low < value < high
        assert drawing.Scale(low, high, 0, 100).ticks(7)


def test_csv_has_a_line_a_cell_and_no_formula():
    cells = list(sessions.a_board().cells)
    cells[-1] = replace(cells[-1], name="=cmd|' /C calc'!A0", error="+1")
    lines = to_csv([sessions.a_session(cells)]).splitlines()
    assert len(lines) == 1 + len(cells)
    assert lines[0].startswith("board,started,model,engine,threads,family,phi")
    assert ",'=cmd" in lines[-1]
    assert lines[-1].endswith(",'+1")
