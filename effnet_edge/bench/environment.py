"""What a result depends on besides the model: the device in a few words, and versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from effnet_edge import device
from effnet_edge.device import CoreClass, Device
from effnet_edge.engines import ENGINES

_PACKAGES = ("effnet-edge", "numpy", "pillow")


@dataclass(frozen=True)
class Described:
    """A device: its short name, what distinguishes it in words, and all of it as data."""

    board: str
    facts: Mapping[str, str]
    data: Mapping[str, object]


def describe_device() -> Described:
    """Look at the device that this runs on."""
    return described(device.inspect())


def described(found: Device) -> Described:
    """Put a device into words; what it doesn't tell is left out."""
    cores = ", ".join(_cores(kind) for kind in found.core_classes)
    usable = f"{len(found.allowed_cpus)} CPUs" if len(found.allowed_cpus) != 1 else "1 CPU"
    if found.cpu_quota is not None:
        usable += f", of which a control group grants {found.cpu_quota:g}"
    facts = {
        "system on a chip": found.soc,
        "cores": cores,
        "usable": f"{usable}; {found.default_threads} threads by default",
        "instructions": " ".join(found.isa),
        "memory": _memory(found),
        "governor": found.state.governor,
        "system": _system(found),
    }
    return Described(
        board=found.board or f"{cores or platform.machine()}{' (virtual)' * found.virtual}",
        facts={name: text for name, text in facts.items() if text},
        data=asdict(found),
    )


def versions() -> dict[str, str]:
    """The versions of what takes part: this package, engines, libraries, Python, kernel."""
    packages = (*_PACKAGES, *(engine.package for engine in ENGINES.values()))
    found = {name: device.installed_version(name) for name in packages}
    return {
        **{name: version for name, version in found.items() if version is not None},
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def _cores(kind: CoreClass) -> str:
    clock = "" if kind.max_mhz is None else f" at {kind.max_mhz / 1000:.2g} GHz"
    return f"{kind.cores} \u00d7 {kind.name or 'core'}{clock}"


def _memory(found: Device) -> str | None:
    total, limit = found.memory.total, found.memory.limit
    words = None if total is None else f"{total / 1e9:.3g} GB"
    if limit is None or (total is not None and limit >= total):
        return words
    return f"{limit / 1e6:.0f} MB by a control group's limit" + (f", of {words}" if words else "")


def _system(found: Device) -> str:
    words = found.architecture or platform.machine()
    if found.bits is not None and found.bits != found.kernel_bits:
        return f"{words}, {found.bits}-bit user space on a {found.kernel_bits}-bit kernel"
    return f"{words}, {found.bits}-bit" if found.bits else words
