"""Where the far side has no Python: the system's sftp, a file at a time, each renamed when it is whole.

Nothing is gone on from within a file, updated by block or verified beyond what ssh does; symbolic links and hard links
are not sent. The command says so.
"""

from __future__ import annotations

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
from devkit.transfer.far.manifest import FILE, FOLDER, Offer
from devkit.transfer.far.names import PART, part_name, split
from devkit.transfer.far.wire import text
from devkit.transfer.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devkit.transfer.remote import Place

SAID = "no Python 3.6 there: sftp copies whole files, without resume, block updates, links or a check of its own"


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


def send_batch(offer: Offer, folder: bytes, names: dict[int, bytes]) -> Iterator[bytes]:
    """Yield the lines that put an offer into a far folder; ``names`` are the local paths of its files."""
    folder = folder or b"."
    made = folder.split(b"/")
    for depth in range(1, len(made) + 1):
        if above := b"/".join(made[:depth]):
            yield b"-mkdir " + quoted(above)
    for number, entry in enumerate(offer.entries):
        there = folder.rstrip(b"/") + b"/" + entry.path
        if entry.kind == FOLDER:
            yield b"-mkdir " + quoted(there)
        elif entry.kind == FILE:
            above, _, name = there.rpartition(b"/")
            part = above + b"/" + part_name(name)
            yield b"put -p " + quoted(names[number]) + b" " + quoted(part)
            yield b"rename " + quoted(part) + b" " + quoted(there)


def local_names(offer: Offer) -> dict[int, bytes]:
    """Return the paths of an offer's files, by their numbers."""
    roots = {root: bytes(Path(f"/proc/self/fd/{root}").readlink()) for root in {each.root for each in offer.sources}}
    return {
        number: os.path.join(roots[source.root], source.path)  # noqa: PTH118 - names are bytes
        for number, source in enumerate(offer.sources)
    }


def sftp_words(ssh: Sequence[str]) -> list[str]:
    """Return the words that start sftp as the user starts ssh."""
    return [find_program("sftp"), "-q", "-b", "-", *(["-S", ssh[0]] if ssh[0] != "ssh" else []), *ssh[1:]]


def _run(ssh: Sequence[str], place: Place, batch: bytes) -> None:
    line = [*sftp_words(ssh), "--", place.address]
    done = subprocess.run(line, input=batch, capture_output=True, check=False)
    if done.returncode:
        said = redact(done.stderr.decode(errors="replace").strip())
        raise DevkitError(f"sftp with {place.host} failed", said[-2000:], "the same line again   copies all anew")


def send(ssh: Sequence[str], offer: Offer, place: Place) -> dict[str, Any]:
    """Send what is offered, and return what came of it as ``Outcome.result`` has it.

    Raises:
        DevkitError: sftp failed.
    """
    began = time.monotonic()
    folder = os.fsencode(_home(place.path))
    entries = list(offer.entries)
    if offer.one_file and folder and not folder.endswith(b"/") and not _is_folder(ssh, place, folder):
        folder, _, name = folder.rpartition(b"/")
        split(name)
        entries[0] = entries[0]._replace(path=name)
    named = offer._replace(entries=entries)
    _run(ssh, place, b"\n".join(send_batch(named, folder, local_names(offer))) + b"\n")
    files = [entry for entry in entries if entry.kind == FILE]
    links = [[text(entry.path), "sftp sends no links"] for entry in entries if entry.kind not in (FILE, FOLDER)]
    return _result(len(files), sum(entry.size for entry in files), links, began)


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
        _run(ssh, place, b"".join(b"get -r -p %s %s\n" % (each, quoted(os.fsencode(waiting))) for each in sources))
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
