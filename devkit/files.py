"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Iterator


def new_file_mode() -> int:
    """Return the mode that this process's umask gives a new file; reading it so does not change it for a moment."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text("ascii", errors="replace").splitlines()
        return 0o666 & ~int(next(line.split()[1] for line in lines if line.startswith("Umask:")), 8)
    return 0o644


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write ``data`` to a temporary name beside ``path``, sync it and rename it over ``path``.

    Raises:
        DevkitError: the disk is full, or the folder cannot be written.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            raise


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write at ``path`` into an error with a remedy."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: f"df -h {path.parent}   shows what is full",
            errno.EDQUOT: "quota   shows what is full",
            errno.EACCES: f"ls -ld {path.parent}   shows who may write there",
            errno.EROFS: f"findmnt -T {path.parent}   shows what is mounted read-only",
        }.get(error.errno or 0)
        raise DevkitError(
            f"{path} cannot be written", f"{error.strerror or error}.", *filter(None, [remedy])
        ) from error
