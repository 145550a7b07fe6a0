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
    with explained(path), replacing(path, mode) as temporary:
        temporary.write_bytes(data)


def link_atomically(link: Path, target: Path | str) -> None:
    """Make a symbolic link to ``target``, over what was there.

    Raises:
        DevkitError: the disk is full, or the folder cannot be written.
    """
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    with explained(link):
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        try:
            temporary.replace(link)
        except OSError:
            temporary.unlink()
            raise


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield an empty file beside ``path`` to write to; it is synced and takes that name, or goes where that failed.

    Until then only its owner can read it; then it has ``mode``, or that of a new file.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fchmod(file.fileno(), new_file_mode() if mode is None else mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


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
