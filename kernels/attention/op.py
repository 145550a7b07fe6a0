"""The operator ``devkit_cpu``: built and loaded once a process, and what it runs on."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from ..cpp_extension import Report, Variant, library
from ..machine import features
from ..protocol import Refusal, emit

SOURCES = Path(__file__).parent / "csrc"
LIBRARY = "devkit_attention.so"
_AVX512 = ("-DDEVKIT_AVX512", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c")
PORTABLE = Variant("portable", ())
AMX = Variant("amx_bf16", ("-DDEVKIT_PAIRS", "-DDEVKIT_TILES", "-mavx512bf16", "-mamx-tile", "-mamx-bf16", *_AVX512))
X86 = (
    Variant("avx512_bf16", ("-DDEVKIT_PAIRS", "-mavx512bf16", *_AVX512)),
    Variant("avx512", _AVX512),
    Variant("avx2", ("-DDEVKIT_AVX2", "-mavx2", "-mfma", "-mf16c")),
    PORTABLE,
)
ISAS = tuple(variant.name for variant in (AMX, *X86))
LARGEST_HEAD_DIM = 256
# In the order of Dtype in problem.h.
DTYPES = ("float32", "bfloat16", "float16")

_loaded: list[Path] = []


def variants() -> tuple[Variant, ...]:
    """Return the instruction sets that this machine's operators are compiled for, the fastest first."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return (PORTABLE,)
    return (AMX, *X86) if "amx_bf16" in features() else X86


def load(report: Report | None = None) -> Path:
    """Build the operator if need be and make it known to Paddle, once a process; return its library's path.

    Raises:
        Refusal: it cannot be built here.
    """
    if not _loaded:
        path = library(report or _report(), SOURCES, LIBRARY, variants())
        from paddle.utils.cpp_extension import load_op_meta_info_and_register_op

        load_op_meta_info_and_register_op(str(path))
        _loaded.append(path)
    return _loaded[0]


def loaded() -> Path | None:
    """Return the library's path if this process has loaded it."""
    return _loaded[0] if _loaded else None


def functions() -> ctypes.CDLL:
    """Return what of the library is called without Paddle, with its types.

    Raises:
        Refusal: it cannot be built here.
    """
    return _functions(load())


@cache  # to open a library again takes longer than a short call of it
def _functions(path: Path) -> ctypes.CDLL:
    c = ctypes.CDLL(str(path))
    pointer = ctypes.c_void_p
    c.devkit_attention_isa.restype = c.devkit_attention_isas.restype = ctypes.c_char_p
    c.devkit_attention_append.argtypes = [pointer] * 3
    c.devkit_attention_append.restype = None
    c.devkit_attention_decode.argtypes = [pointer] * 6
    c.devkit_read.argtypes = [pointer, ctypes.c_int64, ctypes.c_int]
    c.devkit_read.restype = c.devkit_fma_gflops.restype = ctypes.c_double
    c.devkit_fma_gflops.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_double]
    return c


def isa(dtype: str) -> str:
    """Return the instruction set that computes a dtype: ``$DEVKIT_ISA``, or the fastest that there is.

    Raises:
        Refusal: this processor, or this build, does not have what ``$DEVKIT_ISA`` names.
    """
    c = functions()
    found = c.devkit_attention_isa(DTYPES.index(dtype) if dtype in DTYPES else 0)
    if found is None:
        raise Refusal(
            f"devkit_cpu cannot run with {os.environ.get('DEVKIT_ISA')} here",
            f"This processor and this build have {c.devkit_attention_isas().decode().replace(',', ', ')}.",
        )
    return str(found.decode())


def fma_gflops(dtype: str, threads: int, seconds: float) -> float | None:
    """Return the rate of multiply-adds on registers alone, by the instruction set that computes a dtype.

    None where the operator is not loaded or does not have the dtype.
    """
    if loaded() is None or dtype not in DTYPES:
        return None
    rate: float = functions().devkit_fma_gflops(DTYPES.index(dtype), threads, seconds)
    return rate or None


def _report() -> Report:
    return emit if "DEVKIT_EVENTS_FD" in os.environ else _silent


def _silent(event: str, **fields: Any) -> None:
    """Report to nobody."""
