"""What comes last: links, the folders' modes and times, and the names of those that were filled staging."""

import contextlib
import errno
import os
from typing import Iterable, Sequence

from .attributes import NOT_SUPPORTED, Attributes, Held
from .destination import Destination
from .durability import copy_range, open_part, replace
from .failures import Failures
from .folders import NO_FOLLOW, OPEN_FOLDER, Folders, let_write, stash
from .manifest import FILE, FOLDER, HARD_LINK, LINK, ManifestEntry
from .names import part_name


class Commit:
    """Puts into place what the files of a manifest are in."""

    def __init__(
        self,
        there: Destination,
        entries: Sequence[ManifestEntry],
        failures: Failures,
        attributes: Attributes,
        backup: bool = False,
    ) -> None:
        self._entries = entries
        self._failures = failures
        self._staging = there.staging
        self._above = there.above
        self._attributes = attributes
        self._backup = backup

    def modes(self, folders: Folders, numbers: Iterable[int]) -> None:
        """Give files that are here already their modes."""
        for index in numbers:
            folder, name = folders.of(self._entries[index].path)
            try:
                self._attributes.mode_of_name(folder, name, self._entries[index].mode)
            except OSError as error:
                self._failures.refuse(index, error)

    def links(self, folders: Folders) -> None:
        """Make the links."""
        for index, entry in enumerate(self._entries):
            if entry.kind not in (LINK, HARD_LINK) or index in self._failures:
                continue
            try:
                if entry.kind == LINK:
                    self._symlink(folders, entry)
                elif int(entry.target) in self._failures:
                    self._failures.setdefault(index, "the file that it is a link to is not here")
                else:
                    self._hard_link(folders, self._entries[int(entry.target)], entry.path)
            except OSError as error:
                self._failures.refuse(index, error)

    def stash_what_failed(self, folders: Folders) -> None:
        """Hide files in staging folders of which an earlier transfer may have left half."""
        for index in self._failures:
            above, _, name = self._entries[index].path.rpartition(b"/")
            if above in self._staging.within and self._entries[index].kind == FILE:
                stash(folders.folder(above), name)

    def folders_last(self, folders: Folders) -> None:
        """Give folders their modes and times, the innermost first, and those that were filled staging their names."""
        for index in range(len(self._entries) - 1, -1, -1):
            entry = self._entries[index]
            if entry.kind == FOLDER:
                self._give_mode_and_time(index, folders, entry.path)
                try:
                    if entry.path in self._staging.names:
                        self._publish(folders, entry.path, *folders.of(entry.path))
                except OSError as error:
                    self._failures.refuse(index, error)
        for path in sorted(self._staging.names, reverse=True):
            self._publish(folders, path, *(folders.of(path) if path else self._above))

    def _give_mode_and_time(self, index: int, folders: Folders, path: bytes) -> None:
        """Give a folder what is offered of it, unless it could not be made."""
        entry = self._entries[index]
        if index not in self._failures:
            try:
                self._attributes.give(folders.folder(path), entry.mode, entry.mtime_ns)
            except OSError as error:
                self._failures.refuse(index, error)

    def _publish(self, folders: Folders, path: bytes, parent: int, name: bytes) -> None:
        """Give a folder its name; where someone made one of that name since, move what is in it there."""
        with Held(os.dup(parent)) as held:  # for ``folders`` keep few open
            try:
                self._staging.publish(held, path, name)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                self._join(folders, path, held, name)
            finally:
                self._staging.names.pop(path, None)

    def _join(self, folders: Folders, path: bytes, parent: int, name: bytes) -> None:
        inside = path + b"/" if path else b""
        within = [(n, entry) for n, entry in enumerate(self._entries) if (entry.path + b"/").startswith(inside)]
        there = os.open(name, OPEN_FOLDER, dir_fd=parent)
        with Held(there), contextlib.closing(Folders(there, make=True)) as into:
            for index, entry in within:
                if index not in self._failures:
                    self._move(folders, into, index, entry.path[len(inside) :])
            for index, entry in reversed(within):
                if entry.kind == FOLDER:
                    self._give_mode_and_time(index, into, entry.path[len(inside) :])
                    if entry.path != path:
                        folder, last = folders.of(entry.path)
                        _remove_folder(folder, last)
            _remove_folder(parent, self._staging.names[path])

    def _move(self, folders: Folders, into: Folders, index: int, below: bytes) -> None:
        """Move a file from a staging folder; where it cannot be, no later transfer would find it: it is removed."""
        entry = self._entries[index]
        try:
            if entry.kind == FOLDER:
                let_write(folders.folder(entry.path))
                let_write(into.folder(below))
                return
            folder, name = folders.of(entry.path)
            try:
                os.rename(name, name, src_dir_fd=folder, dst_dir_fd=into.of(below)[0])
            except OSError:
                _unlink(folder, name)
                raise
        except OSError as error:
            self._failures.refuse(index, error)

    def _symlink(self, folders: Folders, entry: ManifestEntry) -> None:
        folder, name = folders.of(entry.path)
        try:
            if os.readlink(name, dir_fd=folder) == entry.target:
                return
        except OSError:
            pass
        part = part_name(name)
        _unlink(folder, part)
        os.symlink(entry.target, part, dir_fd=folder)
        replace(folder, part, name, self._backup)
        self._attributes.time_of_link(folder, name, entry.mtime_ns)

    def _hard_link(self, folders: Folders, first: ManifestEntry, path: bytes) -> None:
        """Make a second name for a file; where the file system has none, or no more, a second file."""
        above, name = folders.of(path)
        with Held(os.dup(above)) as above:
            folder, original = folders.of(first.path)
            there = os.stat(original, dir_fd=folder, follow_symlinks=False)
            with contextlib.suppress(FileNotFoundError):
                here = os.stat(name, dir_fd=above, follow_symlinks=False)
                if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                    return
            part = part_name(name)
            _unlink(above, part)
            try:
                os.link(original, part, src_dir_fd=folder, dst_dir_fd=above, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (*NOT_SUPPORTED, errno.EMLINK, errno.EXDEV):
                    raise
                self._copy(folder, original, above, part, first)
            replace(above, part, name, self._backup)

    def _copy(self, folder: int, original: bytes, above: int, part: bytes, entry: ManifestEntry) -> None:
        source = os.open(original, os.O_RDONLY | NO_FOLLOW, dir_fd=folder)
        with Held(source), Held(open_part(above, part, keep=False)) as target:
            copy_range(source, target, 0, entry.size)
            self._attributes.give(target, entry.mode, entry.mtime_ns)


def _remove_folder(parent: int, name: bytes) -> None:
    with contextlib.suppress(OSError):  # what could not be moved stays in it
        os.rmdir(name, dir_fd=parent)


def _unlink(folder: int, name: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
