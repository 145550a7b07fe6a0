"""Whether a host is reached as git and CMake would reach it: real proxies on loopback that demand, refuse and hang."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from devkit.builds import hosts
from devkit.console import Console
from devkit.process import Runner
from tests.servers import Silent, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def answering(status: int) -> Iterator[str]:
    """A server, or a proxy, that answers everything with one status."""

    class Handler(Silent):
        def do_GET(self) -> None:  # noqa: N802 - the name of the standard library
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_CONNECT = do_GET  # noqa: N815 - the names of the standard library

    with serving(Handler) as address:
        yield address


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """A proxy that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


PROXIES: dict[str, tuple[Callable[[], contextlib.AbstractContextManager[str]], str]] = {
    "demands": (lambda: answering(407), "the proxy demands a name and a password"),
    "refuses": (lambda: answering(403), "the proxy refuses it"),
    "is gone": (refusing, "the connection is refused"),
    "hangs": (hanging, "nothing answers within"),
}


@pytest.mark.parametrize("by", ["git", "CMake"])
@pytest.mark.parametrize("kind", PROXIES)
def test_each_kind_of_proxy_is_told_apart(by: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "LIMIT_S", 1.5)
    runner = Runner(Console())
    make, words = PROXIES[kind]
    with make() as url:
        environ = {**os.environ, "https_proxy": url}
        host = hosts.Host("git.example", "https://git.example/x.git", by)
        assert words in hosts.attempt(runner, host, environ).complaint
    runner.end_all()


def test_a_host_that_answers_has_no_complaint_and_no_proxy_is_honoured() -> None:
    runner = Runner(Console())
    with answering(200) as server, refusing() as proxy:
        around = {**os.environ, "http_proxy": proxy, "no_proxy": "127.0.0.1"}
        host = hosts.Host("127.0.0.1", f"{server}/a.tar.gz", "CMake")
        assert hosts.attempt(runner, host, around).complaint == ""
        assert hosts.attempt(runner, host, {**os.environ, "http_proxy": proxy}).complaint == "the connection is refused"
    with answering(404) as server:
        host = hosts.Host("127.0.0.1", f"{server}/a.tar.gz", "CMake")
        assert "has not what is asked for" in hosts.attempt(runner, host, dict(os.environ)).complaint


def test_each_host_is_asked_once_by_each_that_needs_it() -> None:
    found = hosts.needed(
        ["https://github.com/a/b.git", "git@github.com:c/d.git", "ssh://git@other/x", "../relative"],
        ["https://store.example/x.tar.gz", "https://github.com/e.zip"],
    )
    assert [(host.name, host.by) for host in found] == [
        ("github.com", "git"),
        ("other", "git"),
        ("../relative", "git"),
        ("store.example", "CMake"),
        ("github.com", "CMake"),
    ]
