"""``effnet-edge scale`` as a person or a script would run it."""

from __future__ import annotations

import json

import pytest

from effnet_edge.cli import main


def test_the_articles_worked_example_is_shown(capsys):
    assert main(["scale", "--phi", "7", "--alpha", "1.2", "--beta", "1.1", "--gamma", "1.1"]) == 0
    out = capsys.readouterr().out
    assert "d = 1.2^7 = 3.58" in out
    assert "w = 1.1^7 = 1.95" in out
    assert "r = 1.1^7 = 1.95" in out
    (row,) = [line.split() for line in out.splitlines() if line.strip().startswith("4 ")]
    assert row[3:8] == ["109", "x", "109", "78", "7"]


def test_the_released_family_is_shown_with_every_stage(capsys):
    assert main(["scale", "--phi", "0-7"]) == 0
    out = capsys.readouterr().out
    assert all(f"EfficientNet-B{phi}" in out for phi in range(8))
    assert "66.35 M" in out and "37.75 G" in out
    for title in ("Input resolution of each stage", "Channels", "Layers"):
        assert title in out


def test_one_phi_shows_its_stage_table(capsys):
    assert main(["scale", "--phi", "0"]) == 0
    assert "112 x 112" in capsys.readouterr().out


def test_json_holds_stages_and_costs(capsys):
    assert main(["scale", "--phi", "0,2", "--json"]) == 0
    b0, b2 = json.loads(capsys.readouterr().out)
    assert b0["parameters"] == 5_288_548
    assert b2["resolution"] == 260
    assert [stage["channels"] for stage in b0["stages"]] == [
        32,
        16,
        24,
        40,
        80,
        112,
        192,
        320,
        1280,
    ]


def test_real_phi_uses_the_papers_coefficients(capsys):
    assert main(["scale", "--phi", "2.5", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["gamma"] == 1.15
    assert data["multipliers"]["depth"] == pytest.approx(1.2**2.5)


@pytest.mark.parametrize("phi", ["8", "-1", "0.5"])
def test_a_phi_that_was_not_released_is_scaled_by_the_formula(capsys, phi):
    assert main(["scale", f"--phi={phi}", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["multipliers"]["width"] == pytest.approx(1.1 ** float(phi))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--phi", "6-8"], "EfficientNet-B0 to EfficientNet-B7"),
        (["--phi", "5", "--lite"], "EfficientNet-Lite4"),
        (["--phi", "7-0"], "backwards"),
        (["--phi", "two"], "isn't a phi"),
        (["--phi", "nan"], "phi"),
        (["--alpha", "1.2"], "--phi"),
        (["--phi", "1", "--alpha", "-1"], "alpha"),
        (["--phi", "1000.5"], "could be built"),
        (["--phi", "2", "--lite", "--gamma", "1.1"], "formula"),
    ],
)
def test_wrong_usage_says_what_is_wrong(capsys, arguments, said):
    assert main(["scale", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
