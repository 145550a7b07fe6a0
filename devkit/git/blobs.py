"""Objects that are written for a snapshot or an entry: files byte for byte, and the commit that names them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git.changes import lstat
from devkit.git.checkout_files import Folders, link_bytes
from devkit.git.command import Git, GitFailed
from devkit.text import size as size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

CHUNK = 1 << 20


MIB = 1 << 20


LARGEST_SHOWN = 3


_HASHES = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}
_CRASH_REPORT = re.compile(rb"fast_import_crash_\d+")


@dataclass(frozen=True)
class File:
    """A path of a checkout as it was.

    Attributes:
        mode: its kind and permissions as ``lstat`` has them; 0: nothing was there.
        oid: the blob with its bytes, or a symbolic link's target; empty for a folder and for nothing.
        size: in bytes.
    """

    path: str
    mode: int
    oid: str = ""
    size: int = 0


class TooLarge(DevkitError):
    """The snapshot would take more than the user allowed without being asked."""


@dataclass
class Blobs:
    """The objects of a snapshot: blobs that must be written, blobs and names (commits or not) that must be kept."""

    object_format: str
    written: dict[str, tuple[int, str | bytes]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)

    def add(self, data: bytes) -> str:
        """Add bytes and return the blob's name."""
        oid = self._hash(len(data), [data])
        self.kept.add(oid)
        self.written[oid] = (len(data), data)
        return oid

    def add_file(self, path: str, size: int, known: Iterable[str]) -> str:
        """Add a file and return the blob's name; one of the ``known`` blobs is in the repository already."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # there may be thousands
        try:
            oid = self._hash(size, iter(lambda: os.read(descriptor, CHUNK), b""))
        finally:
            os.close(descriptor)
        self.kept.add(oid)
        if oid not in known:
            self.written[oid] = (size, path)
        return oid

    def _hash(self, size: int, chunks: Iterable[bytes]) -> str:
        digest = _HASHES[self.object_format](b"blob %d\0" % size, usedforsecurity=False)
        for chunk in chunks:
            digest.update(chunk)
        return digest.hexdigest()


def capture(top: Path, path: str, blobs: Blobs, known: Iterable[str] = (), folders: Folders | None = None) -> File:
    """Return what is at a path of a checkout, its bytes added to ``blobs``."""
    place = os.path.join(top, path)  # noqa: PTH118 - there may be thousands
    found = lstat(place) if (folders or Folders(top)).above(path) else None
    if found is None:
        return File(path, 0)
    if stat.S_ISLNK(found.st_mode):
        target = link_bytes(Path(place))
        return File(path, found.st_mode, blobs.add(target), len(target))
    if stat.S_ISREG(found.st_mode):
        try:
            return File(path, found.st_mode, blobs.add_file(place, found.st_size, known), found.st_size)
        except PermissionError as error:
            raise DevkitError(
                f"{place} cannot be read", "Its bytes could not be kept.", f"chmod u+r -- {shlex.quote(place)}"
            ) from error
    return File(path, found.st_mode)


def too_large(sizes: Iterable[tuple[int, str]], limit: int) -> TooLarge:
    """Return the error for files, each with its size and name, that together are more than ``limit`` bytes."""
    found = sorted(sizes, reverse=True)
    total = sum(size for size, _ in found)
    names = ", ".join(f"{name} ({size_text(size)})" for size, name in found[:LARGEST_SHOWN])
    return TooLarge(
        f"keeping your uncommitted files would take {size_text(total)}",
        f"That is over undo.max-mib, {limit // MIB}. The largest: {names}.",
        "echo NAME >> .git/info/exclude   if a file is not worth keeping",
        f"devkit config set undo.max-mib {-(-total // MIB)}   allows it",
    )


def write_commit(
    git: Git, ref: str, document: tuple[str, Any], blobs: Blobs, parents_: Sequence[str], message: str
) -> str:
    """Write a commit below a private ref, with one git process, and return its name.

    Args:
        git: in the repository.
        ref: the ref.
        document: the name of a JSON file in the commit's tree, and what it holds.
        blobs: what the tree keeps beside it, in ``o/``.
        parents_: the commits that it keeps.
        message: the commit's message.
    """
    name = blobs.add(json.dumps(document[1], separators=(",", ":")).encode())

    def chunks() -> Iterator[bytes]:
        yield b"feature done\n"
        for size, source in blobs.written.values():
            yield b"blob\ndata %d\n" % size
            if isinstance(source, bytes):
                yield source
            else:
                yield from _exactly(source, size)
            yield b"\n"
        said = os.fsencode(message + "\n")
        yield b"commit %s\nmark :1\ncommitter devkit <devkit> %d +0000\n" % (ref.encode(), int(time.time()))
        yield b"data %d\n%s" % (len(said), said)
        yield from (b"merge %s\n" % parent.encode() for parent in parents_)
        yield b"M 100644 %s %s\n" % (name.encode(), document[0].encode())
        yield from (b"M 100644 %s o/%s\n" % (oid.encode(), oid.encode()) for oid in sorted(blobs.kept - {name}))
        yield b"get-mark :1\ndone\n"

    words = ("-c", "core.compression=1", "fast-import", "--quiet", "--force", "--depth=0", "--date-format=raw")
    try:
        return git.stream(*words, chunks=chunks()).decode().strip()
    except GitFailed as error:
        report = _CRASH_REPORT.search(error.answer.stderr)
        if report:  # which git leaves in the repository for ever
            Path(git.text("rev-parse", "--absolute-git-dir"), os.fsdecode(report[0])).unlink(missing_ok=True)
        raise


def _exactly(path: str, size: int) -> Iterator[bytes]:
    left = size
    with Path(path).open("rb") as file:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise DevkitError(f"{path} changed while it was being kept", "", "nothing was changed: run it again")
            left -= len(chunk)
            yield chunk


def blobs_of(git: Git, oids: Iterable[str]) -> Callable[[str], bytes]:
    """Read blobs in one go and return what finds each."""
    names = list(dict.fromkeys(filter(None, oids)))
    data = git.read("cat-file", "--batch", data="".join(f"{name}\n" for name in names).encode()) if names else b""
    found = {}
    at = 0
    for oid in names:
        end = data.index(b"\n", at)
        header = data[at:end].split(b" ")
        if header[-1] == b"missing":
            raise DevkitError(f"the object {oid} of a snapshot is missing", "The repository is damaged.", "git fsck")
        length = int(header[2])
        found[oid] = data[end + 1 : end + 1 + length]
        at = end + length + 2
    return found.__getitem__
