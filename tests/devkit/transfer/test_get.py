"""``devkit get`` from ``devkit serve`` and from other web servers, over real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.errors import DevkitError, UsageError
from devkit.redact import redact
from devkit.transfer.http_download.address import parse_address, redirected
from devkit.transfer.http_download.client import proxy_of
from devkit.transfer.http_download.journal import Journal, merged, missing
from devkit.transfer.http_download.target import file_name
from devkit.transfer.http_server.announce import Announcement
from devkit.transfer.remote.names import part_name

from .conftest import REPOSITORY, sharing, tree
from .web import get, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Devkit


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devkit.transfer.http_download.ranges.BACKOFF_S", (0.01, 0.01, 0.01, 0.01))


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file of several segments."""
    path = tmp_path / "shared" / "big.bin"
    path.parent.mkdir()
    path.write_bytes(os.urandom((21 << 20) + 12345))
    return path


def part_of(path: Path) -> Path:
    """Return where a file is written until it is whole."""
    return path.with_name(os.fsdecode(part_name(os.fsencode(path.name))))


def left_behind(folder: Path) -> list[str]:
    """Return the temporary names in a folder."""
    return [path.name for path in folder.iterdir() if "devkit-part" in path.name]


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_file_comes_in_ranges_and_verified(encrypted: bool, big: Path, tmp_path: Path) -> None:
    with sharing(big.parent, encrypted=encrypted) as server:
        url = Announcement.of(server).url
        base, _, fingerprint = url.partition("#")
        outcome = get(f"{base}big.bin#{fingerprint}" if fingerprint else f"{base}big.bin", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == big.read_bytes()
    assert outcome.result.bytes == big.stat().st_size
    assert (tmp_path / "here").stat().st_mtime_ns == big.stat().st_mtime_ns
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_folder_comes_in_one_stream(encrypted: bool, source: Path, tmp_path: Path) -> None:
    with sharing(source, encrypted=encrypted) as server:
        url = Announcement.of(server).url
        get(url, tmp_path / "all")
        again = get(url, tmp_path / "all")
        base, _, fingerprint = url.partition("#")
        get(f"{base}nested/#{fingerprint}" if fingerprint else f"{base}nested/", tmp_path / "some")
        get(f"{base}nested#{fingerprint}" if fingerprint else f"{base}nested", tmp_path / "some more")
    assert tree(tmp_path / "all") == tree(source)
    assert again.result.bytes == 0
    expected = tree(source / "nested")
    del expected["deep/up"]  # it points out of what was asked for
    assert tree(tmp_path / "some") == expected
    assert (tmp_path / "some more" / "small 3").is_file()


def test_of_a_file_that_changed_only_blocks_come(big: Path, tmp_path: Path) -> None:
    with sharing(big.parent) as server:
        url = f"{server.url()}big.bin"
        get(url, f"{tmp_path}/here/")
        assert get(url, f"{tmp_path}/here/").result.files == 0
        with big.open("r+b") as file:
            file.seek(5_000_000)
            file.write(b"changed")
        outcome = get(url, f"{tmp_path}/here/")
    assert outcome.result.bytes <= 2 * 16384
    assert (tmp_path / "here" / "big.bin").read_bytes() == big.read_bytes()


def test_a_part_is_gone_on_from_block_by_block(big: Path, tmp_path: Path) -> None:
    data = big.read_bytes()
    half = bytearray(data)
    half[3 << 20 : 5 << 20] = bytes(2 << 20)
    part_of(tmp_path / "here").write_bytes(half[: 10 << 20])
    with sharing(big.parent) as server:
        outcome = get(f"{server.url()}big.bin", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == data
    assert outcome.result.bytes == len(data) - (8 << 20)
    assert outcome.result.same_bytes == 8 << 20


def test_a_server_with_another_certificate_hears_nothing(big: Path, tmp_path: Path) -> None:
    with sharing(big.parent, encrypted=True) as server:
        with pytest.raises(DevkitError, match="not the server"):
            get(f"{server.url()}big.bin#sha256={'0' * 64}", tmp_path / "here")
        with pytest.raises(
            DevkitError, match="could not be reached"
        ):  # no fingerprint: the system's authorities decide
            get(f"{server.url()}big.bin", tmp_path / "here")
    assert not (tmp_path / "here").exists()


# Other web servers.


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etag", ['"v1"', 'W/"v1"', ""])
def test_any_web_server_will_do(ranges: bool, etag: str, tmp_path: Path) -> None:
    data = os.urandom(9 << 20)
    with plain(data, ranges=ranges, etag=etag, headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}) as server:
        get(f"{server.url}/pool/wheel.whl?x=1", f"{tmp_path}/here/", sha256=hashlib.sha256(data).hexdigest())
        again = get(f"{server.url}/pool/wheel.whl?x=1", f"{tmp_path}/here/")
    assert (tmp_path / "here" / "wheel.whl").read_bytes() == data
    assert (tmp_path / "here" / "wheel.whl").stat().st_mtime == 1445412480
    assert again.plan.have_files == 1


def test_connections_that_break_are_gone_on_from(tmp_path: Path) -> None:
    data = os.urandom(9 << 20)
    with plain(data, cuts=3) as server:
        outcome = get(f"{server.url}/file", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == data
    assert outcome.result.bytes < len(data) + (3 << 20)


def test_an_answer_that_ends_early_is_not_taken_for_whole(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    with plain(data, ranges=False, cuts=1000) as server, pytest.raises(DevkitError, match="did not arrive whole"):
        get(f"{server.url}/file", tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_later_run_goes_on_where_the_version_is_the_same(tmp_path: Path) -> None:
    data = os.urandom(16 << 20)
    with plain(data, cuts=1, answers=[0, *[500] * 100]) as server:
        with pytest.raises(DevkitError, match="did not arrive whole"):
            get(f"{server.url}/file", tmp_path / "here", connections=1)
        here = part_of(tmp_path / "here")
        assert here.exists()
        server.answers = []
        outcome = get(f"{server.url}/file", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == data
    assert outcome.result.same_bytes > 4 << 20
    assert left_behind(tmp_path) == []


def test_killed_while_any_server_sends_little_comes_twice(devkit: Devkit, tmp_path: Path) -> None:
    data = os.urandom(24 << 20)
    with plain(data, rate=8 << 20) as server:
        line = [sys.executable, "-m", "devkit", "get", f"{server.url}/file", "here", "-j", "2"]
        process = subprocess.Popen(
            line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.DEVNULL
        )
        journal = part_of(tmp_path / "here").with_name(part_of(tmp_path / "here").name + ".json")
        while process.poll() is None and not (journal.exists() and _written(journal) > 4 << 20):
            time.sleep(0.02)
        process.kill()
        process.wait()
        server.rate = 0
        there = _written(journal)
        again = json.loads(devkit("get", f"{server.url}/file", "here", "--json").out)
    assert (tmp_path / "here").read_bytes() == data
    assert again["result"]["same_bytes"] == there > 4 << 20
    assert left_behind(tmp_path) == []


def _written(journal: Path) -> int:
    return sum(end - first for first, end in json.loads(journal.read_text())["written"])


def test_what_was_not_synced_does_not_count_once_the_machine_was_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    part = os.open(tmp_path / "part", os.O_RDWR | os.O_CREAT)
    os.pwrite(part, bytes(100), 0)
    journal = Journal(folder, "journal", part, "v", 100)
    journal.add((0, 30))
    journal.save()
    journal.add((30, 60))
    journal.save(sync=False)
    for boot, end in (("the same", 60), ("another", 30), ("", 30)):
        if boot != "the same":
            monkeypatch.setattr("devkit.transfer.http_download.journal.boot_id", lambda boot=boot: boot)
        later = Journal(folder, "journal", part, "v", 100)
        later.load()
        assert later.done == [(0, end)]
    for descriptor in (folder, part):
        os.close(descriptor)


def test_a_later_run_begins_anew_where_the_version_is_another(tmp_path: Path) -> None:
    with plain(os.urandom(16 << 20), cuts=1, answers=[0, *[500] * 100]) as server, pytest.raises(DevkitError):
        get(f"{server.url}/file", tmp_path / "here", connections=1)
    other = os.urandom(16 << 20)
    with plain(other, etag='"v2"') as server:
        outcome = get(f"{server.url}/file", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == other
    assert outcome.result.same_bytes == 0


def test_a_file_that_does_not_hash_as_it_must_is_refused(tmp_path: Path) -> None:
    with plain(b"other") as server, pytest.raises(DevkitError, match="not the file that was asked for"):
        get(f"{server.url}/file", tmp_path / "here", sha256="0" * 64)
    assert not (tmp_path / "here").exists()


def test_redirections_are_followed_and_take_no_password_along(tmp_path: Path) -> None:
    with plain(b"there") as there, plain(b"", location=f"{there.url}/file") as here:
        address = here.url.replace("//", "//user:open-sesame@")
        get(f"{address}/moved", tmp_path / "here")
        assert here.requests[0][1]["Authorization"] == "Basic dXNlcjpvcGVuLXNlc2FtZQ=="
        assert all("Authorization" not in headers for _, headers in there.requests)
    assert (tmp_path / "here").read_bytes() == b"there"
    with plain(b"", location="/moved") as circle, pytest.raises(DevkitError, match="redirect loop"):
        get(f"{circle.url}/moved", tmp_path / "x")
    with pytest.raises(DevkitError, match="out of https"):
        redirected(parse_address("https://example.com/x"), "http://example.com/y")
    with pytest.raises(DevkitError):
        redirected(parse_address("https://example.com/x"), "file:///etc/passwd")


def test_names_that_are_not_ascii_reach_the_server(tmp_path: Path) -> None:
    with plain(b"x", location="/数 据?q=é#part".encode().decode("latin-1")) as server:
        get(f"{server.url}/moved", tmp_path / "here")
        get(f"{server.url}/file?q=数", tmp_path / "there")
        asked = [path for path, _ in server.requests if not path.startswith("/moved")]
    assert asked[0] == "/%E6%95%B0%20%E6%8D%AE?q=%C3%A9"
    assert asked[-1] == "/file?q=%E6%95%B0"
    assert parse_address("http://bücher.example/").netloc == "xn--bcher-kva.example"


def test_what_is_not_plain_about_a_file_is_said(tmp_path: Path) -> None:
    with plain(b"data", ranges=False, length=False, headers={"Connection": "close"}) as server:
        assert "whether it is whole cannot be known" in get(f"{server.url}/file", tmp_path / "a").remarks[0]
    with plain(b"data", headers={"Content-Encoding": "gzip"}) as server:
        assert "gzip-encoded" in get(f"{server.url}/file", tmp_path / "b").remarks[0]
    with plain(b"data") as server:
        assert get(f"{server.url}/file", tmp_path / "c").remarks == ()


def test_what_is_no_web_server_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(DevkitError, match="does not answer as a web server does"):
            get(f"http://127.0.0.1:{listener.getsockname()[1]}/x", tmp_path / "x")
        thread.join()


def test_what_cannot_be_gone_on_from_is_not_left(tmp_path: Path) -> None:
    with plain(os.urandom(1 << 20), ranges=False, cuts=1000) as server, pytest.raises(DevkitError):
        get(f"{server.url}/file", tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_sends_without_end_does_not_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [1 << 40]
    monkeypatch.setattr(
        "devkit.transfer.http_download.ranges.room_on", lambda _folder: (left.pop(0) if left else 0, 1 << 40)
    )
    headers = {"Connection": "close"}
    endless = plain(bytes(64 << 20), ranges=False, length=False, headers=headers)
    with endless as server, pytest.raises(DevkitError, match="cannot be written") as said:
        get(f"{server.url}/file", tmp_path / "here")
    assert said.value.why == "No space left on device."
    assert list(tmp_path.iterdir()) == []


def test_a_fetched_file_has_the_mode_of_a_new_one(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with plain(b"data") as server:
            get(f"{server.url}/file", tmp_path / "here")
    finally:
        os.umask(before)
    assert (tmp_path / "here").stat().st_mode & 0o777 == 0o640


def test_a_folder_of_one_file_stays_a_folder(tmp_path: Path) -> None:
    (tmp_path / "shared" / "folder").mkdir(parents=True)
    (tmp_path / "shared" / "folder" / "only").write_text("x")
    with sharing(tmp_path / "shared") as server:
        get(f"{server.url()}folder/", tmp_path / "inside")
        get(f"{server.url()}folder/only", tmp_path / "file")
        get(f"{server.url()}folder/only", tmp_path / "file")
    assert (tmp_path / "inside" / "only").read_text() == "x"
    assert (tmp_path / "file").read_text() == "x"


def test_a_limit_holds_for_a_folder_too(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_bytes(os.urandom(3 << 20))
    for share, wish in ((0, 4 << 20), (4 << 20, 0), (4 << 20, 1 << 30)):
        with sharing(tmp_path / "shared", rate=share) as server:
            outcome = get(server.url(), tmp_path / f"{share}-{wish}", rate=wish)
        assert outcome.result.seconds > 0.4


def test_json_is_answered_where_nothing_comes(devkit: Devkit) -> None:
    with plain(b"") as server:
        server.server_close()
        done = devkit("get", f"{server.url}/x", "--json")
    assert done.status == 1
    assert "could not be reached" in json.loads(done.out)["error"]["what"]


def test_a_proxy_is_asked_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with plain(b"by way of the proxy") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        get("http://files.example/data", tmp_path / "here")
        assert proxy.requests[0][0] == "http://files.example/data"
    assert (tmp_path / "here").read_bytes() == b"by way of the proxy"
    monkeypatch.setenv("no_proxy", "files.example")
    assert proxy_of(parse_address("http://files.example/data")) is None
    monkeypatch.setenv("no_proxy", "files.example, 10.0.0.0/8, fd00::/8")
    assert proxy_of(parse_address("http://10.9.8.7:8000/data")) is None
    assert proxy_of(parse_address("http://[fd00::7]/data")) is None
    for other in ("http://11.9.8.7/data", "http://ten.example/data", "http://[fe80::1]/data"):
        assert proxy_of(parse_address(other)) is not None


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://x/y",
        "http://",
        "x",
        "http://h:99999/",
        "http://h h/",
        "http://h/#sha256=" + "0" * 64,
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        parse_address(url)


@pytest.mark.parametrize(
    ("path", "disposition", "name"),
    [
        ("/a/wheel.whl", "", "wheel.whl"),
        ("/a/%E6%95%B0", "", "数"),
        ("/download", 'attachment; filename="model.tar"', "model.tar"),
        ("/download", "attachment; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf", "résumé.pdf"),
        ("/download", 'attachment; filename="../../.ssh/authorized_keys"', "authorized_keys"),
        ("/download", 'attachment; filename="..\\\\..\\\\evil.exe"', "evil.exe"),
        ("/download", 'attachment; filename=".bashrc"', "download"),
        ("/download", "attachment; filename*=UTF-8''%2e%2e%2f%2e%2e", "download"),
        ("/a%2fb", "", "b"),
        ("/", "", None),
        ("/..", "", None),
        ("/-rf", "", None),
    ],
)
def test_the_servers_name_for_a_file_cannot_escape(path: str, disposition: str, name: str | None) -> None:
    address = parse_address(f"http://example.com{path}")
    if name is None:
        with pytest.raises(DevkitError, match="names no file"):
            file_name(address, disposition)
    else:
        assert file_name(address, disposition) == name


def test_spans_add_up() -> None:
    assert merged([(5, 7), (0, 3), (3, 5), (9, 9)]) == [(0, 7)]
    assert missing([(2, 4), (6, 8)], 10) == [(0, 2), (4, 6), (8, 10)]
    assert missing([], 3) == [(0, 3)]
    assert missing([(0, 3)], 3) == []


# As a user types it.


def test_the_secret_is_in_no_record_and_no_line(devkit: Devkit, big: Path, tmp_path: Path, home: Path) -> None:
    with sharing(big.parent) as server:
        url = f"{server.url()}big.bin"
        typed = devkit("get", url, "one")
        piped = devkit("get", "-", "two", data=url + "\n")
        missing_file = devkit("get", f"{server.url()}none")
        secret = server.secret
    assert (typed.status, piped.status, missing_file.status) == (0, 0, 1)
    assert "404" in missing_file.err
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == big.read_bytes()
    said = "".join(result.out + result.err for result in (typed, piped, missing_file))
    assert secret not in said
    written = [path for path in home.rglob("*") if path.is_file()]
    assert len(written) >= 3
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    parse_address(url)
    assert redact(url).endswith("/***/big.bin")


def test_serve_prints_its_address_and_ends_with_ctrl_c(big: Path, home: Path) -> None:
    with serving(big.parent) as (process, first):
        url = json.loads(first)["url"]
        secret = url.split("/")[3]
        assert secret not in Path(f"/proc/{process.pid}/cmdline").read_text()
        get(f"{url}big.bin", big.parent.parent / "here")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "fetched big.bin" in err
    assert "no longer shared" in err
    assert secret not in out + err
    assert not [path for path in home.rglob("*.json") if secret in path.read_text()]


@contextlib.contextmanager
def serving(*words: Path | str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start ``devkit serve WORDS… --json`` and give its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "devkit", "serve", *map(str, words), "--json"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_killed_at_random_the_same_line_goes_on(
    devkit: Devkit, big: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(4)  # noqa: S311 - moments that can be repeated
    big.write_bytes(os.urandom(40 << 20))
    hits = 0
    with sharing(big.parent, rate=4 << 20) as server:
        line = [sys.executable, "-m", "devkit", "get", f"{server.url()}big.bin", "here"]
        for _ in range(3):
            process = subprocess.Popen(
                line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 20
            before = _taken(part_of(tmp_path / "here"))
            while (
                process.poll() is None and _taken(part_of(tmp_path / "here")) == before and time.monotonic() < deadline
            ):
                time.sleep(0.02)
            time.sleep(chance.uniform(0.0, 0.4))
            hits += process.poll() is None
            process.kill()
            process.wait()
            assert not (tmp_path / "here").exists()
        last = devkit("get", f"{server.url()}big.bin", "here", "--json")
    assert (tmp_path / "here").read_bytes() == big.read_bytes()
    assert left_behind(tmp_path) == []
    result = json.loads(last.out)["result"]
    with capsys.disabled():
        print(f"\n  {hits} kills, {result['same_bytes'] >> 20} of 40 MiB were there at the last start")  # noqa: T201
    assert hits == 3
    assert result["same_bytes"] >= 1 << 20


def _taken(path: Path) -> int:
    return path.stat().st_blocks if path.exists() else 0


def test_a_server_that_is_gone_says_so(devkit: Devkit) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = devkit("get", f"http://127.0.0.1:{port}/x")
    assert done.status == 1
    assert f"127.0.0.1:{port} could not be reached" in done.err
    assert "Connection refused" in done.err
