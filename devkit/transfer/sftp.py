"""Where the far side runs no Python: the system's sftp, a file at a time, each renamed when it is whole.

``send`` goes on from within a file: its part is named for the file's version, so that what is there is the beginning of
the same bytes. ``recv`` does not: sftp does not say exactly enough whether the file is still what it was. Nothing is
updated by block or verified beyond what ssh does; symbolic links and hard links are not sent. The command says so.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.process import find_program
from devkit.redact import redact
from devkit.transfer.far.manifest import FILE, FOLDER, Entry, Offer
from devkit.transfer.far.names import PART, part_name, split
from devkit.transfer.far.wire import text
from devkit.transfer.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devkit.transfer.remote import Place

SAID = "no Python 3.6 there: sftp copies whole files, without block updates, links or a check of its own"
_PART_LINE = re.compile(rb"\s(\d+) +\w+ +\d+ +[\d:]+ (.+/\.devkit-part-[0-9a-f]{16})\s*", re.ASCII)


def quoted(path: bytes, *, globs: bool = False) -> bytes:
    """Return a path as sftp's batch takes it: never a flag, never a pattern unless ``globs``.

    Raises:
        DevkitError: it holds a line break, which a batch cannot, or a backslash, which sftp reads in its own way.
    """
    if re.search(rb"[\n\r\0\\]", path):
        raise DevkitError(f"{shown(path)} cannot go by sftp", "Its name holds a line break or a backslash.")
    path = b"./" + path if path.startswith(b"-") else path
    if globs:
        return re.sub(rb"""[ \t"'#]""", lambda found: b"\\" + found[0], path)
    return b'"' + path.replace(b'"', b'\\"') + b'"'


def version_name(name: bytes, entry: Entry) -> bytes:
    """Return the temporary name of a file of this size and time: half of it is the name's, half the version's."""
    version = hashlib.sha256(b"%d %d" % (entry.size, entry.mtime_ns)).hexdigest()[:8].encode()
    return part_name(name)[:-8] + version


def far_paths(offer: Offer, folder: bytes) -> dict[int, tuple[bytes, bytes]]:
    """Return where the files of an offer go below a far folder: each one's path, and that of its part."""
    found = {}
    for number, entry in enumerate(offer.entries):
        if entry.kind == FILE:
            path = (folder or b".").rstrip(b"/") + b"/" + entry.path
            above, _, name = path.rpartition(b"/")
            found[number] = path, above + b"/" + version_name(name, entry)
    return found


def parts_batch(paths: dict[int, tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Yield the lines that list what earlier runs left in the far folders."""
    for above in dict.fromkeys(part.rpartition(b"/")[0] for _, part in paths.values()):
        yield b"-ls -ln " + quoted(above + b"/") + b".devkit-part-*"


def parts_found(listing: bytes) -> dict[bytes, int]:
    """Return the parts that a listing names, and how long each is."""
    found = (_PART_LINE.search(line) for line in listing.split(b"\n"))
    return {each[2].removeprefix(b"./"): int(each[1]) for each in found if each}


def begun_bytes(entry: Entry, part: bytes, found: Mapping[bytes, int]) -> int:
    """Return how much of a file a part holds; one that holds all of it may lack its mode and time, and is sent anew."""
    size = found.get(part.removeprefix(b"./"), 0)
    return size if size < entry.size else 0


def send_batch(
    offer: Offer, folder: bytes, names: dict[int, bytes], found: Mapping[bytes, int] | None = None
) -> Iterator[bytes]:
    """Yield the lines that put an offer into a far folder.

    Args:
        offer: what is sent.
        folder: the far folder.
        names: the local paths of its files.
        found: the parts that are there, and how long each is.
    """
    found = found or {}
    folder = folder or b"."
    made = folder.split(b"/")
    paths = far_paths(offer, folder)
    for depth in range(1, len(made) + 1):
        if above := b"/".join(made[:depth]):
            yield b"-mkdir " + quoted(above)
    versions = {part.removeprefix(b"./")[:-8]: part.removeprefix(b"./") for _, part in paths.values()}
    for part in found:
        if versions.get(part[:-8], part) != part:  # what is left of another version
            yield b"-rm " + quoted(part)
    for number, entry in enumerate(offer.entries):
        if entry.kind == FOLDER:
            yield b"-mkdir " + quoted(folder.rstrip(b"/") + b"/" + entry.path)
        elif entry.kind == FILE:
            there, part = paths[number]
            flags = b"-afp " if begun_bytes(entry, part, found) else b"-fp "
            yield b"put " + flags + quoted(names[number]) + b" " + quoted(part)
            yield b"rename " + quoted(part) + b" " + quoted(there)


def local_names(offer: Offer) -> dict[int, bytes]:
    """Return the paths of an offer's files, by their numbers."""
    roots = {root: bytes(Path(f"/proc/self/fd/{root}").readlink()) for root in {each.root for each in offer.sources}}
    return {
        number: os.path.join(roots[source.root], source.path)  # noqa: PTH118 - names are bytes
        for number, source in enumerate(offer.sources)
    }


def sftp_words(ssh: Sequence[str]) -> list[str]:
    """Return the words that start sftp as the user starts ssh; a port and a user are flags of other letters there."""
    words = [find_program("sftp"), "-q", "-b", "-", *(["-S", ssh[0]] if ssh[0] != "ssh" else [])]
    rest = iter(ssh[1:])
    for word in rest:
        name = {"-p": "Port", "-l": "User"}.get(word[:2])
        words += ["-o", f"{name}={word[2:] or next(rest, '')}"] if name else [word]
    return words


def _run(ssh: Sequence[str], place: Place, batch: bytes, again: str = "goes on from where it was") -> bytes:
    line = [*sftp_words(ssh), "--", place.host]
    done = subprocess.run(line, input=batch, capture_output=True, check=False)
    if done.returncode:
        said = redact(done.stderr.decode(errors="replace").strip())
        raise DevkitError(f"sftp with {place.host} failed", said[-2000:], f"the same line again   {again}")
    return done.stdout


def send(ssh: Sequence[str], offer: Offer, place: Place) -> dict[str, Any]:
    """Send what is offered, and return what came of it as ``Outcome.result`` has it.

    Raises:
        DevkitError: sftp failed.
    """
    began = time.monotonic()
    folder = os.fsencode(_home(place.path))
    entries = list(offer.entries)
    if offer.one_file and folder and not folder.endswith(b"/") and not _is_folder(ssh, place, folder):
        above, slash, name = folder.rpartition(b"/")
        folder = above or slash
        split(name)
        entries[0] = entries[0]._replace(path=name)
    named = offer._replace(entries=entries)
    paths = far_paths(named, folder)
    found = parts_found(_run(ssh, place, b"\n".join(parts_batch(paths)) + b"\n"))
    _run(ssh, place, b"\n".join(send_batch(named, folder, local_names(offer), found)) + b"\n")
    files = [entry for entry in entries if entry.kind == FILE]
    links = [[text(entry.path), "sftp sends no links"] for entry in entries if entry.kind not in (FILE, FOLDER)]
    begun = sum(begun_bytes(entry, paths[number][1], found) for number, entry in enumerate(entries) if number in paths)
    result = _result(len(files), sum(entry.size for entry in files) - begun, links, began)
    return {**result, "same_bytes": begun}


def receive(ssh: Sequence[str], place: Place, paths: Sequence[str], destination: str) -> dict[str, Any]:
    """Fetch paths into a folder, and return what came of it as ``Outcome.result`` has it.

    Raises:
        DevkitError: sftp failed, or a file cannot be written.
    """
    began = time.monotonic()
    target = Path(destination)
    alone = len(paths) == 1 and not target.is_dir() and not destination.endswith("/")
    above = target.parent if alone else target
    above.mkdir(parents=True, exist_ok=True)
    waiting = above / f".devkit-part-{secrets.token_hex(8)}"
    waiting.mkdir(mode=0o700)
    try:
        sources = [quoted(os.fsencode(_home(path).rstrip("/") or "."), globs=True) for path in paths]
        batch = b"".join(b"get -r -p %s %s\n" % (each, quoted(os.fsencode(waiting))) for each in sources)
        _run(ssh, place, batch, "copies all anew")
        came = list(waiting.iterdir())
        if alone and len(came) == 1 and came[0].is_file():
            return _result(1, _settle(came[0], target), [], began)
        into = target if not alone else _made(target)
        strip = [path for path in paths if path.endswith("/")]
        counts = [_merge(each, into if strip else into / each.name) for each in came]
        return _result(sum(files for files, _ in counts), sum(size for _, size in counts), [], began)
    finally:
        shutil.rmtree(waiting, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _settle(source: Path, target: Path) -> int:
    """Sync a file and move it into place; return its size."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    source.replace(target)
    return size


def _merge(source: Path, target: Path) -> tuple[int, int]:
    """Move a tree into place, its files one by one; return how many there were and their bytes."""
    if source.is_symlink():
        return 0, 0
    if not source.is_dir():
        return 1, _settle(source, target)
    if target.is_symlink():
        raise DevkitError(f"{target} cannot be written", "A symbolic link is in its way.")
    counts = [
        _merge(each, _made(target) / each.name) for each in source.iterdir() if not PART.match(os.fsencode(each.name))
    ]
    _made(target)
    return sum(files for files, _ in counts), sum(size for _, size in counts)


def _home(path: str) -> str:
    return path[2:] if path.startswith("~/") else "" if path == "~" else path


def _is_folder(ssh: Sequence[str], place: Place, path: bytes) -> bool:
    try:
        _run(ssh, place, b"cd " + quoted(path) + b"\n")
    except DevkitError:
        return False
    return True


def _result(files: int, size: int, failed: list[list[str]], began: float) -> dict[str, Any]:
    return {
        "files": files,
        "bytes": size,
        "same_bytes": 0,
        "again_bytes": 0,
        "failed": failed[:100],
        "failed_count": len(failed),
        "seconds": time.monotonic() - began,
    }
