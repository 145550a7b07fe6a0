"""Paddle's attentions and ours on Paddle's tensors."""

from __future__ import annotations

import math
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle.nn.functional import scaled_dot_product_attention, softmax

from ...protocol import Refusal, emit
from .. import functional
from ..clock import MIB
from ..op import DTYPES, LARGEST_HEAD_DIM, fma_gflops, isa, load
from ..reference import Result
from .base import Call, Calls, Library, added, seeing
from .fused import FUSED, beyond_fused, document_columns
from .own import Own, load_function

if TYPE_CHECKING:
    from ..case import Arrays, Case

IMPLEMENTATIONS = ("naive", "paddle_sdpa", *FUSED, "devkit_cpu")
# How many [batch, heads, seqlen_q, seqlen_k] tensors are alive at once in a forward and a backward pass (measured).
SQUARES = {"naive": 6, "paddle_sdpa": 6}
# More than a GPU's last cache holds.
GPU_SWEPT = 256 * MIB


class PaddleLibrary(Library):
    """Paddle's attentions, ours on Paddle's tensors, and the user's own.

    Args:
        device: as in ``Library``.
        threads: of ours.
        own: functions of the user's, as ``file.py:function``.
        against: another revision of ours, which is then the only implementation: two of one name do not fit a process.
    """

    name = "paddle"

    def __init__(self, device: str, threads: int, own: tuple[str, ...] = (), against: Own | None = None) -> None:
        self.own = own
        self.ours = {"devkit_cpu": functional, **({against.name: against.functional()} if against else {})}
        self.implementations = (against.name,) if against else (*IMPLEMENTATIONS, *own)
        has_gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
        self.device = ("gpu" if has_gpu else "cpu") if device == "auto" else device
        self.threads = threads
        paddle.set_device("gpu:0" if self.device == "gpu" else "cpu")

    def describe(self) -> dict[str, Any]:
        """Return Paddle's version and commit, and the GPUs that it sees."""
        count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
        gpus = [paddle.device.cuda.get_device_properties(index) for index in range(count)]
        return {
            "versions": {
                "python": platform.python_version(),
                "paddle": paddle.__version__,
                "paddle_commit": paddle.version.commit,
                "numpy": np.__version__,
            },
            "gpus": [
                {"index": index, "name": gpu.name, "memory_mib": gpu.total_memory // MIB}
                for index, gpu in enumerate(gpus)
            ],
        }

    def declines(self, implementation: str, case: Case) -> str:
        """Return what of the case is beyond ``devkit_cpu``; Paddle's own are asked by trying."""
        if implementation in self.own or implementation in FUSED:
            return beyond_fused(implementation, case)
        if implementation not in self.ours:
            return ""
        if self.device != "cpu":
            return "devkit_cpu runs on the CPU, and this run is on a GPU."
        if case.dtype not in DTYPES:
            return f"devkit_cpu takes {', '.join(DTYPES[:-1])} and {DTYPES[-1]}, not {case.dtype}."
        if case.head_dim > LARGEST_HEAD_DIM:
            return f"devkit_cpu takes a head_dim of 1 to {LARGEST_HEAD_DIM}, not {case.head_dim}."
        return ""

    def bytes_needed(self, implementation: str, case: Case) -> int:
        """Return the bytes of all tensors, the square ones of the plain algorithms among them."""
        repeated = case.group if implementation in SQUARES else 1
        mask = 4 * case.seqlen_q * case.seqlen_k * (0 if case.is_plain else case.batch)
        return mask + SQUARES.get(implementation, 0) * case.square_bytes() + (2 + repeated) * case.linear_bytes()

    def calls(self, implementation: str, case: Case, inputs: Arrays) -> Calls:
        """Return the calls of one implementation.

        Raises:
            Refusal: the operator cannot be built here.
        """
        if implementation == "devkit_cpu":
            load(emit)
        q, k, v, dout = (paddle.to_tensor(x).astype(case.dtype) for x in (inputs.q, inputs.k, inputs.v, inputs.dout))
        for x in (q, k, v):
            x.stop_gradient = False
        attend = self._attend(implementation, case, q, k, v)

        def forward() -> Any:
            with paddle.no_grad():
                return attend()

        def both() -> Any:
            return paddle.grad([attend()], [q, k, v], [dout])

        def backward() -> Call:
            out = attend()
            return lambda: paddle.grad([out], [q, k, v], [dout], retain_graph=True)

        def result() -> Result:
            out = attend()
            return Result(*(_array(x) for x in (out, *paddle.grad([out], [q, k, v], [dout]))))

        return Calls(forward, both, backward, result)

    def _attend(self, implementation: str, case: Case, q: Any, k: Any, v: Any) -> Call:
        if implementation in self.ours:
            return _ours(self.ours[implementation], case, q, k, v, self.threads)
        if implementation in self.own:
            function = load_function(implementation)
            return lambda: function(q, k, v, case.causal)
        if implementation in FUSED:
            return lambda: FUSED[implementation](case, q, k, v)
        # Paddle's own causal mask is aligned at the top left: where that is another mask, it is given ours.
        bias = None
        if not case.is_plain or (case.causal and implementation == "naive"):
            bias = paddle.to_tensor(added(case)).astype(case.dtype)
        weight = seeing(case)
        rows = None if weight is None else paddle.to_tensor(weight[..., None, None]).astype(case.dtype)
        scale = {} if case.scale is None else {"scale": case.scale}

        def attend() -> Any:
            if implementation == "naive":
                out = naive(q, k, v, bias, **scale)
            else:
                out = scaled_dot_product_attention(q, k, v, bias, is_causal=case.causal and bias is None, **scale)
            return out if rows is None else out * rows

        return attend

    def poison(self, case: Case) -> None:
        """Leave what is not a number in memory of the size of each result."""
        for shape in (case.q_shape, case.k_shape, case.k_shape):
            paddle.full(shape, float("nan"), case.dtype)

    def product(self, size: int, dtype: str) -> Call:
        """Return a call of Paddle's product."""
        left, right = paddle.randn([size, size]).astype(dtype), paddle.randn([size, size]).astype(dtype)
        return lambda: paddle.matmul(left, right)

    def isa(self, implementation: str, case: Case) -> str | None:
        """Return the instruction set of ours; Paddle does not say which its own are."""
        return isa(case.dtype) if implementation == "devkit_cpu" else None

    def fma_gflops(self, dtype: str, seconds: float) -> float | None:
        """Return the rate that our library's multiply-adds reach on registers alone; None unless it is loaded."""
        return fma_gflops(dtype, self.threads, seconds) if self.device == "cpu" else None

    def _gpu_bytes_available(self) -> int:
        free: int = paddle.device.cuda.get_device_properties(0).total_memory - paddle.device.cuda.memory_allocated()
        return free

    def _gpu_sweep(self) -> Call:
        buffer = paddle.zeros([GPU_SWEPT // 4])
        return lambda: buffer.add_(paddle.ones([1]))

    def _gpu_times_ms(self, call: Call, iterations: int, before: Call) -> list[float]:
        pairs = []
        paddle.device.synchronize()
        for _ in range(iterations):
            before()
            begin, end = (paddle.device.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            pairs.append((begin, end))
        paddle.device.synchronize()
        return [begin.elapsed_time(end) for begin, end in pairs]

    def _gpu_peak_mib(self, call: Call) -> float:
        paddle.device.cuda.empty_cache()
        paddle.device.cuda.reset_max_memory_allocated()
        before = paddle.device.cuda.memory_allocated()
        call()
        paddle.device.synchronize()
        return float(paddle.device.cuda.max_memory_allocated() - before) / MIB


def _ours(ours: Any, case: Case, q: Any, k: Any, v: Any, threads: int) -> Call:
    """Return a call of the function of ours that does a case.

    What is as by default is not given: an earlier revision may not know it.

    Raises:
        Refusal: an earlier revision has no such function.
    """
    name = {"varlen": "flash_attention_varlen", "flashmask": "flashmask_attention"}.get(case.kind, "flash_attention")
    function = getattr(ours, name, None)
    if function is None:
        raise Refusal(f"this revision has no {name}")
    options: dict[str, Any] = {"threads": threads}
    if case.scale is not None:
        options["scale"] = case.scale
    if case.left >= 0 or case.right >= 0:
        options["window"] = case.left, case.right
    if case.align != "bottom_right" and case.kind != "flashmask":
        options["align"] = case.align
    bias = case.added()
    if bias is not None:
        options["mask"] = paddle.to_tensor(bias).astype(case.dtype)
    if case.kind == "varlen":
        starts = [b * case.seqlen_q + at for b, row in enumerate(case.documents()) for at in row[:-1]]
        bounds = paddle.to_tensor([*starts, case.batch * case.seqlen_q], "int32")
        q, k, v = (x.reshape([-1, *x.shape[2:]]) for x in (q, k, v))
        return lambda: function(q, k, v, bounds, bounds, case.causal, **options).reshape(case.q_shape)
    if case.kind == "flashmask":
        indices = paddle.to_tensor(document_columns(case))
        return lambda: function(q, k, v, indices, case.causal, **options)
    return lambda: function(q, k, v, case.causal, **options)


def naive(q_BSHD: Any, k_BSHD: Any, v_BSHD: Any, bias: Any = None, scale: float | None = None) -> Any:
    """Return the attention as the formula has it, through a whole [batch, heads, seqlen_q, seqlen_k] tensor."""
    q, k, v = (x.transpose([0, 2, 1, 3]) for x in (q_BSHD, k_BSHD, v_BSHD))
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, axis=1), v.repeat_interleave(group, axis=1)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = paddle.matmul(q * scale, k, transpose_y=True)
    weights = softmax(scores if bias is None else scores + bias)
    return paddle.matmul(weights, v).transpose([0, 2, 1, 3])


def _array(x: Any) -> np.ndarray[Any, Any]:
    wide = x if x.dtype in (paddle.float32, paddle.float64) else x.astype("float32")
    array: np.ndarray[Any, Any] = wide.numpy()
    return array
