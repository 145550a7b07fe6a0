"""What a file system or an owner refuses costs a remark; a name that is here is that name; what grows arrives."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devkit.errors import UsageError
from devkit.transfer.http_server.upload import Inbox, Upload
from devkit.transfer.remote import wire
from devkit.transfer.remote.manifest import NO_SIZE
from devkit.transfer.remote.messages import Options
from devkit.transfer.remote.names import part_name
from devkit.transfer.ssh import RemotePath, parse_place
from devkit.transfer.words import parse_recv, parse_send

from .conftest import as_nobody, offer, sharing, transfer, tree
from .web import get, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Devkit

    from .conftest import Hosts


def refusing(error: int) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(error, os.strerror(error))

    return refuse


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_takes_files(
    error: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(error))
    assert transfer(offer(source), tmp_path / "there").result["failed"] == []
    assert tree(tmp_path / "there" / "source") == tree(source)


def test_a_python_without_ctypes_takes_files(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert transfer(offer(source), tmp_path / "there").result["failed"] == []
    assert tree(tmp_path / "there" / "source") == tree(source)


@pytest.mark.parametrize(("call", "what"), [("fchmod", "mode"), ("utime", "time")])
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_modes_and_times_that_are_refused_are_said_and_cost_no_file(
    call: str, what: str, error: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, call, refusing(error))
    pair = transfer(offer(source), tmp_path / "there")
    assert pair.result["failed"] == []
    assert [line.startswith(f"{what} of ") for line in pair.result["remarks"]] == [True]
    assert (tmp_path / "there" / "source" / "big.bin").read_bytes() == (source / "big.bin").read_bytes()


@pytest.mark.parametrize("error", [errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_where_no_file_can_have_two_names_it_is_copied(
    error: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refusing(error))
    assert transfer(offer(source), tmp_path / "there").result["failed"] == []
    assert tree(tmp_path / "there" / "source") == tree(source)


def test_a_disk_that_does_not_say_how_much_is_free_takes_files(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", refusing(errno.ENOSYS))
    assert transfer(offer(source), tmp_path / "there").result["failed"] == []


@pytest.mark.parametrize("year", [1, 1900, 2300, 9999])
def test_a_date_that_is_odd_travels_or_is_said(year: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("data")
    os.utime(file, ((year - 1970) * 31_556_952,) * 2)
    pair = transfer(offer(file), f"{tmp_path}/there/")
    assert pair.result["failed"] == []
    assert (tmp_path / "there" / "file").read_text() == "data"


def test_a_parent_that_may_not_be_listed_is_a_way() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        top = Path(folder)
        top.chmod(0o755)
        home = top / "anna"
        (home / "public").mkdir(parents=True)
        (home / "public" / "file").write_text("data")
        home.chmod(0o711)
        with as_nobody(top / "box"):
            assert transfer(offer(home / "public"), "there").result["failed"] == []
            assert Path("there/public/file").read_text() == "data"


def test_a_source_that_cannot_be_read_is_named_and_the_others_go(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    os.mkfifo(tmp_path / "pipe")
    offered = offer(tmp_path / "one", tmp_path / "pipe", tmp_path / "gone")
    assert [path for path, _ in offered.left_out] == [os.fsencode(tmp_path / name) for name in ("pipe", "gone")]
    assert [entry.path for entry in offered.entries] == [b"one"]
    with pytest.raises(wire.Stopped):
        offer(tmp_path / "gone")


def test_a_file_that_says_it_is_empty_and_is_not_is_named() -> None:
    assert offer("/proc/cpuinfo", "/proc/version").left_out == [(b"cpuinfo", NO_SIZE), (b"version", NO_SIZE)]


def test_a_sparse_file_was_not_there_before(tmp_path: Path) -> None:
    with (tmp_path / "image").open("wb") as file:
        file.truncate(1 << 30)
    assert transfer(offer(tmp_path / "image"), f"{tmp_path}/there/").result["same_bytes"] == 0


@pytest.mark.parametrize("size", [30_000, 3_000_000])
@pytest.mark.parametrize("how", ["appended", "written anew", "replaced", "emptied"])
def test_a_file_that_is_another_when_it_is_read_arrives_whole(size: int, how: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(os.urandom(size))
    offered = offer(path)
    if how == "appended":
        with path.open("ab") as file:
            file.write(os.urandom(1000))
    elif how == "written anew":
        path.write_bytes(os.urandom(size // 2))
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        (tmp_path / "new").write_bytes(os.urandom(size + 5))
        (tmp_path / "new").replace(path)
    pair = transfer(offered, f"{tmp_path}/there/")
    assert (pair.result["failed"], pair.result["remarks"]) == ([], [])
    assert (tmp_path / "there" / "log").read_bytes() == path.read_bytes()
    assert (tmp_path / "there" / "log").stat().st_mtime_ns == path.stat().st_mtime_ns


def test_a_log_that_is_written_all_the_time_comes_as_far_as_it_went(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"line\n" * 400_000)
    done = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            while not done.wait(0.0005):
                file.write(b"line\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        pair = transfer(offer(path), f"{tmp_path}/there/")
    finally:
        done.set()
        writer.join()
    assert pair.result["failed"] == []
    there = (tmp_path / "there" / "log").read_bytes()
    assert len(there) >= 2_000_000
    assert path.read_bytes().startswith(there)


def test_a_folder_that_is_called_as_the_home_is_itself(
    devkit: Devkit, remote: Hosts, tmp_path: Path, home: Path
) -> None:
    (home / "key").write_text("secret")
    (tmp_path / "work" / "~").mkdir(parents=True)
    (tmp_path / "work" / "~" / "inner").write_text("inner")
    result = devkit("send", "~", "h:there/", cwd=tmp_path / "work")
    assert result.status == 0, result.err
    assert [path.name for path in remote.home.rglob("*") if path.is_file()] == ["inner"]
    result = devkit("recv", "h:there/~/inner", "~", cwd=tmp_path / "work")
    assert result.status == 0, result.err
    assert not (home / "inner").exists()


def test_a_name_with_blanks_and_a_colon_is_a_file_where_there_is_one(
    devkit: Devkit, remote: Hosts, tmp_path: Path
) -> None:
    (tmp_path / "Meeting notes: part 1.txt").write_text("x")
    result = devkit("send", "Meeting notes: part 1.txt", "h:")
    assert result.status == 0, result.err
    assert (remote.home / "Meeting notes: part 1.txt").is_file()


def test_an_empty_word_is_no_name() -> None:
    for words in (["", "h:"], ["a", "", "h:"]):
        with pytest.raises(UsageError, match="empty"):
            parse_send(words)
    with pytest.raises(UsageError, match="empty"):
        parse_recv(["h:a", ""])


def test_an_address_of_ssh_names_a_port_and_a_path() -> None:
    assert parse_place("ssh://me@gpu7:2222/data/a%20b") == RemotePath("me@gpu7", "/data/a b", 2222)
    assert parse_place("ssh://gpu7/~/work") == RemotePath("gpu7", "work")
    assert parse_place("ssh://[::1]:22") == RemotePath("[::1]", "", 22)
    for wrong in ("ssh://-oProxyCommand=x/a", "ssh://a b/c", "ssh://h:99999/a", "ssh:///a"):
        with pytest.raises(UsageError):
            parse_place(wrong)


def test_what_a_file_system_gives_to_another_owner_arrives_and_is_gone_on_with(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    begun = (source / "big.bin").read_bytes()[:2_000_000]
    (there / os.fsdecode(part_name(b"big.bin"))).write_bytes(begun)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)  # as root is on NFS that squashes it, and everyone on FAT
    pair = transfer(offer(f"{source}/"), there)
    assert (pair.result["failed"], pair.result["same_bytes"] >= 1_900_000) == ([], True)
    assert transfer(offer(source), tmp_path / "new" / "folder").result["failed"] == []
    assert tree(there) == tree(source) == tree(tmp_path / "new" / "folder" / "source")


@pytest.mark.parametrize("below", ["there/", "there/big.bin"])
def test_a_pipe_in_the_way_stays_a_pipe_and_is_named(below: str, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(os.urandom(1 << 20))
    (tmp_path / "there").mkdir()
    os.mkfifo(tmp_path / "there" / "big.bin")
    for options in (Options(dry_run=True), Options()):
        pair = transfer(offer(tmp_path / "big.bin"), f"{tmp_path}/{below}", options)
        assert pair.result["failed"] == [["big.bin", "a device, pipe or socket is in its way"]]
    assert (tmp_path / "there" / "big.bin").is_fifo()


@pytest.mark.parametrize(
    ("call", "what"), [("fchmod", "mode of"), ("utime", "time of"), ("fsync", ""), ("statvfs", "")]
)
def test_what_a_file_system_refuses_costs_no_fetched_file(
    call: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(5 << 20)
    monkeypatch.setattr(os, call, refusing(errno.EPERM))
    with plain(data, headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}) as server:
        got = get(f"{server.url}/file", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == data
    assert [line[:7] for line in got.remarks] == ([what] if what else [])


def test_an_upload_takes_its_name_where_no_file_can_have_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    monkeypatch.setattr(os, "fchmod", refusing(errno.EPERM))
    inbox = Inbox(tmp_path / "in", quota=1000, reserve=0)
    for name in ("a.txt", "a (2).txt"):
        with Upload(inbox) as upload:
            upload.write(b"data")
            assert upload.publish("a.txt") == name
    inbox.close()
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["a (2).txt", "a.txt"]
    assert (tmp_path / "in" / "a.txt").read_bytes() == b"data"


@contextlib.contextmanager
def descriptors(most: int) -> Iterator[None]:
    """Let this process open so many files beyond those that it has open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_sources_may_be_more_than_descriptors(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}" / "nested" / f"file {number}" for number in range(300)]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"data" * 30_000)
    with descriptors(160):
        assert transfer(offer(*paths), f"{tmp_path}/there/").result["failed"] == []
        folders = [f"{path.parent}/" for path in paths]
        assert transfer(offer(*folders), f"{tmp_path}/there/").result["have_files"] == 300
    assert len(list((tmp_path / "there").iterdir())) == 300


def test_shared_files_may_be_more_than_descriptors(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(300)]
    for path in paths:
        path.write_text("data")
    with descriptors(100), sharing(*paths) as server:
        get(server.url(), tmp_path / "all")
    assert len(list((tmp_path / "all").iterdir())) == 300


@pytest.mark.parametrize(
    "words",
    [
        ("serve", ""),
        ("serve", "file", "--upload", ""),
        ("send", "--files-from", "", ".", "h:"),
        ("send", "--exclude", "", ".", "h:"),
        ("get", "--sha256", "", "http://127.0.0.1:9/x"),
    ],
)
def test_a_variable_that_holds_nothing_is_no_name_list_pattern_or_hash(words: tuple[str, ...], devkit: Devkit) -> None:
    assert devkit(*words).status == 2


def test_a_link_that_is_named_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("new")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "old").write_text("old")
    for name, target in (("link", "store/old"), ("dangling", "store/made")):
        (tmp_path / name).symlink_to(target)
        assert transfer(offer(tmp_path / "file"), tmp_path / name).result["failed"] == []
        assert ((tmp_path / name).is_symlink(), (tmp_path / target).read_text()) == (True, "new")
