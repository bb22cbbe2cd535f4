"""What the Raspberry Pi's firmware knows of voltage, heat and the real clock.

The firmware slows the processor down by itself, and cpufreq goes on telling the clock that it
asked for (github.com/raspberrypi/linux/issues/2986).
"""

from __future__ import annotations

from pathlib import Path

from effnet_edge.device.board import device_tree
from effnet_edge.device.files import is_this_machine, names, read, read_int, to_int

_DRIVER = "sys/bus/platform/drivers/raspberrypi-firmware"
_DEVICE = "sys/devices/platform/soc/soc:firmware"
_TIMEOUT_S = 1.0
_HWMON = "sys/class/hwmon"

_NOW = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
"""Bits 0 to 3 of get_throttled; bits 16 to 19 say that it happened since the start.
Raspberry Pi documentation, vcgencmd get_throttled."""
SINCE_START = " since start"


def is_raspberry_pi(root: Path) -> bool:
    """Whether the board is a Raspberry Pi."""
    return "".join(device_tree(root, "model")).startswith("Raspberry Pi")


def firmware_throttling(root: Path) -> tuple[str, ...]:
    """Return why the firmware slows the processor down now, then why it did since the start."""
    flags = to_int(read(root, f"{_DEVICE}/get_throttled"), 16)
    for name in () if flags is not None else names(root, _DRIVER, ".*firmware"):
        flags = read_int(root, f"{_DRIVER}/{name}/get_throttled", 16)
    if flags is None:
        flags = to_int(_ask(root, "get_throttled"), 16)
    if flags is None or flags < 0:
        return (_NOW[0],) if _low_voltage_alarm(root) else ()
    now = [text for bit, text in enumerate(_NOW) if flags >> bit & 1]
    past = [text + SINCE_START for bit, text in enumerate(_NOW) if flags >> bit + 16 & 1]
    return tuple(now + past)


def firmware_mhz(root: Path) -> int | None:
    """Return the processor's real clock."""
    hertz = to_int(_ask(root, "measure_clock", "arm"))
    return None if not hertz or hertz < 0 else round(hertz / 1e6)


def _low_voltage_alarm(root: Path) -> bool:
    """The alarm of the mainline kernel's driver, where the firmware itself can't be asked."""
    for name in names(root, _HWMON, "hwmon[0-9]+"):
        if read(root, f"{_HWMON}/{name}/name") == "rpi_volt":
            return read_int(root, f"{_HWMON}/{name}/in0_lcrit_alarm") == 1
    return False


def _ask(root: Path, *words: str) -> str | None:
    """Return what follows ``=`` in vcgencmd's answer: ``throttled=0x50005``."""
    if not is_this_machine(root) or not is_raspberry_pi(root):
        return None
    import shutil
    import subprocess

    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        # It hangs where the firmware does, and fails in a container without /dev/vcio.
        done = subprocess.run(  # noqa: S603  our own words, no shell
            [command, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("ascii", "replace").partition("=")[2].strip() or None
