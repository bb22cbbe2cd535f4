"""Memory that a process may still take: the device's, and what control groups leave of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from device_trees import TREES, Recorded, build

from effnet_edge import device
from effnet_edge.device.limits import cpu_quota
from effnet_edge.device.memory import memory_limit

GIB = 1 << 30
NO_LIMIT = "9223372036854771712\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    def build_files(files: dict[str, str]) -> Path:
        return build(Recorded(files), tmp_path / "root", monkeypatch)

    return build_files


def available(tree, name: str) -> int | None:
    return device.available_memory(tree(TREES[name]().files))


def test_free_memory_is_what_the_kernel_calls_available_and_no_swap(tree):
    assert available(tree, "pi-4") == 3100000 * 1024


def test_before_linux_3_14_caches_count_as_free_and_shared_memory_does_not(tree):
    assert available(tree, "pi-3b-plus") == (500000 + 20000 + 200000 - 10000) * 1024


def test_a_container_gets_its_limit_less_what_it_uses_where_file_cache_counts_as_free(tree):
    # 2 GiB, 1.5 GiB used, of which 1 GiB is cache of files
    assert available(tree, "server-container") == GIB * 3 // 2


def test_the_limit_of_a_group_above_ones_own_holds(tree):
    root = tree(TREES["old-container"]().files)
    # 1 GB, 0.7 GB used, 0.2 GB of it cache
    assert memory_limit(root) == (1_000_000_000, 500_000_000)
    assert cpu_quota(root) == 1.5


def unified(path: str, groups: dict[str, dict[str, str]], mount_root: str = "/") -> dict[str, str]:
    files = {
        "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n",
        "proc/self/cgroup": f"0::{path}\n",
        "proc/self/mountinfo": (
            "22 1 8:2 / / rw - ext4 /dev/root rw\n"
            f"30 22 0:26 {mount_root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
        ),
    }
    for group, values in groups.items():
        files |= {f"sys/fs/cgroup{group}/{name}": text for name, text in values.items()}
    return files


def test_the_tightest_of_nested_groups_decides(tree):
    slice_ = {"memory.max": f"{4 * GIB}\n", "memory.current": f"{3 * GIB}\n"}
    unit = {"memory.max": f"{2 * GIB}\n", "memory.current": "0\n"}
    found = memory_limit(
        tree(unified("/app.slice/x.service", {"/app.slice": slice_, "/app.slice/x.service": unit}))
    )
    assert found.limit == 2 * GIB  # the unit's own
    assert found.left == GIB  # but its neighbours have taken most of the slice


def test_a_soft_limit_that_slows_a_unit_down_counts(tree):
    unit = {"memory.max": "max\n", "memory.high": f"{GIB}\n", "memory.current": "1000\n"}
    assert memory_limit(tree(unified("/u", {"/u": unit}))) == (GIB, GIB - 1000)


def test_groups_without_a_limit_leave_the_devices_memory(tree):
    group = {"memory.max": "max\n", "memory.high": "max\n", "memory.current": "5\n"}
    root = tree(unified("/u", {"/u": group, "": {"memory.stat": "file 3\n"}}))
    assert memory_limit(root) == (None, None)
    assert device.available_memory(root) == 8000000 * 1024


def test_a_group_over_its_limit_leaves_nothing(tree):
    group = {"memory.max": "1000\n", "memory.current": "5000\n", "memory.stat": "active_file x\n"}
    assert device.available_memory(tree(unified("/u", {"/u": group}))) == 0


def test_cache_never_makes_more_than_the_limit(tree):
    group = {"memory.max": "1000\n", "memory.current": "10\n", "memory.stat": "active_file 99999"}
    assert memory_limit(tree(unified("/u", {"/u": group}))).left == 1000


@pytest.mark.parametrize(
    ("path", "mount_root"),
    [
        ("/", "/"),  # a namespace of its own
        ("/docker/7f/worker", "/docker/7f/worker"),  # none: the host's path
        ("/../../other", "/"),  # moved out of the namespace's root
        ("/elsewhere", "/docker/7f"),
    ],
)
def test_a_containers_group_is_found_with_and_without_a_namespace(tree, path, mount_root):
    files = unified(path, {"": {"memory.max": "4096000\n", "cpu.max": "20000 100000"}}, mount_root)
    root = tree(files)
    assert memory_limit(root).limit == 4096000
    assert cpu_quota(root) == 0.2


def test_below_a_mounted_group_the_rest_of_the_path_is_followed(tree):
    group = {"memory.max": "4096000\n"}
    assert memory_limit(tree(unified("/pod/box/w", {"/box/w": group}, "/pod"))).limit == 4096000


def test_a_hybrid_system_has_its_limits_in_version_1(tree):
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:memory:/a/b\n1:cpu:/\n0::/\n",
        "proc/self/mountinfo": (
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
            "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
            "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
        ),
        "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": NO_LIMIT,
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2000000\n",
        "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "500000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT,
    }
    assert memory_limit(tree(files)) == (2000000, 1500000)


def test_mount_points_with_spaces_are_followed(tree):
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "30 22 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n",
        "my groups/memory.max": "12345\n",
    }
    assert memory_limit(tree(files)).limit == 12345


def test_without_mountinfo_the_usual_places_are_tried(tree):
    files = {"proc/self/cgroup": "0::/u\n", "sys/fs/cgroup/u/memory.max": "777\n"}
    assert memory_limit(tree(files)).limit == 777
