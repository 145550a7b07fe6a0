"""torch's attention, in a process of its own: its threads and Paddle's would be in each other's way."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from ..clock import MIB
from ..reference import Result
from .base import Call, Calls, Library, added, seeing, visible

if TYPE_CHECKING:
    from ..case import Arrays, Case


# More than a GPU's last cache holds.
GPU_SWEPT = 256 * MIB


class TorchLibrary(Library):
    """torch's ``scaled_dot_product_attention``."""

    name = "torch"
    implementations = ("torch_sdpa",)

    def __init__(self, device: str, threads: int) -> None:
        self.device = ("gpu" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.place = torch.device("cuda" if self.device == "gpu" else "cpu")
        torch.set_num_threads(threads)

    def describe(self) -> dict[str, Any]:
        """Return torch's version and the GPUs that it sees."""
        gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return {
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
            "gpus": [
                {"index": index, "name": gpu.name, "memory_mib": gpu.total_memory // MIB}
                for index, gpu in enumerate(gpus)
            ],
        }

    def declines(self, implementation: str, case: Case) -> str:  # noqa: ARG002 - it is asked by trying
        """Return nothing: torch is asked by trying."""
        return ""

    def bytes_needed(self, implementation: str, case: Case) -> int:  # noqa: ARG002 - there is one
        """Return the bytes of all tensors, and of a mask that is not torch's own."""
        mask = 4 * case.seqlen_q * case.seqlen_k * (0 if case.is_plain else case.batch)
        return mask + 4 * case.linear_bytes()

    def calls(self, implementation: str, case: Case, inputs: Arrays) -> Calls:  # noqa: ARG002 - there is one
        """Return the calls of torch's attention."""
        dtype = getattr(torch, case.dtype)
        # torch's own layout is [batch, heads, seqlen, head_dim]: it gets what suits it.
        q, k, v, dout = (
            torch.from_numpy(np.ascontiguousarray(x.transpose(0, 2, 1, 3))).to(self.place, dtype)
            for x in (inputs.q, inputs.k, inputs.v, inputs.dout)
        )
        for x in (q, k, v):
            x.requires_grad_(requires_grad=True)
        # torch's own causal mask is aligned at the top left: where that is another mask, it is given ours.
        mask = None
        if case.kind == "mask":
            mask = torch.from_numpy(added(case)).to(self.place, dtype)
        elif not case.is_plain:
            mask = torch.from_numpy(visible(case)).to(self.place)
        weight = seeing(case)
        rows = None if weight is None else torch.from_numpy(weight[:, None, :, None]).to(self.place, dtype)

        def attend() -> Any:
            out = scaled_dot_product_attention(
                *(q, k, v, mask),
                is_causal=case.causal and mask is None,
                enable_gqa=case.group > 1,
                scale=case.scale,
            )
            return out if rows is None else out * rows

        def forward() -> Any:
            with torch.no_grad():
                return attend()

        def both() -> Any:
            return torch.autograd.grad(attend(), (q, k, v), dout)

        def backward() -> Call:
            out = attend()
            return lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)

        def result() -> Result:
            out = attend()
            return Result(*(_array(x) for x in (out, *torch.autograd.grad(out, (q, k, v), dout))))

        return Calls(forward, both, backward, result)

    def poison(self, case: Case) -> None:
        """Leave what is not a number in memory of the size of each result."""
        for shape in (case.q_shape, case.k_shape, case.k_shape):
            torch.full(shape, float("nan"), dtype=getattr(torch, case.dtype), device=self.place)

    def product(self, size: int, dtype: str) -> Call:
        """Return a call of torch's product."""
        left, right = (torch.randn(size, size, device=self.place).to(getattr(torch, dtype)) for _ in range(2))
        return lambda: left @ right

    def _gpu_bytes_available(self) -> int:
        return int(torch.cuda.mem_get_info()[0])

    def _gpu_sweep(self) -> Call:
        buffer = torch.zeros(GPU_SWEPT // 4, device=self.place)
        return lambda: buffer.add_(1)

    def _gpu_times_ms(self, call: Call, iterations: int, before: Call) -> list[float]:
        pairs = []
        torch.cuda.synchronize()
        for _ in range(iterations):
            before()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            pairs.append((begin, end))
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) for begin, end in pairs]

    def _gpu_peak_mib(self, call: Call) -> float:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before) / MIB


def _array(x: Any) -> np.ndarray[Any, Any]:
    wide = x.detach() if x.dtype in (torch.float32, torch.float64) else x.detach().float()
    array: np.ndarray[Any, Any] = wide.cpu().numpy().transpose(0, 2, 1, 3)
    return array
