"""``python -m devkit.kernels.sparse``: checks and times sparse operations, as it is asked on standard input.

One process serves one library with one number of threads. Each request is answered by one event; ``build`` events may
come before it.

``{"do": "describe", "library": "paddle" | "scipy" | "torch", "threads": n, "scratch": folder}``
    must come first. ``scratch`` is a folder where workers share the matrix at hand and its reference.
    → ``device``: library, threads, implementations, versions.

``{"do": "prepare", "impl": name, "case": {op, format, density, rows, columns, width, index, seed}}``
    compares the result with float64. → ``checked``: impl, case, nnz, nnz_out (of ``add``), status (ok, wrong,
    unsupported or error), reason, max_error.

``{"do": "time", "impl": name, "case": {…}, "min_ms": 20 | "iterations": 5,
"cold": false}``
    times calls after one that does not count; cold, the processor's caches are swept before each. Only for what was
    prepared with status ok since the matrix last changed.
    → ``timed``: impl, case, time_ms [one a call].

``{"do": "ceiling", "bytes": [n, …], "seconds": 0.05}``
    → ``ceiling``: gb_per_s, the best rate of reading that many bytes again and again, and peak_gflops, that of fp32
    multiply-adds on registers, with this process's threads. Only in the paddle process, whose operators measure it.
"""

from __future__ import annotations

import sys

from ..protocol import Worker, serve_worker


def make() -> Worker:
    """Return the worker; NumPy may be missing, which is an answer."""
    from . import worker

    return worker.Worker()


if __name__ == "__main__":
    sys.exit(serve_worker(make))
