"""Print pip constraints that hold every dependency of effnet-edge at the floor it declares.

Reads the metadata of the installed package, so that it knows exactly what pip knows.
"""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement


def floors() -> list[str]:
    """``name==floor`` for every requirement, of any extra, that applies on this machine."""
    pins = set()
    for requirement in map(Requirement, requires("effnet-edge") or ()):
        marker = requirement.marker
        extras = ("", "convert", "demo", "test")
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        pins |= {
            f"{requirement.name}=={s.version}" for s in requirement.specifier if s.operator == ">="
        }
    return sorted(pins)


if __name__ == "__main__":
    print("\n".join(floors()))
