"""Files into and out of a container; what comes out stays below where it was asked to go."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.envs.engine import explained
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from devkit.envs.container import Owner
    from devkit.envs.engine import Seen

BLOCK = 1 << 20
FOLDER_BIT = 1 << 31  # of the modes that the engine answers, which are Go's


def split(text: str) -> tuple[str, str]:
    """Return the container's name, or nothing, and the path in ``NAME:PATH`` or ``PATH``."""
    name, colon, path = text.partition(":")
    return (name, path or "/") if colon and "/" not in name and name not in {"", ".", ".."} else ("", text)


def copy_out(seen: Seen, inside: str, target: Path) -> int:
    """Copy a file or a folder out of a container; return the bytes.

    Raises:
        DevkitError: it is not there, or it holds what would leave ``target``.
    """
    with explained(f"{seen.name}:{inside}"), tempfile.TemporaryFile() as packed:
        stream, _ = seen.raw.get_archive(inside)
        for block in stream:
            packed.write(block)
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            return _extract(archive, target)


def _extract(archive: tarfile.TarFile, target: Path) -> int:
    """Write an archive's files and folders below ``target``, or its one file as ``target``; no link leads out."""
    total = 0
    as_name = None if target.is_dir() else target.name
    root = (target if as_name is None else target.parent).resolve()
    if not root.is_dir():
        raise DevkitError(f"there is no folder {root}", "", f"mkdir -p {root}")
    for member in archive:
        parts = Path(member.name).parts
        name = Path(as_name, *parts[1:]) if as_name else Path(*parts)
        place = root / name
        if ".." in parts or Path(member.name).is_absolute() or not place.parent.resolve().is_relative_to(root):
            raise DevkitError(f"{member.name} would leave {root}", "It was not written.")
        if member.isdir():
            place.mkdir(exist_ok=True)
        elif member.isfile():
            if place.is_symlink():
                place.unlink()
            source = archive.extractfile(member)
            with place.open("wb") as file:
                while source and (block := source.read(BLOCK)):
                    file.write(block)
            place.chmod(member.mode & 0o777)
            total += member.size
        elif member.issym():
            leads = (place.parent / member.linkname).resolve()
            if Path(member.linkname).is_absolute() or not leads.is_relative_to(root):
                raise DevkitError(
                    f"{member.name} is a link that leads out of {root}", f"It leads to {member.linkname}."
                )
            place.unlink(missing_ok=True)
            place.symlink_to(member.linkname)
    return total


def copy_in(seen: Seen, source: Path, inside: str, owner: Owner) -> int:
    """Copy a file or a folder into a container, as the user's; return the bytes.

    Raises:
        DevkitError: there is no such file, or no such folder inside.
    """
    if not source.exists():
        raise DevkitError(f"there is no {source}", "", f"ls {source.parent}")
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
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, arcname=name, filter=mine)
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
