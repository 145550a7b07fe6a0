"""The remote side: what it is told on its standard input decides whether it offers or takes."""

import contextlib
import gc
import os
import sys
import threading
from typing import Any, Dict

from . import wire
from .manifest import describe
from .messages import Choice, Options, proven
from .receiver import Receiver
from .sender import Sender


def main(marker: str) -> int:
    """Speak over standard input and output until the transfer ends."""
    gc.disable()  # a manifest is millions of objects without a cycle
    output = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not break the stream
    os.write(output, marker.encode())
    for descriptor in (0, output):
        wire.widen(descriptor)
    channel = wire.Channel(0, output)
    channel.send_json(
        wire.HELLO,
        {
            "version": wire.VERSION,
            "python": sys.version.split()[0],
            "digests": wire.digest_speeds(),
            "sums": list(wire.sums()),
        },
    )
    try:
        start = wire.as_object(channel.expect(wire.START))
        channel.keep_alive()
        _do(channel, start)
    except wire.ProtocolError as error:
        _say(channel, wire.Stopped("the remote side lost the connection", str(error)))
        return 1
    except wire.Stopped as error:
        _say(channel, error)
        return 1
    except OSError as error:
        _say(channel, wire.Stopped("the remote side failed", f"{error.strerror}: {error.filename}"))
        return 1
    return 0


def _do(channel: wire.Channel, start: Dict[str, Any]) -> None:
    digest, checksum = start.get("digest"), start.get("sum")
    if digest not in wire.digests() or checksum not in wire.sums():
        raise wire.ProtocolError("a hash that is not known here")
    if start.get("role") == "offer":
        paths = [_expanded(wire.raw(path)) for path in start.get("paths", [])]
        offer = describe(paths, proven(Choice, start.get("choice")))
        rate = float(start.get("rate") or 0)
        Sender(channel, offer, digest, checksum, rate=rate, compress=bool(start.get("compress"))).serve()
    else:
        destination = _expanded(wire.raw(start.get("destination")))
        Receiver(channel, destination, digest, checksum, proven(Options, start.get("options"))).run()


def _expanded(path: bytes) -> bytes:
    """Return what a path means here, whose shell did not see it; a name that is here is itself."""
    return path if os.path.lexists(path) else os.path.expanduser(path)


def _say(channel: wire.Channel, error: wire.Stopped) -> None:
    """Tell the other end, while what it still sends is read: it may be unable to hear before."""
    words = {"what": error.what, "why": error.why}
    teller = threading.Thread(target=_tell, args=(channel, words), daemon=True)
    teller.start()
    teller.join(0.2)
    try:
        while teller.is_alive():
            channel.receive()
    except wire.ProtocolError:
        pass
    teller.join(2)


def _tell(channel: wire.Channel, words: Dict[str, str]) -> None:
    with contextlib.suppress(wire.ProtocolError):
        channel.send_json(wire.FAILED, words)
