"""The collectives that sharding needs, the same over Gloo and NCCL.

Paddle's Gloo has no reduce-scatter and no average, and its ``reduce`` leaves garbage in the other ranks' buffers. So here
a reduce-scatter is one ``reduce`` to each owner of a slice, and says that it spoils its input. Each call is marked while
it lasts: a rank that hangs is told from the ranks that wait for it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator, Optional

import paddle
import paddle.distributed as dist

from .watch import Progress

Tensor = paddle.Tensor


class Comm:
    """The ranks of this run, from Paddle's ``PADDLE_TRAINER_*`` environment; alone without it."""

    def __init__(self, progress: Optional[Progress] = None) -> None:
        self.progress = progress or Progress()
        self.rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
        self.size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
        self.gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
        if self.size > 1:
            with self._call():
                dist.init_parallel_env()

    @property
    def backend(self) -> str:
        return "nccl" if self.gpu else "gloo"

    def all_reduce(self, buffer: Tensor) -> None:
        """Sum ``buffer`` over the ranks, in place."""
        if self.size > 1:
            with self._call():
                dist.all_reduce(buffer)

    def reduce_scatter(self, buffer: Tensor) -> Tensor:
        """Sum ``buffer`` [N] over the ranks and return this rank's slice [N / size] of it, a view.

        The other slices are left with garbage.
        """
        own = self.shard(buffer)
        if self.size > 1:
            with self._call():
                if self.gpu:
                    dist.stream.reduce_scatter(own, buffer)
                else:
                    for rank in range(self.size):
                        dist.reduce(self.shard(buffer, rank), dst=rank)
        return own

    def all_gather(self, buffer: Tensor, own: Tensor) -> None:
        """Fill ``buffer`` [N] with every rank's ``own`` [N / size], which may be this rank's slice of it."""
        if self.size > 1:
            with self._call():
                dist.stream.all_gather(buffer, own)
        elif own.data_ptr() != buffer.data_ptr():
            paddle.assign(own, output=buffer)

    def barrier(self) -> None:
        if self.size > 1:
            with self._call():
                dist.barrier()

    def shard(self, buffer: Tensor, rank: Optional[int] = None) -> Tensor:
        """Return a rank's slice of ``buffer``, this rank's by default, sharing its memory."""
        rank = self.rank if rank is None else rank
        length = buffer.shape[0] // self.size
        return buffer._slice(rank * length, (rank + 1) * length)  # noqa: SLF001  Paddle's only view that writes through

    @contextmanager
    def _call(self) -> Iterator[None]:
        self.progress.waiting = True
        yield  # an error leaves the mark: it came out of a collective
        self.progress.waiting = False
        self.progress.move()
