"""``python -m devkit.kernels.attention``: checks and times attentions, as it is asked on standard input.

One process serves one library (Paddle or torch), so that the tool can run one of each and interleave them. Each request
is answered by one event; ``build`` events (``state``: start, done or cached; ``seconds``; ``log``) may come before it.
A request that makes no sense, or an operator that cannot be built, is an ``error`` event and the end.

``{"do": "describe", "library": "paddle" | "torch", "device": "auto" | "cpu" | "gpu", "threads": n, "scratch": folder,
"isa": name, "own": ["file.py:function"], "against": {"name", "folder"}}``
    must come first; all but ``do`` may be left out. ``scratch`` is a folder where workers share the
    reference of the case at hand; who has put it there takes it away. ``isa`` forces an instruction set on devkit_cpu.
    ``own`` are the user's functions, called as function(q, k, v, causal) on dense cases. ``against`` is another
    revision of ours, whose kernels the folder holds as the package ``devkit_against``: the only implementation then.
    → ``device``: library, device, threads, implementations, versions, gpus [{index, name, memory_mib}],
    memory_available_mib.

``{"do": "prepare", "impl": name, "case": {batch, heads, kv_heads, seqlen_q, seqlen_k, head_dim, causal, dtype, seed,
kind, scale, left, right, align, inputs}, "passes": ["fwd", "bwd", "fwdbwd"]}``
    compares out, dq, dk and dv with the float64 reference, and measures the memory of one call of each pass.
    → ``checked``: impl, case, status (ok, wrong, unsupported or error), reason, max_error (the largest absolute error
    over the four; null where there is no number), peak_mib {pass: MiB}. What a case is, ``Case`` says; dtype is float32
    and seed 0 unless given. Memory is poisoned first, and small cases of the same kind are tried too: odd lengths,
    outliers, queries that see nothing.

``{"do": "time", "impl": name, "case": {…}, "pass": "fwd", "min_ms": 50 | "iterations": 5,
"cold": false}``
    times calls after one that does not count; cold, the processor's caches are swept before each. Only for what was
    prepared with status ok since the case last changed.
    → ``timed``: impl, case, pass, cold, time_ms [one a call], flops (of one call).

``{"do": "ceiling", "size": 2048, "dtype": "float32", "fma": true}``
    → ``ceiling``: gflops of a product of two square matrices (the better of two), and, where ``fma`` is asked for
    and devkit_cpu has been prepared, fma_gflops of the multiply-add units on registers alone, by the instruction set
    that devkit_cpu computes the dtype with; null where there is none.

``{"do": "decode", "context": n, "batch", "heads", "kv_heads", "head_dim", "dtype", "paged": bool, "rounds", "seed",
"cold": bool}``
    sweeps the processor's caches before each call where cold.
    → ``decoded``: context, paged, bytes (of keys and values), read_gb_per_s (of the same memory, in the same rounds),
    results [{impl, status, reason, max_error, isa, time_ms [one a call], round_ms [a median a
    round]}]. In the paddle process only.
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
