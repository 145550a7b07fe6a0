"""What ``devkit bench decode`` measures: one query of each sequence against a cache, beside computing all again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import paddle
from paddle.nn.functional import scaled_dot_product_attention

from .backends.base import DECLINES, reason
from .clock import MOST_COLD, host_times_ms, iterations_for, sweep_caches
from .decode import decode_attention
from .functional import flash_attention
from .op import functions, isa, load

if TYPE_CHECKING:
    from ..cpp_extension import Report

PAGE_SIZE = 16
MIN_MS = 20.0
# Beyond this, computing everything again would take minutes.
MOST_RECOMPUTED_FLOPS = 4e11
# Of the largest value: the rounding of the result in its own dtype, twice.
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}

Call = Callable[[], Any]


def measure(words: dict[str, Any], threads: int, report: Report) -> dict[str, Any]:
    """Return the fields of ``decoded``: ``bytes``, ``read_gb_per_s`` and ``results``, one an implementation.

    ``words`` has context, batch, heads, kv_heads, head_dim, dtype, paged, rounds, seed and cold, which sweeps the
    processor's caches before each call, and before each read of the memory. Each result has impl, status
    (ok, wrong, unsupported or error), reason, max_error, isa, time_ms and round_ms (medians), in interleaved rounds.
    ``bytes`` is what the keys and values take, and read_gb_per_s the best rate at which the same memory was read in the
    same rounds.

    Raises:
        Refusal: the operator cannot be built here.
    """
    load(report)
    batch, context, heads, dtype = (words[name] for name in ("batch", "context", "heads", "dtype"))
    generator = np.random.default_rng(words["seed"])
    shape = batch, context, words["kv_heads"], words["head_dim"]
    q, k, v = (
        paddle.to_tensor(generator.standard_normal(size, np.float32)).astype(dtype)
        for size in ((batch, 1, heads, words["head_dim"]), shape, shape)
    )
    calls = _calls(words, q, k, v, generator, threads)
    exact = _exact(q, k, v)
    results, ready = [], {}
    for name, call in calls.items():
        by = None if name.startswith("paddle") else isa(dtype)
        results.append({"impl": name, "isa": by, "time_ms": [], "round_ms": [], **_checked(call, exact, dtype)})
        if results[-1]["status"] == "ok":
            ready[name] = (call, results[-1])
    if not _affordable(words):
        why = f"{context} positions all over again would take minutes."
        results.append({"impl": "recompute", "status": "unsupported", "reason": why, "max_error": None, "isa": None})
        results[-1].update(time_ms=[], round_ms=[])
    read = functions().devkit_read
    size = int(np.prod(shape)) * (4 if dtype == "float32" else 2)
    best = 0.0
    names = list(ready)
    before, most = (sweep_caches, MOST_COLD) if words["cold"] else (_nothing, None)
    for number in range(words["rounds"]):
        best = max(best, _read_rate(read, (k, v), size, threads, before))
        turn = number % max(len(names), 1)
        for name in names[turn:] + names[:turn]:
            call, result = ready[name]
            (one_ms,) = host_times_ms(call, 1)
            iterations = iterations_for(MIN_MS, one_ms)
            times = host_times_ms(call, min(iterations, most or iterations), before=before)
            result["time_ms"] += times
            result["round_ms"].append(float(np.median(times)))
    return {"bytes": 2 * size, "read_gb_per_s": best, "results": results}


def _calls(words: dict[str, Any], q: Any, k: Any, v: Any, generator: Any, threads: int) -> dict[str, Call]:
    batch, context = words["batch"], words["context"]
    lengths = paddle.full([batch], context, "int32")
    cache: dict[str, Any] = {}
    keys, values = k, v
    if words["paged"]:
        count = -(-context // PAGE_SIZE)
        table = generator.permutation(batch * count).reshape(batch, count)
        keys, values = (_paged(x, table) for x in (k, v))
        cache["block_table"] = paddle.to_tensor(table.astype(np.int32))

    def devkit_cpu() -> Any:
        return decode_attention(q, keys, values, lengths, threads=threads, **cache)

    def paddle_sdpa() -> Any:
        return scaled_dot_product_attention(q, k, v)

    calls: dict[str, Call] = {"devkit_cpu": devkit_cpu, "paddle_sdpa": paddle_sdpa}
    if _affordable(words):
        shape = [batch, context, *q.shape[2:]]
        queries = paddle.to_tensor(generator.standard_normal(shape, np.float32)).astype(words["dtype"])
        queries[:, -1] = q[:, 0]

        def recompute() -> Any:
            return flash_attention(queries, k, v, causal=True, threads=threads)[:, -1:]

        calls["recompute"] = recompute
    return calls


def _affordable(words: dict[str, Any]) -> bool:
    flops = 2.0 * words["batch"] * words["heads"] * words["context"] ** 2 * words["head_dim"]
    return flops <= MOST_RECOMPUTED_FLOPS


def _paged(x: Any, table: np.ndarray[Any, Any]) -> Any:
    batch, context, *rest = x.shape
    count = table.shape[1]
    padded = paddle.concat([x, paddle.zeros([batch, count * PAGE_SIZE - context, *rest], x.dtype)], axis=1)
    order = np.empty(table.size, np.int64)
    order[table.reshape(-1)] = np.arange(table.size)
    return padded.reshape([batch * count, PAGE_SIZE, *rest])[paddle.to_tensor(order)]


def _exact(q: Any, k: Any, v: Any) -> np.ndarray[Any, Any]:
    q_BHD, k_BSHD, v_BSHD = (x.astype("float32").numpy().astype(np.float64) for x in (q[:, 0], k, v))
    out = np.empty_like(q_BHD)
    for b, h in np.ndindex(*q_BHD.shape[:2]):
        at = h * k_BSHD.shape[2] // q_BHD.shape[1]
        scores = k_BSHD[b, :, at] @ q_BHD[b, h] / np.sqrt(q_BHD.shape[2])
        weights = np.exp(scores - scores.max())
        out[b, h] = weights @ v_BSHD[b, :, at] / weights.sum()
    return out[:, None]


def _checked(call: Call, exact: np.ndarray[Any, Any], dtype: str) -> dict[str, Any]:
    try:
        error = float(np.abs(call().astype("float32").numpy() - exact).max())
    except Exception as failure:  # noqa: BLE001 - what a library raises is its answer
        status = "unsupported" if DECLINES.search(str(failure)) else "error"
        return {"status": status, "reason": reason(failure), "max_error": None}
    allowed = TOLERANCE[dtype] * max(1.0, float(np.abs(exact).max()))
    if not error <= allowed:
        return {"status": "wrong", "reason": f"out is off by {error:.2g} (allowed: {allowed:.2g})", "max_error": error}
    return {"status": "ok", "reason": "", "max_error": error}


def _nothing() -> None:
    """Be what runs before a call where nothing has to."""


def _read_rate(read: Any, caches: tuple[Any, ...], size: int, threads: int, before: Call) -> float:
    """Return the best GB/s of a few reads of the caches, each of ``size`` bytes."""
    best, until = 0.0, time.perf_counter() + MIN_MS / 1e3
    while True:
        before()
        started = time.perf_counter()
        for cache in caches:
            read(cache.data_ptr(), size, threads)
        ended = time.perf_counter()
        best = max(best, len(caches) * size / (ended - started) / 1e9)
        if ended > until:
            return best
