"""The HTML page: one file that needs nothing else, of one session or of several boards.

Names and labels come from model files and documents that anybody may have written: every text is
escaped, and the page forbids itself (by a content security policy) all scripts but its own and
all addresses.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources

from effnet_edge.bench import page_sections, words
from effnet_edge.bench.charts.drawing import safe
from effnet_edge.bench.comparison import Comparison
from effnet_edge.bench.page_table import cell_table
from effnet_edge.bench.results import Session


def page(sessions: Sequence[Session], comparison: Comparison | None = None) -> str:
    """Return the page of one or more sessions. ``comparison`` is of the only one."""
    sessions = _distinguishable(sessions)
    names = ", ".join(session.board for session in sessions)
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>Benchmark: {safe(names)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{_resource('page.css')}</style>\n</head>\n<body>\n"
        + "\n".join(_body(sessions, names, comparison))
        + f"\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _distinguishable(sessions: Sequence[Session]) -> list[Session]:
    """Name the day too where a board was measured twice."""
    count = Counter(session.board for session in sessions)
    return [
        replace(session, board=f"{session.board}, {session.started}")
        if count[session.board] > 1
        else session
        for session in sessions
    ]


def _body(sessions: Sequence[Session], names: str, comparison: Comparison | None) -> Iterable[str]:
    yield _header(sessions, names)
    yield "<main>"
    yield from page_sections.fits(sessions)
    yield from page_sections.accuracy(sessions)
    yield from page_sections.changes(comparison)
    yield "<h2>All figures</h2>"
    yield cell_table(sessions)
    yield from page_sections.heat(sessions)
    yield from page_sections.distributions(sessions)
    yield from page_sections.devices(sessions)
    yield "</main>"
    yield _footer(sessions)


def _header(sessions: Sequence[Session], names: str) -> str:
    cells = [cell for session in sessions for cell in session.cells]
    measured = sum(bool(cell.rounds) for cell in cells)
    days = dict.fromkeys(session.started[:10] for session in sessions)
    counted = f"{measured} of {len(cells)}" if measured < len(cells) else f"{measured}"
    lead = f"{', '.join(days)} \u00b7 {counted} combinations of model, engine and threads measured"
    title = names if len(sessions) == 1 else f"{len(sessions)} benchmarks compared"
    return (
        '<header class="top">\n<p class="kicker">effnet-edge bench</p>\n'
        f'<h1>{safe(title)}</h1>\n<p class="lead">{safe(lead)}</p>\n'
        + "".join(f'<p class="notice">{safe(notice)}</p>\n' for notice in _notices(sessions))
        + (page_sections.facts(sessions[0]) if len(sessions) == 1 else "")
        + "</header>"
    )


def _notices(sessions: Sequence[Session]) -> Iterable[str]:
    for session in sessions:
        where = f"{session.board}: " if len(sessions) > 1 else ""
        if not session.complete:
            yield f"{where}The benchmark was interrupted: rounds or cells are missing."
        yield from (f"{where}{warning}" for warning in words.warnings(session))


def _footer(sessions: Sequence[Session]) -> str:
    lines = []
    for session in sessions:
        duration, rounds = session.sustained_seconds, session.settings.get("rounds")
        how = (
            f"each cell ran for {duration:g} s without a pause"
            if duration
            else f"{rounds} rounds, each cell in a fresh process every round, after warming up "
            "until steady"
        )
        where = f"{session.board}: " if len(sessions) > 1 else ""
        lines.append(f"{where}{session.tool}, {session.started} to {session.finished} UTC; {how}.")
    return (
        "<footer>"
        + "".join(f"<p>{safe(text)}</p>" for text in lines)
        + "<p>A prediction is the whole call: resize and crop of a decoded 640 x 480 image, "
        "inference, labels. Memory is how far the process grew by loading the engine and the model "
        "and running it. A percentile stands only where enough runs support it.</p></footer>"
    )


@cache
def _resource(name: str) -> str:
    return (resources.files("effnet_edge.bench") / name).read_text(encoding="utf-8")
