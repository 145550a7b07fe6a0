"""From a remote side that speaks sftp alone: a sender that reads what it offers by sftp, for the receiver here."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from fnmatch import fnmatchcase
from glob import has_magic
from itertools import islice
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.text import shown
from devkit.transfer.remote import wire
from devkit.transfer.remote.manifest import (
    FILE,
    FOLDER,
    MAX_ENTRIES,
    MAX_SIZE,
    NO_FILE,
    ManifestEntry,
    Offer,
    is_meant,
)
from devkit.transfer.remote.names import PART, Ignore, split
from devkit.transfer.remote.reading import SHORTER, Changed
from devkit.transfer.remote.sender import Sender
from devkit.transfer.sftp.client import (
    CHUNK,
    SECOND,
    WINDOW,
    Refused,
    RemoteFile,
    Sftp,
    connected,
    grown,
    home,
    is_version,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devkit.transfer.remote.messages import Choice
    from devkit.transfer.ssh import RemotePath

AHEAD = 32  # ranges on their way at once, and bytes of each
AHEAD_BYTES = 2 * CHUNK
DIGEST, CHECKSUM = "sha256", "crc32"


@contextlib.contextmanager
def offered(
    ssh: Sequence[str], place: RemotePath, paths: Sequence[str], choice: Choice, rate: float = 0
) -> Iterator[wire.Channel]:
    """Offer what paths there name, over the channel to a receiver of ``DIGEST`` and ``CHECKSUM``.

    Raises:
        DevkitError: the connection failed, or a path is not there.
    """
    with connected(ssh, place) as sftp, contextlib.ExitStack() as stack:
        walk = _Walk(sftp, place.host, choice)
        for path in paths:
            walk.add(home(path) or b".")
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
        sender = _Sender(wire.Channel(theirs.fileno(), theirs.fileno(), None), sftp, walk, rate)
        broken: list[BaseException] = []

        def serve() -> None:
            try:
                sender.serve()
            except wire.Closed:  # the receiver says why
                pass
            except BaseException as error:  # noqa: BLE001 - raised below
                broken.append(error)
            finally:
                theirs.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield wire.Channel(ours.fileno(), ours.fileno(), None)
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            thread.join()
            if broken:  # which is why the receiver went without
                raise broken[0]


class _Walk:
    """Finds what is offered: entries, and the path there of each."""

    def __init__(self, sftp: Sftp, host: str, choice: Choice) -> None:
        self.entries: list[ManifestEntry] = []
        self.paths: list[bytes] = []
        self._sftp = sftp
        self._host = host
        self._exclude = Ignore(choice.exclude)
        self._offered: dict[bytes, bytes] = {}  # paths there by the entries' paths
        self._left_out: list[tuple[bytes, str]] = []
        self._named: list[RemoteFile] = []
        self._whole = False

    @property
    def offer(self) -> Offer:
        """What was found."""
        one_file = len(self._named) == len(self.entries) == 1 and self._named[0].is_file
        left_out = sorted(self._left_out, key=is_meant)
        return Offer(self.entries, [], left_out, one_file, self._whole, compares=False)

    def add(self, path: bytes) -> None:
        """Add what a path names there: a file, a folder, or what is in one; wildcards may name several."""
        for line in self._matching(path):
            there = self._sftp.stat(line)
            if there is None:
                raise DevkitError(f"{self._host}: {shown(line)} cannot be read", "It is not there.")
            if not there.is_folder and not there.is_file:
                raise DevkitError(f"{self._host}: {shown(line)} cannot be read", f"It is {NO_FILE}.")
            name = os.path.basename(line)  # noqa: PTH119 - names are bytes
            name = b"" if there.is_folder and name in (b".", b"..") else name
            if name and self._exclude.leaves_out(name, there.is_folder):
                continue
            self._named.append(there)
            self._whole = self._whole or not name
            if (not name or self._keep(name, line, there)) and there.is_folder:
                self._walk(name, line)

    def _matching(self, path: bytes) -> list[bytes]:
        if not has_magic(path) or self._sftp.lstat(path) is not None:
            return [path]
        found = [b"/" if path.startswith(b"/") else b""]
        for pattern in filter(None, path.split(b"/")):
            if not has_magic(pattern):
                found = [above + pattern + b"/" for above in found]
                continue
            matched = []
            for above in found:
                with contextlib.suppress(Refused):
                    matched += [
                        above + name + b"/"
                        for name in self._sftp.listing(above or b".")
                        if fnmatchcase(name, pattern) and (not name.startswith(b".") or pattern.startswith(b"."))
                    ]
            found = matched
        end = None if path.endswith(b"/") else -1
        found = [line[:end] for line in found if self._sftp.stat(line[:end]) is not None]
        if not found:
            raise DevkitError(f"{self._host}: nothing matches {shown(path)}", "No name there fits the pattern.")
        return found

    def _keep(self, below: bytes, path: bytes, there: RemoteFile) -> bool:
        """Take an entry into what is offered, and tell whether it is there now."""
        if there.is_file and (there.size is None or there.mtime is None or not 0 <= there.size <= MAX_SIZE):
            self._left_out.append((below, "its size and time are not told"))
        elif there.is_file or there.is_folder:
            try:
                split(below)
            except wire.ProtocolError:
                if not PART.match(below.rpartition(b"/")[2]):
                    self._left_out.append((below, "its path is too long, or leads out"))
                return False
            if self._offered.setdefault(below, path) != path:
                raise DevkitError(f"{shown(below)} is offered twice", "Two sources have the same name.")
            if len(self._offered) > MAX_ENTRIES:
                raise wire.ProtocolError("a folder without end")
            if len(self._offered) > len(self.entries):
                kind = FILE if there.is_file else FOLDER
                numbers = (there.size or 0, 0, (there.mtime or 0) * SECOND, (there.mode or 0) & 0o777)
                self.entries.append(ManifestEntry(kind, below, *numbers))
                self.paths.append(path)
            return True
        elif there.is_link:
            self._left_out.append((below, "a symbolic link: sftp copies none"))
        else:
            self._left_out.append((below, NO_FILE))
        return False

    def _walk(self, top: bytes, path: bytes) -> None:
        waiting = [(b"", path)]
        while waiting:
            inside, path = waiting.pop()
            try:
                listed = self._sftp.listing(path)
            except Refused as error:
                self._left_out.append((b"/".join(filter(None, (top, inside))) or path, str(error)))
                continue
            for name, there in listed.items():
                child = (inside + b"/" + name if inside else name), path.rstrip(b"/") + b"/" + name
                below = top + b"/" + child[0] if top else child[0]
                if self._exclude.leaves_out(child[0], there.is_folder):
                    continue
                if self._keep(below, child[1], there) and there.is_folder:
                    waiting.append(child)


class _Sender(Sender):
    """Answers requests by what it reads there; what a receiver has of a file's version, it need not compare."""

    def __init__(self, channel: wire.Channel, sftp: Sftp, walk: _Walk, rate: float) -> None:
        super().__init__(channel, walk.offer, DIGEST, CHECKSUM, rate, compress=False)
        self._sftp = sftp
        self._paths = walk.paths

    def _check(self, body: memoryview) -> None:
        index, offset, length, _ = wire.parse(wire.COMPARE, body)
        self._entry(index, offset, length)
        self.channel.send(wire.SAME, wire.RANGE.pack(index, offset, length), flush=False)

    def _want(self, body: bytes) -> None:
        later = (self._fetching(*wanted) for wanted in wire.RANGE.iter_unpack(body))
        going: deque[Iterator[None]] = deque()
        while True:
            going.extend(islice(later, AHEAD - len(going)))
            if not going:
                return
            fetching = going.popleft()
            with contextlib.suppress(StopIteration):
                next(fetching)
                going.append(fetching)

    def _fetching(self, index: int, offset: int, length: int) -> Iterator[None]:
        """Fetch a range; between the steps, while answers are on their way, others are fetched."""
        entry = self._entry(index, offset, length)
        end = offset + length
        opening = self._sftp.ask_to_open(self._paths[index])
        yield
        try:
            handle = self._sftp.handle(opening)
        except Refused as error:
            self._lose_once(index, str(error))
            return
        first = self._sftp.ask_status(handle)
        reads = deque(self._ask_to_read(handle, at, end) for at in range(offset, min(end, offset + AHEAD_BYTES), CHUNK))
        yield
        try:
            if self._is_gone(index):
                return
            self._must_be(entry, self._sftp.status(first))
            piece, at = self._pass_on(index, handle, offset, end, reads)
            last = self._sftp.ask_status(handle)
        except (Refused, Changed) as error:
            self._lose_once(index, str(error) or SHORTER)
            return
        finally:
            self._sftp.forget([first, *(number for number, _, _ in reads)])
            self._sftp.close(handle)
        yield
        try:
            if self._must_be(entry, self._sftp.status(last)) and end == entry.size:
                self.channel.send(wire.CHANGED, wire.RANGE.pack(index, 0, 0), flush=False)
        except (Refused, Changed) as error:
            self._lose_once(index, str(error) or SHORTER)
        if piece and not self._is_gone(index):
            self._send(index, at, piece)

    def _lose_once(self, index: int, reason: str) -> None:
        if not self._is_gone(index):
            self._lose(index, reason)

    @staticmethod
    def _must_be(entry: ManifestEntry, now: RemoteFile) -> bool:
        """Tell whether a file has only grown since it was offered: as much as it held is sent.

        Raises:
            Changed: it is another version.
        """
        if not grown(entry, now.size) and not is_version(entry, now.size, now.mtime):
            raise Changed
        return grown(entry, now.size)

    def _pass_on(
        self, index: int, handle: bytes, offset: int, end: int, reads: deque[tuple[int, int, int]]
    ) -> tuple[bytearray, int]:
        """Send what comes of a range; return the file's last piece, with which the receiver may be done, and its place.

        Raises:
            Changed: the file became shorter.
        """
        asked = sum(length for _, _, length in reads) + offset
        piece = bytearray()
        while asked < end or reads:
            while asked < end and len(reads) < WINDOW:
                reads.append(self._ask_to_read(handle, asked, end))
                asked += reads[-1][2]
            number, at, length = reads.popleft()
            data = self._sftp.data(number, length)
            if not data:
                raise Changed
            if len(data) < length:  # a server may give less than it was asked for
                reads.appendleft(self._ask_to_read(handle, at + len(data), at + length))
            if len(piece) + len(data) > wire.STRIDE:
                self._send(index, offset, piece)
                offset += len(piece)
                piece = bytearray()
            piece += data
        if end < self._as_sent(index).size:
            self._send(index, offset, piece)
            piece = bytearray()
        return piece, offset

    def _ask_to_read(self, handle: bytes, at: int, end: int) -> tuple[int, int, int]:
        length = min(CHUNK, end - at)
        return self._sftp.ask_to_read(handle, at, length), at, length
