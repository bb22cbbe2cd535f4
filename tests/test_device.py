"""What is told of devices, from recorded files; and of this machine."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path

import pytest
from device_trees import CPU, TREES, build, server_container

from effnet_edge import device
from effnet_edge.device import Device
from effnet_edge.device.advice import advice
from effnet_edge.device.files import ROOT, format_cpu_list, parse_cpu_list

NEEDS_PROC = pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="not on Linux")


@pytest.fixture
def inspected(device_tree):
    def inspect_named(name: str, **changes: str | None) -> Device:
        return device.inspect(device_tree(name, **changes))

    return inspect_named


@pytest.mark.parametrize(
    ("name", "board", "soc", "cores", "threads"),
    [
        ("pi-zero-2-w", "Raspberry Pi Zero 2 W Rev 1.0", "BCM2837", {"Cortex-A53": 4}, 4),
        ("pi-3b-plus", "Raspberry Pi 3 Model B Plus Rev 1.3", "BCM2837", {"Cortex-A53": 4}, 4),
        ("pi-4", "Raspberry Pi 4 Model B Rev 1.5", "BCM2711", {"Cortex-A72": 4}, 4),
        ("pi-5", "Raspberry Pi 5 Model B Rev 1.0", "BCM2712", {"Cortex-A76": 4}, 4),
        ("rock-5b", "Radxa ROCK 5B", "RK3588", {"Cortex-A76": 4, "Cortex-A55": 4}, 4),
        (
            "jetson-orin-nano",
            "NVIDIA Jetson Orin Nano Developer Kit",
            "TEGRA234",
            {"Cortex-A78AE": 4},
            4,
        ),
        ("phone", None, None, {"Cortex-X2": 1, "Cortex-A710": 3, "Cortex-A510": 4}, 4),
        ("server-container", None, None, {"AMD EPYC 9554 64-Core Processor": 64}, 3),
        ("old-container", None, None, {"Intel Xeon CPU E5-2680 v4 @ 2.40GHz": 8}, 1),
        ("virtual-machine", None, None, {"AMD EPYC": 2}, 2),
    ],
)
def test_board_chip_cores_and_default_threads(inspected, name, board, soc, cores, threads):
    found = inspected(name)
    assert (found.board, found.soc) == (board, soc)
    assert {kind.name: kind.cores for kind in found.core_classes} == cores
    assert found.default_threads == threads


@pytest.mark.parametrize(
    ("name", "isa"),
    [
        ("pi-zero-2-w", ("asimd",)),
        ("pi-3b-plus", ("neon", "vfpv4")),
        ("pi-4", ("asimd",)),
        ("pi-5", ("asimd", "asimdhp", "asimddp")),
        ("phone", ("asimd", "asimdhp", "asimddp", "i8mm", "bf16")),
        ("laptop", ("sse4_1", "avx", "f16c", "fma", "avx2", "avx_vnni")),
    ],
)
def test_the_instruction_sets_that_decide_speed(inspected, name, isa):
    assert inspected(name).isa == isa


def test_two_clusters_of_one_core_at_nearly_one_clock_are_one_class(inspected):
    big, little = inspected("rock-5b").core_classes
    assert (big.cpus, big.max_mhz, big.relative_speed, big.little, big.fast) == (
        (4, 5, 6, 7),
        2400,
        1.0,
        False,
        True,
    )
    assert (little.cpus, little.max_mhz, little.little, little.fast) == (
        (0, 1, 2, 3),
        1800,
        True,
        False,
    )
    assert little.relative_speed == pytest.approx(414 / 1024, abs=1e-3)


def test_prime_and_gold_cores_are_fast_and_silver_ones_are_not(inspected):
    prime, gold, silver = inspected("phone").core_classes
    assert (prime.fast, gold.fast, silver.fast) == (True, True, False)
    assert prime.relative_speed > gold.relative_speed > silver.relative_speed


def test_a_core_slower_than_half_of_the_fastest_is_not_fast_whatever_its_name(inspected):
    slow = {f"{CPU}/cpu{cpu}/cpu_capacity": "480\n" for cpu in (4, 5, 6)}
    found = inspected("phone", **slow)
    assert [kind.name for kind in found.core_classes if kind.fast] == ["Cortex-X2"]
    assert found.default_threads == 1


def test_without_capacities_clock_and_kind_tell_big_from_little(inspected):
    no_capacity = {f"{CPU}/cpu{cpu}/cpu_capacity": None for cpu in range(8)}
    big, little = inspected("rock-5b", **no_capacity).core_classes
    assert (big.cpus, little.cpus) == ((4, 5, 6, 7), (0, 1, 2, 3))
    assert little.relative_speed < 0.5
    assert inspected("rock-5b", **no_capacity).default_threads == 4


def test_performance_cores_count_once_for_two_threads_and_efficiency_cores_not(inspected):
    found = inspected("laptop")
    performance, efficiency = found.core_classes
    assert (performance.cores, len(performance.cpus), performance.fast) == (4, 8, True)
    assert (efficiency.cores, len(efficiency.cpus), efficiency.fast) == (8, 8, False)
    assert efficiency.relative_speed == 0.5
    assert found.default_threads == 4
    assert found.board == "LENOVO Yoga 9 14IAP7"


def allowed(cpus: str) -> dict[str, str]:
    return {"proc/self/status": f"Name:\tpython3\nCpus_allowed_list:\t{cpus}\n"}


@pytest.mark.parametrize(
    ("name", "cpus", "threads"),
    [
        ("rock-5b", "0-3", 4),  # only little ones: these then
        ("rock-5b", "3-4", 1),  # one of each: the big one
        ("rock-5b", "6", 1),
        ("laptop", "0-1", 1),  # two threads of one core
        ("laptop", "0,2", 2),
        ("laptop", "8-11", 4),
        ("phone", "4-7", 4),
        ("phone", "0-1", 2),
        ("pi-5", "1-63", 3),  # a mask with CPUs that aren't there
    ],
)
def test_threads_follow_the_affinity(device_tree, name, cpus, threads):
    assert device.default_threads(device_tree(name, **allowed(cpus))) == threads


def test_isolated_cpus_count_as_one_for_the_kernel_moves_no_thread_between_them(device_tree):
    isolated = {f"{CPU}/isolated": "2-3\n"}
    assert device.default_threads(device_tree("pi-5", **isolated)) == 2
    assert device.default_threads(device_tree("pi-5", **isolated, **allowed("2-3"))) == 1


def test_offline_cores_are_named_and_not_used(inspected):
    found = inspected("jetson-orin-nano")
    assert found.offline_cpus == (4, 5)
    assert found.allowed_cpus == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("quota", "threads"), [("max 100000", 64), ("50000 100000", 1), ("250000 100000", 2)]
)
def test_a_quota_of_cpu_time_limits_threads_and_is_rounded_down(device_tree, quota, threads):
    root = device_tree("server-container", **{"sys/fs/cgroup/cpu.max": quota})
    assert device.default_threads(root) == threads


def test_a_32_bit_user_space_on_a_64_bit_kernel_is_seen(inspected):
    found = inspected("pi-zero-2-w")
    assert (found.architecture, found.kernel_bits, found.bits) == ("aarch64", 64, 32)
    assert any("32-bit" in sentence for sentence in advice(found))
    found = inspected("pi-3b-plus")
    assert (found.architecture, found.kernel_bits, found.bits) == ("armv7l", 32, 32)


def test_caches_shared_by_cores_are_listed_once(inspected):
    found = inspected("pi-5").caches
    assert [(cache.level, cache.size, cache.cpus) for cache in found] == [
        *((2, 512 << 10, (cpu,)) for cpu in range(4)),
        (3, 2 << 20, (0, 1, 2, 3)),
    ]


def test_a_hypervisor_is_named(inspected):
    assert inspected("virtual-machine").virtual
    assert not inspected("laptop").virtual


def test_an_unknown_arm_core_is_named_by_its_numbers(inspected):
    record = "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xeee\n"
    (kind,) = inspected("pi-5", **{"proc/cpuinfo": record, f"{CPU}/online": "0"}).core_classes
    assert kind.name == "ARM 0x41:0xeee"


def test_cores_without_part_numbers_are_named_by_their_register(inspected):
    changes = {"proc/cpuinfo": "".join(f"processor : {cpu}\n\n" for cpu in range(4))}
    register = f"{CPU}/cpu{{}}/regs/identification/midr_el1"
    changes |= {register.format(cpu): "0x00000000414fd0b1\n" for cpu in range(4)}
    (kind,) = inspected("pi-5", **changes).core_classes
    assert (kind.name, kind.cores, kind.isa) == ("Cortex-A76", 4, ())


def test_old_kernels_that_name_the_cpu_once_are_read(inspected):
    text = (
        "Processor\t: ARMv7 Processor rev 5 (v7l)\nprocessor\t: 0\nBogoMIPS\t: 38.40\n\n"
        "processor\t: 1\nBogoMIPS\t: 38.40\n\nFeatures\t: swp half neon vfpv4\n"
        "CPU implementer\t: 0x41\nCPU part\t: 0xc07\n\nHardware\t: sun7i\n"
    )
    changes = {"proc/cpuinfo": text, f"{CPU}/online": "0-1\n", **allowed("0-1")}
    (kind,) = inspected("pi-3b-plus", **changes).core_classes
    assert (kind.name, kind.cpus, kind.isa) == ("Cortex-A7", (0, 1), ("neon", "vfpv4"))


def test_nothing_is_known_of_an_empty_tree_but_one_core(tmp_path):
    found = device.inspect(tmp_path)
    assert (found.board, found.soc, found.architecture, found.bits) == (None,) * 4
    assert (found.memory.total, found.memory.available, found.cpu_quota) == (None,) * 3
    assert found.default_threads == 1
    assert device.available_memory(tmp_path) is None
    assert device.state(tmp_path).temperature_c is None
    assert device.fingerprint(tmp_path) == device.fingerprint(tmp_path)


GARBAGE = (
    None,
    "",
    "\x00\xff\x1b]0;\n\n:\n: :\n-\n0-\n",
    "-1\n",
    "9" * 5000,
    "0-99999999999\n",
    "max\n \n  \nnan 1e999 inf\n",
)


@pytest.mark.parametrize("name", TREES)
def test_no_missing_or_damaged_file_raises(tmp_path, monkeypatch, name):
    recorded = server_container(2) if name == "server-container" else TREES[name]()
    root = build(recorded, tmp_path, monkeypatch)
    for path in recorded.files:
        if re.search(r"(cpu|policy)([2-9]|1\d)/", path):
            continue  # those of the first CPUs stand for all
        file = root / path
        for garbage in GARBAGE:
            if garbage is None:
                file.unlink()
            else:
                file.write_text(garbage, encoding="latin-1")
            found = device.inspect(root)
            assert found.default_threads >= 1
            assert found.core_classes
            assert "\n" not in device.fingerprint(root)
            advice(found)
        file.write_bytes(recorded.files[path].encode())


def test_a_damaged_clock_control_group_and_mask_all_at_once_still_give_a_device(device_tree):
    for garbage in GARBAGE:
        root = device_tree(
            "old-container", **dict.fromkeys(TREES["old-container"]().files, garbage)
        )
        assert device.inspect(root).default_threads >= 1


def test_forbidden_files_leave_the_rest(inspected):
    found = inspected("phone")
    assert found.board is None
    assert found.core_classes[0].max_mhz == 2995
    assert found.memory.available == 2900000 * 1024


@pytest.mark.parametrize("name", TREES)
def test_a_fingerprint_is_one_line_and_stable(device_tree, name):
    root = device_tree(name)
    line = device.fingerprint(root)
    assert "\n" not in line
    assert device.fingerprint(root) == line


def test_a_fingerprint_does_not_change_with_heat_load_or_free_memory(device_tree):
    cooler = {
        "sys/class/thermal/thermal_zone0/temp": "30000",
        "sys/class/thermal/cooling_device3/cur_state": "0",
        "proc/meminfo": "MemTotal: 7500000 kB\nMemAvailable: 100 kB\n",
    }
    for cpu, khz in ((4, 2496000), (5, 2496000), (6, 2496000), (7, 2995200)):
        cooler[f"{CPU}/cpu{cpu}/cpufreq/scaling_max_freq"] = f"{khz}\n"
        cooler[f"{CPU}/cpu{cpu}/cpufreq/scaling_cur_freq"] = "300000\n"
    hot, cool = device_tree("phone"), device_tree("phone", **cooler)
    assert device.state(hot).throttling and not device.state(cool).throttling
    assert device.fingerprint(hot) == device.fingerprint(cool)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("pi-4", {f"{CPU}/cpufreq/policy0/scaling_governor": "performance"}),
        ("pi-4", {f"{CPU}/cpufreq/policy0/scaling_max_freq": "1200000"}),
        ("pi-4", {"proc/self/exe": "\x7fELF\x01"}),
        ("pi-4", allowed("0-1")),
        ("server-container", {"sys/fs/cgroup/memory.max": "1000000"}),
        ("server-container", {"sys/fs/cgroup/cpu.max": "100000 100000"}),
        ("server-container", {f"{CPU}/cpufreq/boost": "0"}),
        ("laptop", {f"{CPU}/intel_pstate/no_turbo": "1"}),
        (
            "laptop",
            {f"{CPU}/cpufreq/policy0/energy_performance_preference": "power"},
        ),
        ("virtual-machine", {"proc/cpuinfo": "processor : 0\nvendor_id : x\nmodel name : Other"}),
    ],
)
def test_a_fingerprint_changes_with_what_changes_speed(device_tree, name, changes):
    assert device.fingerprint(device_tree(name, **changes)) != device.fingerprint(device_tree(name))


def test_128_processors_are_not_all_asked_for_their_clock(device_tree, monkeypatch):
    root = device_tree("server-container")
    read = os.read
    taken = []

    def counted(descriptor, length):
        data = read(descriptor, min(length, 4096))  # a page, as the kernel hands it out
        taken.append(data)
        return data

    monkeypatch.setattr(os, "read", counted)
    assert "AMD EPYC 9554 64-Core Processor @0-127" in device.fingerprint(root)
    assert sum(b"cpu MHz" in data for data in taken) == 1
    assert len(taken) < 400


def test_cpu_lists_are_read_and_written_as_the_kernel_does():
    assert parse_cpu_list("0-3,8,10-11\n") == (0, 1, 2, 3, 8, 10, 11)
    assert parse_cpu_list("\n") == parse_cpu_list(None) == ()
    for damaged in ("3-1", "0-", "-1", "0x3", "0-99999999", "a,b"):
        assert parse_cpu_list(damaged) == ()
    assert format_cpu_list((0, 1, 2, 3, 8, 10, 11)) == "0-3,8,10-11"


@NEEDS_PROC
def test_this_machine_is_understood():
    found = device.inspect()
    memory = found.memory
    assert memory.total is not None and memory.available is not None
    assert 0 < memory.available <= memory.total
    assert found.core_classes[0].name
    assert found.isa
    assert found.bits == (64 if sys.maxsize > 1 << 32 else 32)
    assert 1 <= found.default_threads <= len(found.allowed_cpus)
    assert device.fingerprint() == device.fingerprint()
    dataclasses.asdict(found)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity")
def test_one_allowed_core_means_one_thread():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert device.default_threads(ROOT) == 1
        assert device.inspect().allowed_cpus == (min(before),)
    finally:
        os.sched_setaffinity(0, before)


def test_a_system_without_proc_counts_its_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    real = os.open

    def refuse(path, *args, **options):
        if str(path).startswith(("/proc", "/sys")):
            raise FileNotFoundError(path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    assert device.default_threads() == 6
    assert device.available_memory() is None
    assert device.fingerprint() == device.fingerprint()
    assert device.state().frequencies_mhz == ()
