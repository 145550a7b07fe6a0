"""Which ranges of a file are still to be fetched, and by how many connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devkit.transfer.http_download.journal import Span


class NotARange(Exception):
    """The server does not answer a range: another of its machines has another version, or it wants no more."""

    def __init__(self, status: int, wait_s: float = 0.0) -> None:
        super().__init__(f"the server answered {status} to a range")
        self.status = status  # what it answered instead
        self.wait_s = wait_s  # how long a busy server asks to wait; 0 where asking again is no use


class RangeQueue:
    """The ranges that are to be fetched, and the connections that are at it.

    Who finds none left waits as long as others hold one: they may have to give it back. The answer that is open may
    be the only one that the server gives: until another range was answered, what it goes on with is its own.
    """

    def __init__(self, spans: Iterable[Span], workers: int, at: int = -1) -> None:
        self._changed = asyncio.Event()
        self._spans = list(spans)
        self._workers = workers  # how many connections there are
        self._held = 0
        self._reserved = at  # where the open answer begins; -1 where none is open
        self._answered = False

    async def take(self, at: int = -1) -> Span | None:
        """Return a range, for the open answer the one at its offset; None where all are fetched, or given up."""
        while (span := self._next(at)) is None:
            if not self._held and not self._spans:
                return None
            self._changed.clear()
            await self._changed.wait()
        self._held += 1
        self._spans.remove(span)
        if at >= 0:
            self._reserved = -1
            self._changed.set()
        return span

    def _next(self, at: int) -> Span | None:
        if at >= 0:
            own = next((span for span in self._spans if span[0] == at), None)
            if own is not None or (self._held and not self._answered):
                return own
        return next((span for span in self._spans if span[0] != self._reserved or at >= 0), None)

    def answered(self) -> None:
        """Take note that the server answered a range beside the open answer."""
        self._answered = True
        self._changed.set()

    def done(self) -> None:
        """Take note that a range that was taken is fetched, or given up."""
        self._held -= 1
        self._changed.set()

    def leave(self, spans: Iterable[Span]) -> bool:
        """Give ranges back for others to fetch; False where nobody else is at it."""
        if self._workers == 1:
            return False
        self._workers -= 1
        self._spans.extend(spans)
        self._changed.set()
        return True
