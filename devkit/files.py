"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint

if TYPE_CHECKING:
    from collections.abc import Iterator


def new_file_mode() -> int:
    """Return the mode that this process's umask gives a new file; reading it so does not change it for a moment."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text("ascii", errors="replace").splitlines()
        return 0o666 & ~int(next(line.split()[1] for line in lines if line.startswith("Umask:")), 8)
    return 0o644


def digest_of(path: Path | int, name: str = "sha256") -> str:
    """Return the digest of a file, by its name or an open descriptor, which is closed, in hexadecimal digits.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    import hashlib

    digest = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb") as file:  # noqa: PTH123 - a descriptor is not a path
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644, sync: bool = True) -> None:
    """Write ``data`` to a temporary name beside ``path``, sync it and rename it over ``path``.

    Without ``sync`` it is as whole or absent for every process, and may be lost with the machine's power.

    Raises:
        DevkitError: the disk is full, or the folder cannot be written.
    """
    with explained(path), replacing(path, mode, sync=sync) as temporary:
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


MACHINES = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR,
    errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE,
    errno.ENOLCK, errno.EBUSY, errno.ETXTBSY, errno.EXDEV, errno.EAGAIN, errno.ENODEV, errno.ENXIO,
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH,
    errno.EAFNOSUPPORT, errno.EADDRINUSE, errno.ENOSYS, errno.EOPNOTSUPP,
}  # fmt: skip
"""What an operating system refuses for reasons of its own: no bug of the program that asked."""


PROCESSES = Hint("ulimit -u", "shows how many processes and threads a user may have")


def refusal(error: BaseException) -> DevkitError | None:
    """Return what to say of an exception that is the machine's doing and not ours, or None."""
    if isinstance(error, MemoryError):
        return DevkitError("there is not enough memory", "The system refused more.", "free -h   shows what is left")
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return DevkitError("~ leads nowhere", "HOME is not set, and this user has no name.", "export HOME=/path")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return DevkitError(
            "no thread can be started",
            "A user's or a container's limit of processes and threads is reached; or the container's engine is older "
            "than its C library, and forbids the call.",
            PROCESSES,
        )
    if isinstance(error, OSError):
        return _refusal(error)
    return None


def _refusal(error: OSError) -> DevkitError | None:
    reason = f"{error.strerror or error}."
    if error.errno == errno.ENOENT and "temporary directory" in reason:
        return DevkitError("there is no folder for temporary files", reason, "export TMPDIR=/path")
    if error.errno not in MACHINES:
        return None
    subject = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    what = f"{subject} cannot be used" if subject else "the system refused"
    return DevkitError(what, reason, *filter(None, [_remedy(error, Path(subject or ".").parent)]))


def _remedy(error: OSError, folder: Path) -> Hint | None:
    number = error.errno or 0
    if number in {errno.ENOSPC, errno.EFBIG}:
        return Hint.of("df", "-h", str(folder), purpose="shows what is full")
    if number == errno.EDQUOT:
        return Hint("quota", "shows what is full")
    if number in {errno.EACCES, errno.EPERM, errno.ENOTDIR}:
        closed = _closed(folder) if number == errno.EACCES else None
        way = "is a folder on the way there that may not be entered; its owner lets others through: chmod o+x"
        return Hint.of("ls", "-ld", str(closed or folder), purpose=way if closed else "shows who may write there")
    if number == errno.EAGAIN:
        return PROCESSES
    if number == errno.EROFS:
        return Hint.of("findmnt", "-T", str(folder), purpose="shows what is mounted read-only")
    return None


def _closed(folder: Path) -> Path | None:
    """Return the first folder on the way to one, and it too, that this user may not enter."""
    effective = os.access in os.supports_effective_ids
    way = [*reversed(folder.absolute().parents), folder.absolute()]
    return next((part for part in way if not os.access(part, os.X_OK, effective_ids=effective)), None)


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None, *, sync: bool = True) -> Iterator[Path]:
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
            if sync:
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
        remedy = _remedy(error, path.parent)
        raise DevkitError(
            f"{path} cannot be written", f"{error.strerror or error}.", *filter(None, [remedy])
        ) from error
