"""``effnet-edge device`` as a person or a script would run it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from device_trees import TREES, build

from effnet_edge import device, kernels
from effnet_edge.cli import main
from effnet_edge.cli.device import describe
from effnet_edge.device import packages
from effnet_edge.kernels import Kernels, find_kernels


@pytest.fixture(autouse=True)
def _kernels_of_the_package(monkeypatch):
    monkeypatch.delenv("EFFNET_EDGE_ISA", raising=False)


def test_the_page_names_what_decides_speed(capsys):
    assert main(["device"]) == 0
    out = capsys.readouterr().out
    for label in ("system", "cores", "isa", "memory", "clock now", "heat", "engines", "kernels"):
        assert f"\n  {label} " in out
    assert "onnxruntime 1." in out


def test_json_holds_the_whole_device(capsys):
    assert main(["device", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["default_threads"] == device.default_threads()
    assert data["core_classes"][0]["cores"] >= 1
    assert {engine["name"] for engine in data["engines"]} >= {"onnxruntime", "litert"}
    assert isinstance(data["advice"], list)
    assert (data["kernels"]["isa"] is None) == (data["kernels"]["error"] is not None)


def kernels_line(capsys) -> str:
    assert main(["device"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("  kernels "))
    return line.removeprefix("  kernels     ")


def test_it_says_which_kernels_are_used(monkeypatch, capsys):
    found = find_kernels()
    if found.isa is None:
        pytest.skip(f"no kernels: {found.error}")
    assert kernels_line(capsys) == found.isa
    last = found.usable[-1]
    monkeypatch.setenv("EFFNET_EDGE_ISA", last)
    line = kernels_line(capsys)
    assert line.startswith(f"{last}, by EFFNET_EDGE_ISA") and found.isa in line


def test_it_says_why_there_are_no_kernels(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("EFFNET_EDGE_KERNELS", raising=False)
    monkeypatch.setattr(kernels, "_packaged", lambda: None)
    assert kernels_line(capsys).startswith("none: not built: ")
    monkeypatch.setenv("EFFNET_EDGE_KERNELS", str(tmp_path / "nowhere.so"))
    assert kernels_line(capsys).endswith("nowhere.so is missing")
    monkeypatch.setenv("EFFNET_EDGE_ISA", "portable")
    assert kernels_line(capsys) == "none: switched off by EFFNET_EDGE_ISA=portable"


def test_kernels_that_the_engine_does_not_take_are_none(monkeypatch, capsys):
    import _ctypes

    # A library that loads, but isn't one of operators.
    path = _ctypes.__file__
    monkeypatch.setattr(packages, "find_kernels", lambda: Kernels("avx2", ("avx2",), path, None))
    assert "none: doesn't load: " in kernels_line(capsys)


def test_kernels_that_can_not_be_are_an_error(monkeypatch, capsys):
    monkeypatch.setenv("EFFNET_EDGE_ISA", "mmx")
    assert main(["device"]) == 2
    assert "EFFNET_EDGE_ISA asks for 'mmx'" in capsys.readouterr().err


def page(name, tmp_path, monkeypatch) -> str:
    return describe(device.inspect(build(TREES[name](), tmp_path, monkeypatch)))


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        (
            "pi-zero-2-w",
            [
                "Raspberry Pi Zero 2 W Rev 1.0 (BCM2837)",
                "64-bit kernel, 32-bit Python",
                "4 x Cortex-A53, 1000 MHz",
                "447 MB, 268 MB free",
                "1000 MHz, governor ondemand",
                "48.3 C",
                "under-voltage, throttled",
                "! The supply voltage is too low",
            ],
        ),
        (
            "rock-5b",
            [
                "4 x Cortex-A76, 2400 MHz, CPUs 4-7, speed 100%",
                "4 x Cortex-A55, 1800 MHz, CPUs 0-3, speed 40% (not used by default)",
                "1800 2208 2400 MHz",
            ],
        ),
        ("pi-5", ["L2 4 x 512 KiB, L3 2 MiB", "asimd asimdhp asimddp"]),
        (
            "server-container",
            ["64 x AMD EPYC 9554", "128 hyper-threads", "limited to 2.15 GB by the control group"],
        ),
        ("virtual-machine", ["a virtual machine", "heat        unknown"]),
        ("phone", ["Unnamed device", "frequency lowered by heat"]),
    ],
)
def test_the_page_of_a_device(tmp_path, monkeypatch, name, texts):
    text = page(name, tmp_path, monkeypatch)
    for expected in texts:
        assert expected in text


def test_control_characters_in_a_boards_name_do_not_reach_the_terminal(tmp_path):
    model = tmp_path / "proc/device-tree/model"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"\x1b]0;owned\x07Board\r\nTwo\x00")
    assert describe(device.inspect(tmp_path)).splitlines()[0] == "]0;owned Board Two"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_watching_prints_lines_until_ctrl_c(options):
    process = subprocess.Popen(
        [sys.executable, "-m", "effnet_edge", "device", "--watch", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    if options:
        assert "temperature_c" in json.loads(line)
    else:
        assert "MHz" in line or "unknown" in line
