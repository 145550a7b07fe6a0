"""The SFTP protocol, version 3, over the user's own ssh: requests with numbers, many of them on their way at once."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from devkit.errors import DevkitError
from devkit.transfer.remote.wire import SILENCE_S, ProtocolError, Stopped
from devkit.transfer.ssh import SSH_FAILED, Disconnected, SshProcess, connection_failed, ssh_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self

    from devkit.transfer.remote.manifest import ManifestEntry
    from devkit.transfer.ssh import RemotePath

CHUNK = 1 << 15  # bytes that every server takes in one request
WINDOW = 64  # requests on their way
_SHORTEST, _LONGEST = 5, 1 << 18  # bytes of a message, as OpenSSH has it
_INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT, _SETSTAT, _FSETSTAT = range(1, 11)
_OPENDIR, _READDIR, _REMOVE, _MKDIR, _STAT, _RENAME = 11, 12, 13, 14, 17, 18
_STATUS, _HANDLE, _DATA, _NAME, _ATTRS, _EXTENDED = 101, 102, 103, 104, 105, 200
_EOF, _NO_SUCH_FILE = 1, 2
_FOR_READING, _FOR_WRITING, _CREATED, _EMPTIED = 1, 2, 8, 16
_SIZE, _OWNER, _MODE, _TIMES, _MORE = 1, 2, 4, 8, 1 << 31
_FSYNC, _POSIX_RENAME = b"fsync@openssh.com", b"posix-rename@openssh.com"
NO_SUBSYSTEM = "subsystem request failed"  # what ssh says where a server has no sftp
_REASONS = {2: "no such file", 3: "permission denied", 8: "not supported there"}


WITHOUT_PYTHON = "no Python 3.6 there: sftp copies whole files, without block updates, links or a check of its own"
SECOND = 10**9


class Refused(Exception):
    """What was asked for was not done; its text is the reason."""

    def __init__(self, code: int, said: bytes) -> None:
        super().__init__(_REASONS.get(code, said.decode(errors="replace")[:200] or "failure"))
        self.code = code


class RemoteFile(NamedTuple):
    """What the remote side tells of a file; None is what it does not tell. ``mtime`` is in seconds."""

    size: int | None
    mode: int | None
    mtime: int | None

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode or 0)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.mode or 0)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode or 0)


class _Fields:
    """The fields of a message, one after the other."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def number(self, layout: str = ">I") -> int:
        end = self._at + struct.calcsize(layout)
        if end > len(self._body):
            raise ProtocolError("an answer of sftp that is cut short")
        (found,) = struct.unpack_from(layout, self._body, self._at)
        self._at = end
        return int(found)

    def string(self) -> bytes:
        length = self.number()
        found = self._body[self._at : self._at + length]
        if len(found) != length:
            raise ProtocolError("an answer of sftp that is cut short")
        self._at += length
        return found

    def file(self) -> RemoteFile:
        flags = self.number()
        size = self.number(">Q") if flags & _SIZE else None
        if flags & _OWNER:
            self.number(">Q")
        mode = self.number() if flags & _MODE else None
        mtime = self.number(">Q") & 0xFFFFFFFF if flags & _TIMES else None
        for _ in range(2 * self.number() if flags & _MORE else 0):
            self.string()
        return RemoteFile(size, mode, mtime)

    @property
    def left(self) -> bool:
        return self._at < len(self._body)


def _number(value: int) -> bytes:
    return struct.pack(">I", value)


def _string(value: bytes) -> bytes:
    return _number(len(value)) + value


def _mode_and_time(mode: int, mtime: int) -> bytes:
    seconds = min(max(mtime, 0), 0xFFFFFFFF)
    return struct.pack(">4I", _MODE | _TIMES, mode, seconds, seconds)


class Sftp:
    """A connection; a context manager.

    Raises:
        DevkitError: from every method, where the connection ends.
        Refused: from every method that says so, or asks for something to be done.
    """

    def __init__(self, ssh: Sequence[str], place: RemotePath) -> None:
        self._place = place
        self._answered = False
        self._asked: set[int] = set()
        self._came: dict[int, tuple[int, bytes]] = {}
        self._forgotten: set[int] = set()
        self._last = 0
        self._process = SshProcess([*ssh_line(ssh, place, "subsystem"), "-s", "--", place.address, "sftp"])

    def __enter__(self) -> Self:
        try:
            self._send(bytes([_INIT]) + _number(3))
            length, kind = struct.unpack(">IB", self._receive(5, None))
            if kind != _VERSION or not _SHORTEST <= length <= _LONGEST:
                raise ProtocolError("no sftp answers there")  # noqa: TRY301 - closed below
            fields = _Fields(self._receive(length - 1))
            fields.number()
            self._answered = True
            self._extensions = {}
            while fields.left:
                name = fields.string()
                self._extensions[name] = fields.string()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def _ended(self) -> DevkitError:
        self._process.wait(3)
        host, why = self._place.host, self._process.said()
        if self._answered:
            return Disconnected(f"sftp with {host} failed", why, "the same line again   goes on from where it was")
        if self._process.process.returncode == SSH_FAILED and NO_SUBSYSTEM not in why:
            return connection_failed(self._place, why or "It ended the connection.")
        return DevkitError(f"{host} has neither Python 3.6 nor sftp", why or "It ended the connection.")

    def _send(self, message: bytes) -> None:
        try:
            self._process.write(_string(message))
        except BrokenPipeError as error:
            raise self._ended() from error

    def _receive(self, count: int, silence_s: float | None = SILENCE_S) -> bytes:
        data = bytearray(count)
        at = 0
        while at < count:
            if not select.select([self._process.stdout], [], [], silence_s)[0]:
                raise Disconnected(f"sftp with {self._place.host} failed", f"It said nothing for {SILENCE_S:.0f} s.")
            got = os.readv(self._process.stdout.fileno(), [memoryview(data)[at:]])
            if not got:
                raise self._ended()
            at += got
        return bytes(data)

    # Requests and their answers.

    def _ask(self, kind: int, *fields: bytes) -> int:
        self._last = (self._last + 1) & 0xFFFFFFFF
        self._asked.add(self._last)
        self._send(b"".join((bytes([kind]), _number(self._last), *fields)))
        return self._last

    def _answer(self, number: int, wanted: int = _STATUS) -> _Fields:
        while number not in self._came:
            length, kind, came = struct.unpack(">IBI", self._receive(9))
            if not _SHORTEST <= length <= _LONGEST or came not in self._asked:
                raise ProtocolError("an answer of sftp to no question")
            self._asked.remove(came)
            answer = kind, self._receive(length - _SHORTEST)
            if came in self._forgotten:
                self._forgotten.remove(came)
            else:
                self._came[came] = answer
        kind, body = self._came.pop(number)
        fields = _Fields(body)
        if kind == _STATUS:
            code = fields.number()
            if code or wanted != _STATUS:
                raise Refused(code, fields.string() if fields.left else b"")
        elif kind != wanted:
            raise ProtocolError("an answer of sftp of the wrong kind")
        return fields

    def wait(self, number: int) -> None:
        """Wait until a request is done."""
        self._answer(number)

    def forget(self, numbers: Iterable[int]) -> None:
        """Let the answers to requests go that nobody waits for any more."""
        for number in numbers:
            if number in self._asked:
                self._forgotten.add(number)
            else:
                self._came.pop(number, None)

    def _do(self, kind: int, *fields: bytes) -> None:
        self._answer(self._ask(kind, *fields))

    # Files by name.

    def _file(self, kind: int, path: bytes) -> RemoteFile | None:
        try:
            return self._answer(self._ask(kind, _string(path)), _ATTRS).file()
        except Refused as error:
            if error.code == _NO_SUCH_FILE:
                return None
            raise

    def stat(self, path: bytes) -> RemoteFile | None:
        """Return what a path names, beyond symbolic links; None is nothing."""
        return self._file(_STAT, path)

    def lstat(self, path: bytes) -> RemoteFile | None:
        """Return what a path names, a symbolic link itself; None is nothing."""
        return self._file(_LSTAT, path)

    def listing(self, path: bytes) -> dict[bytes, RemoteFile]:
        """Return what is in a folder, by name."""
        found = {}
        handle = self.handle(self._ask(_OPENDIR, _string(path)))
        try:
            while True:
                fields = self._answer(self._ask(_READDIR, _string(handle)), _NAME)
                for _ in range(fields.number()):
                    name = fields.string()
                    fields.string()
                    found[name] = fields.file()
        except Refused as error:
            if error.code != _EOF:
                raise
        finally:
            self.close(handle)
        for name in (b".", b".."):
            found.pop(name, None)
        if any(not name or b"/" in name or b"\0" in name for name in found):
            raise ProtocolError("a name that leads out")
        for name, there in found.items():
            if there.mode is None:
                found[name] = self.lstat(path.rstrip(b"/") + b"/" + name) or there
        return dict(sorted(found.items()))

    def mkdir(self, path: bytes) -> None:
        """Make a folder."""
        self._do(_MKDIR, _string(path), _number(0))

    def remove(self, path: bytes) -> None:
        """Remove a file."""
        self._do(_REMOVE, _string(path))

    def set_status(self, path: bytes, mode: int, mtime: int) -> None:
        """Give a file its mode and time."""
        self._do(_SETSTAT, _string(path), _mode_and_time(mode, mtime))

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename a file, in the place of what has that name."""
        if _POSIX_RENAME in self._extensions:
            self._do(_EXTENDED, _string(_POSIX_RENAME), _string(old), _string(new))
            return
        try:
            self._do(_RENAME, _string(old), _string(new))
        except Refused:  # by itself it replaces nothing
            self.remove(new)
            self._do(_RENAME, _string(old), _string(new))

    # Open files.

    def ask_to_open(self, path: bytes) -> int:
        """Ask for a file to be opened to read, and return the number of the request."""
        return self._ask(_OPEN, _string(path), _number(_FOR_READING), _number(0))

    def handle(self, number: int) -> bytes:
        """Return the handle of a file that was asked to be opened."""
        return self._answer(number, _HANDLE).string()

    def open_to_write(self, path: bytes, *, anew: bool) -> bytes:
        """Return the handle of a file to write, made where it is missing."""
        flags = _FOR_WRITING | _CREATED | (_EMPTIED if anew else 0)
        return self.handle(self._ask(_OPEN, _string(path), _number(flags), _number(_MODE), _number(0o600)))

    def ask_status(self, handle: bytes) -> int:
        """Ask for what is told of an open file, and return the number of the request."""
        return self._ask(_FSTAT, _string(handle))

    def status(self, number: int) -> RemoteFile:
        """Return what is told of an open file that was asked about."""
        return self._answer(number, _ATTRS).file()

    def ask_to_read(self, handle: bytes, offset: int, length: int) -> int:
        """Ask for bytes, and return the number of the request."""
        return self._ask(_READ, _string(handle), struct.pack(">QI", offset, length))

    def data(self, number: int, length: int) -> bytes:
        """Return bytes that were asked for, maybe fewer; none at the end of the file."""
        try:
            found = self._answer(number, _DATA).string()
        except Refused as error:
            if error.code == _EOF:
                return b""
            raise
        if not 0 < len(found) <= length:
            raise ProtocolError("more bytes than were asked for, or none")
        return found

    def ask_to_write(self, handle: bytes, offset: int, data: bytes) -> int:
        """Ask for bytes to be written, and return the number of the request."""
        return self._ask(_WRITE, _string(handle), struct.pack(">Q", offset), _string(data))

    def finish(self, handle: bytes, mode: int, mtime: int) -> None:
        """Give a file that was written its mode and time, sync it where the server can, and close it."""
        asked = [self._ask(_FSETSTAT, _string(handle), _mode_and_time(mode, mtime))]
        if _FSYNC in self._extensions:
            asked.append(self._ask(_EXTENDED, _string(_FSYNC), _string(handle)))
        asked.append(self._ask(_CLOSE, _string(handle)))
        for number in asked:
            self._answer(number)

    def close(self, handle: bytes) -> None:
        """Close a handle, without waiting for it."""
        self.forget([self._ask(_CLOSE, _string(handle))])


def is_version(entry: ManifestEntry, size: int | None, seconds: int | None) -> bool:
    """Tell whether a file of this size and time is of an entry's version."""
    return (size, seconds) == (entry.size, entry.mtime_ns // SECOND)


def grown(entry: ManifestEntry, size: int | None) -> bool:
    """Tell whether a file that changed has only become longer: what it held is still its beginning, as of a log."""
    return size is not None and size > entry.size


def home(path: str) -> bytes:
    """Return a path there as the remote side takes it: what is relative begins at the user's home."""
    return os.fsencode(path[2:] if path.startswith("~/") else "" if path == "~" else path)


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
