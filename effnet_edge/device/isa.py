"""The instruction sets that decide how fast a network runs."""

from __future__ import annotations

from collections.abc import Iterable

ISA = (
    # 32-bit ARM, then 64-bit ARM: vectors, half floats, int8 dot products, int8 matrices, bf16
    "neon",
    "vfpv4",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "sme",
    # x86
    "sse4_1",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx_vnni_int8",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
)
"""By the kernel's names (HWCAP of ARM, flags of x86), the plainer before the more powerful."""


def of_interest(flags: Iterable[str]) -> tuple[str, ...]:
    """Return those of a CPU's ``flags`` that matter here."""
    known = set(flags)
    return tuple(name for name in ISA if name in known)


def common(sets: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return what all CPUs have: a thread may be moved to any of them."""
    every = [set(flags) for flags in sets]
    return of_interest(set.intersection(*every)) if every else ()
