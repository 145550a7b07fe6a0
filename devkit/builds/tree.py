"""What the files of a checkout are like: their line ends, links that became files, times, the disk they lie on."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds.checkout import git

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.process import Runner

SCRIPTS = ("tools/*.sh", "tools/*.py", "paddle/scripts/*.sh", "cmake/*.cmake", "setup.py", "CMakeLists.txt")
MOST_SCRIPTS, HEAD = 60, 4096
MOST_FILES = 5000
SLACK_S = 5.0
# File systems of other systems' disks: no links, no modes, case-blind, and many times as slow.
FOREIGN = {"9p", "drvfs", "fuseblk", "vfat", "exfat", "ntfs", "ntfs3", "cifs", "smb3", "virtiofs", "vboxsf", "hgfs"}
LINK = "120000"


@dataclass(frozen=True)
class Tree:
    """What was found.

    Attributes:
        dos: scripts with DOS line ends.
        flat: links that lie there as plain files.
        future: files whose time is ahead of the clock.
        disk: the file system's name where it is another system's.
        case_blind: whether the disk tells ``A`` from ``a``.
    """

    dos: tuple[str, ...] = ()
    flat: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    disk: str = ""
    case_blind: bool = False


def gather(runner: Runner, root: Path, *, refused: bool) -> Tree:
    """Look at a checkout; git is not asked where it refuses it."""
    scripts = [path for pattern in SCRIPTS for path in sorted(root.glob(pattern))][:MOST_SCRIPTS]
    dos = tuple(str(path.relative_to(root)) for path in scripts if b"\r\n" in _head(path))
    now = time.time() + SLACK_S
    future = tuple(name for name, changed in _inputs(root) if changed > now)
    return Tree(
        dos,
        () if refused else _flat_links(runner, root),
        future,
        disk_of(root, _read(Path("/proc/mounts"))),
        (root / "cmakelists.TXT").exists(),
    )


def _flat_links(runner: Runner, root: Path) -> tuple[str, ...]:
    listed = git(runner, root, "ls-files", "-s", "-z", check=False).text.split("\0")
    names = [word.partition("\t")[2] for word in listed if word.startswith(LINK)]
    return tuple(name for name in names if (root / name).is_file() and not (root / name).is_symlink())


def _inputs(root: Path) -> Iterator[tuple[str, float]]:
    """Yield what a configure reads: the CMake files of the tree, with their times."""
    seen = 0
    for folder in (root, root / "cmake", root / "paddle", root / "python"):
        for directory, folders, names in os.walk(folder):
            folders[:] = [] if folder == root else [word for word in folders if not word.startswith(".")]
            for name in names:
                if name == "CMakeLists.txt" or name.endswith(".cmake"):
                    path = Path(directory, name)
                    yield os.path.relpath(path, root), path.lstat().st_mtime
            seen += len(names)
            if seen > MOST_FILES:
                break


def disk_of(root: Path, mounts: str) -> str:
    """Return the file system of the mount that holds a folder, where it is another system's; empty elsewhere."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 2:  # noqa: PLR2004 - device, mount point, type
            point = fields[1].replace("\\040", " ")
            if (str(root) + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, fields[2]
    return kind if kind in FOREIGN else ""


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
