"""A folder as one archive: a tar, whose length is known before its first byte, or a zip, which Windows opens."""

from __future__ import annotations

import os
import stat
import tarfile
import time
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from devkit.transfer.remote.manifest import FILE, FOLDER, HARD_LINK, LINK, ManifestEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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


def members(entries: Sequence[ManifestEntry], folder: bytes) -> list[Member]:
    """Return the archive's members, all below one folder so that unpacking it spills nothing."""
    return [
        Member(index, _header(entry, entries, folder), entry.size if entry.kind == FILE else 0)
        for index, entry in enumerate(entries)
    ]


def length(of: Sequence[Member]) -> int:
    """Return the archive's length in bytes."""
    return sum(len(member.header) + member.size + member.padding for member in of) + len(END)


def _header(entry: ManifestEntry, entries: Sequence[ManifestEntry], folder: bytes) -> bytes:
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


class _Sink:
    """What a zip is written to, whose bytes go on at once."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass


def write_zip(
    entries: Sequence[ManifestEntry],
    folder: bytes,
    read: Callable[[int], Iterator[bytes]],
    write: Callable[[bytes], None],
) -> None:
    """Write an archive, stored and all below one folder; a further hard link becomes a file of its own."""
    with zipfile.ZipFile(cast("IO[bytes]", _Sink(write)), "w", zipfile.ZIP_STORED) as archive:
        for index, entry in enumerate(entries):
            source = int(entry.target) if entry.kind == HARD_LINK else index
            of = entries[source]
            name = (folder + b"/" + entry.path).decode("utf-8", "backslashreplace") + "/" * (entry.kind == FOLDER)
            when = time.localtime(
                min(max(of.mtime_ns // 10**9, 315619200), 4354732800)
            )  # what zip can say: 1980 to 2107
            info = zipfile.ZipInfo(name, when[:6])
            kind = {FOLDER: stat.S_IFDIR, LINK: stat.S_IFLNK}.get(of.kind, stat.S_IFREG)
            info.external_attr = (kind | of.mode) << 16
            if of.kind != FILE:
                archive.writestr(info, of.target if of.kind == LINK else b"")
                continue
            with archive.open(info, "w", force_zip64=of.size >= zipfile.ZIP64_LIMIT) as member:
                for data in read(source):
                    member.write(data)
