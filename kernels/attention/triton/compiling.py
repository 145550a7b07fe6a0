"""``python -m devkit.kernels.attention.triton.compiling [ARCH …]``: compile every kernel without a GPU.

For each architecture (80, 90 and 120 by default), head size and form it says registers, shared memory and spills, a
JSON line each, and fails where one does not compile, or wants more shared memory than the architecture has.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterator

from .config import CONFIGS, Config, config

# Bytes that one block can have (CUDA C++ Programming Guide, technical specifications by compute capability).
SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024, 120: 99 * 1024}
POINTERS = {
    "forward": {"q": "T", "k": "T", "v": "T", "out": "T", "lse": "fp32"},
    "delta": {"out": "T", "dout": "T", "delta": "fp32"},
    "keys": {"q": "T", "k": "T", "v": "T", "dout": "T", "lse": "fp32", "delta": "fp32", "dk": "T", "dv": "T"},
    "queries": {"q": "T", "k": "T", "v": "T", "dout": "T", "lse": "fp32", "delta": "fp32", "dq": "T"},
    "decode": {
        "q": "T",
        "k": "T",
        "v": "T",
        "partial": "fp32",
        "partial_lse": "fp32",
        "lengths": "i32",
        "table": "i32",
    },
    "combine": {"partial": "fp32", "partial_lse": "fp32", "out": "T"},
}
PLACES = {"cu_q": "i32", "cu_k": "i32", "bounds": "i32"}
FORMS = {
    "full": {"CAUSAL": False, "VARLEN": False, "COLUMNS": 0},
    "causal": {"CAUSAL": True, "VARLEN": False, "COLUMNS": 0},
    "varlen": {"CAUSAL": True, "VARLEN": True, "COLUMNS": 0},
    "flashmask": {"CAUSAL": True, "VARLEN": False, "COLUMNS": 1},
}


@dataclass(frozen=True)
class Compiled:
    """What a kernel takes; spills are bytes of local memory a thread."""

    kernel: str
    arch: int
    head_dim: int
    form: str
    dtype: str
    block_m: int
    block_n: int
    warps: int
    stages: int
    registers: int
    shared_bytes: int
    spill_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the architecture has the shared memory."""
        return self.shared_bytes <= SHARED_BYTES[self.arch]


def variants(
    archs: list[int], head_dims: tuple[int, ...] = (64, 128, 256)
) -> Iterator[tuple[str, int, int, str, Config]]:
    """Yield kernel, architecture, head_dim, form and configuration of all that is compiled."""
    for arch in archs:
        for head_dim in head_dims:
            for which in ("forward", "keys", "queries"):
                for form in FORMS:
                    yield (
                        which,
                        arch,
                        head_dim,
                        form,
                        config(which, head_dim, capability=arch, flashmask=form == "flashmask"),
                    )
            yield "delta", arch, head_dim, "full", Config(32, 32, 4, 1)
            for form in ("contiguous", "paged"):
                yield "decode", arch, head_dim, form, config("decode", head_dim, capability=arch)
            yield "combine", arch, head_dim, "full", Config(16, 16, 4, 1)


def compiled(which: str, arch: int, head_dim: int, form: str, cut: Config, dtype: str = "bf16") -> Compiled:
    """Compile a kernel for an architecture, and return what it takes."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from . import kernels

    function = getattr(kernels, f"{which}_kernel")
    constants = _constants(which, head_dim, form, cut)
    names = function.arg_names
    constants = {name: value for name, value in constants.items() if name in names}
    types = {**PLACES, **POINTERS[which]}
    signature = {name: _type(name, types, constants, dtype) for name in names}
    # What the launcher would find to be a multiple of 16: pointers, and strides and sizes of real shapes.
    aligned = {
        (at,): [["tt.divisibility", 16]]
        for at, name in enumerate(names)
        if signature[name].startswith("*") or name.startswith("stride_")
    }
    source = ASTSource(function, signature, {(names.index(name),): value for name, value in constants.items()}, aligned)
    made: Any = triton.compile(
        source, target=GPUTarget("cuda", arch, 32), options={"num_warps": cut.warps, "num_stages": cut.stages}
    )
    registers, spills = _usage(made.asm["cubin"])
    sizes = (cut.block_m, cut.block_n, cut.warps, cut.stages)
    return Compiled(which, arch, head_dim, form, dtype, *sizes, registers, made.metadata.shared, spills)


def _constants(which: str, head_dim: int, form: str, cut: Config) -> dict[str, Any]:
    common = {"HEAD_DIM": head_dim, "PADDED": head_dim, "BLOCK_M": cut.block_m, "BLOCK_N": cut.block_n, "UPCAST": False}
    if which in ("decode", "combine"):
        return {**common, "BLOCK_G": 16, "SPLITS": 8, "PADDED_SPLITS": 8, "PAGED": form == "paged"}
    return {**common, **FORMS[form]}


def _type(name: str, types: dict[str, str], constants: dict[str, Any], dtype: str) -> str:
    if name in constants:
        return "constexpr"
    if name in types:
        return f"*{dtype if types[name] == 'T' else types[name]}"
    return "fp32" if name == "scale" else "i32"


def _usage(cubin: bytes) -> tuple[int, int]:
    """Return registers a thread and bytes of local memory, as cuobjdump, which comes with Triton, reads them."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [str(tool), "-res-usage", file.name], capture_output=True, text=True, check=True, timeout=60
        )
    text = done.stdout + done.stderr
    registers, stack = re.search(r"REG:(\d+)", text), re.search(r"(?:STACK|LOCAL):(\d+)", text)
    local = re.search(r"LOCAL:(\d+)", text)
    spilled = max(int(found[1]) for found in (stack, local) if found)
    return int(registers[1]) if registers else 0, spilled


def main(words: list[str]) -> int:
    """Compile for the architectures that are named; return 1 where something does not fit."""
    failed = False
    for which, arch, head_dim, form, cut in variants([int(word) for word in words] or sorted(CONFIGS)):
        found = compiled(which, arch, head_dim, form, cut)
        failed |= not found.fits
        print(json.dumps({**asdict(found), "fits": found.fits}), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
