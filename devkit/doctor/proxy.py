"""The proxies: which are set, whether they answer, and what should go around them."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from devkit.doctor.finding import Finding
from devkit.redact import redact
from devkit.web import not_bypassed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LIMIT_S = 2.0
NAMES = ("http_proxy", "https_proxy", "all_proxy")
PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080, "socks5h": 1080}
PADDLES_STORE = ".bcebos.com"
AROUND = ("localhost", "127.0.0.1", PADDLES_STORE)


@dataclass(frozen=True)
class Proxy:
    """One proxy: the variables that name it, and what a connection to it gave (empty: it answered)."""

    url: str
    names: tuple[str, ...]
    complaint: str = ""


@dataclass(frozen=True)
class Proxies:
    """What the environment of a program that devkit starts says of proxies.

    Attributes:
        proxies: each proxy once.
        bypass: the words of no_proxy.
        torn: the names whose lower and upper case disagree.
        settings: the words of no_proxy that come from devkit's own setting, proxy.bypass.
    """

    proxies: tuple[Proxy, ...] = ()
    bypass: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


def configured(environ: Mapping[str, str], settings: Iterable[str] = ()) -> Proxies:
    """Return the proxies that ``environ`` names, none of them tried."""
    urls: dict[str, list[str]] = {}
    torn = []
    for name in NAMES:
        values = {variable: environ[variable] for variable in (name, name.upper()) if environ.get(variable)}
        if len(set(values.values())) > 1:
            torn.append(name)
        for variable, url in values.items():
            urls.setdefault(url, []).append(variable)
    bypass = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    words = tuple(word.strip() for word in bypass.split(",") if word.strip())
    return Proxies(tuple(Proxy(url, tuple(names)) for url, names in urls.items()), words, tuple(torn), tuple(settings))


def gather(environ: Mapping[str, str], settings: Iterable[str] = ()) -> Proxies:
    """Connect to each proxy that is configured, and to nothing else."""
    facts = configured(environ, settings)
    return replace(facts, proxies=tuple(replace(proxy, complaint=_try(proxy.url)) for proxy in facts.proxies))


def address(url: str) -> tuple[str, int]:
    """Return a proxy's host and port; without a scheme it is HTTP's.

    Raises:
        ValueError: it has no host, or a port that is none.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if not parts.hostname:
        raise ValueError("it has no host")
    return parts.hostname, parts.port or PORTS.get(parts.scheme, 80)


def _try(url: str) -> str:
    try:
        with contextlib.closing(socket.create_connection(address(url), timeout=LIMIT_S)):
            return ""
    except TimeoutError:
        return f"it does not answer within {LIMIT_S:g} s"
    except OSError as error:
        return f"it does not answer: {error.strerror or error}"
    except ValueError as error:
        return f"it is not a URL of a proxy: {error}"


def check(facts: Proxies) -> list[Finding]:
    """Judge the proxies: one finding each, one for what should go around them."""
    if not facts.proxies:
        return [Finding("proxy", "none set")]
    findings = []
    for proxy in facts.proxies:
        text = f"{_shown(proxy.url)} ({', '.join(proxy.names)})"
        if proxy.complaint:
            remedy = f"unset {' '.join(proxy.names)}   or devkit config set proxy.url URL"
            findings.append(Finding("proxy", text, "broken", proxy.complaint, remedy))
        else:
            findings.append(Finding("proxy", f"{text} answers"))
    if facts.torn:
        name = facts.torn[0]
        why = f"{name} and {name.upper()} differ, and programs disagree on which they read"
        findings.append(Finding("proxy", ", ".join(facts.torn), "warning", why, f"export {name.upper()}=${name}"))
    findings.append(_check_bypass(facts))
    return findings


def _shown(url: str) -> str:
    return redact(url if "://" in url else f"http://{url}").removeprefix("" if "://" in url else "http://")


def _check_bypass(facts: Proxies) -> Finding:
    text = ",".join(facts.bypass) or "empty"
    missing = not_bypassed(facts.bypass, AROUND)
    if not missing:
        return Finding("no_proxy", text)
    what = "what talks on this machine" if missing[0] != PADDLES_STORE else "Paddle's own downloads"
    remedy = f"devkit config set proxy.bypass {','.join((*facts.settings, *missing))}"
    return Finding(
        "no_proxy", text, "warning", f"lacks {', '.join(missing)}: {what} would go through the proxy", remedy
    )
