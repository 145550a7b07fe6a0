"""The remote side: what it is told on its standard input decides whether it offers or takes."""

import contextlib
import gc
import os
import sys
import threading
from typing import Any, Dict

from .manifest import Choice, describe
from .receiver import Options, Receiver
from .sender import Sender
from .wire import (
    FAILED,
    HELLO,
    START,
    VERSION,
    Channel,
    ProtocolError,
    Stopped,
    as_object,
    digest_speeds,
    digests,
    raw,
    sums,
    widen,
)


def main(marker: str) -> int:
    """Speak over standard input and output until the transfer ends."""
    gc.disable()  # a manifest is millions of objects without a cycle
    output = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not break the stream
    os.write(output, marker.encode())
    for descriptor in (0, output):
        widen(descriptor)
    channel = Channel(0, output)
    channel.send_json(
        HELLO, {"version": VERSION, "python": sys.version.split()[0], "digests": digest_speeds(), "sums": list(sums())}
    )
    try:
        start = as_object(channel.expect(START))
        channel.keep_alive()
        _do(channel, start)
    except ProtocolError as error:
        _say(channel, Stopped("the remote side lost the connection", str(error)))
        return 1
    except Stopped as error:
        _say(channel, error)
        return 1
    except OSError as error:
        _say(channel, Stopped("the remote side failed", f"{error.strerror}: {error.filename}"))
        return 1
    return 0


def _do(channel: Channel, start: Dict[str, Any]) -> None:
    if start.get("digest") not in digests() or start.get("sum") not in sums():
        raise ProtocolError("a hash that is not known here")
    if start.get("role") == "offer":
        _offer(channel, start)
    else:
        _take(channel, start)


def _offer(channel: Channel, start: Dict[str, Any]) -> None:
    paths = [_expanded(raw(path)) for path in start.get("paths", [])]
    listed = start.get("only")
    choice = Choice(
        exclude=[raw(pattern) for pattern in start.get("exclude", [])],
        gitignore=bool(start.get("gitignore")),
        unsafe_links=bool(start.get("unsafe_links")),
        copy_links=bool(start.get("copy_links")),
        only=None if listed is None else [raw(path) for path in listed],
    )
    offer = describe(paths, choice)
    rate = float(start.get("rate") or 0)
    Sender(channel, offer, start["digest"], start["sum"], rate=rate, compress=bool(start.get("compress"))).serve()


def _take(channel: Channel, start: Dict[str, Any]) -> None:
    options = Options(
        checksum=bool(start.get("checksum")),
        dry_run=bool(start.get("dry_run")),
        unsafe_links=bool(start.get("unsafe_links")),
        delete=bool(start.get("delete")),
        keep=[raw(pattern) for pattern in start.get("keep", [])],
        update=bool(start.get("update")),
        backup=bool(start.get("backup")),
    )
    Receiver(channel, _expanded(raw(start.get("destination"))), start["digest"], start["sum"], options).run()


def _expanded(path: bytes) -> bytes:
    """Return what a path means here, whose shell did not see it; a name that is here is itself."""
    return path if os.path.lexists(path) else os.path.expanduser(path)


def _say(channel: Channel, error: Stopped) -> None:
    """Tell the other end, while what it still sends is read: it may be unable to hear before."""
    words = {"what": error.what, "why": error.why}
    teller = threading.Thread(target=_tell, args=(channel, words), daemon=True)
    teller.start()
    teller.join(0.2)
    try:
        while teller.is_alive():
            channel.receive()
    except ProtocolError:
        pass
    teller.join(2)


def _tell(channel: Channel, words: Dict[str, str]) -> None:
    with contextlib.suppress(ProtocolError):
        channel.send_json(FAILED, words)
