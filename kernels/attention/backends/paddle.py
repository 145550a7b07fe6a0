"""Paddle's attentions and ours on Paddle's tensors."""

from __future__ import annotations

import math
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle.nn.functional import flash_attention as paddle_flash
from paddle.nn.functional import scaled_dot_product_attention, softmax

from ...protocol import emit
from ..clock import MIB
from ..functional import flash_attention
from ..op import DTYPES, LARGEST_HEAD_DIM, fma_gflops, isa, load
from ..reference import Result
from .base import Call, Calls, Library, seeing, visible

if TYPE_CHECKING:
    from ..case import Arrays, Case

# How many [batch, heads, seqlen_q, seqlen_k] tensors are alive at once in a forward and a backward pass (measured).
SQUARES = {"naive": 6, "paddle_sdpa": 6}


class PaddleLibrary(Library):
    """Paddle's attentions, and ours on Paddle's tensors."""

    name = "paddle"
    implementations = ("naive", "paddle_sdpa", "paddle_flash", "devkit_cpu")

    def __init__(self, device: str, threads: int) -> None:
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
        if implementation != "devkit_cpu":
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
        return SQUARES.get(implementation, 0) * case.square_bytes() + (2 + repeated) * case.linear_bytes()

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
        if implementation == "devkit_cpu":
            return lambda: flash_attention(q, k, v, case.causal, threads=self.threads)
        if implementation == "paddle_flash":
            return lambda: flash(q, k, v, case.causal)
        # Paddle's own causal mask is aligned at the top left: where that is another mask, it is given ours.
        bias = None
        if case.causal and (implementation == "naive" or not case.mask_is_square):
            bias = paddle.to_tensor(np.where(visible(case), np.float32(0), np.float32(-np.inf))).astype(case.dtype)
        weight = seeing(case)
        rows = None if weight is None else paddle.to_tensor(weight).astype(case.dtype).reshape([1, -1, 1, 1])

        def attend() -> Any:
            if implementation == "naive":
                out = naive(q, k, v, bias)
            else:
                mask = None if bias is None else bias.reshape([1, 1, *bias.shape])
                out = scaled_dot_product_attention(q, k, v, mask, is_causal=case.causal and mask is None)
            return out if rows is None else out * rows

        return attend

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

    def _gpu_times_ms(self, call: Call, iterations: int) -> list[float]:
        pairs = []
        paddle.device.synchronize()
        for _ in range(iterations):
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


def naive(q_BSHD: Any, k_BSHD: Any, v_BSHD: Any, bias: Any = None) -> Any:
    """Return the attention as the formula has it, through a whole [batch, heads, seqlen_q, seqlen_k] tensor."""
    q, k, v = (x.transpose([0, 2, 1, 3]) for x in (q_BSHD, k_BSHD, v_BSHD))
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, axis=1), v.repeat_interleave(group, axis=1)
    scores = paddle.matmul(q * (1 / math.sqrt(q.shape[-1])), k, transpose_y=True)
    weights = softmax(scores if bias is None else scores + bias)
    return paddle.matmul(weights, v).transpose([0, 2, 1, 3])


def flash(q_BSHD: Any, k_BSHD: Any, v_BSHD: Any, causal: bool) -> Any:
    """Return Paddle's flash attention by its own kernel, or raise what Paddle says where it has none.

    On a CPU ``flash_attention`` falls back to plain products without a word, so there the kernel itself is asked for.
    Not yet run on a GPU.
    """
    if not q_BSHD.place.is_gpu_place():
        kernel = paddle._C_ops.flash_attn  # noqa: SLF001 - the public function hides that there is none
        return kernel(q_BSHD, k_BSHD, v_BSHD, None, None, 0.0, causal, False, False, "")[0]
    with paddle_flash.sdp_kernel(enable_math=False, enable_flash=True, enable_mem_efficient=False):
        return paddle_flash.flash_attention(q_BSHD, k_BSHD, v_BSHD, causal=causal)[0]


def _array(x: Any) -> np.ndarray[Any, Any]:
    wide = x if x.dtype in (paddle.float32, paddle.float64) else x.astype("float32")
    array: np.ndarray[Any, Any] = wide.numpy()
    return array
