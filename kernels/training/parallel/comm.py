"""The collectives that sharding needs, the same over Gloo and NCCL.

Paddle's Gloo has no reduce-scatter and no average, and its ``reduce`` leaves garbage in the other ranks' buffers. So
here a reduce-scatter is one ``reduce`` to each owner of a slice, and says that it spoils its input. Each call is
marked while it lasts: a rank that hangs is told from the ranks that wait for it.
"""

from __future__ import annotations

import copy
import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np
import paddle
import paddle.distributed as dist

from ...protocol import Refusal
from ..watch import Progress
from .background import Done, Lane, Launched, Queued, Work
from .views import view

Tensor = Any


_groups: dict[tuple[int, ...], tuple[Any, Lane]] = {}

PORT_TAKEN = "port_taken"
"""The event of a rank 0 that finds its port taken; the launcher then takes another."""
MODEL_TYPES = (paddle.float32, paddle.bfloat16, paddle.float16)
WAIT_S = 20.0
MEET_S = 0.001


class PortTaken(Refusal):
    """The port where the ranks were to meet belongs to another program."""


def rendezvous(rank: int, master: str) -> None:
    """Make sure of the port ``master`` (host:port) before Paddle takes it.

    Paddle's store aborts the process when its port is taken, makes a rank that comes too early wait three seconds,
    and hangs for good after a connection that is none of its own: so here rank 0 tries the port, and the others read
    from the kernel's table when it listens. On another machine there is nothing to read, and they go ahead.

    Raises:
        PortTaken: another program has the port.
    """
    port = int(master.rpartition(":")[2])
    if rank == 0:
        try:
            socket.create_server(("", port)).close()
        except OSError as error:
            raise PortTaken(
                f"port {port} cannot be taken", f"{error.strerror}.", "--master HOST:PORT   another port"
            ) from error
        return
    deadline = time.monotonic() + WAIT_S
    while _is_here(master) and not _listens(port) and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_here(master: str) -> bool:
    return master.rpartition(":")[0] in {"127.0.0.1", "localhost"}


def _listens(port: int) -> bool:
    """Return whether some program listens on ``port``; true where the kernel does not tell."""
    listen = "0A"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = [line.split() for line in Path(table).read_text(encoding="ascii").splitlines()[1:]]
        except OSError:
            return True
        if any(row[3] == listen and int(row[1].rpartition(":")[2], 16) == port for row in rows):
            return True
    return False


class Comm:
    """Some of the ranks of this run, and the collectives among them; all of them by default, alone without a launcher.

    The world comes from Paddle's ``PADDLE_TRAINER_*`` environment; parts of it from ``part``.
    """

    observer: Callable[[Comm, str, Tensor, int | None], int] | None = None
    """Sees what each collective is given and what it leaves, while a step is traced."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress or Progress()
        self.name = "world"
        self.rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
        self.size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
        self.ranks = list(range(self.size))
        self.gpu = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
        self._group: Any = None
        self._lane = _groups.setdefault((), (None, Lane()))[1]
        self._task: Any = None
        self._sync = True
        self._met = [0]
        if self.size > 1 and not dist.is_initialized():
            with self._call():
                rendezvous(self.rank, os.environ["PADDLE_MASTER"])
            self.meet()
            with self._call():
                dist.init_parallel_env()

    def meet(self) -> None:
        """Wait until every rank of the run has come here, where some may be late.

        A collective of Gloo gives up after 30 s; the store, which is asked here, waits for as long as the launcher lets
        it. Ranks call this equally often.
        """
        if self.size == 1:
            return
        with self._call():
            store = paddle.base.core.create_or_get_global_tcp_store()
            self._met[0] += 1
            key = f"devkit/met/{self._met[0]}"
            store.add(key, 1)
            pause_s = MEET_S
            while store.add(key, 0) < self.size:
                time.sleep(pause_s)
                pause_s = min(1.5 * pause_s, 50 * MEET_S)

    def part(self, name: str, groups: list[list[int]]) -> Comm | None:
        """Return this rank's one of ``groups`` (of ranks of this comm), which all ranks call with the same groups.

        None where this rank is in no group. Gloo needs a barrier around each new group: a rank that is late reads the
        address of another group's peer.
        """
        found: Comm | None = None
        for ranks in groups:
            group = lane = None
            if 1 < len(ranks) < self.size:
                group, lane = self._made(tuple(ranks))
            if self.rank in ranks:
                found = copy.copy(self)
                found.name, found.ranks, found._group = name, ranks, group
                found.rank, found.size = ranks.index(self.rank), len(ranks)
                found._lane = lane or self._lane
        return found

    def _made(self, ranks: tuple[int, ...]) -> tuple[Any, Lane]:
        """Return Paddle's group of some ranks, which a process makes once, and the lane of its collectives."""
        if ranks not in _groups:
            with self._call():
                dist.barrier()
                _groups[ranks] = dist.new_group(list(ranks)), Lane()
                dist.barrier()
        return _groups[ranks]

    @property
    def backend(self) -> str:
        """The library below Paddle's collectives."""
        return "nccl" if self.gpu else "gloo"

    def start(self, collective: Callable[..., Any], *tensors: Tensor) -> Work:
        """Begin a collective of this comm, ``all_gather`` for example; its tensors are its own until it is waited for.

        A later collective of the same ranks comes after it, whether it was waited for or not.
        """
        if self.size == 1:
            collective(*tensors)
            return Done()
        if self.gpu:
            self._sync = False
            try:
                collective(*tensors)
            finally:
                self._sync = True
            task, self._task = self._task, None
            return Launched(task, tensors, self.progress)
        return Queued(self._lane, self._lane.start(lambda: collective(*tensors)), self.progress)

    def all_reduce(self, buffer: Tensor) -> None:
        """Sum ``buffer`` over the ranks, in place."""
        if self.size > 1:
            with self._call(), self._seen("all_reduce", buffer, buffer):
                self._keep(dist.all_reduce(buffer, group=self._group, sync_op=self._sync))

    def all_reduce_max(self, buffer: Tensor) -> None:
        """Take the largest of each element of ``buffer`` over the ranks, in place."""
        if self.size > 1:
            with self._call(), self._seen("all_reduce_max", buffer, buffer):
                dist.all_reduce(buffer, op=dist.ReduceOp.MAX, group=self._group)

    def reduce_scatter(self, buffer: Tensor) -> Tensor:
        """Sum ``buffer`` [N] over the ranks and return this rank's slice [N / size] of it, a view.

        The other slices are left with garbage.
        """
        own = self.shard(buffer)
        if self.size > 1:
            with self._call(), self._seen("reduce_scatter", buffer, own):
                if self.gpu:
                    self._keep(dist.stream.reduce_scatter(own, buffer, group=self._group, sync_op=self._sync))
                else:
                    for rank in range(self.size):
                        dist.reduce(self.shard(buffer, rank), dst=self.ranks[rank], group=self._group)
        return own

    def all_gather(self, buffer: Tensor, own: Tensor) -> None:
        """Fill ``buffer`` [N, …] with every rank's ``own`` [N / size, …], which may be this rank's slice of it."""
        if self.size > 1:
            with self._call(), self._seen("all_gather", own, buffer):
                self._keep(dist.stream.all_gather(buffer, own, group=self._group, sync_op=self._sync))
        elif own.data_ptr() != buffer.data_ptr():
            paddle.assign(own, output=buffer)

    def send(self, tensor: Tensor) -> None:
        """Send to the other rank of a pair; returns when it has received."""
        with self._call(), self._seen("send", tensor, tensor):
            dist.send(tensor.contiguous(), dst=self.ranks[1 - self.rank], group=self._group)

    def recv(self, tensor: Tensor) -> None:
        """Fill ``tensor`` with what the other rank of a pair sends."""
        with self._call(), self._seen("recv", None, tensor):
            dist.recv(tensor, src=self.ranks[1 - self.rank], group=self._group)

    def machines(self) -> list[int]:
        """Return the machine of each rank, counted from 0; a machine's ranks follow each other."""
        first = self.leads
        begins = [row[0] for row in self.gather_bytes(bytes([first]))]
        return [sum(begins[: rank + 1]) - 1 for rank in range(self.size)]

    @property
    def leads(self) -> bool:
        """Whether this is its machine's first rank."""
        local = os.environ.get("PADDLE_LOCAL_RANK") or os.environ.get("PADDLE_RANK_IN_NODE") or str(self.rank)
        return local == "0" or self.rank == 0

    def broadcast(self, data: bytes, source: int) -> bytes:
        """Return the bytes that rank ``source`` has; the others' are not looked at."""
        length = int.from_bytes(self.gather_bytes(len(data).to_bytes(8, "little"))[source], "little")
        padded = -(-length // 4) * 4
        own = data.ljust(padded, b"\0") if self.rank == source else bytes(padded)
        buffer = paddle.to_tensor(np.frombuffer(own, dtype=np.int32))
        if self.size > 1 and padded:
            with self._call():
                dist.broadcast(buffer, src=self.ranks[source], group=self._group)
        return buffer.numpy().tobytes()[:length]

    def gather_bytes(self, row: bytes) -> list[bytes]:
        """Return every rank's ``row``, all equally long."""
        table = np.zeros((self.size, len(row)))
        table[self.rank] = np.frombuffer(row, dtype=np.uint8)
        total = paddle.to_tensor(table.ravel())
        self.all_reduce(total)
        return [line.tobytes() for line in total.numpy().reshape(table.shape).astype(np.uint8)]

    def gather_text(self, text: str) -> list[str]:
        """Return every rank's ``text``."""
        data = text.encode()
        lengths = [int.from_bytes(row, "little") for row in self.gather_bytes(len(data).to_bytes(8, "little"))]
        rows = self.gather_bytes(data.ljust(max(lengths), b"\0"))
        return [row[:length].decode() for row, length in zip(rows, lengths)]

    def shard(self, buffer: Tensor, rank: int | None = None) -> Tensor:
        """Return a rank's slice of ``buffer``, this rank's by default, sharing its memory."""
        rank = self.rank if rank is None else rank
        length = buffer.shape[0] // self.size
        return view(buffer, rank * length, (rank + 1) * length)

    def _keep(self, task: Any) -> None:
        """Keep the task of what was started; that of what has ended would hold its tensors."""
        self._task = None if self._sync else task

    @contextmanager
    def _seen(self, kind: str, given: Tensor | None, left: Tensor) -> Iterator[None]:
        """Show the observer, if there is one, a collective of numbers of the model: not one that is only begun here."""
        observer = Comm.observer
        if observer is None or (self.gpu and not self._sync) or left.dtype not in MODEL_TYPES:
            yield
            return
        mark = observer(self, kind, given, None) if given is not None else 0
        yield
        observer(self, kind, left, mark)

    @contextmanager
    def _call(self) -> Iterator[None]:
        if self._lane.inside:  # started earlier: the rank itself is elsewhere
            yield
            return
        self.progress.waiting = True
        self._lane.drain()
        yield  # an error leaves the mark: it came out of a collective
        self.progress.waiting = False
        self.progress.move()
