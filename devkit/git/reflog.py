"""The log of a ref, as git writes it to a file: ``old new name <email> seconds zone TAB message`` a line.

Where refs are in a table there is no file: it is read with ``git log -g`` and written an entry at a time.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from devkit.git.checkout_files import write_file
from devkit.git.command import line

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.git.command import Git
    from devkit.git.state import CloneDirs

_SHOWN = "%H%x00%gn%x00%ge%x00%gD%x00%gs%x00"
_WHEN = re.compile(rb"@\{(\d+ [+-]\d{4})\}$")
_ENTRY = re.compile(rb"([0-9a-f]+) ([0-9a-f]+) (.*) <([^>]*)> (\d+ [+-]\d{4})\t?(.*)")


def read(git: Git, place: CloneDirs, ref: str) -> bytes:
    """Return the log of a ref; nothing where it has none."""
    if place.ref_format == "files":
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return _path(place, ref).read_bytes()
        return b""
    words = ("log", "--walk-reflogs", "--no-patch", "--no-notes", "--date=raw", f"--format={_SHOWN}", ref, "--")
    fields = git.ask(*words).stdout.split(b"\0")
    entries = list(zip(*(fields[at::5] for at in range(5)), strict=False))
    lines = []
    before = place.null.encode()
    for oid, name, email, selector, message in reversed(entries):
        when = _WHEN.search(selector)
        then, before = before, oid.strip()
        seconds = when[1] if when else b"0 +0000"
        lines.append(b"%s %s %s <%s> %s\t%s\n" % (then, before, name, email, seconds, message))
    return b"".join(lines)


def write(git: Git, place: CloneDirs, ref: str, log: bytes) -> None:
    """Make the log of a ref, which is there, what ``read`` returned; with a table the ref ends at its last entry."""
    if place.ref_format == "files":
        path = _path(place, ref)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, log, 0o100644)
        return
    if read(git, place, ref) == log:
        return
    git.ask("reflog", "expire", "--expire=all", "--expire-unreachable=all", ref)
    entries = [match.groups() for row in log.splitlines() if (match := _ENTRY.fullmatch(row))]
    if all(_added(git, ref, entry) for entry in entries):
        return
    # before git 2.51: the ref goes the way again; what left it where it was is not told
    if ref != "HEAD":
        git.execute(line("update-ref", "--no-deref", "-d", ref))
    for entry in entries:
        _added(git, ref, entry, moves=True)


def _added(git: Git, ref: str, entry: tuple[bytes, ...], *, moves: bool = False) -> bool:
    """Add an entry to a log, the ref moved there or not; return whether that was done."""
    old, new, name, email, when, message = (word.decode(errors="surrogateescape") for word in entry)
    env = {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email, "GIT_COMMITTER_DATE": f"@{when}"}
    words = ("reflog", "write", ref, old, new, message)
    if moves:
        words = ("update-ref", "--no-deref", "--create-reflog", *(("-m", message) if message else ()), ref, new)
    return not git.ask(*words, env=env).status


def commits(log: bytes) -> list[str]:
    """Return the commits that a log names."""
    words = [word.decode() for row in log.splitlines() for word in row.split(b" ", 2)[:2]]
    return [word for word in words if set(word) != {"0"}]


def _path(place: CloneDirs, ref: str) -> Path:
    return (place.git_dir if ref == "HEAD" else place.common_dir) / "logs" / ref
