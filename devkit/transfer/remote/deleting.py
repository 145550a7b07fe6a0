"""What ``--delete`` removes: in folders that are offered whole, what is not offered and not left out by a pattern."""

import os
import stat
from typing import Iterable, List, Sequence, Set, Tuple

from .attributes import Held
from .folders import OPEN_FOLDER, Folders, names_folder
from .manifest import ManifestEntry
from .names import PART, Ignore


def not_offered(
    folders: Folders, entries: Iterable[ManifestEntry], tops: Iterable[bytes], keep: Sequence[bytes]
) -> List[Tuple[bytes, bool]]:
    """Return the outermost paths that are in these folders and not offered, each with whether it is a folder.

    Args:
        folders: where they lie.
        entries: what is offered.
        tops: the folders that are offered whole, by path; the root's is empty.
        keep: patterns, as gitignore has them, of what stays.
    """
    offered: Set[bytes] = set()
    for entry in entries:
        path = entry.path
        while path and path not in offered:
            offered.add(path)
            path = path.rpartition(b"/")[0]
    rules = Ignore(keep)
    found = []
    for top in sorted(set(tops)):
        try:
            folder = folders.folder(top)
            names = sorted(os.fsencode(name) for name in os.listdir(folder))
        except OSError:  # it is not here yet, or may not be listed
            continue
        for name in names:
            path = top + b"/" + name if top else name
            is_folder = names_folder(folder, name)
            if path not in offered and not PART.match(name) and not rules.leaves_out(path, is_folder):
                found.append((path, is_folder))
    return found


def remove(folders: Folders, path: bytes, is_folder: bool, backup: bool = False) -> int:
    """Remove a file, a link itself, or a folder with all that is in it, and return how many entries that were.

    With ``backup``, files and links keep a name with a tilde, and their folders stay.
    """
    parent, name = folders.of(path)
    if not is_folder:
        _drop(parent, name, backup)
        return 1
    with Held(os.dup(parent)) as held:  # for ``folders`` keep few open
        return _remove_folder(held, name, backup)


def _drop(folder: int, name: bytes, backup: bool) -> None:
    if backup:
        os.rename(name, name + b"~", src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


def _remove_folder(parent: int, name: bytes, backup: bool) -> int:
    count = 1
    with Held(os.open(name, OPEN_FOLDER, dir_fd=parent)) as folder:
        for line in map(os.fsencode, os.listdir(folder)):
            if stat.S_ISDIR(os.stat(line, dir_fd=folder, follow_symlinks=False).st_mode):
                count += _remove_folder(folder, line, backup)
            elif not (backup and line.endswith(b"~")):
                _drop(folder, line, backup)
                count += 1
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        if not backup:
            raise
        count -= 1
    return count
