"""Temperature, clocks and throttling: the right sensor, the right words, the right advice."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from device_trees import CPU

from effnet_edge import device
from effnet_edge.device import DeviceState, firmware
from effnet_edge.device.advice import advice
from effnet_edge.device.temperature import temperature_c

FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.mark.parametrize(
    ("name", "celsius"),
    [
        ("pi-zero-2-w", 48.312),
        ("rock-5b", 47.153),  # the hotter big cluster, not the hotter GPU
        ("jetson-orin-nano", 49.312),
        ("phone", 64.5),  # a core, not the battery
        ("laptop", 71.0),  # the package, not the firmware's 27.8 or the radio's 91
        ("server-container", 55.25),  # AMD's sensor chip, not the disk's
        ("virtual-machine", None),
        ("old-container", None),
    ],
)
def test_the_processors_sensor_is_chosen(device_tree, name, celsius):
    assert device.state(device_tree(name)).temperature_c == celsius


def zones(root: Path, temperatures: dict[str, str]) -> Path:
    for number, (kind, text) in enumerate(temperatures.items()):
        folder = root / f"sys/class/thermal/thermal_zone{number}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(kind)
        (folder / "temp").write_text(text)
    return root


@pytest.mark.parametrize(
    ("temperatures", "celsius"),
    [
        ({"AO-therm": "40000", "CPU-therm": "36500", "GPU-therm": "45000"}, 36.5),  # Jetson Nano
        ({"mtktscpu": "51000", "mtktsbattery": "30000"}, 51.0),
        ({"BIG": "61000", "LITTLE": "52000", "G3D": "70000"}, 61.0),
        ({"gpu-thermal": "60000", "soc-thermal": "50000"}, 50.0),
        ({"package-thermal": "45000", "gpu-thermal": "60000"}, 45.0),
        ({"cpu-thermal": "47"}, 47.0),  # a kernel that counts in whole degrees
        ({"cpu-thermal": "-40000", "soc-thermal": "44000"}, 44.0),  # a sensor that is off
        ({"cpu-thermal": "0", "soc-thermal": "44000"}, 44.0),  # likewise
        ({"some-board-name": "39000"}, 39.0),  # the only one there is
        ({"battery": "30000", "charger": "35000"}, None),
        ({"gpu-thermal": "60000", "ddr": "50000"}, None),
        ({"acpitz": "27800", "iwlwifi_1": "50000"}, 27.8),
    ],
)
def test_zones_of_other_parts_are_not_taken_for_the_processors(tmp_path, temperatures, celsius):
    assert temperature_c(zones(tmp_path, temperatures)) == celsius


def test_clocks_are_those_of_the_groups_of_cores(device_tree):
    assert device.state(device_tree("rock-5b")).frequencies_mhz == (1800, 2208, 2400)
    assert device.state(device_tree("pi-5")).frequencies_mhz == (1500,)
    assert device.state(device_tree("virtual-machine")).frequencies_mhz == (2401, 2400)


def test_a_clock_that_may_not_be_read_is_left_out(device_tree):
    assert device.state(device_tree("phone")).frequencies_mhz == (1200, 1500)


@pytest.mark.parametrize(
    ("name", "governor"),
    [
        ("rock-5b", "performance"),  # the big cores'
        ("phone", "walt"),
        ("laptop", "powersave (balance_performance)"),
        ("virtual-machine", None),
    ],
)
def test_the_governor_is_that_of_the_fastest_cores(device_tree, name, governor):
    assert device.state(device_tree(name)).governor == governor


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("0", ()),
        ("1", ("under-voltage",)),
        ("80008", ("soft temperature limit", "soft temperature limit since start")),
        ("20002", ("frequency capped", "frequency capped since start")),
        (
            "50005",
            ("under-voltage", "throttled", "under-voltage since start", "throttled since start"),
        ),
        ("e0000", tuple(f"{word} since start" for word in firmware._NOW[1:])),
        ("rubbish", ()),
    ],
)
def test_the_firmwares_flags_are_put_into_words(device_tree, flags, words):
    assert device.state(device_tree("pi-4", **{FIRMWARE: flags})).throttling == words


def test_the_mainline_kernels_voltage_alarm_is_heard(device_tree):
    alarm = {
        FIRMWARE: None,
        "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
        "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n",
    }
    assert device.state(device_tree("pi-4", **alarm)).throttling == ("under-voltage",)


def test_a_clock_lowered_by_the_kernels_cooling_is_throttling(device_tree):
    assert device.state(device_tree("phone")).throttled_now == ("frequency lowered by heat",)


def test_a_clock_limited_by_a_power_mode_is_not(device_tree):
    assert device.state(device_tree("jetson-orin-nano")).throttling == ()
    fan = {
        "sys/class/thermal/cooling_device0/type": "pwm-fan",
        "sys/class/thermal/cooling_device0/cur_state": "2",
    }
    assert device.state(device_tree("jetson-orin-nano", **fan)).throttling == ()


def test_what_happened_between_two_samples_is_found(device_tree):
    def sample(flags: str) -> DeviceState:
        return device.state(device_tree("pi-4", **{FIRMWARE: flags}))

    assert device.throttled_between(sample("0"), sample("0")) == ()
    assert device.throttled_between(sample("50000"), sample("50000")) == ()  # an old story
    assert device.throttled_between(sample("0"), sample("80000")) == ("soft temperature limit",)
    assert device.throttled_between(sample("0"), sample("10001")) == ("under-voltage",)
    assert device.throttled_between(sample("4"), sample("0")) == ("throttled",)


def test_intels_counters_tell_of_heat_between_two_samples(device_tree):
    before = device.state(device_tree("laptop"))
    counter = f"{CPU}/cpu3/thermal_throttle/core_throttle_count"
    after = device.state(device_tree("laptop", **{counter: "9\n"}))
    assert before.throttle_count == 16 * 2 + 5
    assert device.throttled_between(before, before) == ()
    assert device.throttled_between(before, after) == ("frequency lowered by heat",)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("pi-zero-2-w", {}, "supply voltage is too low"),
        ("pi-4", {FIRMWARE: "50000"}, "has been too low since the start"),
        ("pi-3b-plus", {}, "being slowed down because it is hot"),
        ("pi-5", {}, "slowed down by heat since the start"),
        ("pi-4", {}, "governor 'powersave'"),
        ("pi-5", {"sys/class/thermal/thermal_zone0/temp": "81000"}, "heat sink"),
        ("server-container", {}, "grants the time of 3.5 CPUs"),
        ("jetson-orin-nano", {}, "Switched off (offline): CPU 4-5"),
        ("pi-5", {"proc/self/status": "Cpus_allowed_list: 1-2"}, "2 of 4 CPUs"),
    ],
)
def test_what_slows_a_device_down_comes_with_advice(device_tree, name, changes, expected):
    assert any(
        expected in sentence for sentence in advice(device.inspect(device_tree(name, **changes)))
    )


@pytest.mark.parametrize("name", ["rock-5b", "laptop", "virtual-machine"])
def test_a_device_in_order_needs_no_advice(device_tree, name):
    assert advice(device.inspect(device_tree(name))) == ()


@pytest.fixture
def vcgencmd(tmp_path, monkeypatch):
    """Put a script in the place of vcgencmd on what is made to look like a Raspberry Pi."""

    def install(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "vcgencmd"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setattr(firmware, "is_raspberry_pi", lambda root: True)
        monkeypatch.setattr(firmware, "is_this_machine", lambda root: True)

    return install


def test_vcgencmd_is_asked_where_the_kernel_does_not_tell(vcgencmd, device_tree):
    vcgencmd(
        'case $1 in get_throttled) echo throttled=0x4;; *) echo "frequency(48)=600117184";; esac'
    )
    sample = device.state(device_tree("pi-4", **{FIRMWARE: None}))
    assert sample.throttling == ("throttled",)
    assert sample.frequencies_mhz == (600,)  # cpufreq doesn't know what the firmware did


@pytest.mark.parametrize(
    "script", ["exec sleep 20", "echo VCHI initialization failed; exit 255", "echo x"]
)
def test_a_vcgencmd_that_hangs_or_fails_changes_nothing(vcgencmd, device_tree, monkeypatch, script):
    vcgencmd(script)
    monkeypatch.setattr(firmware, "_TIMEOUT_S", 0.2)
    root = device_tree("pi-4", **{FIRMWARE: None})
    assert device.state(root).throttling == ()
    assert device.state(root).frequencies_mhz == (600,)
