"""``python -m devkit.kernels.attention.triton.check``: every kernel on this GPU, right first, then how fast.

Needs torch and Triton, no Paddle; ``make gpu-check`` runs it. Each kernel is compared with float64 on small cases (odd
sizes, rows that see nothing, outliers), its error at most twice that of the plain algorithm in the same type. Then it
is timed, cold (the cache is overwritten before each call) and between events, beside torch's attention and cuDNN's, in
rounds that take turns, and what it reaches is a percentage of the best product measured in the same run. One JSON file
holds it all; ``devkit bench report FILE`` shows it.

With TRITON_INTERPRET=1 the same runs on the host, on tiny sizes, without times: that is how it was tried. It has not
yet been run on a GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch

from .adapter import interpreted
from .launch import Masking, backward, decode, forward
from .reference import attention, visible

Call = Callable[[], Any]
Row = dict[str, Any]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FACTOR = 2.0
# Below it an error is the last digit of fp32.
LEAST = {"fp32": 2e-5, "fp16": 2e-3, "bf16": 1.6e-2}
CACHE_BYTES = 256 * 2**20
ROUNDS = 15
PRODUCT = 8192
# Keys of a document in the FlashMask that is timed.
DOCUMENT = 512


@dataclass(frozen=True)
class CheckCase:
    """One attention that is checked or timed; ``form`` is full, causal, varlen or flashmask-1, -2, -2f or -4."""

    form: str
    dtype: str
    batch: int
    heads: int
    kv_heads: int
    seqlen_q: int
    seqlen_k: int
    head_dim: int
    outliers: bool = False

    @property
    def causal(self) -> bool:
        """Whether the mask is causal."""
        return self.form in ("causal", "varlen", "flashmask-1", "flashmask-2")

    @property
    def columns(self) -> int:
        """FlashMask's columns; 0 without it."""
        return int(self.form.split("-")[1][0]) if self.form.startswith("flashmask") else 0


@dataclass(frozen=True)
class Tensors:
    """A case's tensors on the device, and its mask; ``starts`` says where each sequence begins with varlen."""

    q: Any
    k: Any
    v: Any
    dout: Any
    masking: Masking
    bounds: Any
    starts: tuple[tuple[int, ...], tuple[int, ...]] | None


def tensors(case: CheckCase, device: str, seed: int = 0) -> Tensors:
    """Return a case's tensors: standard normal numbers, some of them thirty times as large with outliers."""
    generator = np.random.default_rng(seed)
    starts = None
    q_shape: tuple[int, ...] = (case.batch, case.seqlen_q, case.heads, case.head_dim)
    k_shape: tuple[int, ...] = (case.batch, case.seqlen_k, case.kv_heads, case.head_dim)
    if case.form == "varlen":
        starts = (_starts(generator, case.batch, case.seqlen_q), _starts(generator, case.batch, case.seqlen_k))
        q_shape, k_shape = (starts[0][-1], *q_shape[2:]), (starts[1][-1], *k_shape[2:])
    arrays = [generator.standard_normal(shape, "float32") for shape in (q_shape, k_shape, k_shape, q_shape)]
    if case.outliers:
        arrays[:2] = [x * np.where(generator.random(x.shape) < 0.002, 30, 1) for x in arrays[:2]]  # noqa: PLR2004
    q, k, v, dout = (torch.from_numpy(array.astype("float32")).to(device, DTYPES[case.dtype]) for array in arrays)
    bounds = None
    if case.columns:
        drawn = np.sort(
            generator.integers(0, case.seqlen_q + 1, (case.batch, 1, case.seqlen_k, max(case.columns, 2))), -1
        )
        bounds = drawn[..., : case.columns]
        if case.form == "flashmask-2f":  # rows from [0] on and rows before [1]
            bounds = bounds[..., ::-1]
        bounds = np.ascontiguousarray(bounds.astype("int32"))
    named: dict[str, Any] = {"causal": case.causal}
    if starts:
        named |= {
            "cu_q": torch.tensor(starts[0], dtype=torch.int32, device=device),
            "cu_k": torch.tensor(starts[1], dtype=torch.int32, device=device),
            "most_q": max(b - a for a, b in zip(starts[0], starts[0][1:])),
            "most_k": max(b - a for a, b in zip(starts[1], starts[1][1:])),
        }
    if bounds is not None:
        named["bounds"] = torch.from_numpy(bounds).to(device)
    return Tensors(q, k, v, dout, Masking(**named), bounds, starts)


def _starts(generator: Any, batch: int, most: int) -> tuple[int, ...]:
    return (0, *(int(offset) for offset in np.cumsum(generator.integers(1, most + 1, batch))))


def expected(case: CheckCase, made: Tensors) -> dict[str, Any]:
    """Return out, dq, dk and dv in float64, in the tensors' layout."""
    q, k, v, dout = (x.double().cpu().numpy() for x in (made.q, made.k, made.v, made.dout))
    found = {"out": np.zeros_like(q), "dq": np.zeros_like(q), "dk": np.zeros_like(k), "dv": np.zeros_like(v)}
    for b in range(case.batch):
        rows, keys = (b, slice(None)), (b, slice(None))
        if made.starts:
            rows, keys = ((slice(cut[b], cut[b + 1]),) for cut in made.starts)  # type: ignore[assignment]
        for h in range(case.heads):
            kv = h // (case.heads // case.kv_heads)
            one_q, one_k = q[(*rows, h)], k[(*keys, kv)]
            bounds = None if made.bounds is None else made.bounds[b, 0]
            seen = visible(len(one_q), len(one_k), causal=case.causal, bounds=bounds)
            out, _, dq, dk, dv = attention(one_q, one_k, v[(*keys, kv)], dout[(*rows, h)], seen)
            found["out"][(*rows, h)], found["dq"][(*rows, h)] = out, dq
            found["dk"][(*keys, kv)] += dk
            found["dv"][(*keys, kv)] += dv
    return found


def plain(case: CheckCase, made: Tensors) -> dict[str, Any]:
    """Return what the plain algorithm gives in the case's own type, by torch; a kernel may err twice as much."""
    leaves = [x.detach().clone().requires_grad_() for x in (made.q, made.k, made.v)]
    outs = []
    for b in range(case.batch):
        q, k, v = leaves
        if made.starts:
            q, k, v = (x[cut[b] : cut[b + 1]] for x, cut in zip((q, k, v), (made.starts[0], *made.starts[1:] * 2)))
        else:
            q, k, v = q[b], k[b], v[b]
        group = case.heads // case.kv_heads
        q, k, v = q.transpose(0, 1), *(x.transpose(0, 1).repeat_interleave(group, 0) for x in (k, v))
        bounds = None if made.bounds is None else made.bounds[b, 0]
        seen = torch.from_numpy(visible(q.shape[1], k.shape[1], causal=case.causal, bounds=bounds)).to(q.device)
        some = seen.any(1, keepdim=True)
        scores = (q @ k.transpose(1, 2)) * (1 / math.sqrt(case.head_dim))
        p = torch.softmax(scores.masked_fill(~(seen | ~some), float("-inf")), -1) * some
        outs.append((p.to(v.dtype) @ v).transpose(0, 1))
    out = torch.cat(outs) if made.starts else torch.stack(outs)
    gradients = torch.autograd.grad(out, leaves, made.dout)
    return dict(zip(("out", "dq", "dk", "dv"), (x.detach().double().cpu().numpy() for x in (out, *gradients))))


def errors(found: dict[str, Any], right: dict[str, Any]) -> dict[str, float]:
    """Return the largest difference of each tensor, of the reference's largest value; NaN is infinite."""
    result = {}
    for name, wanted in right.items():
        with np.errstate(invalid="ignore"):
            worst = float(np.abs(found[name] - wanted).max(initial=0.0))
        result[name] = worst / max(float(np.abs(wanted).max(initial=0.0)), 1e-30) if not math.isnan(worst) else math.inf
    return result


def ours(made: Tensors, capability: int) -> dict[str, Any]:
    """Return what the kernels give."""
    out, lse = forward(made.q, made.k, made.v, made.masking, capability=capability)
    gradients = backward(made.q, made.k, made.v, out, lse, made.dout, made.masking, capability=capability)
    return dict(zip(("out", "dq", "dk", "dv"), (x.double().cpu().numpy() for x in (out, *gradients))))


def judge(name: str, found: dict[str, float], usual: dict[str, float], dtype: str) -> tuple[str, str]:
    """Return ok and nothing, or wrong and why: a kernel may err twice as much as the plain algorithm."""
    for part, error in found.items():
        allowed = max(FACTOR * usual.get(part, 0.0), LEAST[dtype])
        if not error <= allowed:
            return "wrong", f"{name}: {part} is off by {error:.1e} of its largest value, and {allowed:.1e} is allowed"
    return "ok", ""


def check(case: CheckCase, device: str, capability: int) -> Row:
    """Compare one case with float64."""
    made = tensors(case, device)
    row: Row = {"impl": "triton", "kind": "check", **vars(case)}
    try:
        right = expected(case, made)
        found = errors(ours(made, capability), right)
        status, reason = judge(case.form, found, errors(plain(case, made), right), case.dtype)
    except Exception as error:  # noqa: BLE001 - what a kernel raises on this GPU is what one wants to know
        return {**row, "status": "error", "reason": f"{type(error).__name__}: {str(error)[:400]}", "max_error": None}
    return {**row, "status": status, "reason": reason, "max_error": max(found.values())}


def check_decode(dtype: str, device: str, capability: int, *, paged: bool, tiny: bool) -> Row:
    """Compare decode with float64: sequences of several lengths, one of them empty, one split unevenly."""
    generator = np.random.default_rng(1)
    batch, heads, kv_heads, head_dim, most, page = 4, 6, 2, 24 if tiny else 128, 40 if tiny else 1000, 16
    lengths = np.array([0, 1, most // 2 + 1, most], "int32")
    row: Row = {"impl": "triton", "kind": "check", "form": "decode-paged" if paged else "decode", "dtype": dtype}
    row |= {"batch": batch, "heads": heads, "kv_heads": kv_heads, "seqlen_q": 1, "seqlen_k": most, "head_dim": head_dim}
    kind = DTYPES[dtype]
    q, k, v = (
        torch.from_numpy(generator.standard_normal(shape, "float32")).to(device, kind)
        for shape in ((batch, heads, head_dim), *[(batch, most, kv_heads, head_dim)] * 2)
    )
    cache, table = (k, v), None
    if paged:
        pages = -(-most // page)
        table_array = generator.permutation(batch * pages).reshape(batch, pages).astype("int32")
        cache = tuple(
            torch.full((batch * pages, page, kv_heads, head_dim), math.nan, dtype=kind, device=device) for _ in range(2)
        )
        for whole, into in zip((k, v), cache):
            for b in range(batch):
                for at in range(pages):
                    part = whole[b, at * page : (at + 1) * page]
                    into[int(table_array[b, at]), : len(part)] = part
        table = torch.from_numpy(table_array).to(device)
    try:
        found = decode(q, *cache, torch.from_numpy(lengths).to(device), table, splits=3, capability=capability)
        group = heads // kv_heads
        wide = [x.double().cpu().numpy() for x in (q, k, v)]
        right = np.zeros((batch, heads, head_dim))
        for b in range(batch):
            for h in range(heads):
                keys, kept = (x[b, : lengths[b], h // group] for x in wide[1:])
                if lengths[b]:
                    one, seen = np.zeros((1, head_dim)), np.ones((1, lengths[b]), bool)
                    right[b, h] = attention(wide[0][b, h][None], keys, kept, one, seen)[0][0]
        off = errors({"out": found.double().cpu().numpy()}, {"out": right})
        status, reason = judge("decode", off, {}, dtype)
    except Exception as error:  # noqa: BLE001 - the same
        return {**row, "status": "error", "reason": f"{type(error).__name__}: {str(error)[:400]}", "max_error": None}
    return {**row, "status": status, "reason": reason, "max_error": off["out"]}


def checks(*, tiny: bool) -> list[CheckCase]:
    """Return the cases that are compared with float64: small, odd, with rows that see nothing, with outliers."""
    if tiny:
        return [
            CheckCase("full", "fp32", 1, 2, 1, 33, 40, 16),
            CheckCase("causal", "bf16", 1, 2, 1, 40, 33, 24),
            CheckCase("causal", "fp16", 1, 1, 1, 33, 40, 16, outliers=True),
            CheckCase("varlen", "fp32", 2, 2, 1, 20, 24, 16),
            CheckCase("flashmask-1", "bf16", 1, 2, 1, 33, 33, 16),
            CheckCase("flashmask-2", "fp32", 1, 1, 1, 33, 33, 16),
            CheckCase("flashmask-2f", "fp32", 1, 1, 1, 33, 33, 16),
            CheckCase("flashmask-4", "fp32", 1, 1, 1, 33, 33, 16),
        ]
    forms = [
        ("full", 64, False), ("full", 128, True), ("causal", 64, True), ("causal", 128, False), ("causal", 256, False),
        ("causal", 80, False), ("varlen", 64, False), ("varlen", 128, True), ("flashmask-1", 64, False),
        ("flashmask-1", 128, False), ("flashmask-2", 128, False), ("flashmask-2f", 64, False),
        ("flashmask-4", 256, False),
    ]  # fmt: skip
    found = [CheckCase(form, "bf16", 2, 6, 2, 333, 470, head_dim, outliers) for form, head_dim, outliers in forms]
    found += [
        CheckCase(form, "fp16", 2, 6, 2, 333, 470, 64, outliers=True) for form in ("causal", "varlen", "flashmask-1")
    ]
    return [
        *found,
        CheckCase("causal", "bf16", 1, 4, 4, 470, 333, 128),
        CheckCase("full", "fp32", 1, 2, 2, 200, 130, 64),
    ]


def cold_times_ms(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Return the times of calls between events, in turns, each after the cache has been overwritten."""
    scratch = torch.empty(CACHE_BYTES // 4, dtype=torch.int32, device="cuda")
    for call in calls.values():
        for _ in range(3):
            call()
    events = {
        name: [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(rounds)] for name in calls
    }
    for number in range(rounds):
        for name, call in calls.items():
            scratch.zero_()
            begin, end = events[name][number]
            begin.record()
            call()
            end.record()
    torch.cuda.synchronize()
    return {name: [begin.elapsed_time(end) for begin, end in pairs] for name, pairs in events.items()}


def time_case(case: CheckCase, capability: int, peak_tflops: float) -> list[Row]:
    """Time one case, forward and backward, beside torch's flash attention and cuDNN's."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    made = tensors(case, "cuda")
    masking = made.masking
    out, lse = forward(made.q, made.k, made.v, masking, capability=capability)
    forwards: dict[str, Call] = {"triton": lambda: forward(made.q, made.k, made.v, masking, capability=capability)}
    backwards: dict[str, Call] = {
        "triton": lambda: backward(made.q, made.k, made.v, out, lse, made.dout, masking, capability=capability)
    }
    rows: list[Row] = []
    if case.form in ("full", "causal"):
        leaves = [x.transpose(1, 2).detach().requires_grad_() for x in (made.q, made.k, made.v)]
        for name, backend in (("torch_flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):

            def attend(backend: Any = backend) -> Any:
                with sdpa_kernel(backend):
                    return scaled_dot_product_attention(
                        *leaves, is_causal=case.causal, enable_gqa=case.heads != case.kv_heads
                    )

            try:
                theirs = attend()
                gradient = made.dout.transpose(1, 2)
                torch.autograd.grad(theirs, leaves, gradient, retain_graph=True)
            except Exception as error:  # noqa: BLE001 - a backend that this build lacks says so
                rows.append(_row(case, name, "fwd", "unsupported", str(error)[:200]))
                continue
            forwards[name] = attend
            backwards[name] = partial(torch.autograd.grad, theirs, leaves, gradient, retain_graph=True)
    flops = 4.0 * case.heads * case.head_dim * _pairs(case, made)
    for which, calls, factor in (("fwd", forwards, 1.0), ("bwd", backwards, 2.5)):
        with torch.no_grad() if which == "fwd" else torch.enable_grad():
            timed = cold_times_ms(calls, ROUNDS)
        for name, times in timed.items():
            median = statistics.median(times)
            quartiles = statistics.quantiles(times, n=4)
            tflops = factor * flops / median / 1e9
            share = 100 * tflops / peak_tflops if peak_tflops else None
            rows.append(
                _row(case, name, which, "ok", "")
                | {
                    "median_ms": median, "q1_ms": quartiles[0], "q3_ms": quartiles[2], "round_ms": times,
                    "gflops": 1e3 * tflops, "percent_of_ceiling": share if share and share <= 100 else None,  # noqa: PLR2004 - all
                }
            )  # fmt: skip
    return rows


def time_decode(capability: int, context: int) -> Row:
    """Time decode against the rate at which this GPU reads the same bytes."""
    batch, heads, kv_heads, head_dim = 16, 32, 8, 128
    q = torch.randn(batch, heads, head_dim, dtype=torch.bfloat16, device="cuda")
    k, v = (torch.randn(batch, context, kv_heads, head_dim, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    lengths = torch.full((batch,), context, dtype=torch.int32, device="cuda")
    both = torch.stack([k, v])
    calls: dict[str, Call] = {
        "triton": lambda: decode(q, k, v, lengths, capability=capability),
        "read": both.sum,
    }
    timed = cold_times_ms(calls, ROUNDS)
    times, moved = timed["triton"], 2 * k.numel() * k.element_size()
    rates = {name: moved / statistics.median(found) / 1e6 for name, found in timed.items()}
    share = 100 * rates["triton"] / rates["read"]
    quartiles = statistics.quantiles(times, n=4)
    case = CheckCase("decode", "bf16", batch, heads, kv_heads, 1, context, head_dim)
    return _row(case, "triton", "fwd", "ok", "") | {
        "median_ms": statistics.median(times), "q1_ms": quartiles[0], "q3_ms": quartiles[2], "round_ms": times,
        "gb_per_s": rates["triton"], "read_gb_per_s": rates["read"],
        "percent_of_bandwidth": share if share <= 100 else None,  # noqa: PLR2004 - all of it
    }  # fmt: skip


def _row(case: CheckCase, impl: str, which: str, status: str, reason: str) -> Row:
    return {
        "impl": impl,
        "kind": "time",
        "pass": which,
        "status": status,
        "reason": reason,
        "median_ms": None,
        **vars(case),
    }


def _pairs(case: CheckCase, made: Tensors) -> float:
    """Return how many pairs of a query and a key that it sees one head has, over the batch, of a form that is timed."""
    total = 0.0
    for b in range(case.batch):
        cuts = made.starts or ((0,), (0,))
        seqlen_q = cuts[0][b + 1] - cuts[0][b] if made.starts else case.seqlen_q
        seqlen_k = cuts[1][b + 1] - cuts[1][b] if made.starts else case.seqlen_k
        first = np.maximum(np.arange(seqlen_k) - (seqlen_k - seqlen_q), 0) if case.causal else np.zeros(seqlen_k)
        last = np.full(seqlen_k, seqlen_q) if made.bounds is None else np.minimum(made.bounds[b, 0, :, 0], seqlen_q)
        total += float(np.maximum(last - first, 0).sum())
    return total


def product_tflops() -> float:
    """Return what the best of some products of bf16 matrices reaches, warm: what the times are a percentage of."""
    a, b = (torch.randn(PRODUCT, PRODUCT, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    for _ in range(3):
        a @ b
    best = math.inf
    for _ in range(10):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        a @ b
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end))
    return float(2 * PRODUCT**3 / best / 1e9)


def times(capability: int, peak_tflops: float, until: float) -> list[Row]:
    """Time the shapes that matter, until the seconds are spent."""
    shapes = [
        CheckCase(form, "bf16", 2, 16, kv_heads, length, length, head_dim)
        for head_dim, kv_heads in ((128, 16), (64, 16), (128, 4))
        for length in (4096, 1024, 8192)
        for form in ("causal", "full", "varlen", "flashmask-1")
    ]
    rows = [_tried(partial(time_decode, capability, length), f"decode {length}") for length in (8192, 32768)]
    for case in shapes:
        if time.monotonic() > until:
            rows.append(_row(case, "triton", "fwd", "skipped", "the time was spent"))
            continue
        found = _tried_rows(partial(time_case, case, capability, peak_tflops), case)
        rows += found
    return rows


def _tried_rows(run: Callable[[], list[Row]], case: CheckCase) -> list[Row]:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - one case that fails must not cost the others
        return [_row(case, "triton", "fwd", "error", f"{type(error).__name__}: {str(error)[:400]}")]


def _tried(run: Callable[[], Row], name: str) -> Row:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - the same
        return {
            "impl": "triton",
            "kind": "time",
            "form": name,
            "status": "error",
            "reason": str(error)[:400],
            "median_ms": None,
        }


def main(words: list[str]) -> int:
    """Check and time; return 4 where a kernel is wrong or fails, 1 where there is no GPU, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", default="gpu-check.json", help="the JSON file to write")
    parser.add_argument("--budget", type=float, default=210.0, metavar="SECONDS", help="for everything")
    chosen = parser.parse_args(words)
    started = time.monotonic()
    tiny = interpreted()
    if not tiny and not torch.cuda.is_available():
        print(
            "gpu-check: there is no GPU that torch can use; TRITON_INTERPRET=1 tries the kernels on the host",
            file=sys.stderr,
        )
        return 1
    device = "cpu" if tiny else "cuda"
    properties = None if tiny else torch.cuda.get_device_properties(0)
    capability = 80 if properties is None else properties.major * 10 + properties.minor
    results: list[Row] = []

    def take(row: Row) -> None:
        results.append(row)
        error = "" if row.get("max_error") is None else f"{row['max_error']:.1e}"
        case = f"{row['form']:<14}{row['dtype']:<6}head_dim {row['head_dim']:<4}"
        print(f"{row['status']:<12}{case} {error:<8} {row['reason']}", flush=True)

    for case in checks(tiny=tiny):
        take(check(case, device, capability))
    for dtype in ("fp32",) if tiny else ("fp16", "bf16"):
        for paged in (False, True):
            take(check_decode(dtype, device, capability, paged=paged, tiny=tiny))
    peak = 0.0
    if not tiny:
        peak = product_tflops()
        print(f"product of {PRODUCT} x {PRODUCT} in bf16: {peak:.0f} TFLOP/s", flush=True)
        for row in times(capability, peak, started + chosen.budget):
            results.append(row)
            shown = (
                f"{row['median_ms']:.3f} ms" if row["median_ms"] is not None else f"{row['status']}: {row['reason']}"
            )
            print(
                f"{row['impl']:<12}{row.get('pass', ''):<4} {row['form']:<12} {row.get('seqlen_k', '')} {shown}",
                flush=True,
            )
    versions = {"python": platform.python_version(), "torch": torch.__version__, "triton": _triton_version()}
    report = {
        "kind": "gpu-check",
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": {
            "kind": "interpreter" if tiny else "gpu",
            "name": "Triton's interpreter, on the host" if properties is None else properties.name,
            "threads": 0,
            "capability": capability,
        },
        "versions": versions,
        "ceiling": {"gflops": 1e3 * peak} if peak else {},
        "seconds": time.monotonic() - started,
        "reproduce": "make gpu-check" if not tiny else "TRITON_INTERPRET=1 make gpu-check",
        "results": results,
    }
    Path(chosen.out).write_text(json.dumps(report, indent=1, allow_nan=False, default=float), "utf-8")
    bad = [row for row in results if row["status"] in ("wrong", "error")]
    print(f"{len(results) - len(bad)} fine, {len(bad)} wrong, in {report['seconds']:.0f} s; written to {chosen.out}")
    return 4 if bad else 0


def _triton_version() -> str:
    import triton

    return str(triton.__version__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
