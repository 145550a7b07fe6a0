"""Why entries are not at their places."""

import errno
import os
from typing import Dict, Iterable, List, Sequence, Tuple

from .manifest import ManifestEntry
from .messages import NAMED
from .plan import IN_THE_WAY
from .wire import Stopped

FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENFILE, errno.EMFILE)
REASONS = {
    errno.ELOOP: "a symbolic link is in its way",
    errno.ENOTDIR: "no folder, or a symbolic link, is in its way",
    errno.EISDIR: IN_THE_WAY,
}


def reason_of(path: bytes, error: OSError) -> str:
    """Return why an entry cannot be written.

    Raises:
        Stopped: nothing else could be either.
    """
    if error.errno in FATAL:
        raise Stopped(f"{os.fsdecode(path)} cannot be written", f"{error.strerror}.") from error
    return REASONS.get(error.errno or 0, error.strerror or "cannot be written")


class Failures(Dict[int, str]):
    """The first reason for each entry of a manifest that is not at its place, by its number."""

    def __init__(self, entries: Sequence[ManifestEntry]) -> None:
        super().__init__()
        self._entries = entries

    def refuse(self, index: int, error: OSError) -> None:
        """Note why an entry cannot be written; where nothing else could be either, stop."""
        self.setdefault(index, reason_of(self._entries[index].path, error))

    def refuse_paths(self, errors: Iterable[Tuple[bytes, OSError]]) -> None:
        """Note why entries cannot be written, by their paths."""
        for path, error in errors:
            self.refuse(next(i for i, entry in enumerate(self._entries) if entry.path == path), error)

    def named(self) -> List[Tuple[bytes, str]]:
        """Return the first of them by path."""
        return [(self._entries[index].path, why) for index, why in sorted(self.items())[:NAMED]]
