"""``devkit get`` from servers that are not alike, through proxies, and into what is not a file or somebody's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import struct
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.errors import DevkitError, UsageError
from devkit.transfer.copy import Watch
from devkit.transfer.http_download.address import parse_address
from devkit.transfer.http_download.client import retry_after
from devkit.transfer.http_download.get import fetch, with_netrc
from devkit.transfer.http_download.options import FetchOptions, parse_header
from devkit.transfer.http_download.target import file_name

from .conftest import as_nobody, sharing
from .web import get, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Devkit

DATA = os.urandom((9 << 20) + 77)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devkit.transfer.http_download.ranges.BACKOFF_S", (0.01, 0.01, 0.01, 0.01))
    monkeypatch.setattr("devkit.transfer.http_download.client.PAUSE_S", 0.01)


@pytest.mark.parametrize("connections", [1, 4])
def test_a_range_that_is_answered_in_part_is_asked_on_from(connections: int, tmp_path: Path) -> None:
    with plain(DATA, cap=1_000_000) as server:
        get(f"{server.url}/file", tmp_path / "here", connections=connections)
    assert (tmp_path / "here").read_bytes() == DATA


@pytest.mark.parametrize("connections", [1, 4])
def test_a_server_that_drops_after_some_bytes_is_asked_on_at_once(
    connections: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devkit.transfer.http_download.ranges.BACKOFF_S", (1e9,) * 4)  # waited for where nothing came
    with plain(DATA, cuts=1000, most=100_000) as server:
        got = get(f"{server.url}/file", tmp_path / "here", connections=connections)
    assert (tmp_path / "here").read_bytes() == DATA
    assert got.result.bytes == len(DATA)


def test_a_part_of_a_file_that_is_of_unknown_length_is_not_taken_for_the_file(tmp_path: Path) -> None:
    with plain(DATA, cap=1_000_000, total="*") as server:
        get(f"{server.url}/file", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == DATA


@pytest.mark.parametrize("etags", [['"a"', '"b"'], ['"a"']])
@pytest.mark.parametrize("connections", [1, 4])
def test_two_versions_are_never_mixed_where_a_server_does_not_look_at_what_is_asked_for(
    connections: int, etags: list[str], tmp_path: Path
) -> None:
    versions = [DATA, os.urandom(len(DATA) + (len(etags) == 1))]
    with plain(DATA, etags=etags, datas=versions, conditions=False, cap=4 << 20) as server:
        server.requests += [("", {})]  # so that the first answer is of the first version
        with contextlib.suppress(DevkitError):
            get(f"{server.url}/file", tmp_path / "here", connections=connections)
    here = tmp_path / "here"
    assert not here.exists() or here.read_bytes() in versions


@pytest.mark.parametrize("status", [400, 403, 405, 406, 412, 416, 501])
def test_a_server_that_refuses_ranges_is_asked_for_the_whole(status: int, tmp_path: Path) -> None:
    with plain(DATA, refuses=status) as server:
        get(f"{server.url}/file", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == DATA


def test_a_hash_is_not_passed_over_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with sharing(tmp_path / "folder") as server, pytest.raises(DevkitError, match="a folder has no SHA-256"):
        get(server.url(), tmp_path / "here", sha256="0" * 64)
    assert not (tmp_path / "here").exists()


def test_an_empty_file_comes_with_its_time(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.utime(tmp_path / "empty", ns=(1_500_000_000_123_456_789,) * 2)
    with sharing(tmp_path / "empty") as server:
        got = get(f"{server.url()}empty", tmp_path / "here")
    assert got.result.files == 1
    assert (tmp_path / "here").stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert (tmp_path / "here").read_bytes() == b""


def test_what_hashes_wrong_replaces_no_file_of_the_users_either(tmp_path: Path) -> None:
    (tmp_path / "here.wrong").write_text("the user's")
    with plain(DATA) as server, pytest.raises(DevkitError, match="not the file") as raised:
        get(f"{server.url}/file", tmp_path / "here", sha256="0" * 64)
    assert "here.wrong.1" in raised.value.why
    assert (tmp_path / "here.wrong").read_text() == "the user's"
    assert (tmp_path / "here.wrong.1").read_bytes() == DATA


def test_a_folder_that_may_be_written_and_not_listed_takes_a_file(tmp_path: Path) -> None:
    with plain(DATA) as server, as_nobody(tmp_path / "box"):
        Path("drop").mkdir(mode=0o300)
        get(f"{server.url}/file", "drop/here")
    assert (tmp_path / "box" / "drop" / "here").read_bytes() == DATA


@pytest.mark.parametrize("connections", [1, 4])
def test_machines_that_name_one_file_differently_serve_it_in_one_stream(connections: int, tmp_path: Path) -> None:
    with plain(DATA, etags=['"a"', '"b"', '"c"']) as server:
        get(f"{server.url}/file", tmp_path / "here", connections=connections)
    assert (tmp_path / "here").read_bytes() == DATA


def test_what_an_earlier_run_left_is_no_obstacle_where_no_version_is_known_again(tmp_path: Path) -> None:
    with plain(DATA, cuts=1, answers=[0, *[403] * 100]) as server, pytest.raises(DevkitError):
        get(f"{server.url}/file", tmp_path / "here", connections=1)
    with plain(DATA, etags=['"v1"', '"x"', '"y"', '"z"']) as server:
        server.requests += [("", {})] * 3  # so that the first answer is of the version that was begun
        get(f"{server.url}/file", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == DATA


@pytest.mark.parametrize("status", [403, 404, 410, 429, 503])
def test_a_server_that_answers_one_request_is_asked_for_no_other(status: int, tmp_path: Path) -> None:
    with plain(DATA, answers=[0, *[status] * 100]) as server:
        get(f"{server.url}/one-time", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == DATA


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_when_it_says(status: int, tmp_path: Path) -> None:
    with plain(DATA, answers=[status, status]) as server:
        get(f"{server.url}/file", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == DATA


def test_a_stream_that_breaks_where_nothing_can_be_gone_on_from_begins_anew(tmp_path: Path) -> None:
    told: list[int] = []
    watch = Watch(lambda _plan: None, told.append)
    with plain(DATA, ranges=False, cuts=2) as server:
        fetch(parse_address(f"{server.url}/file"), FetchOptions(str(tmp_path / "here")), watch)
    assert (tmp_path / "here").read_bytes() == DATA
    assert sum(told) == len(DATA)
    with plain(DATA, ranges=False, cuts=9, answers=[0, 404]) as server, pytest.raises(DevkitError, match="whole"):
        get(f"{server.url}/one-time", tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_server_that_hangs_up_is_asked_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                client, _ = listener.accept()
                client.recv(1 << 16)
                client.close()
            client, _ = listener.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata")
                client.recv(1)

        serving = threading.Thread(target=serve)
        serving.start()
        get(f"http://127.0.0.1:{listener.getsockname()[1]}/file", tmp_path / "here")
        serving.join(20)
    assert (tmp_path / "here").read_text() == "data"


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [
        ("3", 3, 3),
        ("100", 30, 30),
        ("soon", 2, 2),
        ("", 2, 2),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
def test_how_long_a_busy_server_asks_to_wait_is_a_number_or_a_date(said: str, low: float, high: float) -> None:
    assert low <= retry_after(said, 2.0) <= high
    assert 2 < retry_after(formatdate(time.time() + 25, usegmt=True), 2.0) <= 25


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("attachment; filename=" + "数据集.zip".encode().decode("latin-1"), "数据集.zip"),
        (f'attachment; filename="{"模型 1.bin".encode().decode("latin-1")}"', "模型 1.bin"),
        ("attachment; filename*=GB18030''%C4%A3%D0%CD.bin", "模型.bin"),
        (r'attachment; filename="a\"b.bin"', 'a"b.bin'),
        ('attachment; filename="=?UTF-8?B?5paH5Lu2LnR4dA==?="', "文件.txt"),
        ("attachment; filename*=nonsense''x; filename=plain.bin", "plain.bin"),
    ],
)
def test_names_in_a_head_are_read_as_servers_write_them(disposition: str, name: str) -> None:
    assert file_name(parse_address("http://127.0.0.1/x"), disposition) == name


@pytest.mark.parametrize("word", ["[fe80::1%25eth0]:81", "[fe80::1%eth0]:81"])
def test_the_zone_of_an_address_is_taken_as_people_write_it(word: str) -> None:
    address = parse_address(f"http://{word}/x")
    assert (address.host, address.netloc, address.port) == ("fe80::1%eth0", "[fe80::1%25eth0]:81", 81)


def test_a_device_and_a_pipe_stay_what_they_are(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with plain(DATA) as server:
        with pytest.raises(DevkitError) as refused:
            get(f"{server.url}/file", pipe)
        assert refused.value.why == "Nothing reads the pipe."
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
        reader.start()
        while True:
            with contextlib.suppress(DevkitError):
                get(f"{server.url}/file", pipe, sha256=hashlib.sha256(DATA).hexdigest())
                break
        reader.join(20)
        get(f"{server.url}/file", "/dev/null")
    assert found == [DATA]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116 - as the case is told


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "old").write_text("old")
    (tmp_path / "link").symlink_to("store/old")
    with plain(DATA) as server:
        get(f"{server.url}/file", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "store" / "old").read_bytes() == DATA


def test_a_file_with_the_wrong_hash_leaves_the_good_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("good")
    with plain(DATA) as server, pytest.raises(DevkitError, match="is not the file"):
        get(f"{server.url}/model.bin", tmp_path / "model.bin", sha256="0" * 64)
    assert (tmp_path / "model.bin").read_text() == "good"
    assert (tmp_path / "model.bin.wrong").read_bytes() == DATA


def test_a_file_of_the_users_stays_beside_one_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my own work")
    with plain(DATA) as server:
        first = get(f"{server.url}/notes.txt", tmp_path)
        again = get(f"{server.url}/notes.txt", tmp_path)
        assert first.remarks == ("notes.txt is here already, and stays: the file is saved as notes.txt.1",)
        assert (again.result.files, sorted(path.name for path in tmp_path.iterdir())) == (
            1,
            ["notes.txt", "notes.txt.1"],
        )
        get(f"{server.url}/notes.txt", tmp_path, replace=True)
    assert (tmp_path / "notes.txt").read_bytes() == DATA


def test_what_was_fetched_is_replaced_by_its_next_version_and_not_once_it_was_edited(tmp_path: Path) -> None:
    with plain(b"first", etag='"1"') as server:
        get(f"{server.url}/notes.txt", tmp_path)
    with plain(b"second", etag='"2"') as server:
        get(f"{server.url}/notes.txt", tmp_path)
        assert (tmp_path / "notes.txt").read_bytes() == b"second"
        (tmp_path / "notes.txt").write_bytes(b"edited")
        get(f"{server.url}/notes.txt", tmp_path)
    assert (tmp_path / "notes.txt").read_bytes() == b"edited"
    assert (tmp_path / "notes.txt.1").read_bytes() == b"second"


def test_a_person_is_asked_before_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    asked: list[Path] = []

    def ask(path: Path) -> bool:
        asked.append(path)
        return True

    with plain(DATA) as server:
        get(f"{server.url}/notes.txt", tmp_path, ask=ask)
    assert asked == [tmp_path / "notes.txt"]
    assert (tmp_path / "notes.txt").read_bytes() == DATA


def test_the_file_goes_to_standard_output(devkit: Devkit, tmp_path: Path) -> None:
    with plain(b"some text\n") as server:
        result = devkit("get", f"{server.url}/file", "-")
        refused = devkit("get", f"{server.url}/file", "")
    assert (result.status, result.out) == (0, "some text\n")
    assert (refused.status, list(tmp_path.iterdir())) == (2, [])


def test_heads_are_sent_to_the_server_that_they_are_for_and_kept_out_of_the_record(
    devkit: Devkit, tmp_path: Path, home: Path
) -> None:
    heads = tmp_path / "heads"
    heads.write_text("Authorization: Bearer 5ecret-0f-mine\n")
    with plain(b"data") as other, plain(b"data", location=f"{other.url}/file") as server:
        result = devkit("get", "-H", f"@{heads}", f"{server.url}/moved", "out")
        assert result.status == 0, result.err
        assert server.requests[0][1]["Authorization"] == "Bearer 5ecret-0f-mine"
        assert "Authorization" not in other.requests[0][1]
    assert not [path for path in home.rglob("*") if path.is_file() and b"5ecret-0f-mine" in path.read_bytes()]
    for word in ("nonsense", "a b: c", "@/no/such", "X: a\nY: b"):
        with pytest.raises(UsageError):
            parse_header(word)


def test_what_netrc_knows_of_a_host_is_used_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login anna password hidden\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert with_netrc(parse_address("http://127.0.0.1/x")).credentials == "anna:hidden"
    assert with_netrc(parse_address("http://localhost/x")).credentials == ""
    assert with_netrc(parse_address("http://eve:pw@127.0.0.1/x")).credentials == "eve:pw"


@contextlib.contextmanager
def socks(credentials: bytes = b"") -> Iterator[tuple[str, list[bytes]]]:
    """Run a SOCKS 5 proxy for one connection at a time, which reaches 127.0.0.1 whatever name it is asked for."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=one, args=(client,), daemon=True).start()

    def one(client: socket.socket) -> None:
        with contextlib.suppress(OSError, IndexError), client:
            methods = client.recv(262)
            client.sendall(b"\x05\x02" if credentials else b"\x05\x00")
            if credentials:
                assert b"\x02" in methods[2:]
                said = client.recv(513)
                user = said[2 : 2 + said[1]]
                client.sendall(b"\x01\x00" if user == credentials else b"\x01\x01")
            request = client.recv(300)
            asked.append(request[5:-2] if request[3] == 3 else socket.inet_ntoa(request[4:8]).encode())
            port = struct.unpack(">H", request[-2:])[0]
            client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            with socket.create_connection(("127.0.0.1", port)) as there:
                back = threading.Thread(target=pump, args=(there, client), daemon=True)
                back.start()
                pump(client, there)
                back.join(5)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.close()


@pytest.mark.parametrize("kind", ["socks5", "socks5h"])
def test_a_socks_proxy_is_gone_through(kind: str, tmp_path: Path) -> None:
    with plain(DATA) as server, socks(b"anna") as (proxy, asked):
        url = server.url.replace("127.0.0.1", "localhost")
        get(f"{url}/file", tmp_path / "here", environ={"all_proxy": f"{kind}://anna:pw@{proxy}"})
    assert (tmp_path / "here").read_bytes() == DATA
    assert set(asked) == {b"localhost" if kind == "socks5h" else b"127.0.0.1"}


def test_a_proxy_that_is_not_there_is_named(devkit: Devkit) -> None:
    result = devkit("get", "http://files.example/a", env={"http_proxy": "http://user:5ecret@127.0.0.1:9"})
    assert result.status == 1
    assert "could not be reached through the proxy http://127.0.0.1:9" in result.err
    assert "5ecret" not in result.err
    result = devkit("get", "http://files.example/a", env={"ALL_PROXY": "socks5://127.0.0.1:9"})
    assert "through the proxy socks5://127.0.0.1:9" in result.err
    result = devkit("get", "http://files.example/a", env={"http_proxy": "ftp://127.0.0.1:9"})
    assert (result.status, "cannot be used" in result.err) == (1, True)


def test_the_proxy_of_the_settings_is_used(devkit: Devkit, tmp_path: Path) -> None:
    with plain(b"by proxy") as proxy:
        assert devkit("config", "set", "proxy.url", proxy.url).status == 0
        result = devkit("get", "http://files.example/a.bin", "a.bin")
    assert result.status == 0, result.err
    assert (tmp_path / "a.bin").read_bytes() == b"by proxy"
    assert proxy.requests[0][0] == "http://files.example/a.bin"


def test_marks_are_notes_and_no_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr("os.setxattr", refuse)
    with plain(DATA) as server:
        get(f"{server.url}/file", tmp_path)
    assert (tmp_path / "file").read_bytes() == DATA
