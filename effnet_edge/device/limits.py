"""What control groups (containers, systemd units) leave to this process, versions 1 and 2.

Every group limits all of its descendants, so the groups from the process's own up to the mount's
root are read. What lies above that, outside of a container, can't be seen from inside.
Formats: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; proc(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from effnet_edge.device.files import read, read_int, to_int


def cpu_quota(root: Path) -> float | None:
    """Return how many CPUs' time this process may take, 1.5 say; None without a limit."""
    quotas = []
    for folder, version in groups(root, "cpu"):
        if version == 2:
            words = (read(root, f"{folder}/cpu.max") or "").split()
            quota, period = (*(to_int(word) for word in words[:2]), None, None)[:2]
        else:
            quota = read_int(root, f"{folder}/cpu.cfs_quota_us")
            period = read_int(root, f"{folder}/cpu.cfs_period_us")
        if quota is not None and period is not None and quota > 0 and period > 0:
            quotas.append(quota / period)
    return min(quotas, default=None)


def groups(root: Path, controller: str) -> Iterator[tuple[str, int]]:
    """Yield the folder and the version (1 or 2) of this process's groups, the innermost first.

    Hybrid systems have both versions.
    """
    paths: dict[str, str] = {}
    for line in (read(root, "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            unified = number == "0" and not controllers
            paths.update(dict.fromkeys(["2"] if unified else controllers.split(","), path))
    for version, mount_root, mounted in _mounts(root, controller):
        path = paths.get("2" if version == 2 else controller, "/")
        folder = mounted + _below(path, mount_root)
        while len(folder) > len(mounted):
            yield folder, version
            folder = folder.rpartition("/")[0]
        yield mounted, version


def _mounts(root: Path, controller: str) -> list[tuple[int, str, str]]:
    """Return version, root group and folder of each mount of the controller's hierarchy."""
    found = []
    for line in (read(root, "proc/self/mountinfo") or "").splitlines():
        before, dash, after = line.partition(" - cgroup")
        fields, system = before.split(), after.split()
        if not dash or len(fields) < 5:
            continue
        version = 2 if after.startswith("2 ") else 1
        if version == 2 or controller in (system or [""])[-1].split(","):
            group, folder = _unescape(fields[3]), _unescape(fields[4])
            found.append((version, group, folder.strip("/")))
    return found or [
        (2, "/", "sys/fs/cgroup"),
        (1, "/", f"sys/fs/cgroup/{controller}"),
    ]


def _below(path: str, mount_root: str) -> str:
    """Return ``path`` as seen from the mount, whose own root is the group ``mount_root``.

    In a container without a cgroup namespace that is the container's group on the host. A group
    that can't be seen from here ("/..", another container's) is taken for the mount's root.
    """
    base = mount_root.rstrip("/")
    if ".." in path.split("/") or not f"{path}/".startswith(f"{base}/"):
        return ""
    return path[len(base) :].rstrip("/")


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
