"""Connections to a web server: through the proxy where there is one, to the certificate that the address names."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import socket
import ssl
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from devkit import __version__
from devkit.errors import DevkitError
from devkit.transfer.http_download.address import redirected
from devkit.transfer.sockets import block_with_timeout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.transfer.http_download.address import Address

TIMEOUT_S = 60.0
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 20
BUSY = (429, 503)
BUSY_TRIES = 4
LONGEST_WAIT_S = 30.0


class WrongCertificate(DevkitError):
    """The server is not the one whose fingerprint the address has."""


@dataclass(frozen=True)
class Proxy:
    """What stands between this machine and a server.

    Attributes:
        scheme: ``http``, or one of SOCKS: ``socks4``, ``socks5``, ``socks5h`` (which looks names up itself).
        credentials: ``user:password``, or empty.
    """

    scheme: str
    host: str
    port: int
    credentials: str = ""

    @property
    def is_socks(self) -> bool:
        """Whether it carries any connection, and speaks no HTTP."""
        return self.scheme.startswith("socks")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def proxy_of(address: Address, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """Return the proxy on the way to an address, by the environment's variables (``all_proxy`` too), or None.

    Raises:
        DevkitError: it is of a kind that is not spoken.
    """
    environ = os.environ if environ is None else environ
    named = {
        name.lower()[: -len("_proxy")]: value
        for name, value in sorted(environ.items())  # lower case goes before upper case
        if name.lower().endswith("_proxy") and value and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ)
    }
    found = named.get(address.scheme) or named.get("all") or ""
    if not found or urllib.request.proxy_bypass_environment(address.netloc, named):  # type: ignore[attr-defined]
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if not parts.hostname:
        return None
    if parts.scheme not in ("http", "socks4", "socks4a", "socks5", "socks5h", "socks"):
        what = f"the proxy {parts.scheme}://{parts.hostname} cannot be used"
        raise DevkitError(
            what, "devkit speaks to proxies by http and SOCKS.", "devkit config set proxy.url http://HOST:PORT"
        )
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    return Proxy(parts.scheme, parts.hostname, parts.port or (1080 if parts.scheme != "http" else 80), credentials)


class Client:
    """One connection, kept open from request to request.

    Args:
        address: the server; redirections change it.
        headers: what else is said to it, and to no other server.
        environ: the variables that name proxies; this process's by default.
    """

    def __init__(
        self, address: Address, headers: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.address = address
        self.proxy = proxy_of(address, environ)
        self.headers = dict(headers or {})
        self._environ = environ
        self._connection: http.client.HTTPConnection | None = None
        self._prefix = ""
        self._proxy_headers: dict[str, str] = {}
        self.tunnels = False

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is not None:
            return self._connection
        address = self.address
        proxy = self.proxy = proxy_of(address, self._environ)
        spoken = proxy if proxy is not None and not proxy.is_socks else None
        host, port = (spoken.host, spoken.port) if spoken else (address.host, address.port)
        headers = {"Proxy-Authorization": _basic(spoken.credentials)} if spoken and spoken.credentials else {}
        self._prefix, self._proxy_headers = "", {}
        connection: http.client.HTTPConnection
        if address.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=_context(address))
        else:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        if spoken and (address.scheme == "https" or self.tunnels):
            connection.set_tunnel(address.host, address.port, headers)
        elif spoken:
            self._prefix, self._proxy_headers = f"http://{address.netloc}", headers
        if proxy is not None and proxy.is_socks:
            connection._create_connection = lambda _address, timeout, _source: _through(proxy, address, timeout)  # type: ignore[attr-defined]  # noqa: SLF001 - http.client's own place for it
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
            sent.update(self.headers)
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
        """Ask for the address, go where redirections lead, and wait where a busy server asks for it.

        Raises:
            DevkitError: they lead nowhere, or out of https.
        """
        seen = {self.address.url}
        busy = 0
        while True:
            response = self.request(headers)
            location = response.headers.get("Location")
            if response.status in BUSY and busy < BUSY_TRIES:
                self.close()
                time.sleep(retry_after(response, 2.0**busy))
                busy += 1
                continue
            if response.status not in REDIRECTS or not location:
                return response
            self.close()
            before, self.address = self.address, redirected(self.address, location)
            if self.address.origin != before.origin:
                self.headers = {}
            if self.address.url in seen and busy == 0 and not response.headers.get("Set-Cookie"):
                raise DevkitError("redirect loop", f"{before.url} leads back to {self.address.url}.")
            seen.add(self.address.url)
            if len(seen) > MAX_REDIRECTS:
                raise DevkitError("too many redirects", f"The server redirected the request {MAX_REDIRECTS} times.")

    def take_socket(self) -> socket.socket:
        """Return the connection's socket, which is the caller's from now on, after an answer without a body."""
        connection = self._connection
        if connection is None or connection.sock is None:
            raise ConnectionError("the connection ended")
        self._connection = None
        return connection.sock


def retry_after(response: http.client.HTTPResponse, otherwise: float) -> float:
    """Return how many seconds a busy server asks to wait, at most half a minute."""
    said = response.headers.get("Retry-After") or ""
    return min(float(said) if said.isdigit() else otherwise, LONGEST_WAIT_S)


def _through(proxy: Proxy, address: Address, timeout: float) -> socket.socket:
    """Return a connection to a server through a SOCKS proxy.

    Raises:
        ConnectionError: the proxy is not there, or refuses.
    """
    from python_socks import ProxyError, ProxyTimeoutError
    from python_socks.sync import Proxy as Socks

    credentials = f"{quote(proxy.credentials, safe=':')}@" if proxy.credentials else ""
    scheme = "socks4" if proxy.scheme.startswith("socks4") else "socks5"
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    by_name = proxy.scheme in ("socks5h", "socks4a", "socks")
    try:
        found: socket.socket = Socks.from_url(f"{scheme}://{credentials}{host}:{proxy.port}", rdns=by_name).connect(
            dest_host=address.host, dest_port=address.port, timeout=timeout
        )
    except (ProxyError, ProxyTimeoutError) as error:
        raise ConnectionError(f"it said: {error}") from error
    return found


def _basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def _context(address: Address) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if address.fingerprint:  # the fingerprint says more than a name and an authority would
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
