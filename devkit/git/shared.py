"""devkit's own files in a repository that several users share: the group may write them where it may write git's."""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def file_mode(common_dir: Path) -> int:
    """Return the permissions of a file of devkit's in the repository's folder."""
    return 0o660 if common_dir.stat().st_mode & stat.S_IWGRP else 0o600


def make_folder(common_dir: Path, name: str = "") -> Path:
    """Make devkit's folder in a repository, or one below it, and return it."""
    folder = common_dir / "devkit"
    for path in (folder, folder / name) if name else (folder,):
        if not path.is_dir():
            path.mkdir(exist_ok=True)
            if file_mode(common_dir) != 0o600:  # noqa: PLR2004 - as the line above says
                path.chmod(stat.S_IMODE(common_dir.stat().st_mode) | 0o070)
    return folder / name if name else folder


def share(common_dir: Path, path: Path) -> None:
    """Let the group write a file that was just made, where it may write git's; another user's stays as it is."""
    if file_mode(common_dir) & stat.S_IWGRP:
        with contextlib.suppress(PermissionError):
            path.chmod(path.stat().st_mode | 0o060)
