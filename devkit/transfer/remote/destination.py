"""Where a manifest's entries land: its root and folders, made for a run and only looked at for a dry run."""

import contextlib
import errno
import os
import stat
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from . import deleting
from .attributes import Held, lstat, regular_size
from .durability import ignores_case
from .failures import reason_of
from .folders import (
    FOLDER_ALONE,
    NO_FOLLOW,
    OPEN_FOLDER,
    Folders,
    Staging,
    booted_at,
    let_write,
    may_write,
    names_folder,
    open_folder,
    stash,
)
from .locks import acquire
from .manifest import FILE, FOLDER, NO_FILE, ManifestEntry, version_name
from .messages import About, Options
from .names import PART, collisions, folded, part_name, split
from .plan import IN_THE_WAY, NOTHING, Here, room_on
from .wire import Stopped


def replaceable(folder: int, name: bytes) -> Optional[os.stat_result]:
    """Return what is under a name that a file or link may replace; None is nothing.

    Raises:
        OSError: it is a folder, or a device, pipe or socket, which stays what it is.
    """
    status = lstat(folder, name)
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, IN_THE_WAY)
    if status is not None and not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        raise FileExistsError(errno.EEXIST, f"{NO_FILE} is in its way")
    return status


class Destination:
    """The folder that everything lands in."""

    def __init__(self, path: bytes, options: Options, stages: bool) -> None:
        self.folders: Optional[Folders] = None  # those in it; None where a dry run finds nothing
        self.above = (-1, b"")  # where a staging root lies, and its name there
        self.staging = Staging(stages, only_looks=options.dry_run)
        self._path = path
        self._options = options
        self._booted_at = booted_at()
        self._by_version = False
        self._refused: Dict[bytes, int] = {}

    def open(self, entries: List[ManifestEntry], about: About) -> None:
        """Open the folder, made if it is missing; one file to what is not a folder gets that name.

        Raises:
            Stopped: it is not a folder, or cannot be written.
        """
        self._by_version = about.by_version
        one_file = about.one_file
        path = self._path or b"."
        if one_file and len(entries) == 1 and not os.path.isdir(path) and not path.endswith(b"/"):
            # A link that is named stays, and the file that it points to is replaced, as by scp and a shell.
            path, name = os.path.split(os.path.realpath(path) if os.path.islink(path) else path)
            split(name)
            entries[0] = entries[0]._replace(path=name)
        try:
            fresh = self._begin(path.rstrip(b"/"), one_file)
            if self.staging.names:
                root = os.open(self.staging.names[b""], OPEN_FOLDER, dir_fd=self.above[0])
            else:
                root = open_folder(path or b".")
        except FileNotFoundError:
            if not self._options.dry_run:
                raise
            return
        except (FileExistsError, NotADirectoryError) as error:
            raise Stopped(f"{os.fsdecode(path)} is not a folder", "A file is in its way.") from error
        except OSError as error:
            raise Stopped("{} cannot be written".format(os.fsdecode(path or b".")), f"{error.strerror}.") from error
        self.folders = Folders(root, not self._options.dry_run, self.staging)
        if fresh:
            self.folders.made.add(b"")

    def _begin(self, path: bytes, one_file: bool) -> bool:
        """Make the folder, under a temporary name where it is new; return whether it was made under one now."""
        above, name = os.path.split(path)
        new = not os.path.lexists(path) and name not in (b"", b".", b"..")
        if self._options.dry_run:
            if new:
                _ensure_writable(path)
            if not new or one_file or not os.path.isdir(above or b"."):
                return False
        elif one_file or not new:
            os.makedirs(path or b".", exist_ok=True)
            return False
        else:
            os.makedirs(above or b".", exist_ok=True)
        parent = os.open(above or b".", FOLDER_ALONE | os.O_DIRECTORY | os.O_CLOEXEC)
        self.above = parent, name
        fresh = self.staging.begin(parent, b"", name, 0o777)
        if fresh is None and not self._options.dry_run:
            os.makedirs(path, exist_ok=True)
        return bool(fresh)

    def survey(self, entries: Sequence[ManifestEntry], claimed: Callable[[bytes], str]) -> Dict[int, Here]:
        """Return what is at the entries' places, by number, where anything is; in a run the folders are made.

        Raises:
            Stopped: nothing can be written.
        """
        here: Dict[int, Here] = {}
        if self.folders is not None and b"" in self.staging.begun:
            self._stash_what_is_not_offered(self.folders, entries, b"")
        for index, entry in enumerate(entries):
            other = claimed(entry.path) if entry.kind != FOLDER else ""
            try:
                found = Here(why=f"{other} sends a file of this name too") if other else self._look(entry, entries)
            except FileNotFoundError:
                continue
            except OSError as error:
                found = Here(why=reason_of(entry.path, error))
            if found is not NOTHING:
                here[index] = found
        return here

    def _look(self, entry: ManifestEntry, entries: Sequence[ManifestEntry]) -> Here:
        folders = self.folders
        if folders is None:
            return NOTHING
        if entry.kind == FOLDER:
            folder = folders.folder(entry.path)
            if not self._options.dry_run:
                let_write(folder)
            if entry.path in self.staging.begun:
                self._stash_what_is_not_offered(folders, entries, entry.path)
            return NOTHING
        above, _, name = entry.path.rpartition(b"/")
        if above in folders.made:
            return NOTHING
        folder = folders.folder(above)
        self._ensure_writable(above, folder)
        status = replaceable(folder, name)
        if entry.kind != FILE:
            return NOTHING
        part = regular_size(folder, self.part(entry)) or 0
        if status is None or not stat.S_ISREG(status.st_mode):
            return Here(part=part) if part else NOTHING
        certain = above not in self.staging.within or status.st_ctime >= self._booted_at
        return Here(status.st_size, status.st_mtime_ns, stat.S_IMODE(status.st_mode), part, certain)

    def part(self, entry: ManifestEntry) -> bytes:
        """Return the temporary name of a file, in its folder."""
        return version_name(entry) if self._by_version else part_name(entry.path.rpartition(b"/")[2])

    def remove_other_versions(self, folders: Folders, entries: Iterable[ManifestEntry]) -> None:
        """Remove what is left of other versions of files, unless another transfer is writing it."""
        listed: Dict[bytes, List[bytes]] = {}
        for entry in entries if self._by_version else ():
            above, part = entry.path.rpartition(b"/")[0], self.part(entry)
            with contextlib.suppress(OSError):
                folder = folders.folder(above)
                if above not in listed:
                    listed[above] = [name for name in map(os.fsencode, os.listdir(folder)) if PART.match(name)]
                for name in listed[above]:
                    if name[:-8] == part[:-8] and name != part:
                        _remove_unless_held(folder, name)

    def _ensure_writable(self, path: bytes, folder: int) -> None:
        """Raise in a dry run what writing into a folder would."""
        if self._options.dry_run:
            if path not in self._refused:
                self._refused[path] = may_write(folder)
            if self._refused[path]:
                raise OSError(self._refused[path], os.strerror(self._refused[path]))

    def _stash_what_is_not_offered(self, folders: Folders, entries: Sequence[ManifestEntry], top: bytes) -> None:
        """Hide what an earlier transfer left in a staging folder, and is not offered now, or is of another kind."""
        offered: Dict[str, bool] = {}
        inside = top + b"/" if top else b""
        for entry in entries:
            path, is_folder = entry.path, entry.kind == FOLDER
            while path.startswith(inside) and path and folded(path) not in offered:
                offered[folded(path)] = is_folder
                path, is_folder = path.rpartition(b"/")[0], True
        paths = [top]
        while paths:
            above = paths.pop()
            let_write(folders.folder(above))
            for name in map(os.fsencode, os.listdir(folders.folder(above))):
                path = above + b"/" + name if above else name
                is_folder = names_folder(folders.folder(above), name)
                if offered.get(folded(path)) is not is_folder and not PART.match(name):
                    stash(folders.folder(above), name, is_folder)
                elif is_folder and not PART.match(name):
                    paths.append(path)

    def not_offered(self, entries: Sequence[ManifestEntry], about: About) -> List[Tuple[bytes, bool]]:
        """Return what is to be removed, by path, and whether it is a folder."""
        if not self._options.delete or self.folders is None:
            return []
        tops = [entry.path for entry in entries if entry.kind == FOLDER]
        keep = [*self._options.keep, *([b"*~"] if self._options.backup else [])]
        return deleting.not_offered(self.folders, entries, tops + ([b""] if about.whole else []), keep)

    def is_case_blind(self, entries: Sequence[ManifestEntry]) -> bool:
        """Tell whether entries' names are one name here."""
        return (
            self.folders is not None
            and bool(collisions(entry.path for entry in entries))
            and ignores_case(self.folders.root)
        )

    def room(self) -> Tuple[int, int]:
        """Return what is free, and all, of the disk or of the one it would be made on."""
        return room_on(self.folders.root if self.folders is not None else _nearest(self._path))

    def close(self) -> None:
        """Close what is open."""
        if self.folders is not None:
            self.folders.close()
            os.close(self.folders.root)
        self.staging.close()
        if self.above[0] >= 0:
            os.close(self.above[0])


def _remove_unless_held(folder: int, part: bytes) -> None:
    with Held(os.open(part, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)) as descriptor:
        if acquire(descriptor, 0):
            os.unlink(part, dir_fd=folder)


def _nearest(path: bytes) -> bytes:
    """Return the nearest folder above a path that is there."""
    above = os.path.abspath(path or b".")
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    return above


def _ensure_writable(path: bytes) -> None:
    """Raise what making a folder would."""
    above = _nearest(path)
    if not os.path.isdir(above):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    with Held(os.open(above, FOLDER_ALONE | os.O_DIRECTORY | os.O_CLOEXEC)) as folder:
        refused = may_write(folder)
    if refused:
        raise OSError(refused, os.strerror(refused))
