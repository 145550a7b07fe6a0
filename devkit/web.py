"""What opens an address of the web: through the proxies that an environment's variables name, or around them."""

from __future__ import annotations

import contextlib
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def opener(
    url: str,
    environ: Mapping[str, str],
    *handlers: urllib.request.BaseHandler,
    around: Collection[str] = (),
) -> urllib.request.OpenerDirector:
    """Return what opens an address.

    Args:
        url: the address.
        environ: ``http_proxy``, ``https_proxy`` and ``no_proxy``, in either case.
        handlers: what does more, such as not to follow redirects.
        around: hosts that are reached without a proxy, whatever the variables say.
    """
    host = urlsplit(url).hostname or ""
    named = {kind: environ.get(f"{kind}_proxy") or environ.get(f"{kind.upper()}_PROXY") for kind in ("http", "https")}
    bypass = (environ.get("no_proxy") or environ.get("NO_PROXY") or "").replace(" ", "").split(",")
    direct = host in around or not not_bypassed(bypass, [host])
    proxies = {} if direct else {kind: proxy for kind, proxy in named.items() if proxy}
    return urllib.request.build_opener(urllib.request.ProxyHandler(proxies), *handlers)


def not_bypassed(bypass: Iterable[str], hosts: Iterable[str]) -> list[str]:
    """Return the hosts that no word of no_proxy covers: ``*`` is all, ``.x.com`` and ``x.com`` what ends so."""
    words = [word.lower().lstrip("*").lstrip(".") for word in bypass]
    if "*" in bypass:
        return []
    return [host for host in hosts if not any(_covers(word, host.lstrip(".")) for word in words)]


def _covers(word: str, host: str) -> bool:
    if "/" in word:
        import ipaddress

        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(host) in ipaddress.ip_network(word, strict=False)
        return False
    return bool(word) and (host == word or host.endswith(f".{word}"))
