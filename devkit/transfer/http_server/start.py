"""From what a user shares to a server that listens."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from devkit.transfer.http_server.announce import reachable
from devkit.transfer.http_server.server import Server
from devkit.transfer.http_server.tree import Tree
from devkit.transfer.http_server.upload import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from devkit.transfer.http_server.connection import Served


@contextlib.contextmanager
def open_share(
    paths: Sequence[Path],
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    upload: Path | None = None,
    quota: int = 10 << 30,
    reserve: int = 1 << 30,
    once: bool = False,
    encrypted: bool = False,
    rate: int = 0,
    on_served: Callable[[Served], None] = lambda _served: None,
) -> Iterator[Server]:
    """Listen, and close everything at the end; the arguments are those of ``Server`` and ``Inbox``.

    Raises:
        DevkitError: a path cannot be shared, or the address not listened on.
    """
    with contextlib.ExitStack() as stack:
        tree = Tree(paths)
        stack.callback(tree.close)
        inbox = None
        if upload is not None:
            inbox = Inbox(upload, quota=quota, reserve=reserve)
            stack.callback(inbox.close)
        certificate = None
        if encrypted:
            from devkit.transfer.http_server.certificate import make_certificate

            certificate = make_certificate(
                list(dict.fromkeys([*reachable(address), "localhost", socket.gethostname()]))
            )
        server = Server(
            tree,
            address=address,
            port=port,
            inbox=inbox,
            certificate=certificate,
            once=once,
            rate=rate,
            on_served=on_served,
        )
        stack.callback(server.close)
        yield server
