"""Big files are written past the page cache, from a thread: they must be on the disk at the end, and so cost least."""

import contextlib
import mmap
import os
import queue
import threading
from typing import Dict, Optional

from .wire import Bytes

PIECE_BYTES = 1 << 22  # written at once: a disk with some milliseconds of latency is still kept busy
PIECES = 3
ALIGNED = 4096
DIRECT_FROM = 1 << 27  # smaller files are likely to be read next: they stay in the page cache
DIRECT = getattr(os, "O_DIRECT", 0)


class Piece:
    """Bytes that follow each other in a file, in memory that a disk can read by itself."""

    def __init__(self) -> None:
        self.memory = memoryview(mmap.mmap(-1, PIECE_BYTES))
        self.file = -1
        self.offset = 0
        self.length = 0

    def begin(self, file: int, offset: int) -> None:
        """Hold the bytes of another place."""
        self.file, self.offset, self.length = file, offset, 0

    def goes_on(self, file: int, offset: int) -> bool:
        """Tell whether bytes for a place continue these."""
        return self.file == file and self.offset + self.length == offset

    def take(self, data: memoryview) -> int:
        """Take bytes, and return how many there was room for."""
        count = min(len(data), PIECE_BYTES - self.length)
        self.memory[self.length : self.length + count] = data[:count]
        self.length += count
        return count

    @property
    def full(self) -> bool:
        """Whether there is no room."""
        return self.length == PIECE_BYTES


class Writer:
    """Writes files a piece at a time: a whole one directly where the file system can, else through the page cache.

    The page cache would cost a copy, its pages, and another pass when the file is synced.
    """

    def __init__(self) -> None:
        self._piece: Optional[Piece] = None
        self._made = 0
        self._free: queue.Queue[Piece] = queue.Queue()
        self._full: queue.Queue[Optional[Piece]] = queue.Queue()
        self._errors: Dict[int, OSError] = {}
        self._direct: Dict[int, int] = {}
        self._thread: Optional[threading.Thread] = None

    def write(self, file: int, offset: int, data: Bytes) -> None:
        """Take bytes for a file, which they are in when ``settle`` returns."""
        view = memoryview(data)
        while view:
            piece = self._piece_for(file, offset)
            count = piece.take(view)
            offset += count
            view = view[count:]
            if piece.full:
                self._hand_over(piece)
        if file in self._errors:
            raise self._errors[file]

    def settle(self, file: int) -> None:
        """Return when all that was taken is written."""
        self._drain()
        direct = self._direct.pop(file, -1)
        if direct >= 0:
            os.close(direct)
        error = self._errors.pop(file, None)
        if error is not None:
            raise error

    def close(self) -> None:
        """Write what was taken, as far as that can be, and end the thread."""
        self._drain()
        for direct in self._direct.values():
            if direct >= 0:
                os.close(direct)
        self._direct.clear()
        if self._thread is not None:
            self._full.put(None)
            self._thread.join()
            self._thread = None

    def _drain(self) -> None:
        if self._piece is not None:
            self._hand_over(self._piece)
        self._full.join()

    def _piece_for(self, file: int, offset: int) -> Piece:
        piece = self._piece
        if piece is not None and piece.goes_on(file, offset):
            return piece
        if piece is not None:
            self._hand_over(piece)
        if self._made < PIECES:
            self._made += 1
            self._free.put(Piece())
        self._piece = self._free.get()
        self._piece.begin(file, offset)
        return self._piece

    def _hand_over(self, piece: Piece) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._piece = None
        self._full.put(piece)

    def _run(self) -> None:
        while True:
            piece = self._full.get()
            if piece is None:
                return
            try:
                if piece.file not in self._errors:
                    self._put(piece)
            except OSError as error:
                self._errors[piece.file] = error
            finally:
                self._free.put(piece)
                self._full.task_done()

    def _put(self, piece: Piece) -> None:
        if piece.file not in self._direct:
            self._direct[piece.file] = open_directly(piece.file)
        direct = self._direct[piece.file] if piece.full else -1
        write_all(piece.file, piece.memory[: piece.length], piece.offset, direct)


def write_all(file: int, data: memoryview, offset: int, direct: int = -1) -> None:
    """Write bytes into a file: what is aligned by ``direct``, the same file past the page cache, where that can be."""
    done = 0
    if direct >= 0 and offset % ALIGNED == 0:
        with contextlib.suppress(OSError):  # why shows when it is written through the page cache
            done = os.pwrite(direct, data[: len(data) // ALIGNED * ALIGNED], offset)
    while done < len(data):
        done += os.pwrite(file, data[done:], offset + done)


def open_directly(file: int) -> int:
    """Open a file once more for direct writing, which binds nothing else that is done with it; -1 where that cannot be.

    Offsets, lengths and the memory are multiples of ``ALIGNED`` there.
    """
    try:
        return os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_CLOEXEC | DIRECT) if DIRECT else -1
    except OSError:  # the file system cannot, or there is no /proc
        return -1
