"""What ``devkit get`` does with an address: which way to fetch it, and under which name."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from devkit.errors import DevkitError, UsageError
from devkit.files import explained
from devkit.transfer.copy import PLAN_COUNTS, Outcome, proven
from devkit.transfer.far import wire
from devkit.transfer.far.names import split
from devkit.transfer.far.taking import Options, Taking
from devkit.transfer.fetch.client import Client
from devkit.transfer.fetch.ranges import Fetch, Remote, probe, unreachable
from devkit.transfer.sockets import channel_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.transfer.copy import Watch
    from devkit.transfer.fetch.address import Address

STREAM = "devkit/1"
DIGEST = "xxh3"


@dataclass(frozen=True)
class Wish:
    """How to fetch.

    Attributes:
        destination: a folder, or for one file its new name.
        connections: how many are used at once.
        rate: the most bytes a second; 0 is no limit.
        checksum: compare the content of files whose size and time are the same (from ``devkit serve``).
        sha256: what the file must hash to, hexadecimal; empty is not checked.
        dry_run: stop after the plan.
    """

    destination: str = "."
    connections: int = 4
    rate: int = 0
    checksum: bool = False
    sha256: str = ""
    dry_run: bool = False


def parse_sha256(word: str) -> str:
    """Return a SHA-256 in lower case.

    Raises:
        UsageError: it is none.
    """
    if word and not re.fullmatch(r"[0-9a-fA-F]{64}", word):
        raise UsageError(f"{word!r} is not a SHA-256", "It has 64 hexadecimal digits.")
    return word.lower()


def file_name(address: Address, disposition: str) -> str:
    """Return the name that a fetched file gets: the server's wish or the address's, as long as it is one plain name.

    Raises:
        DevkitError: neither is a name.
    """
    wished = ""
    if found := re.search(r"filename\*=UTF-8''([^;]+)", disposition, re.IGNORECASE):
        wished = unquote(found[1], errors="surrogateescape")
    elif found := re.search(r'filename="([^"]*)"|filename=([^;"]+)', disposition, re.IGNORECASE):
        wished = (found[1] or found[2] or "").strip()
    for name in (wished, address.name):
        last = name.replace("\\", "/").rpartition("/")[2]
        try:
            split(os.fsencode(last))
        except (wire.ProtocolError, UnicodeEncodeError, ValueError):
            continue
        if not re.search(r"[\x00-\x1f\x7f]", last) and not last.startswith((".", "-")):
            return last
    raise DevkitError("the address names no file", "", "devkit get ADDRESS NAME   says what it is to be called")


def fetch(address: Address, wish: Wish, watch: Watch) -> Outcome:
    """Fetch what an address names.

    Raises:
        DevkitError: the server, the connection or the disk failed.
    """
    client = Client(address)
    try:
        remote = probe(client)
        if remote.is_folder:
            return _stream(client, wish, watch)
        target = _target(client.address, remote, wish)
        if remote.digests and target.is_file() and not wish.sha256:
            return _stream(client, wish, watch)
    finally:
        client.close()
    return _file(client.address, remote, target, wish, watch)


def _target(address: Address, remote: Remote, wish: Wish) -> Path:
    destination = Path(wish.destination)
    if destination.is_dir() or wish.destination.endswith("/"):
        return destination / file_name(address, remote.disposition)
    return destination


def _file(address: Address, remote: Remote, target: Path, wish: Wish, watch: Watch) -> Outcome:
    outcome = Outcome("")
    began = time.monotonic()
    have = _have(target, remote) and not wish.checksum and _hash_holds(target, wish.sha256)
    outcome.plan = {
        "files": 0 if have else 1,
        "bytes": 0 if have else max(remote.size, 0),
        "begun_bytes": 0,
        "have_files": int(have),
        "have_bytes": remote.size if have else 0,
        "names": [] if have else [wire.text(os.fsencode(target.name))],
        "left_out": [],
        "left_out_count": 0,
    }
    watch.plan(outcome.plan)
    counts = {"files": 0, "bytes": 0, "same_bytes": 0, "again_bytes": 0}
    if not have and not wish.dry_run:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        fetch = Fetch(address, remote, target, connections=wish.connections, rate=wish.rate, on_done=watch.done)
        before = fetch.run()
        counts = {"files": 1, "bytes": fetch.fetched, "same_bytes": before, "again_bytes": fetch.again}
        if not _hash_holds(target, wish.sha256):
            wrong = target.with_name(f"{target.name}.wrong")
            target.rename(wrong)
            raise DevkitError(
                f"{target} is not the file that was asked for", f"Its SHA-256 differs; it is kept as {wrong}."
            )
        outcome.remarks = tuple(_remarks(remote))
    outcome.result = {**counts, "failed": [], "failed_count": 0, "seconds": time.monotonic() - began}
    outcome.wire_bytes = counts["bytes"]
    return outcome


def _remarks(remote: Remote) -> Iterator[str]:
    """Yield what is not plain about a file that was fetched."""
    if remote.size < 0 and not remote.ends_by_itself:
        yield "the server did not say how long it is: whether it is whole cannot be known"
    if remote.encoding:
        yield f"the server sent it {remote.encoding}-encoded, though asked not to; it is kept as it came"


def _have(target: Path, remote: Remote) -> bool:
    try:
        status = target.stat()
    except OSError:
        return False
    return remote.mtime_ns > 0 and (status.st_size, status.st_mtime_ns) == (remote.size, remote.mtime_ns)


def _hash_holds(target: Path, sha256: str) -> bool:
    if not sha256:
        return True
    digest = hashlib.sha256()
    with explained(target), target.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest() == sha256


def _stream(client: Client, wish: Wish, watch: Watch) -> Outcome:
    """Take a file or folder of ``devkit serve`` in one stream, of which only what is not here is asked for."""
    outcome = Outcome("")
    client.close()
    headers = {"Connection": "Upgrade", "Upgrade": STREAM, "Devkit-Digest": DIGEST, "Devkit-Rate": str(wish.rate)}
    try:
        response = client.request(headers)
        if response.status != http.client.SWITCHING_PROTOCOLS:
            raise DevkitError(f"the server answered {response.status} to the stream", "It may be another version's.")
        first = response.fp.peek() if response.fp and not response.closed else b""
        response.close()
        connection = client.take_socket()
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(client.address, error) from error

    def planned(plan: dict[str, Any]) -> None:
        outcome.plan = proven(plan, PLAN_COUNTS)
        watch.plan(plan)

    channel = channel_over(connection, first)
    channel.keep_alive()
    try:
        options = Options(checksum=wish.checksum, dry_run=wish.dry_run)
        taking = Taking(channel, os.fsencode(wish.destination), DIGEST, DIGEST, options, planned, watch.done)
        outcome.result = taking.run()
        outcome.take_remarks()
    except wire.Stopped as error:
        raise DevkitError(error.what, error.why) from error
    except wire.ProtocolError as error:
        raise DevkitError(
            f"the transfer broke off: {error}", "", "the same line again   goes on from where it was"
        ) from error
    finally:
        channel.close()
        connection.close()
    outcome.wire_bytes = channel.received
    return outcome
