"""Files of a checkout: looked at without following links, written whole, removed with the folders left empty."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git.changes import is_path, lstat, parents

if TYPE_CHECKING:
    from collections.abc import Iterable

SCRATCH = ".devkit-"


class Folders:
    """Which paths of a checkout are folders and no symbolic links, each looked at once."""

    def __init__(self, top: Path) -> None:
        self._top = os.fspath(top)
        self._known: dict[str, bool] = {"": True}

    def above(self, path: str) -> bool:
        """Tell whether every folder above ``path`` is one."""
        return self._is_folder(path.rpartition("/")[0])

    def is_file(self, path: str) -> bool:
        """Tell whether a file or a symbolic link is at ``path``, and folders are above it."""
        if not self.above(path):
            return False
        found = lstat(os.path.join(self._top, path))  # noqa: PTH118 - there may be thousands
        return found is not None and not stat.S_ISDIR(found.st_mode)

    def _is_folder(self, folder: str) -> bool:
        if folder not in self._known:
            found = lstat(os.path.join(self._top, folder)) if self.above(folder) else None  # noqa: PTH118
            self._known[folder] = found is not None and stat.S_ISDIR(found.st_mode)
        return self._known[folder]


def link_bytes(place: Path) -> bytes:
    """Return where a symbolic link leads, byte for byte."""
    return os.fsencode(os.readlink(place))  # noqa: PTH115 - a Path would normalize it


def real_parents(top: Path, path: str) -> bool:
    """Tell whether every folder above ``path`` is one, and no symbolic link."""
    return Folders(top).above(path)


def safe_path(path: str) -> str:
    """Return a path of a snapshot if it is inside a checkout, and no part of git's own folder.

    Raises:
        DevkitError: it is not.
    """
    if not is_path(path):
        raise DevkitError(f"the snapshot names {path!r}", "That is not a path inside a checkout; nothing was changed.")
    return path


def remove(top: Path, paths: Iterable[str]) -> None:
    """Remove files, and the folders that hold nothing then."""
    for path in sorted(paths, reverse=True):
        place = top / safe_path(path)
        found = lstat(place) if real_parents(top, path) else None
        if found is None or stat.S_ISDIR(found.st_mode):
            continue
        place.unlink()
        remove_empty(top, path)


def remove_empty(top: Path, path: str) -> None:
    """Remove the folders above a path that hold nothing, but for that which the user's shell stands in."""
    for parent in reversed(parents(path)):
        if any((top / parent).iterdir()) or _stands_in(top / parent):
            break
        (top / parent).rmdir()


def _stands_in(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return folder.samefile(".")
    return False


def make_folders(top: Path, path: str) -> None:
    """Make the folders above ``path``; what stands in their way, a file or a link, is removed."""
    for parent in parents(path):
        above = top / parent
        found = lstat(above)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            above.unlink()
            found = None
        if found is None:
            above.mkdir()


def write_file(place: Path, data: bytes, mode: int) -> None:
    """Write a file or a symbolic link whole, over what was there."""
    with contextlib.ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix=SCRATCH, dir=place.parent)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        temporary = Path(folder) / "file"
        if stat.S_ISLNK(mode):
            temporary.symlink_to(os.fsdecode(data))
        else:
            temporary.write_bytes(data)
            temporary.chmod(stat.S_IMODE(mode))
        temporary.replace(place)


def remove_folder(place: Path) -> None:
    """Remove a folder with all that is in it.

    Raises:
        DevkitError: a clone of its own is in it.
    """
    if any(".git" in names for _, folders, files in os.walk(place) for names in (folders, files)):
        raise DevkitError(
            f"{place} holds a clone of its own",
            "The snapshot has a file there.",
            f"mv -- {shlex.quote(str(place))} {shlex.quote(f'{place}.kept')}",
        )
    shutil.rmtree(place)
