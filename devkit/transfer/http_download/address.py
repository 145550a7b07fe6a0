"""Where something is fetched from: the address as it was given, its secrets, and the name of what it names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urljoin, urlsplit

from devkit.errors import DevkitError, UsageError
from devkit.redact import remember_secret

LONG_ENOUGH_FOR_A_SECRET = 16
PORTS = {"http": 80, "https": 443}
_FINGERPRINT = re.compile(r"sha256=([0-9a-f]{64})")
_SHARE_SECRET = re.compile(r"[\w-]{22}", re.ASCII)
_LIKE_A_SECRET = re.compile(r"(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])[\w~+=-]{16,}", re.ASCII)


@dataclass(frozen=True)
class Address:
    """A URL in its parts."""

    scheme: str
    host: str
    port: int
    target: str  # the path and the query, as the request line has them
    fingerprint: str = ""  # SHA-256 of the server's certificate, hexadecimal; empty trusts the system's
    credentials: str = ""  # ``user:password``, or empty

    @property
    def origin(self) -> tuple[str, str, int]:
        """What must be the same for credentials to be sent again."""
        return self.scheme, self.host, self.port

    @property
    def netloc(self) -> str:
        """The host and port as a URL has them."""
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL, without credentials and fingerprint."""
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def name(self) -> str:
        """The last name of the path; empty where it ends in a slash."""
        return unquote(self.target.partition("?")[0].rpartition("/")[2], errors="surrogateescape")


def parse_address(url: str) -> Address:
    """Return the parts of a URL, and mask its secrets from now on.

    Raises:
        UsageError: it is not an address that can be fetched.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise UsageError("the address is not one", f"{error}.") from error
    _remember(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise UsageError("get takes an http or https address", "", "devkit get --help")
    if re.search(r"[\s\x00-\x1f\x7f]", parts.hostname + parts.path + parts.query):
        raise UsageError("the address holds spaces or control characters", "A space in a name is %20 there.")
    try:
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
        if ":" in host:  # the zone of an address of a link: %25 is its %, which many write as it is
            host = re.sub(r"%(25)?(?=[^%]+\Z)", "%", host)
    except UnicodeError as error:
        raise UsageError("the address names no host", f"{error}.") from error
    fragment = _FINGERPRINT.fullmatch(parts.fragment)
    if fragment and parts.scheme != "https":
        raise UsageError("a fingerprint belongs to an https address")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    target = quote(parts.path or "/", safe="/%~!$&'()*+,;=:@-._") + (f"?{_query(parts.query)}" if parts.query else "")
    return Address(
        parts.scheme,
        host,
        port or PORTS[parts.scheme],
        target,
        fragment[1] if fragment else "",
        f"{user}:{password}" if user or password else "",
    )


def _query(words: str) -> str:
    return quote(words, safe="%!$&'()*+,;=:@/?-._~[]|^`{}\"<>\\")


def _remember(url: str) -> None:
    parts = urlsplit(url.strip())
    for depth, word in enumerate(parts.path.split("/")):
        if _LIKE_A_SECRET.fullmatch(word) or (depth == 1 and _SHARE_SECRET.fullmatch(word)):
            remember_secret(word)
    for _, value in parse_qsl(parts.query):
        if len(value) >= LONG_ENOUGH_FOR_A_SECRET:
            remember_secret(value)
            remember_secret(quote(value, safe=""))
    if parts.password:
        remember_secret(parts.password)


def redirected(address: Address, location: str) -> Address:
    """Return where an answer sends the request; credentials stay with their origin, and https is not left.

    Raises:
        DevkitError: it leads out of https, or nowhere.
    """
    try:
        # A head's bytes come as Latin-1, and many servers send names in it as they are.
        sent = quote(location.encode("latin-1", "replace"), safe="%!$&'()*+,;=:@/?-._~[]|^#")
        there = parse_address(urljoin(address.url, sent))
    except UsageError as error:
        raise DevkitError("the server sends the request nowhere", error.what) from error
    if address.scheme == "https" and there.scheme != "https":
        raise DevkitError("the server sends the request out of https", "What came from there could be anyone's.")
    same = there.origin == address.origin
    fingerprint = address.fingerprint if same else there.fingerprint
    credentials = there.credentials or (address.credentials if same else "")
    return Address(there.scheme, there.host, there.port, there.target, fingerprint, credentials)
