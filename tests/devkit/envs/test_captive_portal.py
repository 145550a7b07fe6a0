"""A page to log in at is told from an index's, whatever is asked of either."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING

import pytest

from devkit.envs import captive_portal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Devkit

LOGIN = "<html><head><title>Campus network</title></head><body>Please <form>log in</form></body></html>"
INDEX = '<!DOCTYPE html><html><body><a href="../../p/flask_login-1.0-py3-none-any.whl#sha256=0">x</a></body></html>'


@pytest.mark.parametrize(
    ("page", "title"),
    [
        (LOGIN, "Campus network"),
        ("<html><meta http-equiv=refresh content='0; url=http://1.1.1.1'></html>", ""),
        ("<HTML><TITLE> 校园网 </TITLE>请先登录</HTML>", "校园网"),
        (INDEX, None),
        ("<html><title>Links for flask-login</title><h1>Links for flask-login</h1></html>", None),
        ('{"files": [], "name": "flask-login"}', None),
        ("log in", None),
    ],
)
def test_login_page_is_told_from_an_index(page: str, title: str | None) -> None:
    assert captive_portal.login_page(page, "flask-login") == title


def test_package_that_uv_misses() -> None:
    assert captive_portal.missing_package("Because there are no versions of a-b and you require a-b, we") == "a-b"
    assert captive_portal.missing_package("y was not found in the package registry") == "y"
    assert captive_portal.missing_package("error: dns error") == ""


class _Portal(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(LOGIN.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def portal() -> Iterator[str]:
    """What answers in place of every host; the address of an index there."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Portal)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_network_that_wants_a_login_is_named(devkit: Devkit, portal: str, tmp_path: Path) -> None:
    words = ("env", "create", "x", "--paddle", "none", "--with", "tiny", "--index-url", portal)
    made = devkit(*words, env={"UV_CACHE_DIR": str(tmp_path / "cache")})
    assert made.status == 1
    said = made.err.splitlines()
    assert "✗ uv failed: a web page answers where the index should" in said, made.err
    assert f"  {portal}/tiny/ is 'Campus network': perhaps to log in at." in said
    assert f"  → curl -sL -- {portal}/tiny/   shows it" in said


def test_an_index_that_does_not_answer_is_no_login_page(portal: str) -> None:
    assert captive_portal.look("http://127.0.0.1:9/simple", "tiny", {}) is None
    assert captive_portal.look(portal, "tiny", {}) == (f"{portal}/tiny/", "Campus network")
