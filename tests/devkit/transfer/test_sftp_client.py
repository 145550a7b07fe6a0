"""SFTP servers that answer in their own order, give less than they were asked for, or lie."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devkit.errors import DevkitError
from devkit.transfer.copy import readable
from devkit.transfer.remote.manifest import FILE, ManifestEntry, version_name
from devkit.transfer.remote.messages import Choice, encoded
from devkit.transfer.remote.receiver import Receiver
from devkit.transfer.remote.wire import ProtocolError
from devkit.transfer.sftp import receiving
from devkit.transfer.ssh import Disconnected, RemotePath

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Devkit

CONTENT = bytes(range(256)) * 1200
SERVER = """#!%s
import os, select, struct, sys
if "-G" in sys.argv: sys.exit(0)
how = os.environ["FAKE_SFTP"]
content = bytes(range(256)) * 1200
names = [bytes.fromhex(name) for name in os.environ.get("FAKE_NAMES", "66").split(",")]
def string(b): return struct.pack(">I", len(b)) + b
def send(kind, number, body=b""):
    data = string(bytes([kind]) + struct.pack(">I", number) + body)
    os.write(1, b"\\xff" * 9 if how == "garbage" else data[:20] if how == "cut" and kind == 103 else data)
    if how == "cut" and kind == 103: sys.exit(0)
def status(number, code): send(101, number, struct.pack(">I", code) + string(b"") + string(b""))
size = len(content) * (2 if how == "ends early" else 1)
def file(mode): return struct.pack(">IQIII", 13, size, 0o100644 if mode else 0o040755, 0, 1600000000)
if how == "garbage": sys.stdin.buffer.read(9)
else: sys.stdin.buffer.raw.read(9)
os.write(1, string(bytes([2]) + struct.pack(">I", 3)))
listed = False
pending = []
buffer = b""
def serve(kind, number, body):
    global listed
    path = body[4:4 + struct.unpack_from(">I", body)[0]]
    if kind in (7, 17):
        send(105, number, file(path != b"folder"))
    elif kind == 8: send(105, number, file(True))
    elif kind in (3, 11): send(102, number, string(b"h"))
    elif kind == 12:
        if listed: status(number, 1)
        else:
            attributes = struct.pack(">I", 0) if how == "no attributes" else file(True)
            told = b"".join(string(name) + string(b"") + attributes for name in names)
            send(104, number, struct.pack(">I", len(names)) + told)
        listed = not listed
    elif kind == 5:
        offset, length = struct.unpack_from(">QI", body, 5)
        data = content[offset:offset + (length if how != "short" else max(1, min(length, 5001)))]
        if how == "too much": data = bytes(length + 1)
        send(103, number, string(data)) if data else status(number, 1)
    else: status(number, 0)
while True:
    ready = select.select([0], [], [], 0.02 if pending else None)[0]
    if ready:
        got = os.read(0, 65536)
        if not got: break
        buffer += got
        while len(buffer) >= 4 and len(buffer) >= 4 + struct.unpack_from(">I", buffer)[0]:
            length = struct.unpack_from(">I", buffer)[0]
            kind, number = struct.unpack_from(">BI", buffer, 4)
            pending.append((kind, number, buffer[9:4 + length]))
            buffer = buffer[4 + length:]
        continue
    with open(os.environ.get("FAKE_ROUNDS", os.devnull), "a") as rounds: rounds.write(".")
    for frame in reversed(pending): serve(*frame)
    pending = []
"""


@pytest.fixture
def ssh(tmp_path: Path) -> list[str]:
    """An ssh behind which a server of sftp answers as FAKE_SFTP says."""
    program = tmp_path / "ssh"
    program.write_text(SERVER % sys.executable)
    program.chmod(0o755)
    return [str(program)]


def received(ssh: list[str], path: str, into: Path, told: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
    """Receive a path of the server, and return the result."""
    with receiving.offered(ssh, RemotePath("h", path), [path], Choice()) as channel:
        receiver = Receiver(
            channel, os.fsencode(f"{into}/"), receiving.DIGEST, receiving.CHECKSUM, on_taken=told, claimed=lambda _: ""
        )
        return encoded(receiver.run(), readable)


@pytest.mark.parametrize("how", ["honest", "short", "no attributes"])
def test_answers_in_any_order_and_of_any_length_make_the_file(
    how: str, ssh: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SFTP", how)
    told: list[int] = []
    assert received(ssh, "folder", tmp_path / "here", told.append)["failed"] == []
    assert (tmp_path / "here" / "folder" / "f").read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)
    assert os.listdir(tmp_path / "here" / "folder") == ["f"]  # noqa: PTH208 - hidden ones too


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("garbage", "no question|no sftp"),
        ("cut", "sftp with h failed"),
        ("too much", "more bytes than were asked for"),
    ],
)
def test_a_server_that_makes_no_sense_ends_it_and_nothing_is_taken_for_whole(
    how: str, said: str, ssh: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SFTP", how)
    with pytest.raises((DevkitError, ProtocolError), match=said):
        received(ssh, "f", tmp_path / "here")
    assert not (tmp_path / "here" / "f").exists()


def test_a_file_that_ends_before_its_size_is_not_taken_for_whole(
    ssh: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SFTP", "ends early")
    assert received(ssh, "f", tmp_path / "here")["failed"] == [["f", "it changed while it was read"]]
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("name", [b"../out", b"a/b", b"/tmp/out", b"", b"nul\0", b".devkit-part-0123456789abcdef"])
def test_no_name_leads_out(name: bytes, ssh: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SFTP", "honest")
    monkeypatch.setenv("FAKE_NAMES", name.hex())
    if name.startswith(b".devkit"):
        received(ssh, "folder", tmp_path / "here")
    else:
        with pytest.raises(ProtocolError, match="a name that leads out"):
            received(ssh, "folder", tmp_path / "here")
    assert not [path for path in (tmp_path / "here").rglob("*") if not path.is_dir()]
    assert sorted(path.name for path in tmp_path.iterdir()) in (["here", "ssh"], ["ssh"])


def test_a_whole_part_that_was_not_renamed_is_not_fetched_again(
    ssh: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SFTP", "honest")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fail)
        with pytest.raises(DevkitError, match="f cannot be written"):
            received(ssh, "f", tmp_path / "here")
    assert len(list((tmp_path / "here").iterdir())) == 1
    told: list[int] = []
    again = received(ssh, "f", tmp_path / "here", told.append)
    assert (again["bytes"], again["same_bytes"], sum(told)) == (0, len(CONTENT), len(CONTENT))
    assert (tmp_path / "here" / "f").read_bytes() == CONTENT
    assert (tmp_path / "here" / "f").stat().st_mode & 0o777 == 0o644


def test_what_a_restart_may_have_lost_is_fetched_again(
    ssh: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SFTP", "honest")
    for module in ("requests", "receiver"):
        monkeypatch.setattr(f"devkit.transfer.remote.{module}.SYNC_EVERY", 1 << 16)
    entry = ManifestEntry(FILE, b"f", len(CONTENT), mtime_ns=1_600_000_000 * 10**9)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / os.fsdecode(version_name(entry))).write_bytes(CONTENT[: 1 << 16] + bytes(5000))
    monkeypatch.setattr("devkit.transfer.remote.requests.booted_at", lambda: time.time() + 60)
    again = received(ssh, "f", tmp_path / "here")
    assert again["same_bytes"] == 1 << 16
    assert (tmp_path / "here" / "f").read_bytes() == CONTENT


def test_a_folder_is_listed_once_for_what_is_left_of_other_versions_and_only_if_a_file_comes(
    ssh: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SFTP", "honest")
    monkeypatch.setenv("FAKE_NAMES", "61,62,63")
    into = tmp_path / "here" / "folder"
    into.mkdir(parents=True)
    for name in (b"a", b"c", b"elsewhere"):
        other = ManifestEntry(FILE, name, 7, mtime_ns=7)
        (into / os.fsdecode(version_name(other))).write_text("other")
    kept = os.fsdecode(version_name(other))
    listed = []
    listdir = os.listdir

    def listing(folder: int) -> list[str]:
        listed.append(folder)
        return listdir(folder)

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", listing)
        for files in (3, 0):
            assert received(ssh, "folder", tmp_path / "here")["files"] == files
    assert len(listed) == 1
    assert sorted(os.listdir(into)) == [kept, "a", "b", "c"]  # noqa: PTH208 - hidden ones too


def test_files_are_asked_for_while_others_are_on_their_way(
    ssh: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SFTP", "honest")
    names = [f"file {number}" for number in range(100)]
    monkeypatch.setenv("FAKE_NAMES", ",".join(name.encode().hex() for name in names))
    monkeypatch.setenv("FAKE_ROUNDS", str(tmp_path / "rounds"))
    assert received(ssh, "folder", tmp_path / "here")["files"] == len(names)
    assert {(tmp_path / "here" / "folder" / name).read_bytes() for name in names} == {CONTENT}
    assert (tmp_path / "rounds").stat().st_size < 2 * len(names)  # times that the server waited for us


@pytest.mark.parametrize(
    ("reason", "what", "tried_again"),
    [
        ("ssh: connect to host h port 22: Connection refused", "the connection to h failed", True),
        ("h: Permission denied (publickey).", "the connection to h failed", False),
        ("subsystem request failed on channel 0", "h has neither Python 3.6 nor sftp", False),
    ],
)
def test_a_connection_that_cannot_be_made_is_told_from_a_host_without_sftp(
    reason: str, what: str, tried_again: bool, ssh: list[str], tmp_path: Path
) -> None:
    Path(ssh[0]).write_text(f'#!/bin/sh\ncase "$*" in *-G*) exit 0 ;; esac\necho "{reason}" >&2\nexit 255\n')
    with pytest.raises(DevkitError) as raised:
        received(ssh, "f", tmp_path / "here")
    assert (raised.value.what, raised.value.why) == (what, reason)
    assert isinstance(raised.value, Disconnected) is tried_again


@pytest.mark.parametrize("retries", ["0", "1"])
def test_a_connection_of_sftp_that_ends_is_made_again_as_often_as_asked(
    retries: str, devkit: Devkit, ssh: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "once-cut"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *" sftp") ;; *-G*) exit 0 ;; *) exit 127 ;; esac\n'
        f"if [ -e {tmp_path}/second ]; then export FAKE_SFTP=honest; else touch {tmp_path}/second; fi\n"
        f'exec {ssh[0]} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("DEVKIT_TRANSFER_SSH", str(wrapper))
    monkeypatch.setenv("FAKE_SFTP", "cut")
    done = devkit("recv", "h:f", f"{tmp_path}/here/", "--retries", retries)
    assert "no Python 3.6 there: sftp copies whole files" in done.err
    assert "sftp with h failed" in done.err
    if retries == "1":
        assert (done.status, (tmp_path / "here" / "f").read_bytes()) == (0, CONTENT)
        assert "once more in 1 s (1 of 1)" in done.err
    else:
        assert done.status == 1
        assert not (tmp_path / "here" / "f").exists()
