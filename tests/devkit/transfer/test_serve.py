"""What a share answers, spoken to over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import random
import re
import socket
import ssl
import struct
import subprocess
import tarfile
import threading
import time
import zipfile
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pytest

from devkit.errors import DevkitError, UsageError
from devkit.transfer.http_server import client as share_client
from devkit.transfer.http_server.announce import Announcement, is_loopback, parse_time, reachable
from devkit.transfer.http_server.page import ordered
from devkit.transfer.http_server.requests import BadRequest, parse_range
from devkit.transfer.http_server.tree import Item
from devkit.transfer.http_server.upload import upload_name
from devkit.transfer.remote.names import link_stays_inside

from .conftest import FUZZ, sharing, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.transfer.http_server.announce import Served
    from devkit.transfer.http_server.server import Server


@pytest.fixture
def server(source: Path) -> Iterator[Server]:
    with sharing(source) as running:
        yield running


def ask(
    server: Server,
    path: str = "",
    headers: dict[str, str] | None = None,
    method: str = "GET",
    data: bytes | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Ask for a path below the secret."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, f"/{server.secret}/{path}", body=data, headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, dict(response.headers), body


def say(server: Server, data: bytes, limit_s: float = 10) -> bytes:
    """Send bytes and return all that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=limit_s) as connection:
        connection.sendall(data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(1 << 16):
                found += chunk
        return found


def test_a_file_comes_whole_and_in_ranges(server: Server, source: Path) -> None:
    data = (source / "big.bin").read_bytes()
    status, headers, body = ask(server, "big.bin")
    assert (status, body) == (200, data)
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["Accept-Ranges"] == "bytes"
    for word, first, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, len(data)),
        ("bytes=-7", len(data) - 7, len(data)),
    ):
        status, headers, body = ask(server, "big.bin", {"Range": word})
        assert (status, body) == (206, data[first:end])
        assert headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(data)}"
    status, headers, _ = ask(server, "big.bin", {"Range": f"bytes={len(data)}-"})
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(data)}")
    assert ask(server, "big.bin", {"Range": "bytes=0-1", "If-Range": '"another"'})[0] == 200
    assert ask(server, "zero")[2] == b""
    assert ask(server, "big.bin", method="HEAD")[2] == b""


def test_answers_are_kept_nowhere_and_name_no_referrer(server: Server) -> None:
    for path in ("", "big.bin", "missing", "?tar"):
        headers = ask(server, path)[1]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in ask(server, "big.bin")[1]["Content-Security-Policy"]


def test_without_the_secret_there_is_nothing(server: Server) -> None:
    wrong = (
        "/",
        "/big.bin",
        f"/{server.secret[:-1]}/",
        f"/{server.secret}x/",
        f"/{server.secret.lower()}/",
        "//",
        "/%00/",
    )
    answers = {say(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())[:12] for path in wrong}
    assert answers <= {b"HTTP/1.1 404", b"HTTP/1.1 400"}


def test_every_name_of_a_tree_can_be_followed_from_the_page(server: Server, source: Path) -> None:
    seen = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        page = ask(server, folder)[2].decode()
        for href in re.findall(r'<td class="name"><a[^>]* href="\./([^"]+)"', page):
            if href.endswith("/"):
                waiting.append(folder + href)
            else:
                status, _, body = ask(server, folder + href)
                assert status == 200
                seen.add((len(body), hash(body)))
    files = [path for path in source.rglob("*") if path.is_file()]
    assert seen == {(len(path.read_bytes()), hash(path.read_bytes())) for path in files}


def test_a_name_is_text_on_the_page_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / '"><script>alert(1)<').write_text("")
    (tmp_path / "share" / "javascript:alert(1)").write_text("")
    (tmp_path / "share" / "\u202egpj.exe").write_text("")
    with sharing(tmp_path / "share") as server:
        _, headers, body = ask(server)
        page = body.decode()
    assert "<script" not in page
    assert 'href="./javascript%3Aalert%281%29"' in page
    assert "\u202e" not in page
    assert "script-src 'nonce-" in headers["Content-Security-Policy"]


def test_the_page_sorts_as_asked_folders_first() -> None:
    items = [Item(b"b", False, 1, 30), Item(b"A", False, 2, 20), Item(b"z", True, 0, 10)]
    assert [item.name for item in ordered(items, {})] == [b"z", b"A", b"b"]
    assert [item.name for item in ordered(items, {"sort": "size", "order": "down"})] == [b"z", b"A", b"b"]
    assert [item.name for item in ordered(items, {"sort": "size"})] == [b"z", b"b", b"A"]
    assert [item.name for item in ordered(items, {"sort": "date"})] == [b"z", b"A", b"b"]
    assert [item.name for item in ordered(items, {"sort": "name", "order": "down"})] == [b"z", b"b", b"A"]


@pytest.mark.parametrize("path", ["nested", "nested/deep", "."])
def test_a_folder_without_its_slash_is_sent_on_from_where_it_is(path: str, server: Server, source: Path) -> None:
    assert (source / "nested").is_dir()
    asked = f"http://proxy/below/{server.secret}/{path}" if path != "." else f"http://proxy/below/{server.secret}"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", urlsplit(asked).path.removeprefix("/below"))
    response = connection.getresponse()
    assert response.status == 308
    assert urljoin(asked, response.headers["Location"]) == f"{asked}/"
    connection.close()


def test_links_are_followed_inside_and_never_outside(tmp_path: Path) -> None:
    shared, outside = tmp_path / "shared", tmp_path / "outside"
    (shared / "runs" / "run-7").mkdir(parents=True)
    (shared / "runs" / "run-7" / "log").write_text("inside")
    outside.mkdir()
    (outside / "secret").write_text("outside")
    (shared / "latest").symlink_to("runs/run-7")
    (shared / "runs" / "back").symlink_to("../latest/log")
    (shared / "out").symlink_to("../outside")
    (shared / "absolute").symlink_to(outside / "secret")
    (shared / "loop").symlink_to("loop")
    (shared / "root").symlink_to(".")
    with sharing(shared) as server:
        assert ask(server, "latest/log")[2] == b"inside"
        assert ask(server, "runs/back")[2] == b"inside"
        for path in ("out/", "out/secret", "absolute", "loop", "latest/../../outside/secret", "root/../outside/secret"):
            assert ask(server, path)[0] == 404
        page = ask(server)[2].decode()
    assert "latest" in page
    assert "./absolute" not in page


def test_paths_that_lead_out_are_not_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    paths = ["../secret", "..%2fsecret", "%2e%2e/secret", "nested/../../secret", "/etc/passwd", "//etc/passwd", "%2e"]
    for path in [*paths, "nested//deep", "./zero", "zero/", "nested/..%00", "..", "nested/.."]:
        answer = say(server, f"GET /{server.secret}/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer[:12] in (b"HTTP/1.1 404", b"HTTP/1.1 400")
        assert b"root:" not in answer


def test_several_paths_are_an_entry_each(source: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("note")
    (tmp_path / "sideways").symlink_to("source")
    with sharing(source, tmp_path / "note.txt") as server:
        assert ask(server, "note.txt")[2] == b"note"
        assert ask(server, "source/zero")[0] == 200
        assert ask(server, "sideways/zero")[0] == 404
        assert ask(server, "conftest")[0] == 404
        with tarfile.open(fileobj=io.BytesIO(ask(server, "?tar")[2])) as archive:
            assert "share/note.txt" in archive.getnames()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note.txt").write_text("")
    with (
        pytest.raises(DevkitError, match="cannot be shared"),
        sharing(tmp_path / "note.txt", tmp_path / "other" / "note.txt"),
    ):
        pass


def test_an_archive_holds_the_folder_and_spills_nothing(server: Server, source: Path, tmp_path: Path) -> None:
    _, headers, body = ask(server, "?tar")
    assert len(body) == int(headers["Content-Length"])
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert all(member.name.split("/")[0] == "source" for member in archive)
        archive.extractall(tmp_path / "unpacked", filter="data")
    for path in source.rglob("*"):
        copied = tmp_path / "unpacked" / "source" / path.relative_to(source)
        if path.is_file():
            assert copied.read_bytes() == path.read_bytes()
    assert ask(server, "nested/?tar")[1]["Content-Disposition"].startswith('attachment; filename="nested.tar"')


def test_a_zip_holds_the_same_and_is_cut_where_a_file_changes(server: Server, source: Path) -> None:
    status, headers, body = ask(server, "?zip")
    assert (status, headers["Content-Type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        for path in (path for path in source.rglob("*") if path.is_file() and not path.is_symlink()):
            name = os.fsencode(f"source/{path.relative_to(source)}").decode("utf-8", "backslashreplace")
            assert archive.read(name) == path.read_bytes()
        assert archive.getinfo("source/script.sh").external_attr >> 16 & 0o777 == 0o751
        assert archive.read("source/link") == b"nested/small 3"
    assert ask(server, "nested/?zip")[1]["Content-Disposition"].startswith('attachment; filename="nested.zip"')


def test_names_with_a_dot_are_shown_when_asked_for(server: Server, source: Path) -> None:
    (source / ".env").write_text("x")
    (source / "..dots").write_text("not hidden")
    (source / "nested" / ".git").mkdir()
    plain, shown = ask(server)[2].decode(), ask(server, "?hidden")[2].decode()
    assert ".env" not in plain
    assert "Show 1 hidden" in plain
    assert "./..dots" in plain
    assert "./.env" in shown
    assert "./nested/?hidden" in shown
    assert ask(server, ".env")[2] == b"x"


def test_of_an_archive_whose_file_changes_the_end_does_not_come(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    for name in ("a", "b"):
        (tmp_path / "shared" / name).write_bytes(os.urandom(30 << 20))
    with sharing(tmp_path / "shared") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", f"/{server.secret}/?tar")
        response = connection.getresponse()
        response.read(1000)
        (tmp_path / "shared" / "b").write_bytes(b"shorter")
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        connection.close()


REFUSALS = (400, 403, 404, 405, 411, 501)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/2.0\r\nHost: x",
        b"GET http://x/ HTTP/1.1\r\nHost: x",
        b"get / HTTP/1.1\r\nHost: x",
        b"POST / HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: y",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon",
        b"GET / HTTP/1.1\r\nHost : x",
        b"GET / HTTP/1.1\r\nHost: x\nInjected: y",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5",
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6",
        b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked",
        b"GET /%00 HTTP/1.1\r\nHost: x",
        b"GET /" + b"x" * 13000 + b" HTTP/1.1\r\nHost: x",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"\r\n".join(b"h%d: x" % n for n in range(70)),
        b"GET /?" + b"&".join(b"a%d=1" % n for n in range(30)) + b" HTTP/1.1\r\nHost: x",
        b"PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: +5",
        b"PUT /upload/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_a_request_that_is_none_is_refused_once_and_ends_the_connection(raw: bytes, server: Server) -> None:
    named = raw.replace(b" /", f" /{server.secret}/".encode(), 1)
    answer = say(server, named + b"\r\n\r\n" + f"GET /{server.secret}/zero HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (int(answer[9:12] or b"400"), answer.count(b"HTTP/1.1 ") <= 1) in [(refusal, True) for refusal in REFUSALS]


@pytest.mark.parametrize(
    ("word", "span"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=5-", (5, 100)),
        ("bytes=-5", (95, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=0-999", (0, 100)),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=+0-1", None),
        ("bytes=٣-٤", None),
        ("bytes=0x1-2", None),
    ],
)
def test_ranges_are_read_as_the_rfc_has_them(word: str | None, span: tuple[int, int] | None) -> None:
    assert parse_range({"Range": word} if word else {}, '"v1"', 100) == span


def test_no_made_up_request_breaks_the_server(server: Server, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(5)  # noqa: S311 - a fuzz that can be repeated
    line = f"GET /{server.secret}/nested/small%207 HTTP/1.1\r\n"
    good = f"{line}Host: x\r\nRange: bytes=1-5\r\nConnection: close\r\n\r\n".encode()
    pieces = [
        b"..",
        b"/",
        b"%2e%2e",
        b"%2f",
        b"\\",
        b"\r\n",
        b"\0",
        b"%00",
        b"\xff",
        b"?tar",
        b"bytes=",
        b"-",
        b"9" * 30,
    ]
    pieces += [b"Content-Length: ", b"Transfer-Encoding: chunked", b": ", b" ", server.secret.encode(), b"upload/x"]
    wholes = {path.read_bytes() for path in source.rglob("*") if path.is_file()}
    statuses: dict[str, int] = {}
    for _ in range(500 * FUZZ):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            first, end = (good.index(b"nested"), good.index(b" HTTP")) if chance.random() < 0.6 else (0, len(data))
            at = min(chance.randrange(first, end), len(data) - 1)
            if chance.random() < 0.5:
                data[at : at + chance.randint(0, 8)] = chance.choice(pieces)
            else:
                data[at] = chance.randrange(256)
        answer = say(server, bytes(data) + b"\r\n\r\n")
        status = answer[9:12].decode() or "none"
        statuses[status] = statuses.get(status, 0) + 1
        body = answer.partition(b"\r\n\r\n")[2]
        assert b"root:" not in body
        if status == "200" and b"<!DOCTYPE" not in body and b"ustar" not in body:
            assert any(body.startswith(whole) for whole in wholes)
    with capsys.disabled():
        print(f"\n  requests: {statuses}, 0 escapes")  # noqa: T201 - the count is the point
    assert set(statuses) <= {"none", "200", "206", "308", "416", "431", *map(str, REFUSALS)}
    assert ask(server, "zero")[0] == 200


def test_a_client_that_dawdles_is_let_go(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share_client, "HEAD_S", 0.5)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        began = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            for _ in range(100):
                time.sleep(0.1)
                connection.sendall(b"X: y\r\n")
        assert time.monotonic() - began < 8


def test_a_client_that_reads_nothing_is_let_go(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share_client, "SILENCE_S", 0.5)
    (source / "large").write_bytes(bytes(30 << 20))
    told: list[Served] = []
    with sharing(source, on_served=told.append) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(f"GET /{server.secret}/large HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        deadline = time.monotonic() + 60
        while not told and time.monotonic() < deadline:
            time.sleep(0.05)
    assert [served.complete for served in told] == [False]


def test_a_client_that_has_no_more_to_ask_is_answered(server: Server, source: Path) -> None:
    asked = f"GET /{server.secret}/big.bin HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    answer = say(server, asked * 3)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.endswith((source / "big.bin").read_bytes())


def test_one_client_cannot_take_all_connections(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devkit.transfer.http_server.server.CONNECTIONS_OF_ONE", 5)
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5)) for _ in range(12)]
        time.sleep(0.3)
        closed = 0
        for connection in many:
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                closed += connection.recv(1) == b""
        assert closed == 7


# Uploads.


@pytest.fixture
def open_server(source: Path, tmp_path: Path) -> Iterator[Server]:
    with sharing(source, upload=tmp_path / "inbox", quota=5_000_000, reserve=0) as running:
        yield running


def test_an_upload_arrives_whole_and_replaces_nothing(open_server: Server, tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    assert ask(open_server, "upload/r%C3%A9sum%C3%A9.pdf", method="PUT", data=data)[0] == 201
    assert ask(open_server, "upload/r%C3%A9sum%C3%A9.pdf", method="PUT", data=b"x")[2].decode() == "résumé (2).pdf\n"
    assert ask(open_server, "upload/R%C3%89SUM%C3%89.PDF", method="PUT", data=b"x")[2].decode() == "RÉSUMÉ (3).PDF\n"
    assert (tmp_path / "inbox" / "résumé.pdf").read_bytes() == data
    assert len(list((tmp_path / "inbox").iterdir())) == 3


def test_a_share_is_read_only_unless_it_says_otherwise(server: Server, open_server: Server, source: Path) -> None:
    assert ask(server, "upload/x", method="PUT", data=b"x")[0] == 403
    assert ask(open_server, "zero", method="PUT", data=b"x")[0] == 403
    assert (source / "zero").read_bytes() == b""
    assert ask(open_server, "upload/x", method="DELETE")[0] == 405


def test_uploads_have_a_quota_and_leave_room(open_server: Server, source: Path, tmp_path: Path) -> None:
    assert ask(open_server, "upload/big", method="PUT", data=bytes(5_000_001))[0] == 413
    assert ask(open_server, "upload/a", method="PUT", data=bytes(4_000_000))[0] == 201
    assert ask(open_server, "upload/b", method="PUT", data=bytes(4_000_000))[0] == 413
    assert sorted(path.name for path in (tmp_path / "inbox").iterdir()) == ["a"]
    with sharing(source, upload=tmp_path / "full", reserve=1 << 60) as server:
        assert ask(server, "upload/a", method="PUT", data=b"x")[0] == 507


def test_an_upload_that_breaks_off_leaves_nothing(open_server: Server, tmp_path: Path) -> None:
    head = f"PUT /{open_server.secret}/upload/half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode()
    say(open_server, head + b"only this")
    time.sleep(0.2)
    assert list((tmp_path / "inbox").iterdir()) == []
    assert ask(open_server, "upload/big", method="PUT", data=bytes(5_000_000))[0] == 201


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"..",
        b"../x",
        b"/etc/passwd",
        b"a/b",
        b"a\\b",
        b".bashrc",
        b"-rf",
        b"~x",
        b"CON",
        b"nul.txt",
        b"com1",
        b"a\nb",
        b"a\x00b",
        b"\xff",
        b"x" * 201,
        b"trailing.",
        b"trailing ",
        b" leading",
        b"a:b",
        b"what?",
        b"|",
        "a\u202eb".encode(),
    ],
)
def test_a_name_that_could_do_harm_is_refused(name: bytes) -> None:
    with pytest.raises(BadRequest):
        upload_name(name)


def test_names_that_people_use_are_taken() -> None:
    for name in ("model.safetensors", "Отчёт 2026.pdf", "数据.tar.gz", "console.log", "a (1).txt", "日本語"):
        assert upload_name(name.encode()) == name


# The life of a share.


def test_once_ends_after_the_first_whole_fetch(source: Path) -> None:
    told: list[Served] = []
    with sharing(source, once=True, on_served=told.append) as server:
        assert ask(server, "")[0] == 200
        assert ask(server, "big.bin", {"Range": "bytes=1000-"})[0] == 206
        assert ask(server, "zero", method="HEAD")[0] == 200
        assert told == []
        assert ask(server, "big.bin", {"Range": "bytes=0-999"})[0] == 206
        for _ in range(50):
            time.sleep(0.02)
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
                continue
            break
        with pytest.raises(ConnectionRefusedError):
            ask(server, "zero")
    assert [(served.what, served.sent, served.complete) for served in told] == [("big.bin", 3_000_001, True)]


def test_a_file_that_came_in_ranges_took_as_long_as_they_did(source: Path) -> None:
    told: list[Served] = []
    with sharing(source, on_served=told.append) as server:
        ask(server, "big.bin", {"Range": "bytes=1000-"})
        time.sleep(0.2)
        ask(server, "big.bin", {"Range": "bytes=0-999"})
        while not told:
            time.sleep(0.01)
    assert told[0].seconds >= 0.2


def test_once_ends_after_an_empty_file_too(source: Path) -> None:
    with sharing(source, once=True) as server:
        assert ask(server, "zero")[2] == b""
        for _ in range(500):
            if server.stopping:
                break
            time.sleep(0.01)
        assert server.stopping


def test_a_share_expires(source: Path) -> None:
    from devkit.transfer.http_server.server import Server

    with Server([source]) as server:
        began = time.monotonic()
        server.run(0.3)
        assert 0.2 < time.monotonic() - began < 20


def test_a_share_with_tls_shows_the_certificate_of_its_address(source: Path) -> None:
    with sharing(source, encrypted=True) as server:
        assert server.certificate is not None
        context = ssl.create_default_context()
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        with plain, pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(plain, server_hostname="127.0.0.1")
        announcement = Announcement.of(server)
    assert announcement.url.startswith("https://127.0.0.1:")
    assert announcement.url.endswith(f"#sha256={server.certificate.fingerprint}")
    assert "--pinnedpubkey sha256//" in announcement.lines[1]


def test_the_code_to_photograph_holds_the_address(server: Server) -> None:
    lines = Announcement.of(server).qr_code()
    assert len(lines) > 10
    assert len({len(line) for line in lines if line.strip()}) < 20


def test_times_and_addresses_are_read() -> None:
    assert [parse_time(word) for word in ("", "90s", "30m", "2h", "1d", "5")] == [None, 90, 1800, 7200, 86400, 5]
    for word in ("soon", "-1s", "0"):
        with pytest.raises(UsageError):
            parse_time(word)
    assert all(is_loopback(word) for word in ("127.0.0.1", "::1", "localhost"))
    assert not any(is_loopback(word) for word in ("0.0.0.0", "10.0.0.1", "example.com"))  # noqa: S104 - not bound


def test_a_rate_limits_a_connection(source: Path) -> None:
    with sharing(source, rate=4_000_000) as server:
        began = time.monotonic()
        ask(server, "big.bin")
        assert time.monotonic() - began > 0.4


def test_the_server_holds_no_more_memory_for_many_fetches(server: Server) -> None:
    import tracemalloc

    def fetch(_number: int) -> Any:
        return len(ask(server, "big.bin")[2])

    fetch(0)
    tracemalloc.start()
    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 3_000_000


def test_once_waits_for_the_client_to_have_it_all(source: Path) -> None:
    told: list[Served] = []
    with sharing(source, once=True, on_served=told.append) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(f"GET /{server.secret}/big.bin HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connection.recv(1)
            time.sleep(0.2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a cut link
        while not told:
            time.sleep(0.01)
        assert not told[0].complete
        assert not server.stopping
        assert ask(server, "big.bin")[2] == (source / "big.bin").read_bytes()
        while not server.stopping:
            time.sleep(0.01)


def test_all_addresses_of_ipv6_are_all_of_ipv4_too(source: Path) -> None:
    with sharing(source, address="::") as server:
        for host in ("127.0.0.1", "::1"):
            connection = http.client.HTTPConnection(host, server.port)
            connection.request("GET", f"/{server.secret}/zero")
            assert connection.getresponse().status == 200
            connection.close()


def test_an_address_that_is_none_is_said_plainly(source: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DevkitError) as said, sharing(source, port=port):
            pass
    assert said.value.what == f"127.0.0.1 port {port} cannot be listened on"
    assert said.value.why == "Address already in use."
    with pytest.raises(DevkitError) as said, sharing(source, address="203.0.113.9"):
        pass
    assert said.value.what == "203.0.113.9 cannot be listened on"
    assert said.value.why == "Cannot assign requested address."


def test_no_made_up_range_answers_other_bytes(server: Server, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(12)  # noqa: S311 - a fuzz that can be repeated
    data = (source / "big.bin").read_bytes()
    numbers = ["", "0", "1", "-1", "07", "1e3", "٣", str(len(data) - 1), str(len(data)), "9" * 18, "9" * 19, " 5"]
    statuses: dict[int, int] = {}
    for _ in range(300 * FUZZ):
        words = [chance.choice([*numbers, str(chance.randrange(len(data)))]) for _ in range(2)]
        unit, comma = (
            chance.choice(["bytes=", "bytes=", "bytes=", "bytes:", "lines=", ""]),
            chance.choice(["", "", ",0-1"]),
        )
        sent = f"{unit}{words[0]}-{words[1]}{comma}"
        status, headers, body = ask(server, "big.bin", {"Range": sent.encode().decode("latin-1")})
        statuses[status] = statuses.get(status, 0) + 1
        if status == 206:
            first, end, size = map(int, re.findall(r"\d+", headers["Content-Range"]))
            assert (body, size) == (data[first : end + 1], len(data)), sent
        elif status == 200:
            assert body == data, sent
    with capsys.disabled():
        print(f"\n  ranges: {statuses}, 0 other bytes")  # noqa: T201 - the count is the point
    assert set(statuses) == {200, 206, 416}


def test_no_made_up_tree_makes_an_archive_that_unpacks_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(13)  # noqa: S311 - a fuzz that can be repeated
    pieces = [
        b"a",
        b"-rf",
        b"..a",
        b"\n",
        b"\xff",
        b"\\..\\x",
        b"--to-command=x",
        b" ",
        b"l" * 200,
        b"~",
        "数".encode(),
    ]
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    targets = [b"a", b"../..", os.fsencode(canary), b"../a", b"a/../../..", b"\n", b"."]
    members = links = 0
    for number in range(20 * FUZZ):
        root = tmp_path / str(number) / "shared"
        root.mkdir(parents=True)
        for _ in range(12):
            path = root / os.fsdecode(b"/".join(chance.choices(pieces, k=chance.randint(1, 4))))
            with contextlib.suppress(OSError, RuntimeError):  # a loop of links
                if path.is_symlink() or not path.parent.resolve().is_relative_to(root.resolve()):
                    continue  # the tree's maker must not write through its own links
                path.parent.mkdir(parents=True, exist_ok=True)
                if chance.random() < 0.4:
                    path.symlink_to(os.fsdecode(chance.choice(targets)))
                else:
                    path.write_bytes(os.urandom(chance.choice([0, 1, 511, 512, 513, 9000])))
        with sharing(root) as server:
            status, headers, body = ask(server, "?tar")
        assert (status, int(headers["Content-Length"])) == (200, len(body))
        there = tmp_path / str(number) / "there"
        there.mkdir()
        subprocess.run(["tar", "-x", "-C", there], input=body, capture_output=True, check=True)
        assert [entry.name for entry in there.iterdir()] == ["shared"]
        with tarfile.open(fileobj=io.BytesIO(body), encoding="utf-8", errors="surrogateescape") as archive:
            for member in archive:
                members += 1
                links += member.issym()
                name = os.fsencode(member.name)
                assert name.startswith(b"shared/")
                assert not member.issym() or link_stays_inside(name[len(b"shared/") :], os.fsencode(member.linkname))
        left_out = {name for name, what in tree(root).items() if what[0] == 0o120000}
        expected = {name: what for name, what in tree(root).items() if name not in left_out and what[1]}
        came = {name: what for name, what in tree(there / "shared").items() if name not in left_out and what[1]}
        assert {name: what[1][0] for name, what in came.items()} == {
            name: what[1][0] for name, what in expected.items()
        }
    with capsys.disabled():
        print(f"\n  archives: {members} members, {links} links, 0 escapes")  # noqa: T201 - the count is the point
    assert links > 5
    assert canary.read_text() == "untouched"
    assert {entry.name for entry in tmp_path.iterdir()} == {"canary", *map(str, range(20 * FUZZ))}


def test_a_share_at_every_address_names_each_of_them(source: Path) -> None:
    with sharing(source, address="0.0.0.0", encrypted=True) as server:  # noqa: S104 - what is tested
        said = Announcement.of(server)
    outside = reachable("0.0.0.0")  # noqa: S104
    assert [url.split("/")[2].rsplit(":", 1)[0] for url in (said.url, *said.others)] == outside
    assert all("#sha256=" in url for url in said.others)
    assert reachable("127.0.0.1") == ["127.0.0.1"]
    assert not [address for address in reachable("::") if address.startswith("fe80:") or "%" in address]
