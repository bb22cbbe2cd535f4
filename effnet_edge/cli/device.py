"""``effnet-edge device``: what this device is, and what slows it down."""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from collections import Counter
from typing import Any

from effnet_edge.cli.output import print_json
from effnet_edge.device.advice import advice
from effnet_edge.device.caches import Cache
from effnet_edge.device.condition import DeviceState, state
from effnet_edge.device.cores import CoreClass
from effnet_edge.device.files import format_cpu_list
from effnet_edge.device.inspection import Device, inspect
from effnet_edge.device.packages import InstalledEngine, tried_engines, tried_kernels
from effnet_edge.kernels import ISA, Kernels

_DESCRIPTION = """\
Look at the device: cores, memory, clock, heat, engines, and what makes it slower than it could be.

  effnet-edge device
  effnet-edge device --watch      temperature and clock every second, beside a running program
"""
_INTERVAL_S = 1.0
_CLOCKS_SHOWN = 4


def add_parser(commands: Any) -> None:
    """Add the command to the ``effnet-edge`` parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "device",
        help="look at this device",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--watch", action="store_true", help="one line every second, until Ctrl-C is pressed"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON (with --watch an object a line)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.watch:
        return _watch(as_json=args.json)
    device = dataclasses.replace(inspect(), engines=tried_engines(), kernels=tried_kernels())
    if args.json:
        print_json(device_json(device))
    else:
        print(describe(device))
    return 0


def device_json(device: Device) -> dict[str, Any]:
    """Return the device as JSON holds it, with the advice."""
    return {
        **dataclasses.asdict(device),
        "python": platform.python_version(),
        "advice": advice(device),
    }


def describe(device: Device) -> str:
    """Return the page for people."""
    chip = f" ({device.soc})" if device.soc else ""
    lines = [f"{device.board or 'Unnamed device'}{chip}"]
    for label, texts in (
        ("system", [_system(device)]),
        ("cores", [_cores(kind, device) for kind in device.core_classes]),
        ("isa", [" ".join(device.isa) or "unknown"]),
        ("caches", [_caches(device.caches)]),
        ("memory", [_memory(device)]),
        ("clock now", [_clock(device.state)]),
        ("heat", [_temperature(device.state)]),
        ("throttling", [", ".join(device.state.throttling) or "none seen"]),
        ("engines", [_engine(engine) for engine in device.engines]),
        ("kernels", [] if device.kernels is None else [_kernels(device.kernels)]),
        ("threads", [f"{device.default_threads} by default"]),
    ):
        for index, text in enumerate(texts):
            lines.append(f"  {label if index == 0 else '':10}  {text}")
    found = advice(device)
    if found:
        lines += ["", *(f"! {sentence}" for sentence in found)]
    return "\n".join(lines)


def _system(device: Device) -> str:
    kernel = f"{device.kernel_bits}-bit" if device.kernel_bits else "unknown"
    parts = [f"{device.architecture or 'unknown'}, {kernel} kernel"]
    if device.bits:
        parts.append(f"{device.bits}-bit Python {platform.python_version()}")
    if device.virtual:
        parts.append("a virtual machine")
    return ", ".join(parts)


def _cores(kind: CoreClass, device: Device) -> str:
    text = f"{kind.cores} x {kind.name or 'unknown'}"
    if kind.max_mhz is not None:
        text += f", {kind.max_mhz} MHz"
    if len(device.core_classes) > 1:
        text += f", CPUs {format_cpu_list(kind.cpus)}, speed {kind.relative_speed:.0%}"
        text += "" if kind.fast else " (not used by default)"
    elif len(kind.cpus) > kind.cores:
        text += f", {len(kind.cpus)} hyper-threads"
    return text


def _caches(caches: tuple[Cache, ...]) -> str:
    counted = Counter((cache.level, cache.kind, cache.size) for cache in caches)
    parts = []
    for (level, kind, size), count in sorted(counted.items()):
        if kind == "instruction":
            continue
        times = f"{count} x " if count > 1 else ""
        parts.append(f"L{level} {times}{_binary(size)}")
    return ", ".join(parts) or "unknown"


def _memory(device: Device) -> str:
    memory = device.memory
    parts = [f"{_gigabytes(memory.total)}", f"{_gigabytes(memory.available)} free"]
    if memory.limit is not None and memory.limit < (memory.total or memory.limit + 1):
        parts.append(f"limited to {_gigabytes(memory.limit)} by the control group")
    return ", ".join(parts)


def _clock(sample: DeviceState) -> str:
    mhz = sorted(set(sample.frequencies_mhz))
    clocks = " ".join(map(str, mhz)) if len(mhz) <= _CLOCKS_SHOWN else f"{mhz[0]} to {mhz[-1]}"
    governor = f", governor {sample.governor}" if sample.governor else ""
    return f"{clocks} MHz{governor}" if clocks else f"unknown{governor}"


def _temperature(sample: DeviceState) -> str:
    return "unknown" if sample.temperature_c is None else f"{sample.temperature_c:.1f} C"


def _engine(engine: InstalledEngine) -> str:
    parts = [engine.name, *([engine.version] if engine.version else [])]
    return f"{' '.join(parts)}{f': {engine.error}' if engine.error else ''}"


def _kernels(kernels: Kernels) -> str:
    if kernels.isa is None:
        return f"none: {kernels.error}"
    others = ", ".join(isa for isa in kernels.usable if isa != kernels.isa)
    return kernels.isa + (f", by {ISA} (there are also: {others})" if kernels.forced else "")


def _gigabytes(size: int | None) -> str:
    if size is None:
        return "unknown"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _binary(size: int) -> str:
    return f"{size / (1 << 20):g} MiB" if size >= 1 << 20 else f"{size / (1 << 10):g} KiB"


def _watch(*, as_json: bool) -> int:
    try:
        while True:
            sample, now = state(), time.strftime("%H:%M:%S")
            if as_json:
                data = {"time": round(time.time(), 3), **dataclasses.asdict(sample)}
                print(json.dumps(data), flush=True)
            else:
                words = ", ".join(sample.throttled_now) or "not throttled"
                line = f"{now}  {_temperature(sample):>8}  {_clock(sample)}  {words}"
                print(line, flush=True)
            time.sleep(_INTERVAL_S)
    except KeyboardInterrupt:  # how one leaves it: no failure
        return 0
