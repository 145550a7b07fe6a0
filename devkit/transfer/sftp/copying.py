"""What both directions share: names of versions, the plan, what came of it, and reasons."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.text import shown
from devkit.transfer.remote.failures import REASONS, Failures
from devkit.transfer.remote.messages import NAMED, About, Options, Plan, Result
from devkit.transfer.remote.names import PART, part_name
from devkit.transfer.remote.plan import Here, Steps, plan
from devkit.transfer.remote.wire import Stopped
from devkit.transfer.sftp.client import Refused, Sftp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from devkit.transfer.copy import Planned
    from devkit.transfer.remote.manifest import ManifestEntry
    from devkit.transfer.ssh import RemotePath

WITHOUT_PYTHON = "no Python 3.6 there: sftp copies whole files, without block updates, links or a check of its own"
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
    except Stopped as error:
        raise DevkitError(error.what, error.why, "the same line again   goes on") from error


class Copy:
    """A copy in one direction, planned as a receiver plans one but by whole seconds, and what came of each entry.

    ``progress`` is told the plan, and the bytes of files as they are copied or found there.
    """

    def __init__(self, options: Options, progress: Planned) -> None:
        self.options = options
        self.progress = progress
        self.entries: list[ManifestEntry] = []
        self.left_out: list[tuple[bytes, str]] = []
        self.failures = Failures(self.entries)
        self.unread: list[tuple[bytes, str]] = []
        self.remarks: list[str] = []
        self.files = self._bytes = self._same_bytes = 0
        self._parts: dict[bytes, list[bytes]] = {}
        self._plan = Plan(0, 0, 0, 0, 0, 0)
        self._began = time.monotonic()

    def planned(self, here: Mapping[int, Here]) -> Steps:
        """Return what is to be done, by what is at the entries' places."""
        seconds = {
            index: found._replace(mtime_ns=found.mtime_ns // SECOND * SECOND, part=0) for index, found in here.items()
        }
        entries = [entry._replace(mtime_ns=entry.mtime_ns // SECOND * SECOND) for entry in self.entries]
        about = About(left_out=self.left_out[:NAMED], left_out_count=len(self.left_out))
        steps = plan(entries, seconds, self.options, about)
        self._plan = steps.plan
        self.failures.update(steps.refusals)
        self.progress(steps.plan)
        return steps

    def left(self, entry: ManifestEntry, listing: Callable[[], Iterable[bytes]]) -> list[bytes]:
        """Return the temporary names, in a file's folder, of any version of it; each folder is listed once."""
        folder, _, name = entry.path.rpartition(b"/")
        if folder not in self._parts:
            self._parts[folder] = [line for line in listing() if PART.match(line)]
        return [part for part in self._parts[folder] if part[:-8] == part_name(name)[:-8]]

    def note_grown(self, path: bytes) -> None:
        """Note a file that became longer while it was read."""
        self.remarks.append(f"{shown(path)} changed while it was read: as much as it held at first is here")

    def copied(self, entry: ManifestEntry, begun: int) -> None:
        """Note a file that was copied, of which so many bytes were there."""
        self.files += 1
        self._bytes += entry.size - begun
        self._same_bytes += begun

    def result(self) -> Result:
        """Return what came of it."""
        return Result(
            files=self.files,
            bytes=self._bytes,
            same_bytes=self._same_bytes,
            again_bytes=0,
            failed=[*self.unread, *self.failures.named()][:NAMED],
            failed_count=len(self.unread) + len(self.failures),
            have_files=self._plan.have_files,
            have_bytes=self._plan.have_bytes,
            remarks=[os.fsencode(line) for line in self.remarks],
            seconds=time.monotonic() - self._began,
        )
