"""What both directions share: names of versions, what came of each file, and reasons."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.transfer.remote.destination import REASONS
from devkit.transfer.remote.messages import NAMED, Plan, Result
from devkit.transfer.remote.names import PART, part_name
from devkit.transfer.sftp.client import Refused, Sftp
from devkit.transfer.shown import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from devkit.transfer.remote.manifest import ManifestEntry
    from devkit.transfer.ssh import RemotePath

SAID = "no Python 3.6 there: sftp copies whole files, without block updates, links or a check of its own"
SECOND = 10**9


def version_name(name: bytes, entry: ManifestEntry) -> bytes:
    """Return the temporary name of a file of this size and time: half of it is the name's, half the version's."""
    version = hashlib.sha256(b"%d %d %s" % (entry.size, entry.mtime_ns, name)).hexdigest()[:8].encode()
    return part_name(name)[:-8] + version


def is_version(entry: ManifestEntry, size: int | None, seconds: int | None) -> bool:
    """Tell whether a file of this size and time is of an entry's version."""
    return (size, seconds) == (entry.size, entry.mtime_ns // SECOND)


def grown(entry: ManifestEntry, size: int | None) -> bool:
    """Tell whether a file that changed has only become longer: what it held is still its beginning, as of a log."""
    return size is not None and size > entry.size


def home(path: str) -> bytes:
    """Return a path there as the remote side takes it: what is relative begins at the user's home."""
    return os.fsencode(path[2:] if path.startswith("~/") else "" if path == "~" else path)


def reason(error: Refused | OSError) -> str:
    """Return why something is not copied."""
    if isinstance(error, Refused):
        return str(error)
    return REASONS.get(error.errno or 0, error.strerror or "it cannot be copied")


@contextlib.contextmanager
def connected(ssh: Sequence[str], place: RemotePath) -> Iterator[Sftp]:
    """Speak with a host; what is refused and not handled ends it."""
    try:
        with Sftp(ssh, place) as sftp:
            yield sftp
    except Refused as error:
        raise DevkitError(f"sftp with {place.host} failed", f"It said: {error}.") from error


class Copy:
    """What came of each file."""

    def __init__(self, anew: bool, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self._anew = anew
        self._planned: list[ManifestEntry] = []
        self._parts: dict[bytes, list[bytes]] = {}
        self.began = time.monotonic()
        self.failed: list[tuple[bytes, str]] = []
        self.left_out: list[tuple[bytes, str]] = []
        self.remarks: list[str] = []
        self.files = self.bytes = self.same_bytes = self.have_files = self.have_bytes = 0

    def fail(self, path: bytes, reason: str) -> None:
        """Note why a file or folder is not copied."""
        self.failed.append((path, reason))

    def note_grown(self, path: bytes) -> None:
        """Note a file that became longer while it was read."""
        self.remarks.append(f"{shown(path)} changed while it was read: as much as it held at first is here")

    def looks_same(self, entry: ManifestEntry, size: int | None, seconds: int | None) -> bool:
        """Tell whether a file of this size and time need not be copied."""
        return not self._anew and is_version(entry, size, seconds)

    def left(self, entry: ManifestEntry, listing: Callable[[], Iterable[bytes]]) -> list[bytes]:
        """Return the temporary names, in a file's folder, of any version of it; each folder is listed once."""
        folder, _, name = entry.path.rpartition(b"/")
        if folder not in self._parts:
            self._parts[folder] = [line for line in listing() if PART.match(line)]
        return [part for part in self._parts[folder] if part[:-8] == part_name(name)[:-8]]

    def would_copy(self, entry: ManifestEntry) -> None:
        """Note a file that a run would copy."""
        self._planned.append(entry)

    def copied(self, entry: ManifestEntry, begun: int) -> None:
        """Note a file that was copied, of which so many bytes were there."""
        self._planned.append(entry)
        self.files += 1
        self.bytes += entry.size - begun
        self.same_bytes += begun

    def have(self, entry: ManifestEntry) -> None:
        """Note a file that was there before."""
        self.have_files += 1
        self.have_bytes += entry.size

    def outcome(self) -> tuple[Plan, Result]:
        """Return the plan and the result."""
        plan = Plan(
            files=len(self._planned),
            bytes=sum(entry.size for entry in self._planned),
            names=[entry.path for entry in self._planned[:NAMED]],
            begun_bytes=0,
            have_files=self.have_files,
            have_bytes=self.have_bytes,
            left_out=self.left_out[:NAMED],
            left_out_count=len(self.left_out),
        )
        result = Result(
            files=self.files,
            bytes=self.bytes,
            same_bytes=self.same_bytes,
            again_bytes=0,
            failed=self.failed[:NAMED],
            failed_count=len(self.failed),
            remarks=[os.fsencode(line) for line in self.remarks],
            seconds=time.monotonic() - self.began,
        )
        return plan, result
