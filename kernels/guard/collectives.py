"""Collectives before they are called: ranks meet on the board, and those that call another one are told.

What Gloo does where a rank is late, gone, or calls something else is in ``board``.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Iterator

import paddle

from .board import Differs, digest_of
from .names import user_line

if TYPE_CHECKING:
    from .board import Board
    from .progress import Progress
    from .report import Report

COLLECTIVES = (
    *("all_reduce", "all_gather", "all_gather_object", "alltoall", "alltoall_single", "broadcast", "reduce", "scatter"),
    *("broadcast_object_list", "scatter_object_list", "gather", "reduce_scatter", "send", "recv", "barrier", "wait"),
)
MATCHED = frozenset(COLLECTIVES) - {"send", "recv", "wait"}
"""Those that every rank of a group calls."""
ROOTED = {"broadcast": "src", "scatter": "src", "broadcast_object_list": "src", "scatter_object_list": "src"}
GATHERED = {"reduce": "dst", "gather": "dst"}
"""Where one rank gives and the others wait for it, and where one waits for the others."""
BACKWARD_S = 300.0
"""How long a backward pass waits for the others' once: then they will not come, and no later one waits."""
LARGE = 64
"""Elements of a tensor in a collective, from which it may be one of gradients: a loss that is averaged has one."""


class Meeting:
    """Where the ranks of this machine meet before a collective.

    Args:
        report: where it is told that two ranks call different ones.
        progress: what knows the step.
        board: what the ranks share.
        world_size: ranks of the run.
    """

    def __init__(self, report: Report, progress: Progress, board: Board, world_size: int) -> None:
        self.report, self.progress, self.board, self.world_size = report, progress, board, world_size
        self._inside = False
        self._they_come = True
        """False once the others have not come to a backward pass."""
        board.groups |= {digest_of("backward"), digest_of(0, tuple(range(world_size)))}

    def knows(self, group: Any) -> None:
        """Take note of a group that was made: who waits in it waits for this rank too, if it is a member."""
        ranks = tuple(getattr(group, "ranks", ()))
        if self.report.rank in ranks:
            self.board.groups.add(digest_of(int(group.id), ranks))

    @contextmanager
    def around(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Iterator[None]:
        """Tell the board of a collective, and wait there for those whose part it needs, where Gloo would give up.

        One that another one makes is passed by.
        """
        if self._inside:
            yield
            return
        self._inside = True
        try:
            self._meet(name, args, named)
            yield
        finally:
            self._inside = False
            self.board.end(self.report.rank)

    def _meet(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        board, own = self.board, self.report.rank
        call = signature(name, args, named, self.world_size)
        if own not in call.ranks:
            return
        board.groups.add(call.key)
        number = board.begin(own, call.key, call.digest, f"{call.text} at {user_line()}")
        if not number:
            return
        needed = call.ranks if call.root is None else (call.root,)
        if call.root is not None and (own == call.root) != (name in GATHERED):
            needed = ()
        elif name in GATHERED:
            needed = call.ranks
        peers = [rank for rank in board.here(needed) if rank != own]
        try:
            if call.waits and peers:
                board.wait(own, peers, call.key, number, call.digest)
            else:
                board.check([rank for rank in board.here(call.ranks) if rank != own], call.key, number, call.digest)
        except Differs as other:
            self._differs(call.text, other)

    def _differs(self, own: str, other: Differs) -> None:
        what, _, line = other.theirs.rpartition(" at ")
        self.report.stop(
            "collectives-differ",
            f"it calls {own} where rank {other.rank} calls {what}",
            "All ranks of a group must call the same collectives in the same order.\n"
            f"rank {self.report.rank}: at {user_line()}\nrank {other.rank}: at {line}",
            step=self.progress.step,
        )

    def for_backward(self) -> None:
        """Wait for the other ranks' backward passes, which exchange gradients with this one's over Gloo."""
        board = self.board
        if on_gpu() or not self._they_come:
            return
        own, key = self.report.rank, digest_of("backward")
        number = board.begin(own, key, key, f"backward of a paddle.DataParallel at {user_line()}")
        peers = [rank for rank in board.here(range(self.world_size)) if rank != own]
        try:
            self._they_come = board.wait(own, peers, key, number, key, most_s=BACKWARD_S)
        except Differs as other:
            self._differs("backward of a paddle.DataParallel", other)
        finally:
            board.end(own)


@dataclass(frozen=True)
class Signature:
    """A collective as one rank calls it.

    Attributes:
        ranks: those that take part.
        key: of their group.
        digest: of what has to be the same on all of them.
        text: how it is shown.
        root: the rank that gives to the others or takes from them, or None.
        waits: whether the call returns when all is done.
    """

    ranks: tuple[int, ...]
    key: int
    digest: int
    text: str
    root: int | None
    waits: bool


def signature(name: str, args: tuple[Any, ...], named: dict[str, Any], world_size: int) -> Signature:
    """Return what a call of a collective says of itself."""
    group = named.get("group") or next((arg for arg in args if hasattr(arg, "ranks") and hasattr(arg, "id")), None)
    ranks = tuple(group.ranks) if group is not None else tuple(range(world_size))
    number = int(group.id) if group is not None else 0
    own = [arg for arg in (*args, *named.values()) if isinstance(arg, paddle.Tensor)]
    alike: tuple[Any, ...] = (name,)
    text = name
    if name in {"all_reduce", "broadcast", "reduce", "all_gather"} and own:
        tensor = own[-1]
        ops = [named.get("op"), *(arg for arg in args[1:2] if type(arg) is int)]
        alike = (name, str(tensor.dtype), int(tensor.size), ops[-1] or 0)
        text = f"{name} of {str(tensor.dtype).rpartition('.')[2]} {list(tensor.shape)}"
    role = ROOTED.get(name) or GATHERED.get(name)
    root = None
    waits = bool(named.get("sync_op", True)) and not any(arg is False for arg in args[1:]) and not on_gpu()
    if role:
        root = int(named.get(role, next((arg for arg in args[1:] if type(arg) is int), 0)))
        alike, text = (*alike[:3], root), f"{text} {'from' if role == 'src' else 'to'} rank {root}"
        waits = waits and not any(key.endswith("_in_group") for key in named)
    text += f" in group {number}" if number else ""
    return Signature(ranks, digest_of(number, ranks), digest_of(*alike), text, root, waits)


@functools.lru_cache(maxsize=1)
def on_gpu() -> bool:
    """Tell whether collectives are NCCL's: they are queued, and nobody waits in them."""
    return bool(paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count())
