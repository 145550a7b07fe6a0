"""Waits until a file changes: ``devkit bench attn --watch``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EVERY_S = 0.2


def until_changed(files: Sequence[str], sleep: Callable[[float], None] = time.sleep) -> str:
    """Wait until one of the files is another than now, and return its name.

    An editor may replace a file: one that is away for a moment has not changed yet.
    """
    before = {file: _state(file) for file in files}
    while True:
        sleep(EVERY_S)
        for file, state in before.items():
            now = _state(file)
            if now is not None and now != state:
                return Path(file).name


def _state(file: str) -> tuple[int, int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
