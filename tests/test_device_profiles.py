"""Device profiles: those that come with the package, and files from anybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from device_trees import build, pi_5

from effnet_edge import device
from effnet_edge.errors import EffnetEdgeError, StoreError, UsageError
from effnet_edge.selection.profile import Point
from effnet_edge.selection.profile_file import parse_profile, profile_json
from effnet_edge.selection.profiles import (
    ProfileError,
    find_profile,
    profile_from_measurements,
    profiles,
    shipped_profiles,
    write_profile,
)

SHIPPED = shipped_profiles()
WANTED = (
    "pi-zero-2-w", "pi3b-plus", "pi4", "pi5", "rock-5b", "orange-pi-5", "jetson-nano",
    "jetson-orin-nano", "coral-dev-board", "pixel-4", "laptop-i7-11800h",
)  # fmt: skip
MEASURED = Point(
    "lite", 0, (224, 224), "int8", "litert", 4, 9.5, "predict", "bench", "p50 of 3 rounds", 0.02,
    macs=385_000_000, parameters=4_650_000, peak_bytes=41_000_000,
)  # fmt: skip


@pytest.fixture
def pi5_data():
    return json.loads(profile_json(find_profile("pi5")))


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda profile: profile.name)
def test_a_shipped_profile_is_sound_and_every_fact_has_a_source(profile):
    assert parse_profile(profile_json(profile)) == profile
    known = {"architecture", "bits", "cores"}
    known |= {
        name
        for name in ("memory_mb", "bandwidth_gb_s", "cache_mb")
        if getattr(profile, name) is not None
    }
    assert set(profile.fact_sources) == known
    used = {*profile.fact_sources.values(), *(point.source for point in profile.points)}
    assert used <= set(profile.sources)
    assert all(source.url and source.title and source.seen for source in profile.sources.values())
    assert all(point.uncertainty and point.spread > 0 for point in profile.points)


def test_the_devices_people_ask_for_are_there_under_their_files_names():
    names = {profile.name for profile in SHIPPED}
    assert names >= set(WANTED)
    assert len(names) == len(SHIPPED)


def test_the_documentation_lists_every_shipped_profile():
    documentation = Path(__file__).parent.parent / "docs" / "devices.md"
    text = documentation.read_text(encoding="utf-8")
    assert all(f"| `{profile.name}` |" in text for profile in SHIPPED)


def test_no_two_shipped_profiles_share_a_name_or_alias():
    seen = {}
    for profile in SHIPPED:
        for name in {profile.name, profile.title.lower(), *profile.aliases}:
            assert seen.setdefault(name, profile.name) == profile.name


@pytest.mark.parametrize("text", ["pi5", "Raspberry Pi 5", "raspberry-pi-5", "RPI5", "bcm2712"])
def test_a_device_is_found_by_what_people_call_it(text):
    assert find_profile(text).name == "pi5"


def test_an_unknown_device_is_answered_with_the_nearest_names(tmp_path):
    with pytest.raises(UsageError, match="did you mean pi5"):
        find_profile("raspbery pi5", tmp_path)
    with pytest.raises(UsageError, match=r"there are .*pi4.*--save-profile"):
        find_profile("toaster", tmp_path)


def test_the_users_own_profile_takes_the_place_of_a_shipped_one(tmp_path):
    mine = replace(find_profile("pi5"), title="Pi 5 in a case")
    assert write_profile(mine, "pi5", tmp_path) == tmp_path / "devices" / "pi5.json"
    assert find_profile("pi5", tmp_path).title == "Pi 5 in a case"
    assert [p.title for p in profiles(tmp_path) if p.name == "pi5"] == ["Pi 5 in a case"]


def test_a_broken_profile_of_the_users_hides_no_other_and_is_explained_when_asked_for(tmp_path):
    folder = tmp_path / "devices"
    folder.mkdir()
    (folder / "mine.json").write_text("{")
    assert len(profiles(tmp_path)) == len(SHIPPED)
    with pytest.raises(ProfileError, match=r"mine\.json is no sound device profile: it isn't JSON"):
        find_profile("mine", tmp_path)


def test_a_profile_is_read_from_a_path(tmp_path):
    path = write_profile(find_profile("pi4"), tmp_path / "there.json")
    assert find_profile(path).name == "pi4"
    assert find_profile(str(path)).name == "pi4"
    with pytest.raises(StoreError, match="can't read"):
        find_profile(tmp_path / "absent.json")


@pytest.mark.parametrize("name", ["", "a b", "../x", "A" * 200, ".hidden"])
def test_a_profile_gets_no_unusable_name(tmp_path, name):
    if "/" in name:
        name = name.replace("/", "|")
    with pytest.raises(UsageError):
        write_profile(find_profile("pi4"), name, tmp_path)


def test_a_measured_profile_comes_back_as_it_was_written(tmp_path, monkeypatch):
    found = device.inspect(build(pi_5(), tmp_path / "tree", monkeypatch))
    made = profile_from_measurements("my-pi", found, [MEASURED], version="1.2.3", day="2026-11-23")
    assert made.title.startswith("Raspberry Pi 5")
    assert made.speed.cores == find_profile("pi5").speed.cores
    assert made.cores[0].name == "Cortex-A76"
    (source,) = made.sources.values()
    assert source.title == "measured by effnet-edge bench 1.2.3"
    path = write_profile(made, "my-pi", tmp_path)
    again = find_profile("my-pi", tmp_path)
    assert again.points == made.points
    assert again.points[0].peak_bytes == 41_000_000
    assert again.speed == made.speed
    assert path.read_text() == profile_json(again)


def test_a_profile_written_to_a_file_takes_its_name(tmp_path):
    made = profile_from_measurements(
        str(tmp_path / "My Pi (hot).json"), device.inspect(), [], version="1", day="2026-11-23"
    )
    assert made.name == "my-pi-hot"
    assert find_profile(write_profile(made, tmp_path / "My Pi (hot).json")).name == "my-pi-hot"


HOSTILE = (
    ("", "isn't JSON"),
    ("[]", "must be an object"),
    ("[" * 100_000, "nested too deep|isn't JSON"),
    ("{}", "no 'format'"),
    ('{"format": 99}', "upgrade effnet-edge"),
    ('{"format": true}', "whole number"),
    ('{"format": 1, "extra": 1}', "'extra'"),
    ('{"format": 1e999}', "whole number"),
)


@pytest.mark.parametrize(("text", "said"), HOSTILE, ids=range(len(HOSTILE)))
def test_foreign_json_is_refused_with_what_is_wrong(text, said):
    with pytest.raises(ProfileError, match=said):
        parse_profile(text)


def test_a_fact_without_a_source_is_refused(pi5_data):
    pi5_data["cores"]["source"] = "nowhere"
    with pytest.raises(ProfileError, match="cores names the source 'nowhere'"):
        parse_profile(json.dumps(pi5_data))
    del pi5_data["cores"]["source"]
    with pytest.raises(ProfileError, match="cores has no 'source'"):
        parse_profile(json.dumps(pi5_data))


def test_a_mistake_in_a_point_is_named_with_its_place(pi5_data):
    pi5_data["points"][1]["ms"] = -3
    with pytest.raises(ProfileError, match=r"points\[1\], ms must be"):
        parse_profile(json.dumps(pi5_data))


def test_terminal_control_characters_are_refused(pi5_data):
    pi5_data["title"] = "Pi \x1b[2J"
    with pytest.raises(ProfileError, match="control character"):
        parse_profile(json.dumps(pi5_data))


def test_whatever_stands_in_a_profile_it_is_read_or_refused(pi5_data):
    odd = (
        None,
        True,
        -1,
        0,
        10**400,
        1.5,
        1e308,
        float("nan"),
        "",
        "x" * 2000,
        "\x00",
        [],
        {},
        [[]],
    )
    refused = 0
    for owner, key in _places(pi5_data):
        kept = owner[key]
        for value in odd:
            owner[key] = value
            try:
                parse_profile(json.dumps(pi5_data))
            except ProfileError:
                refused += 1
        owner[key] = kept
    assert parse_profile(json.dumps(pi5_data)) == find_profile("pi5")
    assert refused > 300


def test_files_that_are_no_profiles_are_refused(tmp_path):
    binary, huge, folder = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.json"
    binary.write_bytes(b"\xff\xfe\x00")
    huge.write_bytes(b" " * 5_000_000)
    folder.mkdir()
    for path in (binary, huge, folder):
        with pytest.raises(EffnetEdgeError):
            find_profile(path)


def _places(data):
    """Every place in nested JSON as (its owner, its key)."""
    keys = data.keys() if isinstance(data, dict) else range(len(data))
    for key in list(keys):
        yield data, key
        if isinstance(data[key], (dict, list)):
            yield from _places(data[key])
