"""What the sender reads: files opened one name at a time below their source, and proven to be as offered."""

import contextlib
import os
import stat
from typing import Any, Iterator

from .attributes import Held
from .folders import NO_FOLLOW, ON_THE_WAY, Folders
from .manifest import ManifestEntry, Offer

SMALL = 1 << 16
SHORTER = "it changed while it was read"
CHANGED = "changed while it was read: as much as it held at first is here"


class Changed(Exception):
    """A file is not as it was offered."""


class Reader:
    """Opens and reads the files of an offer."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._folders = Folders(-1)

    def open(self, index: int) -> int:
        """Return a descriptor of an entry's file."""
        root, path, _ = self._offer.sources[index]
        if root != self._folders.root:
            self._folders.close()
            self._folders = Folders(root, flags=ON_THE_WAY)
        folder, name = self._folders.of(path)
        # A pipe put in the file's place since would block here for ever.
        return os.open(name, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)

    def whole(self, index: int) -> bytes:
        """Return the bytes of a small file."""
        entry = self._offer.entries[index]
        with Held(self.open(index)) as descriptor:
            data = os.read(descriptor, entry.size)
            if len(data) == entry.size and is_as_offered(descriptor, entry):
                return data
            raise Changed

    @contextlib.contextmanager
    def opened(self, index: int) -> Iterator[int]:
        """Hold an entry's file open, which has at least what was offered."""
        with Held(self.open(index)) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size < self._offer.entries[index].size:
                raise Changed
            yield descriptor

    def still_holds(self, index: int, descriptor: int, entry: ManifestEntry) -> bool:
        """Tell whether an open file is the one that was offered, and has not become shorter: a log that grows is."""
        status = os.fstat(descriptor)
        known = self._offer.sources[index].inode
        same = stat.S_ISREG(status.st_mode) and (known in (0, status.st_ino) or entry is not self._offer.entries[index])
        return same and status.st_size >= entry.size

    def close(self) -> None:
        """Close the folders."""
        self._folders.close()


def is_small(entry: ManifestEntry) -> bool:
    """Tell whether a file is read and sent at once: a short one without holes."""
    return entry.size <= min(SMALL, entry.allocated)


def is_as_offered(descriptor: int, entry: ManifestEntry) -> bool:
    """Tell whether an open file is of the size and time that the manifest says."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (entry.size, entry.mtime_ns)


def read_into(descriptor: int, view: memoryview, offset: int) -> bool:
    """Fill a buffer from an offset of a file; return whether there was as much."""
    in_place: Any = getattr(os, "preadv", None)  # from Python 3.7
    done = 0
    while done < len(view):
        if in_place is not None:
            count = in_place(descriptor, [view[done:]], offset + done)
        else:
            data = os.pread(descriptor, len(view) - done, offset + done)
            count = len(data)
            view[done : done + count] = data
        if not count:
            return False
        done += count
    return True
