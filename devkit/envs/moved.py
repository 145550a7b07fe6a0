"""Environments that were renamed or copied with their project: what a venv says of its own place leads back."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_PATH = re.compile(r"""^VIRTUAL_ENV=(?P<quote>['"])(?P<path>/.*)(?P=quote)$""", re.MULTILINE)
BIGGEST = 1 << 20


def made_in(folder: Path) -> str:
    """Return where an environment was made, if that is not where it is; empty else."""
    try:
        text = os.fsdecode((folder / "bin" / "activate").read_bytes())  # the locale may not be UTF-8
    except OSError:
        return ""
    matched = OWN_PATH.search(text)
    if matched is None:
        return ""
    path = matched["path"].replace("'\\''", "'").replace("'\"'\"'", "'")
    with contextlib.suppress(OSError):
        if Path(path).samefile(folder):
            return ""
    return "" if path in {str(folder), str(folder.absolute()), str(folder.resolve())} else path


def relocate(folder: Path) -> int:
    """Let an environment's scripts, and what is installed in it in place, lead to where it is now.

    Returns:
        how many files were changed.
    """
    from devkit.files import write_atomically

    old, new = made_in(folder), str(folder.absolute())
    if not old:
        return 0
    swaps = [(old, new)]
    if Path(old).name == folder.name:  # the .venv of a project: what is installed in place lies in the project
        swaps.append((f"{Path(old).parent}/", f"{folder.absolute().parent}/"))
    changed = 0
    for path in _own_files(folder):
        with contextlib.suppress(OSError):
            data = before = path.read_bytes()
            for there, here in swaps[: 1 if path.parent.name == "bin" else 2]:
                data = data.replace(os.fsencode(there), os.fsencode(here))
            if data != before:
                write_atomically(path, data, mode=path.stat().st_mode & 0o7777)
                changed += 1
    return changed


def _own_files(folder: Path) -> Iterator[Path]:
    for pattern in (
        "bin/*",
        "pyvenv.cfg",
        "lib/python3*/site-packages/*.pth",
        "lib/python3*/site-packages/__editable__*.py",
        "lib/python3*/site-packages/*.dist-info/direct_url.json",
    ):
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not path.is_symlink() and path.stat().st_size < BIGGEST:
                yield path
