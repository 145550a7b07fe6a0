"""Content-defined chunks, by which bytes are found again that moved within a file: as in FastCDC, with another hash.

A chunk ends where a hash of the last eight bytes has a certain value, the first time after ``SHORTEST`` bytes. Where
bytes are inserted, the chunks after them soon end at the same bytes again, since the ends lie further apart than that.
The hash of all places is one multiplication of long integers, so Python alone is fast enough: some 250 MB/s, where a
rolling hash byte by byte does 2 to 5.
"""

import os
from typing import Iterator, Tuple

from .wire import BLOCK

SHORTEST = 1 << 11
LONGEST = 1 << 16
_FACTOR = 0x9E3779B97F4A7C15
_BITS = int.from_bytes(b"\x3f" * (BLOCK + LONGEST + 8), "little")
_END = b"\x2a\x15"  # of twelve bits: an end in 4096 places; not of zeros, which make the longest chunks


def chunks(descriptor: int, start: int, end: int) -> Iterator[Tuple[int, memoryview]]:
    """Yield the chunks of a range of a file, each with its offset; they hold until the next one is asked for.

    A file that became shorter ends them early.
    """
    data = hashes = b""
    at = 0
    while start < end:
        if len(data) - at < LONGEST and start + len(data) - at < end:
            more = os.pread(descriptor, min(BLOCK, end - start - len(data) + at), start + len(data) - at)
            if not more:
                return
            data, at = data[at:] + more, 0
            hashes = _hashes(data)
            continue
        found = hashes.find(_END, at + SHORTEST - len(_END), min(at + LONGEST, len(data)))
        length = found + len(_END) - at if found >= 0 else min(LONGEST, len(data) - at)
        yield start, memoryview(data)[at : at + length]
        at += length
        start += length


def _hashes(data: bytes) -> bytes:
    """Return a byte for each of some bytes: of the product it is what that byte and the seven before it make."""
    return (int.from_bytes(data, "little") * _FACTOR & _BITS).to_bytes(len(data) + 8, "little")
