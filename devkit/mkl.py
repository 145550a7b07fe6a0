"""Which instructions Paddle's bundled MKL is to use on an AMD processor, where it takes a slow path by itself.

``MKL_DEBUG_CPU_TYPE=5`` is its path of AVX2 and ``7`` that of AVX-512, about 1.8 times as fast there. What the
processor's flags promise may still end in an illegal instruction: so a child process tries 7 with one small product.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import replacing
from devkit.kernels.machine import features, is_amd, processor
from devkit.paths import cache_home

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.app import App

VARIABLE = "MKL_DEBUG_CPU_TYPE"
AVX2, AVX512 = "5", "7"
LIMIT_S = 20.0
PRODUCT = """
import ctypes, importlib.util, os
libs = os.path.join(os.path.dirname(importlib.util.find_spec("paddle").origin), "libs")
ctypes.CDLL(os.path.join(libs, "libiomp5.so"), ctypes.RTLD_GLOBAL)
mkl = ctypes.CDLL(os.path.join(libs, "libmklml_intel.so"))
n = 256
ones, out = (ctypes.c_float * (n * n))(*[1.0] * (n * n)), (ctypes.c_float * (n * n))()
mkl.cblas_sgemm(101, 111, 111, n, n, n, ctypes.c_float(1), ones, n, ones, n, ctypes.c_float(0), out, n)
raise SystemExit(0 if all(value == n for value in out) else 9)
"""
"""A product by MKL alone, without importing Paddle."""


def cpu_type(app: App, python: Path | None = None) -> str | None:
    """Return the value of ``VARIABLE`` for this processor, or None where MKL chooses well by itself.

    ``python`` is the interpreter of the environment whose Paddle is meant, devkit's own by default. The answer is kept
    in the cache for the processor and the interpreter.
    """
    if not is_amd():
        return None
    if "avx512f" not in features():
        return AVX2
    key = f"{processor()} · {python or sys.executable}"
    kept = cache_home() / "mkl.json"
    answers: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        answers = dict(json.loads(kept.read_text(encoding="utf-8")))
    if answers.get(key) not in {AVX2, AVX512}:
        answers[key] = AVX512 if works(app, AVX512, python) else AVX2
        with contextlib.suppress(OSError), replacing(kept) as part:  # the next one tries again
            part.write_text(json.dumps(answers, indent=1), encoding="utf-8")
    return answers[key]


def works(app: App, value: str, python: Path | None = None) -> bool:
    """Tell whether a product in a child process is right with ``VARIABLE`` set to ``value``."""
    environ = {**os.environ, VARIABLE: value}
    try:
        app.runner.run([str(python or sys.executable), "-I", "-c", PRODUCT], env=environ, timeout_s=LIMIT_S)
    except DevkitError:
        return False
    return True
