"""Connections to a web server: through the proxy where there is one, to the certificate that the address names."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import socket
import ssl
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from devkit import __version__
from devkit.errors import DevkitError
from devkit.transfer.fetch.address import redirected
from devkit.transfer.sockets import block_with_timeout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.transfer.fetch.address import Address

TIMEOUT_S = 60.0
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 5


class WrongCertificate(DevkitError):
    """The server is not the one whose fingerprint the address has."""


def proxy_of(address: Address, proxies: Mapping[str, str] | None = None) -> tuple[str, int, str] | None:
    """Return the host, port and credentials of the proxy on the way to an address, or None."""
    found = (urllib.request.getproxies() if proxies is None else proxies).get(address.scheme, "")
    if not found or urllib.request.proxy_bypass(address.netloc):
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if not parts.hostname:
        return None
    credentials = f"{parts.username}:{parts.password or ''}" if parts.username else ""
    return parts.hostname, parts.port or 80, credentials


class Client:
    """One connection, kept open from request to request.

    Args:
        address: the server; redirections change it.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._connection: http.client.HTTPConnection | None = None
        self._prefix = ""
        self._proxy_headers: dict[str, str] = {}

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is not None:
            return self._connection
        address = self.address
        proxy = proxy_of(address)
        host, port = (proxy[0], proxy[1]) if proxy else (address.host, address.port)
        headers = {"Proxy-Authorization": _basic(proxy[2])} if proxy and proxy[2] else {}
        connection: http.client.HTTPConnection
        if address.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=_context(address))
            if proxy:
                connection.set_tunnel(address.host, address.port, headers)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
            self._prefix = f"http://{address.netloc}" if proxy else ""
            self._proxy_headers = headers
        try:
            connection.connect()
            if connection.sock is not None:
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if not isinstance(connection.sock, ssl.SSLSocket):
                    block_with_timeout(connection.sock)
            self._verify(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _verify(self, connection: http.client.HTTPConnection) -> None:
        """Compare the certificate with the address's fingerprint, before a word is said."""
        if not self.address.fingerprint:
            return
        shown = connection.sock.getpeercert(binary_form=True) if isinstance(connection.sock, ssl.SSLSocket) else None
        if not shown or not hmac.compare_digest(hashlib.sha256(shown).hexdigest(), self.address.fingerprint):
            raise WrongCertificate(
                f"{self.address.netloc} is not the server that the address names",
                "Its certificate has another fingerprint: the share ended, or someone is in between.",
            )

    def request(self, headers: Mapping[str, str], target: str = "", *, method: str = "GET") -> http.client.HTTPResponse:
        """Ask for the address, or another target of its server, once more where an idle connection was closed.

        Raises:
            OSError, http.client.HTTPException: the connection failed.
            WrongCertificate: the server is another.
        """
        for attempt in (1, 2):
            fresh = self._connection is None
            connection = self._connect()
            sent = {"Host": self.address.netloc, "User-Agent": f"devkit/{__version__}", "Accept-Encoding": "identity"}
            if self.address.credentials:
                sent["Authorization"] = _basic(self.address.credentials)
            try:
                path = self._prefix + (target or self.address.target)
                connection.request(method, path, headers={**sent, **self._proxy_headers, **headers})
                return connection.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected):
                self.close()
                if fresh or attempt == 2:  # noqa: PLR2004 - the second of two
                    raise
            except BaseException:
                self.close()
                raise
        raise AssertionError("two attempts end in an answer or an error")

    def open(self, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Ask for the address, and go where redirections lead.

        Raises:
            DevkitError: they lead nowhere, or out of https.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self.request(headers)
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or not location:
                return response
            self.close()
            self.address = redirected(self.address, location)
        raise DevkitError("the server sends the request in a circle", f"It was redirected {MAX_REDIRECTS} times.")

    def take_socket(self) -> socket.socket:
        """Return the connection's socket, which is the caller's from now on, after an answer without a body."""
        connection = self._connection
        if connection is None or connection.sock is None:
            raise ConnectionError("the connection ended")
        self._connection = None
        return connection.sock


def _basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def _context(address: Address) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if address.fingerprint:  # the fingerprint says more than a name and an authority would
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
