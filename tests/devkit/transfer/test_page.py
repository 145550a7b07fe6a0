"""The page of a share in a real browser, driven over WebDriver."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import sharing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.transfer.http_server.server import Server

pytestmark = pytest.mark.engine

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """A session of a browser."""

    def __init__(self, port: int, profile: Path, *, scripts: bool, size: tuple[int, int]) -> None:
        self._port = port
        options: dict[str, Any] = {
            "args": [*FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"],
            "binary": shutil.which("chromium"),
        }
        if not scripts:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        if size[0] < 500:
            options["mobileEmulation"] = {"deviceMetrics": {"width": size[0], "height": size[1], "pixelRatio": 2}}
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options}
        self._session = ""
        self._session = self.do("POST", "", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]

    def do(self, method: str, path: str, value: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        target = f"/session/{self._session}{path}" if self._session else "/session"
        body = json.dumps(value if value is not None else {}) if method == "POST" else None
        connection.request(method, target, body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())["value"]
        connection.close()
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def open(self, url: str) -> None:
        self.do("POST", "/url", {"url": url})

    def find(self, css: str) -> list[str]:
        found = self.do("POST", "/elements", {"using": "css selector", "value": css})
        return [entry[ELEMENT] for entry in found]

    def texts(self, css: str) -> list[str]:
        return [self.do("GET", f"/element/{word}/text") for word in self.find(css)]

    def click(self, css: str, text: str = "") -> None:
        (chosen,) = [word for word in self.find(css) if not text or self.do("GET", f"/element/{word}/text") == text]
        self.do("POST", f"/element/{chosen}/click")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def quit(self) -> None:
        self.do("DELETE", "")


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[int]:
    """A running chromedriver; returns its port."""
    assert shutil.which("chromedriver"), "apt install chromium chromium-driver"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        ["chromedriver", f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def server(source: Path, tmp_path: Path) -> Iterator[Server]:
    with sharing(source, upload=tmp_path / "inbox", reserve=0) as running:
        yield running


def started(port: int, tmp_path: Path, *, scripts: bool = True, size: tuple[int, int] = (1200, 900)) -> Browser:
    return Browser(port, tmp_path / f"profile-{time.monotonic_ns()}", scripts=scripts, size=size)


def until(told: Any, limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_person_finds_their_way(driver: int, server: Server, tmp_path: Path) -> None:
    browser = started(driver, tmp_path)
    try:
        browser.open(server.url())
        names = browser.texts("td.name a")
        assert names[:2] == ["empty folder/", "nested/"]
        assert "not-utf-8-\\xff\\xfe" in names
        assert "2 folders" in browser.texts("#summary")[0]
        browser.click("th a", "Size ▴" if "Size ▴" in browser.texts("th a") else "Size")
        sizes = browser.run("return [...document.querySelectorAll('td.size[title]')].map(e => parseInt(e.title))")
        assert sizes == sorted(sizes)
        browser.click("th a", "Size ▴")
        sizes = browser.run("return [...document.querySelectorAll('td.size[title]')].map(e => parseInt(e.title))")
        assert sizes == sorted(sizes, reverse=True)
        browser.click("td.name a", "nested/")
        browser.click("td.name a", "deep/")
        assert browser.texts("nav li") == ["Shared files", "nested", "deep"]
        assert "line\\nbreak" in browser.texts("td.name a")
        browser.click("nav a", "nested")
        browser.click("td.name a", "..")
        assert browser.texts("nav li") == ["Shared files"]
        assert browser.run("return document.querySelector('a[download]').getAttribute('href')") == "?tar"
    finally:
        browser.quit()


def test_files_are_dropped_and_picked_with_their_progress(driver: int, server: Server, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "picked.bin").write_bytes(data)
    browser = started(driver, tmp_path)
    try:
        browser.open(server.url())
        (pick,) = browser.find("#pick")
        browser.do("POST", f"/element/{pick}/value", {"text": str(tmp_path / "picked.bin")})
        until(lambda: browser.texts("#uploads .done") == ["done"])
        browser.run(
            "const drop = new DataTransfer();"
            "drop.items.add(new File(['dropped <b>'], 'dropped & <i>.txt'.replace(/[<>]/g, '')));"
            "drop.items.add(new File(['x'], 'CON'));"
            "const event = new DragEvent('drop', {dataTransfer: drop, bubbles: true, cancelable: true});"
            "document.body.dispatchEvent(event);"
        )
        until(lambda: len(browser.texts("#uploads .done")) == 2 and len(browser.texts("#uploads .failed")) == 1)
        assert "may not be used" in browser.texts("#uploads .failed")[0]
    finally:
        browser.quit()
    assert (tmp_path / "inbox" / "picked.bin").read_bytes() == data
    assert sorted(path.name for path in (tmp_path / "inbox").iterdir()) == ["dropped & i.txt", "picked.bin"]


def test_it_reads_without_scripts(driver: int, server: Server, tmp_path: Path) -> None:
    browser = started(driver, tmp_path, scripts=False)
    try:
        browser.open(server.url())
        assert browser.texts("#drop p") == [""]
        assert "needs JavaScript" in browser.texts(".hint")[0]
        browser.click("td.name a", "nested/")
        assert "small 7" in browser.texts("td.name a")
    finally:
        browser.quit()


def test_it_fits_a_phone(driver: int, server: Server, source: Path, tmp_path: Path) -> None:
    (source / ("a-very-long-name-" * 12)).write_text("long")
    browser = started(driver, tmp_path, size=(390, 844))
    try:
        browser.open(server.url())
        assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.run("return window.innerWidth") == 390
        heights = browser.run("return [...document.querySelectorAll('td.name a')].map(e => e.offsetHeight)")
        assert min(heights) >= 40
        picture = base64.b64decode(browser.do("GET", "/screenshot"))
        assert picture.startswith(b"\x89PNG")
    finally:
        browser.quit()


def test_what_is_shown_cannot_run_in_the_pages_name(driver: int, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "note.txt").write_text("<script>document.title = 'ran'</script>")
    (shared / "page.html").write_text("<script>document.title = 'ran'</script>")
    with sharing(shared) as server:
        browser = started(driver, tmp_path)
        try:
            browser.open(f"{server.url()}note.txt")
            assert browser.run("return document.title") != "ran"
            assert browser.run("return window.origin") == "null"
        finally:
            browser.quit()
