"""Arguments that people type."""

from __future__ import annotations

import argparse

import pytest

from effnet_edge.cli.arguments import channel_values, phi_list, positive_int, resolution


@pytest.mark.parametrize(
    ("text", "phis"),
    [("2", (2,)), ("0-3", (0, 1, 2, 3)), ("0,4,2", (0, 4, 2)), ("5,0-2,1", (5, 0, 1, 2))],
)
def test_phis_come_as_one_a_list_or_a_range(text, phis):
    assert phi_list(text) == phis


@pytest.mark.parametrize("text", ["", "b2", "3-1", "-1", "1.5", "0-", "1,,2", "999"])
def test_other_phis_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        phi_list(text)


def test_a_resolution_is_square_or_height_by_width():
    assert resolution("240") == (240, 240)
    assert resolution("240x320") == (240, 320)
    with pytest.raises(argparse.ArgumentTypeError, match="240x320"):
        resolution("240,320")


def test_channel_values_are_one_or_three():
    assert channel_values(["0.5"]) == (0.5, 0.5, 0.5)
    assert channel_values(["0.1,0.2,0.3"]) == channel_values(["0.1", "0.2", "0.3"])
    for wrong in (["0.1", "0.2"], ["0.1,0.2,0.3,0.4"], ["grey"]):
        with pytest.raises(ValueError):
            channel_values(wrong)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "many"])
def test_counts_are_whole_and_positive(text):
    with pytest.raises(argparse.ArgumentTypeError):
        positive_int(text)
