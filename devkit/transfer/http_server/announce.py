"""How others come to a share: its addresses, the lines to type, a code to photograph; and what they fetched."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from devkit.errors import UsageError
from devkit.redact import remember_secret
from devkit.transfer.http_server.upload import UPLOADS

if TYPE_CHECKING:
    from devkit.transfer.http_server.server import Server

TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_time(word: str) -> float | None:
    """Return the seconds that ``90s``, ``30m``, ``2h`` or ``1d`` mean; None for no word."""
    if not word:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", word.strip())
    if not found or float(found[1]) <= 0:
        raise UsageError(f"{word!r} is not a time", "A time is 90s, 30m, 2h or 1d.")
    return float(found[1]) * TIMES[found[2] or "s"]


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's alone."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def reachable(address: str) -> list[str]:
    """Return the addresses that reach a server listening on ``address``, the likeliest first."""
    if address not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return [address]
    import psutil

    families = (socket.AF_INET,) if address == "0.0.0.0" else (socket.AF_INET, socket.AF_INET6)  # noqa: S104
    found = [address for many in psutil.net_if_addrs().values() for address in many if address.family in families]
    # Link-local addresses need the name of an interface, which is another one at the other end.
    outside = [
        address for address in found if not is_loopback(address.address) and not address.address.startswith("fe80:")
    ]
    outside.sort(key=lambda entry: families.index(entry.family))
    return [address.address.partition("%")[0] for address in outside] or ["127.0.0.1"]


@dataclass(frozen=True)
class Announcement:
    """What is said of a share."""

    url: str  # its address; with TLS, the certificate's fingerprint is its fragment, which no client sends
    lines: tuple[str, ...]  # what to type to fetch it
    secret: str  # the address's secret part
    others: tuple[str, ...] = ()  # by the other addresses of this machine that it listens at

    @classmethod
    def of(cls, server: Server) -> Announcement:
        """Return what is said of a server."""
        host, *more = reachable(server.address)
        base = server.url(host)
        url, pin, fragment = base, "", ""
        if server.certificate:
            fragment = f"#sha256={server.certificate.fingerprint}"
            url = f"{base}{fragment}"
            pin = f"--insecure --pinnedpubkey sha256//{server.certificate.pin} "
        names = server.tree.names
        single = names[0] if len(names) == 1 else b""
        # The name stands in the line: curl -J reads no name that is not ASCII.
        name = os.fsdecode(single or server.tree.name + b".tar")
        output = shlex.quote(f"./{name}" if name.startswith("-") else name)
        curl = f"curl {pin}-o {output} {shlex.quote(base + (quote(single) if single else '?tar'))}"
        lines = [f"devkit get {shlex.quote(url)}", curl]
        if server.inbox is not None:
            lines.append(f"curl {pin}-T FILE {shlex.quote(f'{base}{UPLOADS.decode()}/')}")
        return cls(url, tuple(lines), server.secret, tuple(f"{server.url(word)}{fragment}" for word in more))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"url": self.url, "lines": list(self.lines), "others": list(self.others)}

    def qr_code(self) -> list[str]:
        """Return the address as a code of half blocks, dark on light whatever the terminal's colours are."""
        import io

        import segno

        drawn = io.StringIO()
        segno.make(self.url, error="l", micro=False).terminal(drawn, compact=True)
        return drawn.getvalue().splitlines()

    def forget(self) -> None:
        """Mask the secret from now on, wherever it would be said or written."""
        remember_secret(self.secret)


@dataclass(frozen=True)
class Served:
    """An answer that was given."""

    peer: str
    what: str  # the path, without the secret, or what was uploaded
    sent: int  # the bytes that went out, or came in
    seconds: float
    complete: bool
    uploaded: bool = False
