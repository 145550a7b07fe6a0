"""A folder as one tar archive, whose length is known before its first byte."""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.transfer.remote.manifest import FILE, FOLDER, HARD_LINK, LINK, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = tarfile.BLOCKSIZE
END = bytes(tarfile.RECORDSIZE)


@dataclass(frozen=True)
class Member:
    """An entry of the archive: its header, and the bytes of the file that follow it and are padded to a block."""

    entry: int
    header: bytes
    size: int

    @property
    def padding(self) -> int:
        """The zeros after the file."""
        return -self.size % BLOCK


def members(entries: Sequence[Entry], folder: bytes) -> list[Member]:
    """Return the archive's members, all below one folder so that unpacking it spills nothing."""
    return [
        Member(index, _header(entry, entries, folder), entry.size if entry.kind == FILE else 0)
        for index, entry in enumerate(entries)
    ]


def length(of: Sequence[Member]) -> int:
    """Return the archive's length in bytes."""
    return sum(len(each.header) + each.size + each.padding for each in of) + len(END)


def _header(entry: Entry, entries: Sequence[Entry], folder: bytes) -> bytes:
    info = tarfile.TarInfo(os.fsdecode(folder + b"/" + entry.path))
    info.mode = entry.mode
    info.mtime = max(entry.mtime_ns // 10**9, 0)
    if entry.kind == FILE:
        info.size = entry.size
    elif entry.kind == FOLDER:
        info.type = tarfile.DIRTYPE
    elif entry.kind == LINK:
        info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(entry.target)
    elif entry.kind == HARD_LINK:
        info.type, info.linkname = tarfile.LNKTYPE, os.fsdecode(folder + b"/" + entries[int(entry.target)].path)
        info.mtime = 0
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
