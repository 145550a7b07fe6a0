"""What is shared: paths of a URL to open files and folders, and never to anything else."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.transfer.remote.folders import FOLDER_ALONE, NO_FOLLOW
from devkit.transfer.remote.manifest import Offer, SourceRoot, describe_open
from devkit.transfer.remote.names import PART, link_stays_inside, split
from devkit.transfer.remote.wire import ProtocolError, Stopped

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

MAX_LINKS = 16


class NotShared(Exception):
    """There is no such file or folder in the share."""


@dataclass(frozen=True)
class Item:
    """A line of a folder's page."""

    name: bytes
    is_folder: bool
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Opened:
    """Something of the share that is open; a context manager that closes it."""

    descriptor: int
    status: os.stat_result
    path: bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def etag(self) -> str:
        """What changes when the file does."""
        return f'"{self.status.st_mtime_ns:x}-{self.status.st_size:x}-{self.status.st_ino:x}"'


class Tree:
    """The shared paths: one folder's content at the root, or an entry for each of several."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.name = b"share"  # or the one folder's
        self._entries: dict[bytes, int] = {}
        self._folders: dict[bytes, int] = {}
        self._root: int | None = None
        resolved = []
        for path in paths:
            try:
                resolved.append(os.fsencode(path.resolve(strict=True)))
            except OSError as error:  # noqa: PERF203 - the first that fails ends it
                raise DevkitError(f"{path} cannot be shared", f"{error.strerror}.") from error
        if len(resolved) == 1 and os.path.isdir(resolved[0]):
            self.name = os.path.basename(resolved[0]) or self.name
            self._root = os.open(resolved[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return
        for line in resolved:
            name = os.path.basename(line)
            if name in self._entries or not name:
                raise DevkitError(f"{os.fsdecode(line)} cannot be shared", "Another path of the share has its name.")
            folder = os.path.dirname(line)
            if folder not in self._folders:
                self._folders[folder] = os.open(folder, FOLDER_ALONE | os.O_DIRECTORY | os.O_CLOEXEC)
            self._entries[name] = self._folders[folder]

    @property
    def names(self) -> list[bytes]:
        """The entries at the root, where several paths are shared."""
        return sorted(self._entries)

    def close(self) -> None:
        """Close the roots."""
        for descriptor in self._folders.values():
            os.close(descriptor)
        if self._root is not None:
            os.close(self._root)

    def open(self, path: bytes) -> Opened:
        """Open a file or folder by its path in the share; a folder's may be empty.

        Links are followed where they stay inside, by their text: every folder on the way is opened without following.

        Raises:
            NotShared: there is no such thing, or it may not be read.
        """
        for _ in range(MAX_LINKS):
            try:
                opened = self._open(path)
            except (OSError, ProtocolError) as error:
                raise NotShared from error
            if isinstance(opened, Opened):
                return opened
            path = opened
        raise NotShared

    def _open(self, path: bytes) -> Opened | bytes:
        """Open what a path names, or return the path that a link on its way makes of it."""
        if not path:
            if self._root is None:
                raise NotShared
            descriptor = os.dup(self._root)
            return Opened(descriptor, os.fstat(descriptor), path)
        names = split(path)
        root = self._entries.get(names[0]) if self._root is None else self._root
        if root is None:
            raise NotShared
        folder = os.dup(root)
        try:
            for depth, name in enumerate(names):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    return self._linked(names, depth, os.readlink(name, dir_fd=folder))
                last = depth == len(names) - 1
                if not stat.S_ISDIR(status.st_mode) and not (last and stat.S_ISREG(status.st_mode)):
                    raise NotShared
                inner = os.open(name, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            status = os.fstat(folder)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise NotShared
            opened = Opened(folder, status, path)
            folder = -1
            return opened
        finally:
            if folder >= 0:
                os.close(folder)

    def _linked(self, names: Sequence[bytes], depth: int, target: bytes) -> bytes:
        here = b"/".join(names[: depth + 1])
        # Of several shared paths each is a root of its own: a link may not lead from one into another.
        inside = b"/".join(names[1 : depth + 1]) if self._root is None else here
        if not inside or not link_stays_inside(inside, target):
            raise NotShared
        above = list(names[:depth])
        for part in target.split(b"/"):
            if part == b"..":
                above.pop()
            elif part not in (b"", b"."):
                above.append(part)
        return b"/".join([*above, *names[depth + 1 :]])

    def items(self, opened: Opened) -> list[Item]:
        """Return what is in a folder, by name."""
        prefix = opened.path + b"/" if opened.path else b""
        names = sorted(os.fsencode(name) for name in os.listdir(opened.descriptor))
        return [item for name in names if not PART.match(name) and (item := self._item(prefix + name, name))]

    def root_items(self) -> list[Item]:
        """Return what is at the root: what is in the one folder, or each of several paths."""
        if self._root is None:
            return [item for name in self.names if (item := self._item(name, name))]
        with self.open(b"") as opened:
            return self.items(opened)

    def _item(self, path: bytes, name: bytes) -> Item | None:
        with contextlib.suppress(NotShared), self.open(path) as opened:
            return Item(name, opened.is_folder, opened.status.st_size, opened.status.st_mtime_ns)
        return None

    def offer(self, path: bytes) -> Offer:
        """Return a manifest of what a path names, to be sent in one stream; whoever gets it closes its roots.

        A folder whose path ends in a slash, and the root, offer what is in them.

        Raises:
            NotShared: there is no such thing, or it cannot be read.
        """
        names = path.rstrip(b"/")
        inside = names != path
        if not names:
            if self._root is not None:
                places = [SourceRoot(os.dup(self._root), b"", b"")]
            else:
                copies = {folder: os.dup(folder) for folder in self._folders.values()}
                places = [SourceRoot(copies[folder], name, name) for name, folder in self._entries.items()]
        else:
            places = [self._place(names, inside=inside)]
        try:
            return describe_open(places)
        except Stopped as error:
            for root in {place.root for place in places}:
                os.close(root)
            raise NotShared from error

    def _place(self, path: bytes, *, inside: bool) -> SourceRoot:
        opened = self.open(path)
        if opened.is_folder:
            return SourceRoot(opened.descriptor, b"", b"" if inside else path.rpartition(b"/")[2])
        os.close(opened.descriptor)
        above, _, name = opened.path.rpartition(b"/")
        if above or self._root is not None:
            return SourceRoot(self.open(above).descriptor, name, path.rpartition(b"/")[2])
        return SourceRoot(os.dup(self._entries[name]), name, name)
