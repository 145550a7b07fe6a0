"""Requests to a web server, by aiohttp: through the proxy where there is one, to the certificate of the address."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email.utils
import os
import ssl
import time
import urllib.request
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, unquote, urlsplit

import aiohttp
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError
from yarl import URL

from devkit import __version__
from devkit.errors import DevkitError
from devkit.transfer.http_download.address import redirected
from devkit.web import not_bypassed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.transfer.http_download.address import Address

TIMEOUT_S = 60.0
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 20
BUSY = (429, 503)
BUSY_TRIES = 4
PASSING_TRIES = 2
TRIES = {  # after answers that a server may not give the next time
    **dict.fromkeys(BUSY, BUSY_TRIES),
    **dict.fromkeys((408, 500, 502, 504), PASSING_TRIES),
}
PAUSE_S = 1.0
LONGEST_WAIT_S = 30.0
READ_AHEAD = 1 << 20
LONGEST_LINE = 1 << 16  # addresses that are signed are long


class WrongCertificate(DevkitError):
    """The server is not the one whose fingerprint the address has."""


@dataclass(frozen=True)
class Proxy:
    """What stands between this machine and a server."""

    scheme: str  # ``http``, or one of SOCKS: ``socks4``, ``socks5``, ``socks5h`` (which looks names up itself)
    host: str
    port: int
    credentials: str = ""  # ``user:password``, or empty

    @property
    def is_socks(self) -> bool:
        """Whether it carries any connection, and speaks no HTTP."""
        return self.scheme.startswith("socks")

    @property
    def url(self) -> str:
        """What ``python-socks`` takes, which carries a connection through any of these."""
        credentials = f"{quote(self.credentials, safe=':')}@" if self.credentials else ""
        scheme = "socks4" if self.scheme.startswith("socks4") else "socks5" if self.is_socks else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{credentials}{host}:{self.port}"

    @property
    def looks_names_up(self) -> bool:
        """Whether it is given names."""
        return self.scheme in ("http", "socks5h", "socks4a", "socks")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def proxy_of(address: Address, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """Return the proxy on the way to an address, by the environment's variables (``all_proxy`` too), or None."""
    environ = os.environ if environ is None else environ
    named = {
        name.lower()[: -len("_proxy")]: value
        for name, value in sorted(environ.items())  # lower case goes before upper case
        if name.lower().endswith("_proxy") and value and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in environ)
    }
    found = named.get(address.scheme) or named.get("all") or ""
    if not found or urllib.request.proxy_bypass_environment(address.netloc, named):  # type: ignore[attr-defined]
        return None
    if not not_bypassed(named.get("no", "").replace(" ", "").split(","), [address.host]):  # of networks, too
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
    """A session with a server, of as many connections as requests are made at once."""

    def __init__(
        self, address: Address, headers: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.address = address  # redirections change it
        self.headers = dict(headers or {})  # what else is said to this server, and to no other
        self._environ = environ  # which names proxies; this process's by default
        self._jar = aiohttp.CookieJar(unsafe=True)  # addresses of machines have cookies too
        self._sessions: dict[Proxy | None, aiohttp.ClientSession] = {}

    @property
    def proxy(self) -> Proxy | None:
        """The proxy on the way."""
        return proxy_of(self.address, self._environ)

    async def close(self) -> None:
        """End all connections."""
        for session in self._sessions.values():
            connector = session.connector
            await session.close()
            if isinstance(connector, _Connector):
                await connector.cut()
        self._sessions.clear()

    def _session(self, proxy: Proxy | None) -> aiohttp.ClientSession:
        if proxy not in self._sessions:
            self._sessions[proxy] = aiohttp.ClientSession(
                connector=_connector(proxy),
                cookie_jar=self._jar,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=TIMEOUT_S),
                auto_decompress=False,
                read_bufsize=READ_AHEAD,
                max_line_size=LONGEST_LINE,
                max_field_size=LONGEST_LINE,
            )
        return self._sessions[proxy]

    async def request(self, headers: Mapping[str, str], target: str = "") -> aiohttp.ClientResponse:
        """Ask for the address, or another target of its server."""
        address, proxy = self.address, self.proxy
        spoken = proxy if proxy is not None and not proxy.is_socks else None
        sent = {"User-Agent": f"devkit/{__version__}", "Accept-Encoding": "identity"}
        if address.credentials:
            sent["Authorization"] = basic(address.credentials)
        trusted: aiohttp.Fingerprint | ssl.SSLContext | bool = True
        if address.scheme == "https":
            pin = address.fingerprint
            trusted = aiohttp.Fingerprint(bytes.fromhex(pin)) if pin else context("")
        user, _, password = spoken.credentials.partition(":") if spoken else ("", "", "")
        netloc = address.netloc.replace("%25", "%")  # aiohttp looks a zone up as it is written
        try:
            return await self._session(proxy if spoken is None else None).get(
                URL(f"{address.scheme}://{netloc}{target or address.target}", encoded=True),
                headers={**sent, **self.headers, **headers},
                allow_redirects=False,
                ssl=trusted,
                proxy=str(spoken) if spoken else None,
                proxy_auth=aiohttp.BasicAuth(user, password) if user else None,
            )
        except (ProxyError, ProxyConnectionError, ProxyTimeoutError) as error:
            raise ConnectionError(f"it said: {error}") from error
        except aiohttp.ServerFingerprintMismatch as error:
            raise wrong_certificate(address) from error

    async def open(self, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Ask for the address, go where redirections lead, and wait where a busy server asks for it."""
        seen = {self.address.url}
        busy = 0
        while True:
            try:
                response = await self.request(headers)
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
                if isinstance(error, aiohttp.ClientConnectorError) or busy >= PASSING_TRIES:
                    raise
                await asyncio.sleep(PAUSE_S * 2**busy)
                busy += 1
                continue
            location = plain(response.headers).get("Location")
            if busy < TRIES.get(response.status, 0):
                response.close()
                await asyncio.sleep(retry_after(response.headers.get("Retry-After"), PAUSE_S * 2**busy))
                busy += 1
                continue
            if response.status not in REDIRECTS or not location:
                return response
            response.close()
            before, self.address = self.address, redirected(self.address, location)
            if self.address.origin != before.origin:
                self.headers = {}
            if self.address.url in seen and busy == 0 and not response.headers.get("Set-Cookie"):
                raise DevkitError("redirect loop", f"{before.url} leads back to {self.address.url}.")
            seen.add(self.address.url)
            if len(seen) > MAX_REDIRECTS:
                raise DevkitError("too many redirects", f"The server redirected the request {MAX_REDIRECTS} times.")


class _Connector(aiohttp.TCPConnector):
    """Remembers its connections, to cut them: a loop that ends while they are being shut would leave them open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, limit=0, **kwargs)
        self._made: list[asyncio.Transport] = []

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        found = await super()._wrap_create_connection(*args, **kwargs)
        self._made.append(found[0])
        return found

    async def cut(self) -> None:
        for transport in self._made:
            transport.abort()
        for _ in range(3):  # a loop's turn each: TLS, its connection, and what it tells
            await asyncio.sleep(0)


class _ProxyConnector(_Connector, ProxyConnector):
    """The same, through a SOCKS proxy."""


def _connector(proxy: Proxy | None) -> _Connector:
    if proxy is None:
        return _Connector()
    return cast("_Connector", _ProxyConnector.from_url(proxy.url, rdns=proxy.looks_names_up))


def plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Return a head's lines by their usual names, their bytes as Latin-1: what they are is for their readers to say."""
    return {
        name.title().replace("Etag", "ETag"): value.encode("utf-8", "surrogateescape").decode("latin-1")
        for name, value in headers.items()
    }


def wrong_certificate(address: Address) -> WrongCertificate:
    """Return what to say of a server whose certificate has another fingerprint than the address."""
    return WrongCertificate(
        f"{address.netloc} is not the server that the address names",
        "Its certificate has another fingerprint: the share ended, or someone is in between.",
    )


def retry_after(said: str | None, otherwise: float) -> float:
    """Return how many seconds a Retry-After asks to wait, a number or a date; at most half a minute."""
    said = said or ""
    wait_s = float(said) if said.isdigit() else otherwise
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        wait_s = max(email.utils.parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    return min(wait_s, LONGEST_WAIT_S)


def basic(credentials: str) -> str:
    """Return what says a user and a password."""
    return "Basic " + base64.b64encode(credentials.encode()).decode()


@cache
def context(fingerprint: str) -> ssl.SSLContext:
    """Return how a server is to prove who it is: to the system's authorities, or else by its fingerprint."""
    found = ssl.create_default_context()
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    if fingerprint:  # it says more than a name and an authority would
        found.check_hostname = False
        found.verify_mode = ssl.CERT_NONE
    return found
