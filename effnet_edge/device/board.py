"""What the device is called: by its device tree (ARM boards) or its firmware (PCs)."""

from __future__ import annotations

from pathlib import Path

from effnet_edge.device.cpuinfo import processors
from effnet_edge.device.files import is_this_machine, read

_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
_TIMEOUT_S = 1.0
_DMI = "sys/class/dmi/id"
_PLACEHOLDERS = frozenset(
    {
        "",
        "default string",
        "n/a",
        "none",
        "not applicable",
        "not specified",
        "o.e.m.",
        "system manufacturer",
        "system product name",
        "to be filled by o.e.m.",
        "unknown",
    }
)
"""What makers leave in their firmware."""


def board_name(root: Path) -> str | None:
    """Return the board's or computer's name: ``Raspberry Pi 5 Model B Rev 1.0``."""
    model = device_tree(root, "model")
    if model:
        return model[0]
    maker, product = _dmi(root, "sys_vendor"), _dmi(root, "product_name")
    if product is None:
        maker, product = _dmi(root, "board_vendor"), _dmi(root, "board_name")
    if maker == "LENOVO":  # which keeps the name that people know in another field
        product = _dmi(root, "product_version") or product
    parts = [part for part in (maker, product) if part]
    if parts:
        return parts[1] if len(parts) == 2 and parts[1].startswith(parts[0]) else " ".join(parts)
    android = _android(root, "ro.product.manufacturer", "ro.product.model")
    if android:
        return android
    general = processors(root, brief=True).general
    return None if "vendor_id" in general else general.get("Model") or general.get("Hardware")


def soc_name(root: Path) -> str | None:
    """Return the chip's name on a board with a device tree: ``BCM2712``, ``RK3588``.

    The tree's ``compatible`` goes from the board to the chip (Devicetree Specification, 2.3.1).
    """
    compatible = device_tree(root, "compatible")
    if compatible:
        name = compatible[-1].rpartition(",")[2]
        return name.upper() if len(name) <= 8 else name
    return read(root, "sys/devices/soc0/machine") or _android(root, "ro.soc.model")


def device_tree(root: Path, name: str) -> list[str]:
    """Return the strings of a property of the device tree's root; none where there is no tree."""
    for tree in _TREES:
        text = read(root, f"{tree}/{name}")
        if text:
            return [part for part in (_clean(part) for part in text.split("\0")) if part]
    return []


def _dmi(root: Path, name: str) -> str | None:
    text = _clean(read(root, f"{_DMI}/{name}") or "")
    return None if text.lower() in _PLACEHOLDERS else text


def _android(root: Path, *names: str) -> str | None:
    """Ask Android for properties: its apps may not read the device tree."""
    import os

    if not is_this_machine(root) or "ANDROID_ROOT" not in os.environ:
        return None
    import subprocess

    values = []
    for name in names:
        try:
            done = subprocess.run(  # noqa: S603  a fixed program of the system
                ["/system/bin/getprop", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        values.append(_clean(done.stdout.decode("utf-8", "replace")))
    return " ".join(value for value in values if value) or None


def _clean(text: str) -> str:
    """One line that a terminal can show."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:100]
