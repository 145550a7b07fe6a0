"""What ``devkit get`` does with an address: which way to fetch it, and under which name."""

from __future__ import annotations

import hashlib
import http.client
import netrc
import os
import shlex
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, Hint
from devkit.files import explained
from devkit.redact import remember_secret
from devkit.transfer.copy import PLAN_COUNTS, Outcome, proven
from devkit.transfer.http_download.answer import RemoteFile, Stream, pour, probe, unreachable
from devkit.transfer.http_download.client import Client
from devkit.transfer.http_download.ranges import BLOCK, Fetch
from devkit.transfer.http_download.target import has, is_device, mark, open_device, target_of
from devkit.transfer.remote import wire
from devkit.transfer.remote.names import part_name
from devkit.transfer.remote.receiver import Options, Receiver
from devkit.transfer.remote.sender import Pace
from devkit.transfer.shown import shown
from devkit.transfer.sockets import channel_over

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.transfer.copy import Watch
    from devkit.transfer.http_download.address import Address
    from devkit.transfer.http_download.options import FetchOptions

STREAM = "devkit/1"
DIGEST = "xxh3"
TO_STDOUT = "-"


def with_netrc(address: Address) -> Address:
    """Return an address with what ``~/.netrc`` knows of its host, unless it has credentials; as git and wget do."""
    if address.credentials:
        return address
    try:
        known = netrc.netrc(os.environ.get("NETRC") or None).authenticators(address.host)
    except (OSError, netrc.NetrcParseError):
        return address
    if not known or not known[2]:
        return address
    remember_secret(known[2])
    return replace(address, credentials=f"{known[0]}:{known[2]}")


def fetch(address: Address, options: FetchOptions, watch: Watch) -> Outcome:
    """Fetch what an address names.

    Raises:
        DevkitError: the server, the connection or the disk failed.
    """
    client = Client(with_netrc(address), options.headers, options.environ)
    remote, stream = probe(client)
    try:
        if remote.is_folder:
            if options.destination == TO_STDOUT:
                raise DevkitError("a folder cannot be written to standard output", "", "devkit get ADDRESS FOLDER")
            return _stream(client, options, watch)
        if options.destination == TO_STDOUT:
            return _pour(stream, remote, options, watch, sys.stdout.fileno())
        target, aside = target_of(client.address, remote, options)
        if is_device(target):
            return _pour(stream, remote, options, watch, open_device(target))
        if remote.digests and target.is_file() and not options.sha256:
            outcome = _stream(client, replace(options, destination=str(target)), watch)
            mark(target)
        else:
            outcome = _file(stream, remote, target, options, watch)
    finally:
        stream.close()
    if aside:
        outcome.remarks = (*outcome.remarks, f"{aside} is here already, and stays: the file is saved as {target.name}")
    return outcome


def _pour(stream: Stream, remote: RemoteFile, options: FetchOptions, watch: Watch, descriptor: int) -> Outcome:
    """Write a file into what is no file: a device, a pipe, standard output; in one stream, as it comes."""
    outcome = _planned(remote, False, options.destination, watch)
    began = time.monotonic()
    digest = hashlib.sha256()
    pace = Pace(options.rate)
    buffer = memoryview(bytearray(BLOCK))
    done = 0
    try:
        for count in pour(stream, remote, buffer) if not options.dry_run else ():
            digest.update(buffer[:count])
            written = 0
            while written < count:
                written += os.write(descriptor, buffer[written:count])
            pace.spend(count)
            done += count
            watch.done(count)
    except (http.client.HTTPException, TimeoutError, ConnectionResetError) as error:
        raise DevkitError("the file did not arrive whole", f"{error}.") from error
    except BrokenPipeError as error:
        raise DevkitError("what reads the file ended", "It took no more.") from error
    except OSError as error:
        raise DevkitError(f"{options.destination} cannot be written", f"{error.strerror}.") from error
    finally:
        if options.destination != TO_STDOUT:
            os.close(descriptor)
    if options.sha256 and not options.dry_run and digest.hexdigest() != options.sha256:
        raise DevkitError("what came is not the file that was asked for", "Its SHA-256 differs; it is written already.")
    _finish(outcome, {"files": int(not options.dry_run), "bytes": done, "same_bytes": 0, "again_bytes": 0}, began)
    return outcome


def _planned(remote: RemoteFile, have: bool, name: str, watch: Watch) -> Outcome:
    outcome = Outcome("")
    outcome.plan = {
        "files": 0 if have else 1,
        "bytes": 0 if have else max(remote.size, 0),
        "begun_bytes": 0,
        "have_files": int(have),
        "have_bytes": remote.size if have else 0,
        "names": [] if have else [wire.text(os.fsencode(name))],
        "left_out": [],
        "left_out_count": 0,
    }
    watch.plan(outcome.plan)
    return outcome


def _finish(outcome: Outcome, counts: dict[str, int], began: float) -> None:
    outcome.result = {**counts, "failed": [], "failed_count": 0, "seconds": time.monotonic() - began}
    outcome.wire_bytes = counts["bytes"]


def _file(stream: Stream, remote: RemoteFile, target: Path, options: FetchOptions, watch: Watch) -> Outcome:
    began = time.monotonic()
    have = has(target, remote) and not options.checksum and _hash_holds(target, options.sha256)
    outcome = _planned(remote, have, target.name, watch)
    counts = {"files": 0, "bytes": 0, "same_bytes": 0, "again_bytes": 0}
    if not have and not options.dry_run:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        address = stream.client.address
        headers = stream.client.headers
        fetch = Fetch(
            stream,
            remote,
            target,
            connect=lambda: Client(address, headers, options.environ),
            mark=mark,
            prove=lambda part: _prove(part, target, options.sha256),
            connections=options.connections,
            rate=options.rate,
            on_done=watch.done,
        )
        before = fetch.run()
        counts = {"files": 1, "bytes": fetch.fetched, "same_bytes": before, "again_bytes": fetch.again}
        outcome.remarks = tuple(_remarks(remote))
    _finish(outcome, counts, began)
    return outcome


def _prove(part: int, target: Path, sha256: str) -> None:
    """Let a part that is not what was asked for never take the name of a file that is.

    Raises:
        DevkitError: its hash differs; it is kept under another name.
    """
    with explained(target):
        if sha256 and _hash_of(os.open(f"/proc/self/fd/{part}", os.O_RDONLY | os.O_CLOEXEC)) != sha256:
            wrong = target.with_name(f"{target.name}.wrong")
            target.with_name(os.fsdecode(part_name(os.fsencode(target.name)))).rename(wrong)
            raise DevkitError(
                f"{target} is not the file that was asked for",
                f"Its SHA-256 differs; what came is kept as {wrong}, and nothing else was touched.",
            )


def _remarks(remote: RemoteFile) -> Iterator[str]:
    """Yield what is not plain about a file that was fetched."""
    if remote.size < 0 and not remote.ends_by_itself:
        yield "the server did not say how long it is: whether it is whole cannot be known"
    if remote.encoding:
        yield f"the server sent it {remote.encoding}-encoded, though asked not to; it is kept as it came"


def _hash_holds(target: Path, sha256: str) -> bool:
    if not sha256:
        return True
    with explained(target):
        return _hash_of(os.open(target, os.O_RDONLY | os.O_CLOEXEC)) == sha256


def _hash_of(descriptor: int) -> str:
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def _stream(client: Client, options: FetchOptions, watch: Watch) -> Outcome:
    """Take a file or folder of ``devkit serve`` in one stream, of which only what is not here is asked for."""
    outcome = Outcome("")
    client.close()
    client.tunnels = True  # a proxy takes an upgrade for itself, and has to: RFC 9110, 7.6.1
    headers = {"RemoteFile": "Upgrade", "Upgrade": STREAM, "Devkit-Digest": DIGEST, "Devkit-Rate": str(options.rate)}
    try:
        response = client.request(headers)
        if response.status != http.client.SWITCHING_PROTOCOLS:
            raise DevkitError(f"the server answered {response.status} to the stream", "It may be another version's.")
        first = response.fp.peek() if response.fp and not response.closed else b""
        response.close()
        connection = client.take_socket()
    except (OSError, http.client.HTTPException) as error:
        if client.proxy is not None and "unnel" in str(error):
            raise DevkitError(
                f"the proxy {client.proxy} lets no stream through",
                f"It said: {error}. A folder of devkit serve comes over a connection of its own.",
                Hint(f"export no_proxy={shlex.quote(client.address.host)}", "goes around it, where that is allowed"),
            ) from error
        raise unreachable(client, error) from error

    def planned(plan: dict[str, Any]) -> None:
        outcome.plan = proven(plan, PLAN_COUNTS)
        replaced = [shown(wire.raw(name)) for name in plan.get("replaces", [])]
        if replaced and not options.dry_run:
            more = (
                f" and {plan['replaces_count'] - len(replaced)} more" if plan["replaces_count"] > len(replaced) else ""
            )
            outcome.remarks = (f"replaced, and not kept: {', '.join(replaced)}{more}",)
        watch.plan(plan)

    channel = channel_over(connection, first)
    channel.keep_alive()
    try:
        how = Options(checksum=options.checksum, dry_run=options.dry_run)
        receiver = Receiver(channel, os.fsencode(options.destination), DIGEST, DIGEST, how, planned, watch.done)
        outcome.result = receiver.run()
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
