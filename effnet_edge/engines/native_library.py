"""The C interface of our kernels (kernels/include/effnet_edge_kernels.h), as ctypes sees it."""

from __future__ import annotations

from ctypes import (
    CDLL,
    POINTER,
    Structure,
    c_char_p,
    c_float,
    c_int32,
    c_void_p,
)
from functools import lru_cache
from typing import Any, ClassVar


class Quantization(Structure):
    """``ee_quantization``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [("scale", c_float), ("zero_point", c_int32)]


class Silu(Structure):
    """``ee_silu``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("output", Quantization),
        ("factor", c_void_p),
        ("factor_quantization", Quantization),
        ("argument", Quantization),
    ]


class Conv(Structure):
    """``ee_conv``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("in_channels", c_int32),
        ("out_channels", c_int32),
        ("kernel", c_int32),
        ("stride", c_int32),
        ("pad_top", c_int32),
        ("pad_left", c_int32),
        ("pad_bottom", c_int32),
        ("pad_right", c_int32),
        ("weight", c_void_p),
        ("weight_scale", c_void_p),
        ("bias", c_void_p),
        ("output", Quantization),
        ("silu", POINTER(Silu)),
    ]


class SqueezeExcite(Structure):
    """``ee_squeeze_excite``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("pool", Quantization),
        ("reduce", Conv),
        ("expand", Conv),
        ("output", Quantization),
    ]


class MBConv(Structure):
    """``ee_mbconv``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("input", Quantization),
        ("expand", POINTER(Conv)),
        ("depthwise", Conv),
        ("squeeze_excite", POINTER(SqueezeExcite)),
        ("project", Conv),
        ("residual", POINTER(Quantization)),
    ]


class Stem(Structure):
    """``ee_stem``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [("input", Quantization), ("conv", Conv)]


class Head(Structure):
    """``ee_head``."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [
        ("input", Quantization),
        ("conv", Conv),
        ("features", Quantization),
        ("classes", c_int32),
        ("weight", c_void_p),
        ("weight_scale", c_void_p),
        ("bias", c_void_p),
    ]


# Handles are plain addresses, None for NULL.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "ee_error": (c_char_p, []),
    "ee_isa": (c_char_p, []),
    "ee_make_pixels": (c_void_p, [c_void_p, Quantization]),
    "ee_make_stem": (c_void_p, [POINTER(Stem)]),
    "ee_make_mbconv": (c_void_p, [POINTER(MBConv)]),
    "ee_make_head": (c_void_p, [POINTER(Head)]),
    "ee_free_part": (None, [c_void_p]),
    "ee_make_network": (c_void_p, [POINTER(c_void_p), c_int32, c_int32, c_int32, c_int32]),
    "ee_free_network": (None, [c_void_p]),
    "ee_network_classes": (c_int32, [c_void_p]),
    "ee_run_network": (c_int32, [c_void_p, c_void_p, c_void_p, c_void_p]),
    "ee_start_threads": (c_void_p, [c_int32]),
    "ee_threads_scheduler": (c_void_p, [c_void_p]),
    "ee_stop_threads": (None, [c_void_p]),
}


@lru_cache
def library_at(path: str) -> CDLL:
    """Load the library at ``path``, whose version `find_kernels` has checked. Raises OSError."""
    library = CDLL(path)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def last_error(library: CDLL) -> str:
    """Why the call of this thread that just failed did so."""
    message = library.ee_error()
    return message.decode("utf-8", "replace") if message else "no reason given"
