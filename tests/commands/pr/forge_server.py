"""A forge for tests: bare repositories over HTTP by ``git http-backend``, and the little of an API that devkit asks.

Run as ``python forge_server.py FOLDER``; it prints its port. Each folder in FOLDER is a forge of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


class Handler(BaseHTTPRequestHandler):
    """Answers git, and ``/api/…`` from JSON files."""

    root: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        forge = parts.path.strip("/").split("/")[0]
        with (self.root / forge / "requests.log").open("a", encoding="utf-8") as log:
            api = parts.path.startswith(f"/{forge}/api/")
            token = self.headers.get("Authorization") or self.headers.get("PRIVATE-TOKEN") or "-"
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0)) if api else b""
            log.write(f"{self.command} {self.path} {token} {data.decode()}".strip() + "\n")
        if api:
            self._api(forge, parts.path.removeprefix(f"/{forge}"), parse_qs(parts.query), data)
        else:
            self._git(parts.path, parts.query)

    def _api(self, forge: str, path: str, query: dict[str, list[str]], data: bytes) -> None:
        name = path.strip("/").replace("/", "_") + ".json"
        file = self.root / forge / name
        if self.command == "POST" and (self.root / forge / f"POST_{name}").is_file():
            file = self.root / forge / f"POST_{name}"
        given = {  # GitHub's way, GitLab's, and Gitee's two
            self.headers.get("Authorization", "").removeprefix("Bearer "),
            self.headers.get("PRIVATE-TOKEN", ""),
            *query.get("access_token", []),
            str((json.loads(data) if data else {}).get("access_token")),
        }
        known = "a-token-of-tests" in given and file.is_file()
        self._send(200 if known else 404, "application/json", file.read_bytes() if known else json.dumps({}).encode())

    def _git(self, path: str, query: str) -> None:
        body = self._chunked() if "chunked" in self.headers.get("Transfer-Encoding", "") else None
        data = body if body is not None else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environ = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": unquote(path),
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "CONTENT_LENGTH": str(len(data)),
            "REMOTE_USER": "test",
        }
        done = subprocess.run(["git", "http-backend"], env=environ, input=data, capture_output=True, check=False)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        fields = dict(word.split(": ", 1) for word in head.decode().split("\r\n") if ": " in word)
        self._send(int(fields.get("Status", "200").split()[0]), fields.get("Content-Type", "text/plain"), answer)

    def _chunked(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _send(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()
