"""Other devices' /proc and /sys, as far as `effnet_edge.device` reads them.

Written from public descriptions: /proc/cpuinfo from the collection of
github.com/hrw/arm-socs-table (issues 18, 29, 90, 96, 98) and from bug reports; thermal zones from
github.com/htop-dev/htop/issues/1160 (RK3588), github.com/rbonghi/jetson_stats/issues/608 (Orin)
and github.com/intel/thermal_daemon/issues/411 (Alder Lake); boards' names and ``compatible`` from
Linux's device trees; clocks from the makers' data sheets. Nothing personal is in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CPU = "sys/devices/system/cpu"
GIB = 1 << 20
"""In units of /proc/meminfo, KiB."""

_A53 = "fp asimd evtstrm crc32 cpuid"
_A72 = _A53
_V8_2 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)
_ORIN = f"{_V8_2} uscat ilrcpc flagm paca pacg"
_V9 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
    "lrcpc dcpop sha3 sm3 sm4 asimddp sha512 asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg "
    "dcpodp flagm2 frint i8mm bf16 bti"
)
_AVX2 = "fpu sse sse2 ht lm ssse3 fma sse4_1 sse4_2 avx f16c avx2 avx_vnni"
_ZEN4 = (
    "fpu sse sse2 ht lm ssse3 fma sse4_1 sse4_2 avx f16c avx2 avx512f avx512bw avx512vl "
    "avx512_bf16 avx512_vnni"
)

Tree = dict[str, str]


@dataclass(frozen=True)
class Recorded:
    """A device's files; ``unreadable`` ones exist but give PermissionError."""

    files: Tree
    unreadable: frozenset[str] = field(default_factory=frozenset)


def build(recorded: Recorded, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the files below ``root`` and return it."""
    for path, text in recorded.files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    if recorded.unreadable:
        # Not by file modes, which don't hold for root.
        forbidden = {str(root / path) for path in recorded.unreadable}
        for name in ("open", "scandir"):
            monkeypatch.setattr(os, name, _refusing(getattr(os, name), forbidden))
    return root


def _refusing(real: Callable[..., object], forbidden: set[str]) -> Callable[..., object]:
    def call(path: object, *args: object, **options: object) -> object:
        if any(str(path) == each or str(path).startswith(f"{each}/") for each in forbidden):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    return call


def pi_zero_2_w() -> Recorded:
    """512 MB, the 32-bit system on its 64-bit kernel, a weak charger."""
    return Recorded(
        {
            **_arm(["0x41:0xd03:4"] * 4, _A53, "38.40"),
            **_board("Raspberry Pi Zero 2 W Rev 1.0", "raspberrypi,model-zero-2-w", "brcm,bcm2837"),
            **_memory(total=436196, available=262000),
            **_policy(range(4), 1_000_000, 1_000_000, "ondemand"),
            **_zones({"cpu-thermal": 48312}),
            **_user_space(32),
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        }
    )


def pi_3b_plus() -> Recorded:
    """The 32-bit kernel of older systems, without MemAvailable in its /proc/meminfo."""
    features = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae crc32"
    tree = _arm(["0x41:0xd03:4"] * 4, features, "38.40", name="ARMv7 Processor rev 4 (v7l)")
    tree["proc/cpuinfo"] += (
        "\nHardware\t: BCM2835\nRevision\t: a020d3\n"
        "Model\t\t: Raspberry Pi 3 Model B Plus Rev 1.3\n"
    )
    return Recorded(
        {
            **tree,
            **_board(
                "Raspberry Pi 3 Model B Plus Rev 1.3", "raspberrypi,3-model-b-plus", "brcm,bcm2837"
            ),
            "proc/meminfo": "MemTotal: 948304 kB\nMemFree: 500000 kB\nBuffers: 20000 kB\n"
            "Cached: 200000 kB\nShmem: 10000 kB\n",
            **_policy(range(4), 1_400_000, 1_400_000, "ondemand"),
            **_zones({"cpu-thermal": 62831}),
            **_user_space(32),
            "sys/devices/platform/soc/soc:firmware/get_throttled": "80008\n",
        }
    )


def pi_4() -> Recorded:
    """64 bits, four Cortex-A72, somebody's governor for a quiet board."""
    return Recorded(
        {
            **_arm(["0x41:0xd08:3"] * 4, _A72, "108.00"),
            **_board("Raspberry Pi 4 Model B Rev 1.5", "raspberrypi,4-model-b", "brcm,bcm2711"),
            **_memory(total=3884360, available=3100000),
            **_policy(range(4), 1_800_000, 600_000, "powersave"),
            **_zones({"cpu-thermal": 41868}),
            **_user_space(64),
            **_capacity([1024] * 4),
            "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
        }
    )


def pi_5() -> Recorded:
    """64 bits, four Cortex-A76; the firmware's device is elsewhere than on older boards."""
    return Recorded(
        {
            **_arm(["0x41:0xd0b:1"] * 4, _V8_2, "108.00"),
            **_board("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "brcm,bcm2712"),
            **_memory(total=8257024, available=7400000),
            **_policy(range(4), 2_400_000, 1_500_000, "ondemand"),
            **_zones({"cpu-thermal": 52150}),
            **_user_space(64),
            **_capacity([1024] * 4),
            **_caches([([cpu], 512) for cpu in range(4)], [(range(4), 2048)]),
            "proc/sys/kernel/arch": "aarch64\n",
            "sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled": "e0000\n",
        }
    )


def rock_5b() -> Recorded:
    """RK3588: four Cortex-A55 and two clusters of two Cortex-A76, not quite equally fast."""
    return Recorded(
        {
            **_arm(["0x41:0xd05:0"] * 4 + ["0x41:0xd0b:0"] * 4, _V8_2, "48.00"),
            **_board("Radxa ROCK 5B", "radxa,rock-5b", "rockchip,rk3588"),
            **_memory(total=16 * GIB, available=14 * GIB),
            **_policy(range(4), 1_800_000, 1_800_000, "ondemand"),
            **_policy(range(4, 6), 2_352_000, 2_208_000, "performance"),
            **_policy(range(6, 8), 2_400_000, 2_400_000, "performance"),
            **_zones(
                {
                    "soc-thermal": 44384,
                    "bigcore0-thermal": 47153,
                    "bigcore1-thermal": 46230,
                    "littlecore-thermal": 45307,
                    "center-thermal": 43461,
                    "gpu-thermal": 99000,
                    "npu-thermal": 43461,
                }
            ),
            **_user_space(64),
            **_capacity([414] * 4 + [1003] * 2 + [1024] * 2),
        }
    )


def jetson_orin_nano() -> Recorded:
    """The 7 W mode: two of six cores off, the clock capped."""
    return Recorded(
        {
            **_arm(["0x41:0xd42:1"] * 4, _ORIN, "62.50", present=6),
            **_board(
                "NVIDIA Jetson Orin Nano Developer Kit",
                "nvidia,p3768-0000+p3767-0005",
                "nvidia,p3767-0005",
                "nvidia,tegra234",
            ),
            **_memory(total=7800000, available=6000000),
            **_policy(range(4), 1_510_400, 729_600, "schedutil", allowed=1_113_600),
            **_zones(
                {
                    "cpu-thermal": 49312,
                    "gpu-thermal": 60000,
                    "cv0-thermal": -256000,
                    "soc0-thermal": 47000,
                    "tj-thermal": 60000,
                }
            ),
            **_user_space(64),
        }
    )


def phone() -> Recorded:
    """Snapdragon 8 Gen 1 in Termux: one Cortex-X2, three A710, four A510; much is forbidden."""
    parts = ["0x41:0xd46:2"] * 4 + ["0x41:0xd47:0"] * 3 + ["0x41:0xd48:0"]
    return Recorded(
        {
            **_arm(parts, _V9, "38.40"),
            **_memory(total=7500000, available=2900000),
            **_policy(range(4), 1_785_600, 1_785_600, "walt"),
            **_policy(range(4, 7), 2_496_000, 1_200_000, "walt", allowed=1_996_800),
            **_policy([7], 2_995_200, 1_500_000, "walt", allowed=2_400_000),
            **_zones({"cpu-0-0": 61000, "cpu-1-7": 64500, "cpuss-0": 60000, "battery": 33000}),
            "sys/class/thermal/cooling_device3/type": "thermal-cpufreq-7\n",
            "sys/class/thermal/cooling_device3/cur_state": "5\n",
            **_user_space(64),
            **_capacity([325] * 4 + [813] * 3 + [1024]),
            "proc/device-tree/model": "Qualcomm Technologies, Inc. Waipio MTP\0",
        },
        frozenset(
            {
                "proc/device-tree",
                "proc/self/mountinfo",
                f"{CPU}/cpufreq",
                f"{CPU}/cpu0/cpufreq/scaling_cur_freq",
                "sys/class/hwmon",
                "sys/firmware",
            }
        ),
    )


def laptop() -> Recorded:
    """Alder Lake: four performance cores of two threads each, eight efficiency cores."""
    tree: Tree = {
        **_x86("12th Gen Intel(R) Core(TM) i5-1240P", "GenuineIntel", 16, _AVX2),
        **_memory(total=16 * GIB, available=9 * GIB),
        **_zones({"acpitz": 27800, "iwlwifi_1": 91000, "x86_pkg_temp": 71000, "TCPU": 70000}),
        **_user_space(64),
        "sys/devices/cpu_core/cpus": "0-7\n",
        "sys/devices/cpu_atom/cpus": "8-15\n",
        f"{CPU}/smt/active": "1\n",
        f"{CPU}/intel_pstate/no_turbo": "0\n",
        "sys/class/dmi/id/sys_vendor": "LENOVO\n",
        "sys/class/dmi/id/product_name": "82LF\n",
        "sys/class/dmi/id/product_version": "Yoga 9 14IAP7\n",
    }
    for cpu in range(16):
        siblings = f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}" if cpu < 8 else f"{cpu}"
        tree[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = f"{siblings}\n"
        tree[f"{CPU}/cpu{cpu}/thermal_throttle/core_throttle_count"] = "2\n"
        tree[f"{CPU}/cpu{cpu}/thermal_throttle/package_throttle_count"] = "5\n"
        khz = 4_400_000 if cpu < 8 else 3_300_000
        tree |= _policy([cpu], khz, 2_100_000, "powersave")
        preference = f"{CPU}/cpu{cpu}/cpufreq/energy_performance_preference"
        tree[preference] = "balance_performance\n"
        tree[f"{CPU}/cpufreq/policy{cpu}/energy_performance_preference"] = "balance_performance\n"
    return Recorded(tree)


def server_container(cores: int = 64) -> Recorded:
    """A container with its own cgroup namespace, version 2, on cores of two threads each."""
    tree: Tree = {
        **_x86("AMD EPYC 9554 64-Core Processor", "AuthenticAMD", 2 * cores, _ZEN4),
        **_memory(total=512 * GIB, available=400 * GIB),
        **_user_space(64),
        f"{CPU}/smt/active": "1\n",
        f"{CPU}/cpufreq/boost": "1\n",
        "sys/class/hwmon/hwmon0/name": "nvme\n",
        "sys/class/hwmon/hwmon0/temp1_input": "80000\n",
        "sys/class/hwmon/hwmon1/name": "k10temp\n",
        "sys/class/hwmon/hwmon1/temp1_input": "55250\n",
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "1 0 0:28 / /proc rw - proc proc rw\n"
        "36 32 0:29 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n",
        "sys/fs/cgroup/memory.max": "2147483648\n",
        "sys/fs/cgroup/memory.high": "max\n",
        "sys/fs/cgroup/memory.current": "1610612736\n",
        "sys/fs/cgroup/memory.stat": "anon 536870912\nfile 1073741824\nshmem 0\n"
        "inactive_file 805306368\nactive_file 268435456\n",
        "sys/fs/cgroup/cpu.max": "350000 100000\n",
    }
    for cpu in range(2 * cores):
        first = cpu % cores
        tree[f"{CPU}/cpu{cpu}/topology/thread_siblings_list"] = f"{first},{first + cores}\n"
        policy = _policy([cpu], 3_762_988, 3_100_000, "performance")
        tree |= {path: text for path, text in policy.items() if "/policy" in path}
    return Recorded(tree)


def old_container() -> Recorded:
    """A container of cgroup version 1 without a namespace; the limit stands above its own group."""
    memory = "sys/fs/cgroup/memory"
    path = "/docker/7f3a"
    unlimited = "9223372036854771712\n"
    stat = "cache 0\ninactive_file 1\ntotal_inactive_file {}\ntotal_active_file {}\n"
    return Recorded(
        {
            **_x86("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "GenuineIntel", 8, _AVX2),
            **_memory(total=32 * GIB, available=20 * GIB),
            **_user_space(64),
            "proc/self/cgroup": f"12:memory:{path}/worker\n4:cpu,cpuacct:{path}/worker\n"
            f"1:name=systemd:{path}/worker\n0::/system.slice/docker.service\n",
            "proc/self/mountinfo": f"36 32 0:29 {path} /{memory} ro - cgroup cgroup rw,memory\n"
            f"37 32 0:30 {path} /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
            "38 32 0:31 / /sys/fs/cgroup/unified ro - cgroup2 cgroup rw\n",
            f"{memory}/worker/memory.limit_in_bytes": unlimited,
            f"{memory}/worker/memory.usage_in_bytes": "300000000\n",
            f"{memory}/worker/memory.stat": stat.format(0, 0),
            f"{memory}/memory.limit_in_bytes": "1000000000\n",
            f"{memory}/memory.usage_in_bytes": "700000000\n",
            f"{memory}/memory.stat": stat.format(150000000, 50000000),
            "sys/fs/cgroup/cpu,cpuacct/worker/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/worker/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        }
    )


def virtual_machine() -> Recorded:
    """No cpufreq, no sensors, no topology: what a hypervisor hides."""
    tree = _x86("AMD EPYC", "AuthenticAMD", 2, f"{_ZEN4} hypervisor")
    return Recorded({**tree, **_memory(total=4 * GIB, available=3 * GIB), **_user_space(64)})


TREES: dict[str, Callable[[], Recorded]] = {
    "pi-zero-2-w": pi_zero_2_w,
    "pi-3b-plus": pi_3b_plus,
    "pi-4": pi_4,
    "pi-5": pi_5,
    "rock-5b": rock_5b,
    "jetson-orin-nano": jetson_orin_nano,
    "phone": phone,
    "laptop": laptop,
    "server-container": server_container,
    "old-container": old_container,
    "virtual-machine": virtual_machine,
}


def _arm(
    parts: list[str], features: str, bogomips: str, *, name: str = "", present: int = 0
) -> Tree:
    """CPUs by ``implementer:part:revision``; more may be ``present`` than are online."""
    records = []
    for number, each in enumerate(parts):
        implementer, part, revision = each.split(":")
        model = f"model name\t: {name}\n" if name else ""
        records.append(
            f"processor\t: {number}\n{model}BogoMIPS\t: {bogomips}\nFeatures\t: {features}\n"
            f"CPU implementer\t: {implementer}\nCPU architecture: {7 if name else 8}\n"
            f"CPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: {revision}\n"
        )
    return {"proc/cpuinfo": "\n".join(records), **_cpus(len(parts), present or len(parts))}


def _x86(model: str, vendor: str, count: int, flags: str) -> Tree:
    records = [
        f"processor\t: {cpu}\nvendor_id\t: {vendor}\nmodel name\t: {model}\n"
        f"cpu MHz\t\t: {2400 + cpu}.000\nflags\t\t: {flags}\n"
        for cpu in range(count)
    ]
    return {"proc/cpuinfo": "\n".join(records), **_cpus(count, count)}


def _cpus(online: int, present: int) -> Tree:
    return {
        f"{CPU}/online": f"0-{online - 1}\n",
        f"{CPU}/present": f"0-{present - 1}\n",
        f"{CPU}/isolated": "\n",
        "proc/self/status": f"Name:\tpython3\nCpus_allowed_list:\t0-{present - 1}\nThreads:\t1\n",
    }


def _board(model: str, *compatible: str) -> Tree:
    return {
        "proc/device-tree/model": f"{model}\0",
        "proc/device-tree/compatible": "\0".join(compatible) + "\0",
    }


def _memory(*, total: int, available: int) -> Tree:
    return {
        "proc/meminfo": f"MemTotal:  {total} kB\nMemFree:  {available // 2} kB\n"
        f"MemAvailable:  {available} kB\nBuffers:  100 kB\nSwapFree:  999999999 kB\n"
    }


def _policy(
    cpus: range | list[int], offered: int, now: int, governor: str, *, allowed: int | None = None
) -> Tree:
    """CPUs that share a clock (kHz); the kernel shows the same folder in two places."""
    values = {
        "cpuinfo_max_freq": offered,
        "scaling_max_freq": allowed or offered,
        "scaling_cur_freq": now,
        "scaling_governor": governor,
        "related_cpus": " ".join(map(str, cpus)),
    }
    folders = [f"{CPU}/cpufreq/policy{cpus[0]}", *(f"{CPU}/cpu{cpu}/cpufreq" for cpu in cpus)]
    return {f"{place}/{name}": f"{value}\n" for place in folders for name, value in values.items()}


def _zones(temperatures: dict[str, int]) -> Tree:
    tree: Tree = {}
    for number, (kind, millidegrees) in enumerate(temperatures.items()):
        tree[f"sys/class/thermal/thermal_zone{number}/type"] = f"{kind}\n"
        tree[f"sys/class/thermal/thermal_zone{number}/temp"] = f"{millidegrees}\n"
    return tree


def _capacity(values: list[int]) -> Tree:
    return {f"{CPU}/cpu{cpu}/cpu_capacity": f"{value}\n" for cpu, value in enumerate(values)}


def _user_space(bits: int) -> Tree:
    return {"proc/self/exe": f"\x7fELF{chr(bits // 32)}\x01\x01"}


def _caches(*levels: list[tuple[range | list[int], int]]) -> Tree:
    """Levels 2 and on, each a list of (CPUs that share a cache, KiB)."""
    tree: Tree = {}
    for index, caches in enumerate(levels):
        for cpus, size in caches:
            for cpu in cpus:
                folder = f"{CPU}/cpu{cpu}/cache/index{index + 2}"
                tree[f"{folder}/level"] = f"{index + 2}\n"
                tree[f"{folder}/type"] = "Unified\n"
                tree[f"{folder}/size"] = f"{size}K\n"
                tree[f"{folder}/shared_cpu_list"] = ",".join(map(str, cpus)) + "\n"
    return tree
