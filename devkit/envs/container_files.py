"""Files into and out of a container; what comes out stays below where it was asked to go."""

from __future__ import annotations

import os
import shlex
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.envs import container
from devkit.envs.engine import explained
from devkit.errors import DevkitError, Hint
from devkit.files import explained as explained_disk

if TYPE_CHECKING:
    from devkit.envs.container import Owner
    from devkit.envs.engine import Seen

BLOCK = 1 << 20
FOLDER_BIT = 1 << 31  # of the modes that the engine answers, which are Go's


def split(text: str) -> tuple[str, str]:
    """Return the container's name, or nothing, and the path in ``NAME:PATH`` or ``PATH``."""
    name, colon, path = text.partition(":")
    return (name, path or "/") if colon and "/" not in name and name not in {"", ".", ".."} else ("", text)


@dataclass(frozen=True)
class Copy:
    """What copying comes to: a path in a container, one here, and whether it goes in."""

    seen: Seen
    inside: str
    here: str
    goes_in: bool

    def lines(self) -> list[str]:
        """Return the line that does the same."""
        there = f"{self.seen.raw.name}:{self.inside}"
        return [shlex.join(("docker", "cp", "--", *((self.here, there) if self.goes_in else (there, self.here))))]


def plan_copy(seen: Seen, inside: str, here: str, *, goes_in: bool) -> Copy:
    """Return what copying comes to; nothing is changed.

    Raises:
        DevkitError: what goes in is not there, or neither is the folder that it is to come out into.
    """
    path = Path(here)
    if goes_in and not os.path.lexists(path):
        raise DevkitError(f"there is no {path}", "", Hint.of("ls", str(path.parent)))
    if not goes_in:
        check_target(path)
    return Copy(seen, inside, here, goes_in)


def check_target(target: Path) -> Path:
    """Return the folder that is written into for ``target``.

    Raises:
        DevkitError: it is not there.
    """
    root = (target if target.is_dir() else target.parent).resolve()
    if not root.is_dir():
        raise DevkitError(f"there is no folder {root}", "", Hint.of("mkdir", "-p", str(root)))
    return root


def copy(planned: Copy, owner: Owner) -> int:
    """Copy as planned, and return the bytes."""
    if planned.goes_in:
        inside = container.owner_of(planned.seen.raw.attrs, owner)
        return copy_in(planned.seen, Path(planned.here), planned.inside, inside)
    return copy_out(planned.seen, planned.inside, Path(planned.here))


def copy_out(seen: Seen, inside: str, target: Path) -> int:
    """Copy a file or a folder out of a container, with its links, modes and times; return the bytes.

    Raises:
        DevkitError: it is not there, it cannot be written here, or it holds what would leave ``target``.
    """
    with explained_disk(target), explained(f"{seen.name}:{inside}"), tempfile.TemporaryFile() as packed:
        stream, _ = seen.raw.get_archive(inside)
        for block in stream:
            packed.write(block)
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            return _extract(archive, target)


def _extract(archive: tarfile.TarFile, target: Path) -> int:
    """Write an archive's entries below ``target``, or its one file as ``target``.

    A link is written as it is, wherever it leads, as ``docker cp`` does; nothing is written through one.
    """
    total = 0
    as_name = None if target.is_dir() else target.name
    root = check_target(target)
    folders: list[tuple[Path, tarfile.TarInfo]] = []
    for member in archive:
        parts = Path(member.name).parts
        name = Path(as_name, *parts[1:]) if as_name else Path(*parts)
        place = root / name
        if ".." in parts or Path(member.name).is_absolute() or not place.parent.resolve().is_relative_to(root):
            raise DevkitError(f"{member.name} would leave {root}", "It was not written.")
        with explained_disk(place):
            total += _write(archive, member, place)
        if member.isdir():
            folders.append((place, member))
    for place, member in reversed(folders):  # what is written into a folder changes its time
        with explained_disk(place):
            place.chmod(member.mode & 0o777 | 0o700)
            os.utime(place, (member.mtime, member.mtime))
    return total


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> int:
    if member.isdir():
        if place.is_symlink() or not place.is_dir():
            place.mkdir()
        return 0
    if place.is_symlink() or (member.issym() and place.exists()):
        place.unlink()
    if member.issym():
        place.symlink_to(member.linkname)
        return 0
    source = archive.extractfile(member) if member.isfile() or member.islnk() else None
    if source is None:  # a device, a pipe
        return 0
    with source, place.open("wb") as file:
        size = 0
        while block := source.read(BLOCK):
            size += file.write(block)
    place.chmod(member.mode & 0o777)
    os.utime(place, (member.mtime, member.mtime))
    return size


def copy_in(seen: Seen, source: Path, inside: str, owner: Owner) -> int:
    """Copy a file or a folder into a container, as the user's; return the bytes.

    Raises:
        DevkitError: there is no such folder inside.
    """
    folder, name = inside, source.name
    if not inside.endswith("/") and not _is_folder(seen, inside):
        above, _, name = inside.rpartition("/")
        folder = above or "/"
    total = 0

    def mine(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        nonlocal total
        total += entry.size
        entry.uid, entry.gid, entry.uname, entry.gname = owner.uid, owner.gid, "", ""
        return entry

    with explained(f"{seen.name}:{inside}"), tempfile.TemporaryFile() as packed:
        with explained_disk(source), tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, arcname=name, filter=mine)
            packed.flush()
        packed.seek(0)
        seen.raw.put_archive(folder, packed)
    return total


def _is_folder(seen: Seen, path: str) -> bool:
    from docker.errors import NotFound

    with explained(f"{seen.name}:{path}"):
        try:
            _, status = seen.raw.get_archive(path)
        except NotFound:
            return False
        return bool(status["mode"] & FOLDER_BIT)
