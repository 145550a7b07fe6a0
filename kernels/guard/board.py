"""A piece of memory that all ranks of a machine see: how many collectives each has begun, and which it is in.

Gloo gives up after 30 s whatever is asked, ends in errors that blame the wrong rank where two call different
collectives, and holds the interpreter while it waits. So a rank waits here, until those that it needs have come to the
same collective, and calls Paddle then; who is missing and who calls another one is known before anything is sent.
"""

from __future__ import annotations

import mmap
import os
import time
import zlib
from typing import Any, Iterable

VARIABLE = "DEVKIT_BOARD_FD"
SLOT = 1024
"""Bytes of a rank: words of 8 bytes (``_KEY`` …), a table of groups, and the text of its last call."""
TEXT = 512
_KEY, _DIGEST, _LEFT, _GROUPS, _TABLE = 0, 1, 2, 3, 8
MOST_GROUPS = (TEXT // 8 - _TABLE) // 2
CROSSED_S = 1.0
"""How long two ranks wait for each other in collectives of two groups before it is said."""
PAUSE_S, LONGEST_PAUSE_S = 2e-5, 2e-3
LATE = 0.1
"""How much longer than the others took a rank may wait, of that: it looks again after so much of its time."""


class Differs(Exception):
    """Another rank calls another collective where this one calls its own."""

    def __init__(self, rank: int, theirs: str) -> None:
        super().__init__(f"rank {rank} calls {theirs}")
        self.rank, self.theirs = rank, theirs


class Gone(RuntimeError):
    """A rank that is waited for has ended."""


class Board:
    """What the ranks of one machine have begun.

    Args:
        descriptor: of the memory.
        ranks: of this machine; each writes its own place.
        first: the first one's number among all machines' ranks.
    """

    def __init__(self, descriptor: int, ranks: int, first: int) -> None:
        self.ranks, self.first = ranks, first
        self._memory = mmap.mmap(descriptor, ranks * SLOT)
        self._words = memoryview(self._memory).cast("Q")
        self.groups: set[int] = set()
        """The keys of the groups that this process takes part in."""

    @classmethod
    def create(cls, ranks: int, first: int) -> tuple[int, Board] | None:
        """Return new memory and its board; None where the kernel gives none."""
        try:
            descriptor = os.memfd_create("devkit-board")
            os.ftruncate(descriptor, ranks * SLOT)
            return descriptor, cls(descriptor, ranks, first)
        except (OSError, AttributeError):
            return None

    @classmethod
    def inherited(cls) -> Board | None:
        """Return the board that this process was given, and take its name away from what the script starts."""
        named = os.environ.pop(VARIABLE, "").split(",")
        try:
            descriptor, ranks, first = map(int, named)
            os.set_inheritable(descriptor, False)
            return cls(descriptor, ranks, first)
        except (OSError, ValueError):
            return None

    def here(self, ranks: Iterable[int]) -> list[int]:
        """Return those of some ranks that are on this machine."""
        return [rank for rank in ranks if self.first <= rank < self.first + self.ranks]

    def _at(self, rank: int) -> int:
        return (rank - self.first) * SLOT // 8

    def begin(self, rank: int, key: int, digest: int, text: str) -> int:
        """Say that a rank begins a collective of the group ``key``; return its number there, 0 if there is no room."""
        at, words = self._at(rank), self._words
        entry = self._entry(at, key)
        if entry is None:
            held = words[at + _GROUPS]
            if held == MOST_GROUPS:
                return 0
            entry = at + _TABLE + 2 * held
            words[entry] = key
            words[at + _GROUPS] = held + 1
        data = text.encode(errors="replace")[: SLOT - TEXT - 1]
        words[at + _KEY] = 0
        begin = 8 * at + TEXT
        self._memory[begin : begin + len(data) + 1] = data + b"\0"
        words[at + _DIGEST] = digest
        words[entry + 1] += 1
        words[at + _KEY] = key
        return words[entry + 1]

    def end(self, rank: int) -> None:
        """Say that it is in no collective."""
        self._words[self._at(rank) + _KEY] = 0

    def leave(self, rank: int) -> None:
        """Say that a rank has ended."""
        self._words[self._at(rank) + _LEFT] = 1

    def count(self, rank: int, key: int) -> int:
        """Return how many collectives of a group a rank has begun."""
        entry = self._entry(self._at(rank), key)
        return 0 if entry is None else self._words[entry + 1]

    def _entry(self, at: int, key: int) -> int | None:
        table = at + _TABLE
        for entry in range(table, table + 2 * self._words[at + _GROUPS], 2):
            if self._words[entry] == key:
                return entry
        return None

    def text(self, rank: int) -> str:
        """Return the text of a rank's last call."""
        begin = 8 * self._at(rank) + TEXT
        data = self._memory[begin : begin + SLOT - TEXT]
        return data.partition(b"\0")[0].decode(errors="replace")

    def check(self, peers: Iterable[int], key: int, number: int, digest: int) -> None:
        """Look whether others that are in the same collective call the same.

        Raises:
            Differs: one does not.
        """
        for peer in peers:
            at = self._at(peer)
            if self._words[at + _KEY] != key or self.count(peer, key) != number:
                continue
            theirs, text = self._words[at + _DIGEST], self.text(peer)
            if theirs != digest and self._words[at + _KEY] == key and self.count(peer, key) == number:
                raise Differs(peer, text)

    def crossed(self, own: int, peer: int) -> bool:
        """Tell whether another rank is in a collective of a group of both in which this one has not come so far."""
        theirs = self._words[self._at(peer) + _KEY]
        return theirs in self.groups and self.count(own, theirs) < self.count(peer, theirs)

    def wait(
        self, own: int, peers: list[int], key: int, number: int, digest: int, *, most_s: float | None = None
    ) -> bool:
        """Wait until others have begun the same collective; return False where they had not within ``most_s``.

        Raises:
            Differs: one calls another, of this group or of another one of both.
            Gone: one has ended, and had not begun it.
        """
        begin = time.monotonic()
        missing, crossed = peers, begin
        while True:
            missing = [peer for peer in missing if self.count(peer, key) < number]
            self.check(peers, key, number, digest)
            if not missing:
                return True
            for peer in missing:
                if self._words[self._at(peer) + _LEFT] and self.count(peer, key) < number:
                    raise Gone(f"Connection closed by peer: rank {peer} has ended")
            now = time.monotonic()
            across = [peer for peer in missing if self.crossed(own, peer)]
            crossed = crossed if across else now
            if across and now - crossed > CROSSED_S:
                raise Differs(across[0], self.text(across[0]))
            if most_s is not None and now - begin > most_s:
                return False
            time.sleep(min(max(LATE * (now - begin), PAUSE_S), LONGEST_PAUSE_S))


def digest_of(*words: Any) -> int:
    """Return a number for what has to be the same on all ranks; never 0."""
    return zlib.crc32(repr(words).encode()) + 1
