"""Where a fetched file goes, and under which name: nobody else's file is replaced, and a device stays one."""

from __future__ import annotations

import codecs
import contextlib
import email.errors
import email.header
import errno
import itertools
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from devkit.errors import DevkitError
from devkit.files import digest_of, explained
from devkit.text import size as size_text
from devkit.transfer.remote import wire
from devkit.transfer.remote.names import part_name, split
from devkit.transfer.remote.plan import lack_of_room, room_on

if TYPE_CHECKING:
    from devkit.transfer.http_download.address import Address
    from devkit.transfer.http_download.answer import RemoteFile
    from devkit.transfer.http_download.options import FetchOptions

MARK = "user.devkit.fetched"


def file_name(address: Address, disposition: str) -> str:
    """Return the name that a fetched file gets: the server's wish or the address's, as long as it is one plain name."""
    for name in (_wished(disposition), address.name):
        last = name.replace("\\", "/").rpartition("/")[2]
        try:
            split(os.fsencode(last))
        except (wire.ProtocolError, UnicodeEncodeError, ValueError):
            continue
        if not re.search(r"[\x00-\x1f\x7f]", last) and not last.startswith((".", "-")):
            return last
    raise DevkitError("the address names no file", "", "devkit get ADDRESS NAME   says what it is to be called")


def _wished(disposition: str) -> str:
    """Return the name that a Content-Disposition has; many servers write UTF-8 as it is, against the standard."""
    if found := re.search(r"filename\*=([\w-]+)'[^']*'([^;]+)", disposition, re.IGNORECASE):
        with contextlib.suppress(LookupError):
            return unquote(found[2].strip(), encoding=codecs.lookup(found[1]).name, errors="surrogateescape")
    found = re.search(r'filename="((?:[^"\\]|\\.)*)"|filename=([^;"]+)', disposition, re.IGNORECASE)
    name = re.sub(r"\\(.)", r"\1", (found[1] or found[2] or "").strip()) if found else ""
    with contextlib.suppress(LookupError, ValueError, email.errors.HeaderParseError):
        name = str(email.header.make_header(email.header.decode_header(name)))  # =?UTF-8?…?=, as browsers read it
    try:
        return name.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return name


def target_of(address: Address, remote: RemoteFile, options: FetchOptions) -> tuple[Path, str]:
    """Return where a file goes, and the name that it would have where somebody's file of that name stays."""
    destination = Path(options.destination)
    if not destination.is_dir() and not options.destination.endswith("/"):
        # A link stays what it is, and the file that it points to is replaced, as by curl and a shell.
        return (Path(os.path.realpath(destination)) if destination.is_symlink() else destination), ""
    target = destination / file_name(address, remote.disposition)
    if not os.path.lexists(target) or options.replace or _is_ours(target) or has(target, remote):
        return target, ""
    if target.is_dir() or (options.ask is not None and not options.dry_run and options.ask(target)):
        return target, ""
    return _free(target), target.name


def _free(target: Path) -> Path:
    """Return a name, or it with a number, that is nobody's."""
    numbers = (target.with_name(f"{target.name}.{number}") for number in itertools.count(1))
    return next(path for path in itertools.chain([target], numbers) if not os.path.lexists(path) or _is_ours(path))


def check_room(target: Path, size: int) -> None:
    """Refuse what could not be written: for want of a folder, of leave, or of room on its disk."""
    folder = next(above for above in target.parents if above.exists())
    with explained(target):
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        begun = 0
        with contextlib.suppress(OSError):
            begun = target.with_name(os.fsdecode(part_name(os.fsencode(target.name)))).lstat().st_blocks * 512
    why = lack_of_room(max(size - begun, 0), *room_on(os.fsencode(folder)))
    if why:
        raise DevkitError(f"the disk has no room for {size_text(size)}", why)


def mark(target: Path | int) -> None:
    """Note on a file that it was fetched, and how it is now: as long as it stays so, it may be fetched anew."""
    with contextlib.suppress(OSError):  # not every file system keeps notes
        status = os.stat(target)  # noqa: PTH116 - it may be a descriptor
        os.setxattr(target, MARK, b"%d %d" % (status.st_size, status.st_mtime_ns))


def _is_ours(target: Path) -> bool:
    """Tell whether a file was fetched, and nobody has touched it since."""
    with contextlib.suppress(OSError):
        status = target.lstat()
        return os.getxattr(target, MARK, follow_symlinks=False) == b"%d %d" % (status.st_size, status.st_mtime_ns)
    return False


def is_device(target: Path) -> bool:
    """Tell whether a target is a device or a pipe, which is written into."""
    try:
        mode = target.stat().st_mode
    except OSError:
        return False
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise DevkitError(f"{target} is not written to", "It is a disk or a socket.")
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def open_device(target: Path) -> int:
    """Open a device, or a pipe that something reads."""
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "Nothing reads the pipe." if error.errno == errno.ENXIO else f"{error.strerror}."
        raise DevkitError(f"{target} cannot be written", why) from error
    os.set_blocking(descriptor, True)
    return descriptor


def has(target: Path, remote: RemoteFile) -> bool:
    """Tell whether a file here has the size and the time of the server's."""
    try:
        status = target.stat()
    except OSError:
        return False
    return remote.mtime_ns > 0 and (status.st_size, status.st_mtime_ns) == (remote.size, remote.mtime_ns)


def check_hash(part: int, target: Path, sha256: str) -> None:
    """Keep a part that is not what was asked for under another name.

    Raises:
        DevkitError: it is not.
    """
    with explained(target):
        if sha256 and digest_of(Path(f"/proc/self/fd/{part}")) != sha256:
            wrong = _free(target.with_name(f"{target.name}.wrong"))
            mark(part)
            target.with_name(os.fsdecode(part_name(os.fsencode(target.name)))).rename(wrong)
            raise DevkitError(
                f"{target} is not the file that was asked for",
                f"Its SHA-256 differs; what came is kept as {wrong}, and nothing else was touched.",
            )


def hash_holds(target: Path, sha256: str) -> bool:
    """Tell whether a file hashes to what is asked for, if anything is."""
    if not sha256:
        return True
    with explained(target):
        return digest_of(target) == sha256
