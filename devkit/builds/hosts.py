"""Whether a host that a build must fetch from can be reached, as git and CMake would: through the configured proxy."""

from __future__ import annotations

import contextlib
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from devkit.builds.checkout import clean_environ
from devkit.errors import DevkitError
from devkit.redact import redact
from devkit.web import opener

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from devkit.process import Runner

LIMIT_S = 8.0
COMPLAINTS = (
    (r"407|Proxy Authentication Required", "the proxy demands a name and a password"),
    (r"40[03] from proxy|[Tt]unnel (?:connection )?failed(?:: |, response )40[03]", "the proxy refuses it"),
    (r"HTTP Error 403|returned error: 403", "the host, or a proxy before it, refuses it"),
    (r"timed out|was ended after|Timeout", "nothing answers {limit}"),
    (r"resolve proxy", "the proxy's name does not resolve"),
    (r"resolve host|Name or service not known|name resolution", "its name does not resolve"),
    (r"Connection refused|Failed to connect|Could not connect", "the connection is refused"),
    (r"certificate|SSL|gnutls|TLS", "the encrypted connection fails"),
    (r"not found|does not appear to be a git repository|HTTP Error 404", "it answers, but has not what is asked for"),
)  # fmt: skip


@dataclass(frozen=True)
class Host:
    """A host that is needed: one address at it, who asks (git or CMake), and what came of it (empty: it answers).

    ``optional`` is one from which only some options take something.
    """

    name: str
    url: str
    by: str
    complaint: str = ""
    optional: bool = False


def needed(submodule_urls: Iterable[str], archive_urls: Iterable[str], optional_urls: Iterable[str] = ()) -> list[Host]:
    """Return each host once for git and once for CMake, with the first address that names it."""
    found: dict[tuple[str, str], Host] = {}
    for by, urls, optional in (
        ("git", submodule_urls, False),
        ("CMake", archive_urls, False),
        ("CMake", optional_urls, True),
    ):
        for url in urls:
            name = host_of(url)
            found.setdefault((name, by), Host(name, url, by, optional=optional))
    return list(found.values())


def host_of(url: str) -> str:
    """Return the host of an address of git's or the web's; a path is its own."""
    parts = urlsplit(url)
    if parts.hostname:
        return parts.hostname
    scp = re.match(r"(?:[^@/]+@)?([^:/]+):(?!//)", url)
    return scp[1] if scp else (parts.path or url)


def reason(said: str, limit_s: float = 0) -> str:
    """Say in a few words why an address was not reached, within a time if one was set, by what git or Python said."""
    for pattern, words in COMPLAINTS:
        if re.search(pattern, said, re.IGNORECASE):
            return words.format(limit=f"within {limit_s:g} s" if limit_s else "in time")
    return redact(said.strip().splitlines()[-1]) if said.strip() else "it does not answer"


def attempt(runner: Runner, host: Host, environ: Mapping[str, str]) -> Host:
    """Try a host as the one that asks would: git with its ``insteadOf``, CMake's download with the proxy variables."""
    complaint = _git(runner, host.url, environ) if host.by == "git" else _web(host.url, environ)
    return replace(host, complaint=complaint)


def _git(runner: Runner, url: str, environ: Mapping[str, str]) -> str:
    proxies = {name: value for name, value in environ.items() if "proxy" in name.lower()}
    env = {
        **clean_environ(),
        **proxies,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "LC_ALL": "C",
    }
    try:
        done = runner.run(["git", "ls-remote", "--", url, "HEAD"], env=env, timeout_s=LIMIT_S, check=False)
    except DevkitError as error:
        return reason(error.what, LIMIT_S)
    return reason(done.complaint, LIMIT_S) if done.status else ""


def _web(url: str, environ: Mapping[str, str]) -> str:
    method = "HEAD" if urlsplit(url).scheme in {"http", "https"} else "GET"
    request = urllib.request.Request(url, method=method)  # noqa: S310 - what the tree names
    try:
        with contextlib.closing(opener(url, environ).open(request, timeout=LIMIT_S)):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return reason(f"HTTP Error {error.code}: {error.reason}", LIMIT_S)
    except (OSError, ValueError) as error:
        return reason(str(error), LIMIT_S)
