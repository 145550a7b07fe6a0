"""The kernels of the instruction sets that this machine may lack: what can be run of them is run, the rest is compiled.

The text is one for all: with sixteen lanes of the compiler's own vectors, and pairs of bfloat16 multiplied by shifts,
it runs anywhere. What that leaves out are the intrinsics of simd_avx512.h, which are compiled and disassembled.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from devkit.kernels.attention import op
from devkit.kernels.attention.case import Case, arrays, rounded
from devkit.kernels.attention.reference import Result, compare, expected

if TYPE_CHECKING:
    from pathlib import Path

UNBOUNDED = (2**63 - 1) // 4
Address = ctypes.c_void_p


class Bias(ctypes.Structure):
    _fields_ = [("data", Address), ("dtype", ctypes.c_int32), ("strides", ctypes.c_int64 * 4)]


class BiasGradient(ctypes.Structure):
    _fields_ = [("data", Address), ("batch_stride", ctypes.c_int64), ("head_stride", ctypes.c_int64)]


class Columns(ctypes.Structure):
    _fields_ = [("data", Address), ("heads", ctypes.c_int64)]


class Problem(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("batch", "heads", "kv_heads", "head_dim", "seqlen_q", "seqlen_k", "total_q")
        ),
        *((name, Address) for name in ("cu_q", "cu_k")),
        *((name, ctypes.c_int64) for name in ("left", "right", "top_left")),
        ("scale", ctypes.c_double),
        ("bias", Bias),
        ("columns", Columns),
        *((name, ctypes.c_int64) for name in ("dtype", "threads")),
    ]


class Kernels(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("forward", ctypes.CFUNCTYPE(None, *[Address] * 7)),
        ("backward", ctypes.CFUNCTYPE(None, *[Address] * 12)),
        ("decode", Address),
        ("peak", ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int, ctypes.c_double)),
        ("read", Address),
    ]


def build(folder: Path, name: str, *flags: str) -> Kernels:
    target = folder / f"{name}.so"
    words = ["g++", "-std=c++17", "-O1", "-fopenmp", "-fPIC", "-w", "-mavx2", "-mfma", *flags, f"-DDEVKIT_ISA={name}"]
    subprocess.run([*words, "-shared", str(op.SOURCES / "kernels.cc"), "-o", str(target)], check=True, timeout=600)
    return Kernels.in_dll(ctypes.CDLL(str(target)), f"_ZN6devkit{len(name)}{name}8kKernelsE")


def narrow(x: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    if dtype == "bfloat16":
        return np.ascontiguousarray((rounded(x, dtype).view(np.uint32) >> 16).astype(np.uint16))
    return np.ascontiguousarray(x.astype(dtype))


def wide(x: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    return (x.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else x.astype(np.float32)


def run(
    kernels: Kernels, case: Case, threads: int = 2, left: int = UNBOUNDED, dbias: np.ndarray[Any, Any] | None = None
) -> Result:
    """Run both passes; ``dbias``, [seqlen_q, seqlen_k] of zeros, gets the gradient of what would be added."""
    inputs = arrays(case)
    q, k, v, dout = (narrow(x, case.dtype) for x in (inputs.q, inputs.k, inputs.v, inputs.dout))
    problem = Problem(
        *(
            case.batch,
            case.heads,
            case.kv_heads,
            case.head_dim,
            case.seqlen_q,
            case.seqlen_k,
            case.batch * case.seqlen_q,
        ),
        left=left,
        right=0 if case.causal else UNBOUNDED,
        scale=case.head_dim**-0.5,
        dtype=op.DTYPES.index(case.dtype),
        threads=threads,
    )
    out, dq, dk, dv = (np.full_like(x, 77) for x in (q, q, k, v))
    lse = np.empty((case.batch, case.heads, case.seqlen_q), np.float32)
    statistics = np.empty((2, *lse.shape), np.float32)
    address = ctypes.byref(problem)
    kernels.forward(address, *(x.ctypes.data for x in (q, k, v, out, lse, statistics)))
    given = [x.ctypes.data for x in (q, k, v, out, statistics, dout)]
    gradient = BiasGradient(None if dbias is None else dbias.ctypes.data, 0, 0)
    kernels.backward(address, *given, None, *(x.ctypes.data for x in (dq, dk, dv)), ctypes.byref(gradient))
    return Result(*(wide(x, case.dtype) for x in (out, dq, dk, dv)))


CASE = Case(batch=2, heads=4, kv_heads=2, seqlen_q=133, seqlen_k=301, head_dim=64, causal=True)


FLAGS = {"lanes": [], "pairs": ["-DDEVKIT_PAIRS"], "tiles": ["-DDEVKIT_PAIRS", "-DDEVKIT_TILES"]}


@pytest.mark.parametrize(
    ("name", "dtypes"), [("lanes", ("float32", "float16")), ("pairs", ("bfloat16",)), ("tiles", ("bfloat16",))]
)
def test_sixteen_lanes_pairs_of_bfloat16_and_tiles_are_right(
    tmp_path: Path, name: str, dtypes: tuple[str, ...]
) -> None:
    kernels = build(tmp_path, name, "-DDEVKIT_LANES=16", *FLAGS[name])
    assert kernels.name.decode() == name
    odd, full = replace(CASE, head_dim=33), replace(CASE, causal=False, head_dim=128)
    for shape in (CASE, odd, full, replace(CASE, seqlen_q=301, seqlen_k=133)):
        for dtype in dtypes:
            case = replace(shape, dtype=dtype)
            found = run(kernels, case)
            assert compare(found, expected(case, arrays(case))).complaint == ""
            again = run(kernels, case, threads=5)
            assert all(np.array_equal(getattr(found, part), getattr(again, part)) for part in ("out", "dq", "dk", "dv"))
    case = replace(CASE, heads=2, dtype=dtypes[0])
    dbias = np.zeros((case.seqlen_q, case.seqlen_k), np.float32)
    run(kernels, case, dbias=dbias)
    exact = shared_bias_gradient(case)
    assert np.abs(dbias - exact).max() <= (1e-5 if name == "lanes" else 1e-2) * np.abs(exact).max()
    assert kernels.peak(1, 0.01) > 0


def shared_bias_gradient(case: Case) -> np.ndarray[Any, Any]:
    """Return the gradient, in float64, of what would be added to the scores of all heads of a batch alike."""
    inputs = arrays(case)
    q, k, v, dout = (
        rounded(x, case.dtype).astype(np.float64).transpose(0, 2, 1, 3)
        for x in (inputs.q, inputs.k, inputs.v, inputs.dout)
    )
    scores = q @ k.transpose(0, 1, 3, 2) * case.head_dim**-0.5
    rows, keys = np.indices(scores.shape[2:])
    scores = np.where(keys > rows + case.seqlen_k - case.seqlen_q, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    slopes = dout @ v.transpose(0, 1, 3, 2)
    return (weights * (slopes - (weights * slopes).sum(-1, keepdims=True))).sum((0, 1))


@pytest.fixture
def code(compiled: None) -> dict[str, str]:  # noqa: ARG001 - it says where the operators are
    """The operators' machine code by instruction set; that of no set by ""."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(op.load())], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    found: dict[str, str] = {}
    for part in re.split(r"\n\n(?=[0-9a-f]+ <)", listing):
        isa = re.match(r"[0-9a-f]+ <_ZN\w*6devkit\d+(avx512_bf16|avx512|avx2|portable)", part)
        name = isa.group(1) if isa else ""
        found[name] = found.get(name, "") + part
    return found


def test_each_instruction_set_keeps_to_its_own(code: dict[str, str]) -> None:
    assert len(re.findall(r"vdpbf16ps .*%zmm", code["avx512_bf16"])) > 100
    assert len(re.findall(r"vfmadd\d+ps .*%zmm", code["avx512"])) > 100
    assert len(re.findall(r"vfmadd\d+ps .*%ymm", code["avx2"])) > 100
    for isa in ("avx2", "portable"):
        assert "%zmm" not in code[isa]
    for isa in ("portable", ""):
        assert not re.search(r"%[yz]mm\d", code[isa])
    assert "vdpbf16ps" not in code["avx512"]


@pytest.mark.engine
def test_the_kernels_compile_for_amx_and_use_its_tiles(tmp_path: Path) -> None:
    target = tmp_path / "kernels.o"
    words = ["g++", "-std=c++17", "-O1", "-fopenmp", "-fPIC", "-w", *op.AMX.flags, "-DDEVKIT_ISA=amx_bf16", "-c"]
    subprocess.run([*words, str(op.SOURCES / "kernels.cc"), "-o", str(target)], check=True, timeout=240)
    listing = subprocess.run(["objdump", "-d", str(target)], capture_output=True, text=True, check=True, timeout=60)
    assert len(re.findall(r"tdpbf16ps", listing.stdout)) > 10
    assert "ldtilecfg" in listing.stdout
    assert "tilerelease" in listing.stdout


@pytest.mark.engine
def test_the_kernels_compile_for_aarch64_and_use_its_vectors(tmp_path: Path) -> None:
    compiler = shutil.which("aarch64-linux-gnu-g++")
    assert compiler, "apt install g++-aarch64-linux-gnu"
    target = tmp_path / "kernels.o"
    words = [compiler, "-std=c++17", "-O3", "-fopenmp", "-fPIC", "-w", "-DDEVKIT_ISA=portable", "-c"]
    subprocess.run([*words, str(op.SOURCES / "kernels.cc"), "-o", str(target)], check=True, timeout=600)
    listing = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", str(target)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert len(re.findall(r"fmla\s+v\d+\.4s", listing)) > 100
