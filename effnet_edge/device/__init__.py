"""The device this runs on: cores, memory, clocks, heat; from /proc and /sys.

Whatever a device doesn't tell is None or left out; nothing here raises for it. Every function
takes a ``root`` other than ``/`` to look at the recorded files of another device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from effnet_edge.device.condition import DeviceState, state, throttled_between
    from effnet_edge.device.cores import CoreClass
    from effnet_edge.device.identity import fingerprint
    from effnet_edge.device.inspection import Device, inspect
    from effnet_edge.device.memory import available_memory
    from effnet_edge.device.packages import installed_version, installed_versions
    from effnet_edge.device.threads import default_threads

__all__ = [
    "CoreClass",
    "Device",
    "DeviceState",
    "available_memory",
    "default_threads",
    "fingerprint",
    "inspect",
    "installed_version",
    "installed_versions",
    "state",
    "throttled_between",
]

_MODULES = {
    "CoreClass": "cores",
    "Device": "inspection",
    "DeviceState": "condition",
    "available_memory": "memory",
    "default_threads": "threads",
    "fingerprint": "identity",
    "inspect": "inspection",
    "installed_version": "packages",
    "installed_versions": "packages",
    "state": "condition",
    "throttled_between": "condition",
}


def __getattr__(name: str) -> Any:
    # Only what is asked for is imported: every load of a model wants `default_threads`.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
