"""What ``devkit get`` does with an address: which way to fetch it, and under which name."""

from __future__ import annotations

import asyncio
import hashlib
import netrc
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import explained
from devkit.redact import remember_secret
from devkit.transfer.copy import CopyOutcome, Planned
from devkit.transfer.http_download.answer import BROKEN, RemoteFile, Stream, pour, probe, said
from devkit.transfer.http_download.client import Client
from devkit.transfer.http_download.options import TO_STDOUT
from devkit.transfer.http_download.ranges import BLOCK, Download
from devkit.transfer.http_download.target import check_room, has, is_device, mark, open_device, target_of
from devkit.transfer.http_download.upgrade import upgraded
from devkit.transfer.remote import wire
from devkit.transfer.remote.messages import Options, Plan, Result
from devkit.transfer.remote.names import part_name
from devkit.transfer.remote.receiver import Receiver
from devkit.transfer.remote.sender import Pace
from devkit.transfer.shown import shown
from devkit.transfer.sockets import channel_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.transfer.copy import Watch
    from devkit.transfer.http_download.address import Address
    from devkit.transfer.http_download.options import FetchOptions

STREAM = "devkit/1"
DIGEST = "xxh3"


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


def fetch(address: Address, options: FetchOptions, watch: Watch) -> CopyOutcome:
    """Fetch what an address names."""
    found = asyncio.run(_fetch(with_netrc(address), options, watch))
    if isinstance(found, CopyOutcome):
        return found
    outcome = _stream(found.address, replace(options, destination=found.target, headers=found.headers), watch)
    if found.is_file and not options.dry_run:
        mark(Path(found.target))
    return replace(outcome, remarks=outcome.remarks + found.remarks)


@dataclass(frozen=True)
class _Streamed:
    """What is to be had in a stream of ``devkit serve``."""

    address: Address
    headers: dict[str, str]
    target: str
    is_file: bool = False
    remarks: tuple[str, ...] = ()


async def _fetch(address: Address, options: FetchOptions, watch: Watch) -> CopyOutcome | _Streamed:
    """Fetch a file; return where a stream of ``devkit serve`` is to be had instead, and where it goes."""
    client = Client(address, options.headers, options.environ)
    stream = None
    try:
        remote, stream = await probe(client)
        if remote.is_folder:
            if options.destination == TO_STDOUT:
                raise DevkitError("a folder cannot be written to standard output", "", "devkit get ADDRESS FOLDER")
            return _Streamed(client.address, client.headers, options.destination)
        if options.destination == TO_STDOUT:
            return await _pour(stream, remote, options, watch, sys.stdout.fileno())
        target, aside = target_of(client.address, remote, options)
        remarks = (f"{aside} is here already, and stays: the file is saved as {target.name}",) if aside else ()
        if is_device(target):
            return await _pour(stream, remote, options, watch, open_device(target))
        if remote.digests and target.is_file() and not options.sha256:
            return _Streamed(client.address, client.headers, str(target), True, remarks)
        outcome = await _file(stream, remote, target, options, watch)
        return replace(outcome, remarks=outcome.remarks + remarks)
    finally:
        if stream is not None:
            stream.close()
        await client.close()


async def _pour(
    stream: Stream, remote: RemoteFile, options: FetchOptions, watch: Watch, descriptor: int
) -> CopyOutcome:
    """Write a file into what is not a file: a device, a pipe, standard output; in one stream, as it comes."""
    plan = _planned(remote, False, options.destination, watch)
    began = time.monotonic()
    digest = hashlib.sha256()
    pace = Pace(options.rate)
    buffer = memoryview(bytearray(BLOCK))
    done = 0
    try:
        if not options.dry_run:
            async for count in pour(stream, remote, buffer):
                digest.update(buffer[:count])
                _write(descriptor, buffer[:count], options.destination)
                await asyncio.sleep(pace.delay(count))
                done += count
                watch.done(count)
    except BROKEN as error:
        raise DevkitError("the file did not arrive whole", f"{said(error)}.") from error
    finally:
        if options.destination != TO_STDOUT:
            os.close(descriptor)
    if options.sha256 and not options.dry_run and digest.hexdigest() != options.sha256:
        raise DevkitError("what came is not the file that was asked for", "Its SHA-256 differs; it is written already.")
    return _outcome(plan, Result(int(not options.dry_run), done, 0, 0, 0), began)


def _write(descriptor: int, data: memoryview, destination: str) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError as error:
        raise DevkitError("what reads the file ended", "It took no more.") from error
    except OSError as error:
        raise DevkitError(f"{destination} cannot be written", f"{error.strerror}.") from error


def _planned(remote: RemoteFile, have: bool, name: str, watch: Watch) -> Plan:
    size = max(remote.size, 0)
    plan = Plan(0, 0, 0, 1, size, 0) if have else Plan(1, size, 0, 0, 0, 0, names=(os.fsencode(name),))
    watch.plan(plan)
    return plan


def _outcome(plan: Plan, result: Result, began: float, remarks: tuple[str, ...] = ()) -> CopyOutcome:
    result = result._replace(seconds=time.monotonic() - began)
    return CopyOutcome("", plan, result, result.bytes, remarks=remarks)


async def _file(stream: Stream, remote: RemoteFile, target: Path, options: FetchOptions, watch: Watch) -> CopyOutcome:
    began = time.monotonic()
    have = has(target, remote) and not options.checksum and _hash_holds(target, options.sha256)
    plan = _planned(remote, have, target.name, watch)
    if not have:
        check_room(target, remote.size)
    if not have and not options.dry_run:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        download = Download(
            stream,
            remote,
            target,
            mark=mark,
            prove=lambda part: _prove(part, target, options.sha256),
            connections=options.connections,
            rate=options.rate,
            on_done=watch.done,
        )
        before = await download.run()
        result = Result(1, download.fetched, before, download.again, 0)
        changed = ("it changed while it was fetched: it is here as it was in the end",) if download.changed else ()
        return _outcome(plan, result, began, (*changed, *_remarks(remote), *download.attributes.remarks()))
    return _outcome(plan, Result(0, 0, 0, 0, 0), began)


def _prove(part: int, target: Path, sha256: str) -> None:
    """Let a part that is not what was asked for never take the name of a file that is."""
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


def _stream(address: Address, options: FetchOptions, watch: Watch) -> CopyOutcome:
    """Take a file or folder of ``devkit serve`` in one stream, of which only what is not here is asked for."""
    planned = Planned(watch)
    headers = {"Connection": "Upgrade", "Upgrade": STREAM, "Devkit-Digest": DIGEST, "Devkit-Rate": str(options.rate)}
    connection, first = upgraded(address, {**options.headers, **headers}, options.environ)
    channel = channel_over(connection, first)
    channel.keep_alive()
    try:
        how = Options(checksum=options.checksum, dry_run=options.dry_run)
        receiver = Receiver(channel, os.fsencode(options.destination), DIGEST, DIGEST, how, planned, watch.done)
        outcome = planned.outcome("", receiver.run(), channel.received)
    except wire.Stopped as error:
        raise DevkitError(error.what, error.why) from error
    except wire.ProtocolError as error:
        raise DevkitError(
            f"the transfer broke off: {error}", "", "the same line again   goes on from where it was"
        ) from error
    finally:
        channel.close()
        connection.close()
    if options.dry_run or not outcome.plan or not outcome.plan.replaces:
        return outcome
    more = outcome.plan.replaces_count - len(outcome.plan.replaces)
    names = ", ".join(map(shown, outcome.plan.replaces)) + (f" and {more} more" if more else "")
    return replace(outcome, remarks=(f"replaced, and not kept: {names}", *outcome.remarks))
