"""``send`` and ``recv`` over a real sshd on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from devkit.transfer.remote.manifest import version_name
from devkit.transfer.sftp.client import CHUNK, WINDOW

from .conftest import REPOSITORY, offer, sharing, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Devkit

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("host", ["box", "jumped"])
def test_a_tree_goes_and_comes_back(host: str, sshd: Path, devkit: Devkit, source: Path, tmp_path: Path) -> None:
    assert sshd.is_file()
    sent = devkit("send", str(source), f"{host}:{tmp_path}/there", "-v")
    assert sent.status == 0, sent.err
    assert "aes128-gcm@openssh.com" in sent.err
    assert tree(tmp_path / "there" / "source") == tree(source)
    received = devkit("recv", f"{host}:{tmp_path}/there/source/", "back")
    assert received.status == 0, received.err
    assert tree(tmp_path / "back") == tree(source)


def test_a_control_master_is_used(sshd: Path, devkit: Devkit, source: Path, tmp_path: Path) -> None:
    control = tmp_path / "c"
    sshd.write_text(sshd.read_text().replace("Host box\n", f"Host box\n  ControlPath {control}\n"))
    master = subprocess.Popen(["ssh", "-F", sshd, "-M", "-N", "box"])
    try:
        for _ in range(100):
            if control.exists():
                break
            time.sleep(0.05)
        assert control.exists()
        assert devkit("send", f"{source}/zero", f"box:{tmp_path}/there/").status == 0
    finally:
        master.terminate()
        master.wait(10)


def test_a_link_that_is_cut_is_gone_on_from(sshd: Path, devkit: Devkit, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(200 << 20))
    assert sshd.is_file()
    line = [sys.executable, "-m", "devkit", "send", str(big), f"box:{tmp_path}/there/", "--limit", "100M"]
    process = subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True
    )
    part = None
    while part is None or part.stat().st_size < 40 << 20:
        time.sleep(0.05)
        part = next(iter((tmp_path / "there").glob(".devkit-part-*")), None)
    (ssh,) = [child for child in psutil.Process(process.pid).children() if child.name() == "ssh"]
    ssh.kill()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "goes on from where it was" in said
    again = devkit("send", str(big), f"box:{tmp_path}/there/")
    assert again.status == 0, again.err
    assert "already there" in again.err
    assert (tmp_path / "there" / "big").read_bytes() == big.read_bytes()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 160 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "devkit-test", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.usefixtures("sshd")
def test_a_disk_that_fills_up_stops_it_and_with_room_it_goes_on(
    devkit: Devkit, small_disk: Path, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(80 << 20))
    line = [sys.executable, "-m", "devkit", "send", str(big), f"box:{small_disk}/there/", "--limit", "60M"]
    process = subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list((small_disk / "there").glob(".devkit-part-*")):
        time.sleep(0.02)
    with contextlib.suppress(OSError), (small_disk / "greedy").open("wb", buffering=0) as greedy:
        while True:
            greedy.write(bytes(1 << 20))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "No space left on device" in said
    assert not (small_disk / "there" / "big").exists()
    refused = devkit("send", str(big), f"box:{small_disk}/there/")
    assert "the disk has no room" in refused.err
    (small_disk / "greedy").unlink()
    again = devkit("send", str(big), f"box:{small_disk}/there/")
    assert again.status == 0, again.err
    assert "already there" in again.err
    assert (small_disk / "there" / "big").read_bytes() == big.read_bytes()


@pytest.mark.usefixtures("sshd")
def test_the_end_whose_disk_has_no_room_is_the_one_that_is_named(
    devkit: Devkit, small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(bytes(200 << 20))
    sent = devkit("send", f"{tmp_path}/big", f"box:{small_disk}/")
    assert "box: the disk has no room for 200.0 MiB" in sent.err
    received = devkit("recv", f"box:{tmp_path}/big", f"{small_disk}/")
    assert "✗ the disk has no room for 200.0 MiB" in received.err
    with sharing(tmp_path / "big") as server:
        fetched = devkit("get", f"{server.url()}big", f"{small_disk}/")
        assert "the disk has no room for 200 MiB" in fetched.err
        (tmp_path / "big").write_bytes(os.urandom(100 << 20))
        assert devkit("get", f"{server.url()}big", f"{small_disk}/").status == 0


def test_a_host_that_refuses_says_what_ssh_said(sshd: Path, devkit: Devkit, source: Path, tmp_path: Path) -> None:
    (sshd.parent / "authorized").write_text("")
    done = devkit("send", f"{source}/zero", f"box:{tmp_path}/there/", env={"SSH_AUTH_SOCK": ""})
    assert done.status == 1
    assert "the connection to box failed" in done.err
    assert "Permission denied" in done.err


@pytest.fixture
def _no_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_REMOTE_PATH", str(tmp_path))


@pytest.mark.usefixtures("_no_python", "sshd")
def test_where_there_is_no_python_sftp_copies_and_says_so(devkit: Devkit, source: Path, tmp_path: Path) -> None:
    (source / "nested" / "deep" / "line\nbreak").unlink()
    (source / 'glob*[x] "quoted" it\'s').write_text("odd")
    sent = devkit("send", str(source), f"box:{tmp_path}/there")
    assert "no Python 3.6 there: sftp copies whole files" in sent.err
    assert "sftp with box failed" not in sent.err
    assert "sftp sends no links" in sent.err
    files = {name: what for name, what in tree(source).items() if what[0] == 0o100000}
    copied = {name: what for name, what in tree(tmp_path / "there" / "source").items() if what[0] == 0o100000}
    assert {name: what[1][0] for name, what in copied.items()} == {
        name: what[1][0] for name, what in files.items() if name != "nested/same file"
    }
    assert copied["script.sh"][1][2] == 0o751
    one = devkit("send", f"{source}/script.sh", f"box:{tmp_path}/renamed.sh")
    assert (one.status, (tmp_path / "renamed.sh").read_text()) == (0, "#!/bin/sh\n")
    back = devkit("recv", f"box:{tmp_path}/there/source", f"box:{tmp_path}/ren*.sh", "back")
    assert back.status == 0, back.err
    assert (tmp_path / "back" / "renamed.sh").is_file()
    assert (tmp_path / "back" / "source" / "big.bin").read_bytes() == (source / "big.bin").read_bytes()
    assert not list(tmp_path.rglob(".devkit-part-*"))


@pytest.mark.usefixtures("sshd")
def test_an_account_that_is_let_in_for_sftp_alone_is_served(
    sshd: Path, devkit: Devkit, source: Path, tmp_path: Path
) -> None:
    let_in_for_sftp_alone(sshd)
    sent = devkit("send", f"{source}/script.sh", f"box:{tmp_path}/there/")
    assert sent.status == 0, sent.err
    assert "This service allows sftp connections only." in sent.err
    assert "no Python 3.6 there: sftp copies whole files" in sent.err
    assert (tmp_path / "there" / "script.sh").read_text() == "#!/bin/sh\n"
    back = devkit("recv", f"box:{tmp_path}/there/script.sh", "back")
    assert (back.status, (tmp_path / "back").read_text()) == (0, "#!/bin/sh\n")


def let_in_for_sftp_alone(config: Path) -> None:
    """Let the user's key in for sftp alone; sshd reads its keys for each connection."""
    authorized = config.parent / "authorized"
    authorized.write_text(f'command="internal-sftp" {authorized.read_text()}')


@pytest.mark.usefixtures("_no_python", "sshd")
def test_half_a_file_is_gone_on_from_by_sftp_where_it_is_the_same_version(devkit: Devkit, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(64 << 20))
    line = [sys.executable, "-m", "devkit", "send", str(big), f"box:{tmp_path}/there/"]
    process = subprocess.Popen(
        line, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.DEVNULL, start_new_session=True
    )
    part = None
    while process.poll() is None and (part is None or part.stat().st_size < 4 << 20):
        part = next(iter((tmp_path / "there").glob(".devkit-part-*")), None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert part is not None
    assert not (tmp_path / "there" / "big").exists()
    time.sleep(0.5)  # what is left in the remote side's pipes
    begun = part.stat()
    assert 4 << 20 <= begun.st_size < big.stat().st_size
    again = devkit("send", str(big), f"box:{tmp_path}/there/", "--json")
    assert again.status == 0, again.err
    assert (tmp_path / "there" / "big").read_bytes() == big.read_bytes()
    assert (tmp_path / "there" / "big").stat().st_ino == begun.st_ino
    assert json.loads(again.out)[0]["result"]["same_bytes"] == begun.st_size - WINDOW * CHUNK


@pytest.mark.usefixtures("_no_python", "sshd")
def test_half_of_another_version_is_removed_and_not_gone_on_from(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file = tmp_path / "file"
    for words in ("first", "second"):
        file.write_text(words)
        (entry,) = offer(file).entries
        (tmp_path / "there" / os.fsdecode(version_name(entry))).write_text("sec")
    again = devkit("send", str(file), f"box:{tmp_path}/there/")
    assert again.status == 0, again.err
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file"]
    assert (tmp_path / "there" / "file").read_text() == "second"


@pytest.mark.usefixtures("_no_python", "sshd")
def test_a_part_as_long_as_the_file_is_whole_by_sftp_only_with_the_files_time(devkit: Devkit, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(CHUNK * 3))
    os.utime(file, (1_600_000_000, 1_600_000_000))
    (entry,) = offer(file).entries
    (tmp_path / "there").mkdir()
    part = tmp_path / "there" / os.fsdecode(version_name(entry))
    part.write_bytes(bytes(CHUNK) + file.read_bytes()[CHUNK:])  # the last write was done before the first
    assert devkit("send", str(file), f"box:{tmp_path}/there/").status == 0
    assert (tmp_path / "there" / "file").read_bytes() == file.read_bytes()
