"""Collectives that go on while the rank computes.

Paddle's Gloo ends a collective before its call returns, ``sync_op=False`` or not, but gives the interpreter free
meanwhile: so a thread makes the calls, one after another, in the order in which they were started. NCCL has streams.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable, Protocol

if TYPE_CHECKING:
    from ..watch import Progress

Call = Callable[[], Any]


class Work(Protocol):
    """A collective that was started."""

    def wait(self) -> None:
        """Return when its tensors may be used."""


class Done:
    """One that has ended."""

    def wait(self) -> None:
        """Return."""


class Lane:
    """The thread that makes the collectives of one group, in their order."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._started: list[Future[Any]] = []
        self._thread = 0

    @property
    def inside(self) -> bool:
        """Whether this is the thread itself."""
        return self._thread == threading.get_ident()

    def start(self, call: Call) -> Future[Any]:
        """Queue a call."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "collectives", initializer=self._begin)
        future = self._pool.submit(call)
        self._started.append(future)
        return future

    def wait(self, future: Future[Any]) -> None:
        """Wait for a call, and so for those before it.

        Raises:
            Exception: what the call, or one before it, raised.
        """
        while future in self._started:
            self._started.pop(0).result()

    def drain(self) -> None:
        """Wait for all."""
        while self._started:
            self._started.pop(0).result()

    def _begin(self) -> None:
        self._thread = threading.get_ident()


class Queued:
    """A collective that a lane makes."""

    def __init__(self, lane: Lane, future: Future[Any], progress: Progress) -> None:
        self._lane, self._future, self._progress = lane, future, progress

    def wait(self) -> None:
        """Wait for it, marked as a rank that waits for others."""
        self._progress.waiting = True
        self._lane.wait(self._future)  # an error leaves the mark: it came out of a collective
        self._progress.waiting = False
        self._progress.move()


class Launched:
    """A collective on a stream; its tensors are kept until it is waited for."""

    def __init__(self, task: Any, tensors: tuple[Any, ...], progress: Progress) -> None:
        self._task, self._tensors, self._progress = task, tensors, progress

    def wait(self) -> None:
        """Let what is launched from now on come after it."""
        self._task.wait()
        self._tensors = ()
        self._progress.move()
