"""A connection of its own for the stream of ``devkit serve``, which goes on in another protocol than HTTP.

The standard library's client and not aiohttp's: that one hands over no connection, and puts no tunnel through a proxy
to an address without TLS, which a stream needs since a proxy takes an upgrade for itself (RFC 9110, 7.6.1).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import shlex
import socket
from typing import TYPE_CHECKING

from python_socks import ProxyError, ProxyTimeoutError
from python_socks.sync import Proxy as Tunnel

from devkit.errors import DevkitError, Hint
from devkit.transfer.http_download.answer import unreachable
from devkit.transfer.http_download.client import TIMEOUT_S, basic, context, proxy_of, wrong_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.transfer.http_download.address import Address


def upgraded(
    address: Address, headers: Mapping[str, str], environ: Mapping[str, str] | None
) -> tuple[socket.socket, bytes]:
    """Ask for an upgrade, and return the connection and what was read from it already."""
    proxy = proxy_of(address, environ)
    try:
        if proxy is None:
            connection = socket.create_connection((address.host, address.port), TIMEOUT_S)
        else:
            tunnel = Tunnel.from_url(proxy.url, rdns=proxy.looks_names_up)
            connection = tunnel.connect(dest_host=address.host, dest_port=address.port, timeout=TIMEOUT_S)
        return _asked(address, headers, connection)
    except (ProxyError, ProxyTimeoutError) as error:
        raise DevkitError(
            f"the proxy {proxy} lets no stream through",
            f"It said: {error}. A folder of devkit serve comes over a connection of its own.",
            Hint(f"export no_proxy={shlex.quote(address.host)}", "goes around it, where that is allowed"),
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(address, proxy, error) from error


def _asked(address: Address, headers: Mapping[str, str], connection: socket.socket) -> tuple[socket.socket, bytes]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.scheme == "https":
            secure = context(address.fingerprint).wrap_socket(connection, server_hostname=address.host)
            connection = stack.enter_context(secure)
            shown = hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest()
            if address.fingerprint and not hmac.compare_digest(shown, address.fingerprint):
                raise wrong_certificate(address)
        asking = http.client.HTTPConnection(address.host, address.port)
        asking.sock = connection
        sent = {"Host": address.netloc, **headers}
        if address.credentials:
            sent["Authorization"] = basic(address.credentials)
        asking.request("GET", address.target, headers=sent)
        response = asking.getresponse()
        if response.status != http.client.SWITCHING_PROTOCOLS:
            why = f"It answered {response.status}: a proxy may take upgrades for itself, or it is another version's."
            whole = f"{address.url}{'&' if '?' in address.target else '?'}tar"
            hint = Hint.of("devkit", "get", whole, "NAME.tar", purpose="brings a folder in one file")
            raise DevkitError("the server opens no stream for devkit", why, hint)
        first = response.fp.peek() if response.fp and not response.closed else b""
        response.close()
        stack.pop_all()
    return connection, first
