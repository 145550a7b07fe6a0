"""What ``devkit get`` does with an address: which way to fetch it, and under which name."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import netrc
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import explained
from devkit.redact import remember_secret
from devkit.text import shown
from devkit.transfer.copy import CopyOutcome, Planned
from devkit.transfer.http_download.answer import BROKEN, RemoteFile, Stream, pour, probe, said
from devkit.transfer.http_download.client import Client
from devkit.transfer.http_download.options import TO_STDOUT
from devkit.transfer.http_download.ranges import Download
from devkit.transfer.http_download.target import (
    check_room,
    has,
    hash_holds,
    is_device,
    mark,
    open_device,
    target_of,
)
from devkit.transfer.http_download.upgrade import upgraded
from devkit.transfer.remote import wire
from devkit.transfer.remote.messages import Options, Plan, Result
from devkit.transfer.remote.receiver import Receiver
from devkit.transfer.remote.sender import Pace
from devkit.transfer.sockets import channel_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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
    return found if isinstance(found, CopyOutcome) else found()


async def _fetch(address: Address, options: FetchOptions, watch: Watch) -> CopyOutcome | Callable[[], CopyOutcome]:
    """Fetch a file; return what takes a stream of ``devkit serve`` instead, where that is to be had."""
    client = Client(address, options.headers, options.environ)
    stream = None
    try:
        remote, stream = await probe(client)
        forwarded = replace(options, headers=client.headers)  # which redirections to another server drop
        if remote.is_folder:
            if options.destination == TO_STDOUT:
                raise DevkitError("a folder cannot be written to standard output", "", "devkit get ADDRESS FOLDER")
            if options.sha256:
                raise DevkitError("a folder has no SHA-256", "Each of its files is verified as devkit serve has it.")
            return functools.partial(_stream, client.address, forwarded, watch)
        if options.destination == TO_STDOUT:
            return await _pour(stream, remote, options, watch, sys.stdout.fileno())
        target, aside = target_of(client.address, remote, options)
        if is_device(target):
            return await _pour(stream, remote, options, watch, open_device(target))
        remarks = (f"{aside} is here already, and stays: the file is saved as {target.name}",) if aside else ()
        if remote.digests and target.is_file() and not options.sha256:
            return functools.partial(_update, target, client.address, forwarded, watch, remarks)
        outcome = await _file(stream, remote, target, options, watch)
        return replace(outcome, remarks=outcome.remarks + remarks)
    finally:
        if stream is not None:
            stream.close()
        await client.close()


def _update(
    target: Path, address: Address, options: FetchOptions, watch: Watch, remarks: tuple[str, ...]
) -> CopyOutcome:
    """Take a file that is here in another version from the stream of ``devkit serve``."""
    outcome = _stream(address, replace(options, destination=str(target)), watch)
    if not options.dry_run:
        mark(target)
    return replace(outcome, remarks=outcome.remarks + remarks)


async def _pour(
    stream: Stream, remote: RemoteFile, options: FetchOptions, watch: Watch, descriptor: int
) -> CopyOutcome:
    """Write a file into what is not a file: a device, a pipe, standard output; in one stream, as it comes."""
    plan = _planned(remote, False, options.destination, watch)
    began = time.monotonic()
    digest = hashlib.sha256()

    def take(data: memoryview) -> None:
        digest.update(data)
        _write(descriptor, data, options.destination)

    try:
        if not options.dry_run:
            await pour(stream, remote, take, Pace(options.rate), watch.done)
    except BROKEN as error:
        raise DevkitError("the file did not arrive whole", f"{said(error)}.") from error
    finally:
        if options.destination != TO_STDOUT:
            os.close(descriptor)
    if options.sha256 and not options.dry_run and digest.hexdigest() != options.sha256:
        raise DevkitError("what came is not the file that was asked for", "Its SHA-256 differs; it is written already.")
    return _outcome(plan, Result(int(not options.dry_run), stream.at, 0, 0, 0), began)


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
    have = has(target, remote) and not options.checksum and hash_holds(target, options.sha256)
    plan = _planned(remote, have, target.name, watch)
    if not have:
        check_room(target, remote.size)
    if not have and not options.dry_run:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        download = Download(stream, remote, target, options, watch.done)
        before = await download.run()
        result = Result(1, download.fetched, before, download.again, 0)
        changed = ("it changed while it was fetched: it is here as it was in the end",) if download.changed else ()
        return _outcome(plan, result, began, (*changed, *_remarks(remote), *download.attributes.remarks()))
    return _outcome(plan, Result(0, 0, 0, 0, 0), began)


def _remarks(remote: RemoteFile) -> Iterator[str]:
    """Yield what is not plain about a file that was fetched."""
    if remote.size < 0 and not remote.ends_by_itself:
        yield "the server did not say how long it is: whether it is whole cannot be known"
    if remote.encoding:
        yield f"the server sent it {remote.encoding}-encoded, though asked not to; it is kept as it came"


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
