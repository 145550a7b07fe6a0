"""This rank's side of the collectives. On GPUs (NCCL) not yet run."""

from __future__ import annotations

import os
import re
import time
from typing import Any, Callable

import numpy as np
import paddle
import paddle.distributed as dist

from .. import protocol
from ..attention.backends.base import DECLINES, reason
from ..protocol import Refusal, emit

OPS = ("all_reduce", "all_gather", "broadcast", "reduce", "reduce_scatter", "alltoall")
ITEM = 4  # fp32


class Worker(protocol.Worker):
    """One rank, and the tensors of the collective at hand."""

    def __init__(self) -> None:
        from ..training.parallel.comm import rendezvous

        self.rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
        self.gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
        if not self.gpu:
            paddle.set_device("cpu")
        if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
            rendezvous(self.rank, os.environ.get("PADDLE_MASTER", ""))
        dist.init_parallel_env()
        self.ranks = dist.get_world_size()

    def handle(self, request: dict[str, Any]) -> None:
        """Answer one request.

        Raises:
            Refusal: it makes no sense.
        """
        do = {"describe": self._describe, "prepare": self._prepare, "time": self._time}
        if request.get("do") not in do:
            raise Refusal(f"the worker cannot do {request.get('do')!r}", f"It knows {', '.join(do)}.")
        do[request["do"]](request)

    def _describe(self, request: dict[str, Any]) -> None:  # noqa: ARG002 - it asks for nothing
        backend = "nccl" if self.gpu else "gloo"
        kind = "gpu" if self.gpu else "cpu"
        emit("device", kind=kind, backend=backend, ranks=self.ranks, version=paddle.__version__)

    def _prepare(self, request: dict[str, Any]) -> None:
        op, size = str(request["op"]), int(request["bytes"])
        answer = {"status": "ok", "reason": ""}
        try:
            call, found, right = self._call(op, size)
            call()
            for got, wanted in zip(found(), right):
                if not np.array_equal(got, np.full_like(got, wanted)):
                    answer = {
                        "status": "wrong",
                        "reason": f"rank {self.rank} holds {got.flat[0]:g}, and {wanted:g} is right",
                    }
        except NotImplementedError as error:
            answer = {"status": "unsupported", "reason": str(error) or f"{op} is not implemented for this backend"}
        except Exception as error:  # noqa: BLE001 - what the library raises is its answer
            answer = {
                "status": "unsupported" if DECLINES.search(str(error)) else "error",
                "reason": re.sub(r"\s*\(at /.*", "", reason(error)),
            }
        emit("checked", op=op, bytes=size, **answer)

    def _time(self, request: dict[str, Any]) -> None:
        op, size = str(request["op"]), int(request["bytes"])
        call, _, _ = self._call(op, size)
        call()
        times = []
        for _ in range(int(request.get("iterations", 1))):
            dist.barrier()
            begin = time.perf_counter()
            call()
            if self.gpu:
                paddle.device.synchronize()
            times.append((time.perf_counter() - begin) * 1e3)
        emit("timed", op=op, bytes=size, time_ms=times)

    def _call(self, op: str, size: int) -> tuple[Callable[[], Any], Callable[[], list[Any]], list[float]]:
        """Return a collective on ``size`` bytes of this rank, what it leaves here, and what is right, an array each."""
        count = max(size // ITEM, self.ranks)
        count -= count % self.ranks
        mine = float(self.rank + 1)
        total = self.ranks * (self.ranks + 1) / 2
        x = paddle.full([count], mine)
        ranks = range(self.ranks)
        if op == "all_reduce":
            return lambda: dist.all_reduce(x), lambda: [x.numpy()], [total]
        if op == "broadcast":
            return lambda: dist.broadcast(x, 0), lambda: [x.numpy()], [1.0]
        if op == "reduce":
            # The other ranks' buffers are nobody's afterwards.
            return lambda: dist.reduce(x, 0), lambda: [x.numpy()] if self.rank == 0 else [], [total]
        if op == "all_gather":
            parts: list[Any] = []

            def gather() -> None:
                parts.clear()
                dist.all_gather(parts, x)

            return gather, lambda: [part.numpy() for part in parts], [float(rank + 1) for rank in ranks]
        share = paddle.zeros([count // self.ranks])
        if op == "reduce_scatter":
            pieces = list(x.split(self.ranks))
            return lambda: dist.reduce_scatter(share, pieces), lambda: [share.numpy()], [total]
        if op == "alltoall":
            received: list[Any] = []
            pieces = list(x.split(self.ranks))

            def exchange() -> None:
                received.clear()
                dist.alltoall(received, pieces)

            return exchange, lambda: [part.numpy() for part in received], [float(rank + 1) for rank in ranks]
        raise Refusal(f"collective {op!r} is unknown", f"Known are {', '.join(OPS)}.")
