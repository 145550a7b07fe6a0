"""uv's cache, and a small index on loopback."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import threading
import zipfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


UV_CACHE = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")  # before a test has another home


def write_wheel(folder: Path, name: str, version: str, *, requires: str = "", body: str = "VALUE = 1\n") -> Path:
    """Write a wheel of one module, as the specification of wheels has it."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{module}.py": body,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirement}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}")
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,"]) + "\n")
    return wheel


@dataclass
class Index:
    """A simple index: what it holds, and what it was asked."""

    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, version: str, **values: str) -> Path:
        """Put a wheel into the index."""
        return write_wheel(self.folder / "simple" / name, name, version, **values)


class _Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def __init__(self, *words: object, asked: list[str], **named: object) -> None:
        self.asked = asked
        super().__init__(*words, **named)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """A simple index on loopback."""
    folder = tmp_path / "index"
    (folder / "simple").mkdir(parents=True)
    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder), asked=asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Index(f"http://127.0.0.1:{server.server_port}/simple", folder, asked)
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(scope="session")
def uv_cache() -> str:
    """uv's real cache: its home is the machine's, not a test's, or Paddle would be fetched anew for every test."""
    return UV_CACHE


@pytest.fixture(autouse=True)
def _shared_cache(home: Path, monkeypatch: pytest.MonkeyPatch, uv_cache: str) -> None:  # noqa: ARG001 - home comes first
    monkeypatch.setenv("UV_CACHE_DIR", uv_cache)
