"""Files that others put into a share: into one folder, under a name of their own, within a quota."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import new_file_mode
from devkit.text import size as size_text
from devkit.transfer.http_server.requests import BadRequest
from devkit.transfer.remote.attributes import NOT_SUPPORTED, Attributes, fsync
from devkit.transfer.remote.folders import NO_FOLLOW
from devkit.transfer.remote.names import folded
from devkit.transfer.remote.plan import lack_of_room, room_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self

# Names that Windows takes for devices: a file of such a name would harm whoever fetches it there.
_DEVICE = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:\..*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffd]")
MAX_NAME_BYTES = 200

UPLOADS = b"upload"


def upload_name(raw: bytes) -> str:
    """Return the name that an upload may have."""
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the name is not UTF-8") from error
    if not name or len(raw) > MAX_NAME_BYTES or re.search(r'[/\\:*?"<>|]', name) or _CONTROL.search(name):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the name holds what a name may not")
    if name[0] in ".-~" or name[0].isspace() or name[-1] == "." or name[-1].isspace() or _DEVICE.fullmatch(name):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the name is one that may not be used")
    return name


class Inbox:
    """The folder that uploads land in."""

    def __init__(self, folder: Path, *, quota: int, reserve: int) -> None:
        self.quota = quota
        self.reserve = reserve
        self.taken = 0
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise DevkitError(f"{folder} cannot take uploads", f"{error.strerror}.") from error

    def close(self) -> None:
        """Close the folder."""
        os.close(self.descriptor)

    @contextlib.contextmanager
    def room(self, length: int) -> Iterator[None]:
        """Set aside room for an upload; it is given back where the upload fails."""
        with self._lock:
            if self.taken + length > self.quota:
                left = size_text(self.quota - self.taken)
                raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"uploads may have {left} more")
            if lack_of_room(length, *room_on(self.descriptor), reserve=self.reserve):
                raise BadRequest(HTTPStatus.INSUFFICIENT_STORAGE, "the disk has no room")
            self.taken += length
        try:
            yield
        except BaseException:
            with self._lock:
                self.taken -= length
            raise

    def publish(self, temporary: str, name: str) -> str:
        """Give a whole upload its name, or where that is taken one with a number; nothing is ever replaced."""
        stem, dot, extension = name.partition(".")
        for number in range(1, 1000):
            tried = name if number == 1 else f"{stem} ({number}){dot}{extension}"
            with self._lock:
                taken = {folded(os.fsencode(word)) for word in os.listdir(self.descriptor)}
                if folded(tried.encode()) in taken:
                    continue
                with contextlib.suppress(FileExistsError):
                    self._name(temporary, tried)
                    fsync(self.descriptor)
                    return tried
        raise BadRequest(HTTPStatus.CONFLICT, "the name is taken")

    def _name(self, temporary: str, name: str) -> None:
        folder = self.descriptor
        try:
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                raise
            # No hard links here: an empty file that is made under the name is ours alone to replace.
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600, dir_fd=folder))
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.unlink(temporary, dir_fd=folder)


class Upload:
    """An upload that is arriving; a context manager that leaves nothing behind where it fails."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._name = f".devkit-part-{secrets.token_hex(8)}"
        self._descriptor = -1

    def __enter__(self) -> Self:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW
        self._descriptor = os.open(self._name, flags, 0o600, dir_fd=self._inbox.descriptor)
        return self

    def write(self, data: bytes) -> None:
        """Append bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def publish(self, name: str) -> str:
        """Sync it, give it its name and return that."""
        Attributes().mode(self._descriptor, new_file_mode())
        fsync(self._descriptor)
        return self._inbox.publish(self._name, name)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._inbox.descriptor)
