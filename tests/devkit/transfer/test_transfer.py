from __future__ import annotations

import errno
import os
import stat
import struct
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.transfer.remote import wire
from devkit.transfer.remote.chunking import LONGEST
from devkit.transfer.remote.durability import open_part
from devkit.transfer.remote.messages import Options
from devkit.transfer.remote.names import part_name
from devkit.transfer.remote.sender import is_sooner

from .conftest import as_nobody, offer, transfer, tree

if TYPE_CHECKING:
    from collections.abc import Callable


def test_everything_that_a_tree_holds_arrives(source: Path, tmp_path: Path) -> None:
    pair = transfer(offer(source), tmp_path / "there")
    assert pair.offered == []
    assert pair.result["failed"] == []
    assert tree(tmp_path / "there" / "source") == tree(source)
    copied = tmp_path / "there" / "source"
    assert (copied / "big.bin").stat().st_ino == (copied / "nested" / "same file").stat().st_ino
    assert (copied / "nested").stat().st_mtime_ns == (source / "nested").stat().st_mtime_ns


def test_a_slash_at_the_end_sends_what_is_inside(source: Path, tmp_path: Path) -> None:
    transfer(offer(f"{source}/"), tmp_path / "there")
    assert tree(tmp_path / "there") == tree(source)


def test_one_file_takes_the_name_it_is_given(source: Path, tmp_path: Path) -> None:
    for _ in range(2):
        transfer(offer(source / "script.sh"), tmp_path / "renamed")
        assert (tmp_path / "renamed").read_text() == "#!/bin/sh\n"
    transfer(offer(source / "script.sh"), f"{tmp_path}/made/")
    assert (tmp_path / "made" / "script.sh").is_file()


def test_what_is_there_already_is_not_sent_again(source: Path, tmp_path: Path) -> None:
    transfer(offer(source), tmp_path / "there")
    again = transfer(offer(source), tmp_path / "there")
    assert again.plan["files"] == 0
    assert again.result["bytes"] == 0
    assert again.sent < 20_000


def test_checksum_finds_a_change_that_size_and_time_hide(source: Path, tmp_path: Path) -> None:
    transfer(offer(source), tmp_path / "there")
    spoilt = tmp_path / "there" / "source" / "big.bin"
    status = spoilt.stat()
    with spoilt.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"spoilt")
    os.utime(spoilt, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert transfer(offer(source), tmp_path / "there").result["bytes"] == 0
    pair = transfer(offer(source), tmp_path / "there", Options(checksum=True))
    assert 0 < pair.result["bytes"] <= 2 * 16384
    assert spoilt.read_bytes() == (source / "big.bin").read_bytes()


def test_of_a_changed_file_only_the_changed_blocks_are_sent(tmp_path: Path) -> None:
    original = bytearray(os.urandom(8 << 20))
    (tmp_path / "weights").write_bytes(original)
    transfer(offer(tmp_path / "weights"), f"{tmp_path}/there/")
    for at in range(0, len(original), 1 << 20):
        original[at : at + 4096] = os.urandom(4096)
    (tmp_path / "weights").write_bytes(original)
    pair = transfer(offer(tmp_path / "weights"), f"{tmp_path}/there/")
    assert (tmp_path / "there" / "weights").read_bytes() == original
    assert pair.result["bytes"] <= 8 * 16384
    (tmp_path / "weights").write_bytes(original[: 3 << 20])
    pair = transfer(offer(tmp_path / "weights"), f"{tmp_path}/there/")
    assert (tmp_path / "there" / "weights").read_bytes() == original[: 3 << 20]
    assert pair.result["bytes"] <= LONGEST


def test_a_touched_file_is_compared_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    inode = (tmp_path / "there" / "file").stat().st_ino
    os.utime(tmp_path / "file", ns=(10**18, 10**18))
    pair = transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    assert pair.result["bytes"] == 0
    status = (tmp_path / "there" / "file").stat()
    assert (status.st_ino, status.st_mtime_ns) == (inode, 10**18)


def test_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(40 << 20)
        file.write(b"data in the middle")
        file.truncate(90 << 20)
    pair = transfer(offer(tmp_path / "sparse"), f"{tmp_path}/there/")
    copied = tmp_path / "there" / "sparse"
    assert copied.read_bytes() == (tmp_path / "sparse").read_bytes()
    assert copied.stat().st_blocks * 512 < 1 << 20
    assert pair.sent < 1 << 20


def test_a_hole_where_the_older_version_had_bytes_becomes_zeros(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * (5 << 20))
    transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    with (tmp_path / "file").open("wb") as file:
        file.truncate(6 << 20)
    transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    assert (tmp_path / "there" / "file").read_bytes() == bytes(6 << 20)


@pytest.mark.parametrize("mode", [0o444, 0o200])
def test_a_part_that_has_the_mode_of_a_read_only_file_is_gone_on_from(mode: int, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "file"
    file.write_bytes(os.urandom(300_000))
    file.chmod(mode)
    offered = offer(file)
    file.chmod(0o644)
    part = tmp_path / "box" / os.fsdecode(part_name(b"file"))
    with as_nobody(tmp_path / "box"):
        Path(part.name).write_bytes(bytes(200_000))
        Path(part.name).chmod(mode)
        pair = transfer(offered, ".")
    assert pair.result["failed"] == []
    assert not part.exists()
    arrived = tmp_path / "box" / "file"
    assert stat.S_IMODE(arrived.stat().st_mode) == mode
    arrived.chmod(0o644)
    assert arrived.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("kept", [1, 16_383, 16_384, 1_000_000, 2_999_999])
def test_a_half_written_part_is_gone_on_from(kept: int, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / os.fsdecode(part_name(b"file"))).write_bytes(data[:kept])
    pair = transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    assert pair.result["bytes"] <= len(data) - kept + 16_384
    assert (tmp_path / "there" / "file").read_bytes() == data
    assert list((tmp_path / "there").iterdir()) == [tmp_path / "there" / "file"]


def test_a_part_of_something_else_does_no_harm(tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / os.fsdecode(part_name(b"file"))).write_bytes(os.urandom(2_500_000))
    transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    assert (tmp_path / "there" / "file").read_bytes() == data


def test_a_block_that_arrives_wrong_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(5 << 20))
    pair = transfer(offer(tmp_path / "file"), f"{tmp_path}/there/", relay=spoiling(times=3))
    assert (tmp_path / "there" / "file").read_bytes() == (tmp_path / "file").read_bytes()
    assert pair.result["again_bytes"] == 3 * wire.STRIDE


def test_a_block_that_always_arrives_wrong_ends_the_transfer(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(2 << 20))
    with pytest.raises(wire.ProtocolError, match="arrived wrong"):
        transfer(offer(tmp_path / "file"), f"{tmp_path}/there/", relay=spoiling(times=1000))
    assert not (tmp_path / "there" / "file").exists()


def spoiling(times: int) -> Callable[[int, int], None]:
    """Return what passes frames on and changes a byte of some."""

    def relay(source: int, target: int) -> None:
        left = times
        with os.fdopen(os.dup(source), "rb") as file:
            while header := file.read(wire.HEADER.size):
                kind, length = struct.unpack("!BI", header)
                body = bytearray(file.read(length))
                if kind == wire.DATA and left:
                    left -= 1
                    body[-1] ^= 1
                os.write(target, header)
                view = memoryview(body)
                while view:
                    view = view[os.write(target, view) :]

    return relay


def test_a_log_that_grows_arrives_as_it_is_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "steady").write_bytes(b"steady")
    (tmp_path / "log").write_bytes(os.urandom(1 << 20))
    offered = offer(tmp_path / "steady", tmp_path / "log")
    with (tmp_path / "log").open("ab") as file:
        file.write(b"another line")
    pair = transfer(offered, f"{tmp_path}/there/")
    assert (pair.result["failed"], pair.result["remarks"]) == ([], [])
    assert (tmp_path / "there" / "log").read_bytes() == (tmp_path / "log").read_bytes()
    assert (tmp_path / "there" / "steady").read_bytes() == b"steady"


def test_deflating_is_chosen_where_it_is_sooner() -> None:
    mib = 1 << 20
    assert is_sooner(mib, mib // 3, took_s=0.01, link=10e6)
    assert not is_sooner(mib, mib // 3, took_s=0.01, link=100e6)
    assert not is_sooner(mib, int(0.95 * mib), took_s=0.01, link=1e6)


def test_over_a_slow_link_text_is_deflated(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"a line that repeats itself\n" * 900_000)

    def slowly(source: int, target: int) -> None:
        while data := os.read(source, 1 << 16):
            time.sleep(len(data) / 20e6)
            os.write(target, data)

    pair = transfer(offer(tmp_path / "text"), f"{tmp_path}/there/", relay=slowly)
    assert pair.sent < 15_000_000
    assert (tmp_path / "there" / "text").read_bytes() == (tmp_path / "text").read_bytes()
    plain = transfer(offer(tmp_path / "text"), f"{tmp_path}/plain/", relay=slowly, compress=False)
    assert plain.sent > 24_000_000


def test_a_rate_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(4 << 20))
    pair = transfer(offer(tmp_path / "file"), f"{tmp_path}/there/", rate=8 << 20)
    assert pair.result["seconds"] > 0.35


def test_neither_end_needs_more_memory_for_a_bigger_file(tmp_path: Path) -> None:
    peaks = []
    for mib in (8, 64):
        with (tmp_path / "file").open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(1 << 20))
        tracemalloc.start()
        transfer(offer(tmp_path / "file"), tmp_path / f"there-{mib}", compress=False)
        peaks.append(tracemalloc.get_traced_memory()[1] / (1 << 20))
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4, peaks
    assert peaks[1] < 24, peaks


def test_patterns_leave_things_out(source: Path, tmp_path: Path) -> None:
    (source / ".gitignore").write_text("*.bin\n!nested/\n")
    (source / "nested" / ".gitignore").write_text("/small 1*\n")
    transfer(offer(f"{source}/", gitignore=True, exclude=["deep/"]), tmp_path / "there")
    names = tree(tmp_path / "there")
    assert "big.bin" not in names
    assert "nested/small 1" not in names
    assert "nested/small 2" in names
    assert "nested/deep" not in names


def test_dry_run_writes_nothing(source: Path, tmp_path: Path) -> None:
    pair = transfer(offer(source), tmp_path / "there", Options(dry_run=True))
    assert pair.plan["files"] == 46
    assert not (tmp_path / "there").exists()


def test_another_transfer_of_the_same_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devkit.transfer.remote.durability.LOCK_WAIT_S", 0.3)
    (tmp_path / "file").write_bytes(os.urandom(1 << 20))
    (tmp_path / "there").mkdir()
    folder = os.open(tmp_path / "there", os.O_RDONLY)
    held = open_part(folder, part_name(b"file"), keep=False)
    pair = transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    os.close(held)
    os.close(folder)
    assert pair.result["failed"] == [["file", "another transfer is writing it"]]
    assert not (tmp_path / "there" / "file").exists()


def test_no_room_is_said_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    monkeypatch.setattr("devkit.transfer.remote.destination.room_on", lambda _folder: (90_000, 1 << 40))
    with pytest.raises(wire.Stopped, match="no room"):
        transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    assert list((tmp_path / "there").iterdir()) == []


def test_a_destination_that_is_none_says_so(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for destination in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(wire.Stopped, match="is not a folder"):
            transfer(offer(source), destination)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_full_disk_stops_everything_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big").write_bytes(os.urandom(3 << 20))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("devkit.transfer.remote.receiver.os.pwrite", full)
    with pytest.raises(wire.Stopped, match="big cannot be written") as stopped:
        transfer(offer(tmp_path / "big"), f"{tmp_path}/there/")
    assert stopped.value.why == "No space left on device."
    monkeypatch.undo()
    transfer(offer(tmp_path / "big"), f"{tmp_path}/there2/")
    assert (tmp_path / "there2" / "big").read_bytes() == (tmp_path / "big").read_bytes()


def test_a_folder_in_the_way_of_a_file_costs_nothing_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(os.urandom(1 << 20))
    (tmp_path / "there" / "weights").mkdir(parents=True)
    pair = transfer(offer(tmp_path / "weights"), f"{tmp_path}/there/")
    assert pair.result["failed"] == [["weights", "a folder is in its way"]]
    assert (pair.result["files"], pair.result["bytes"]) == (0, 0)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["weights"]


def test_a_read_only_folder_is_updated_and_stays_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "source" / "folder"
    folder.mkdir(parents=True)
    box = tmp_path / "box"
    box.mkdir()
    monkeypatch.chdir(box)
    nobody = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(box, nobody, -1)
    for words in ("first", "another"):
        folder.chmod(0o755)
        (folder / "file").write_text(words)
        (folder / words).write_text(words)
        folder.chmod(0o555)
        offered = offer(f"{tmp_path}/source/")
        before = os.geteuid()
        os.seteuid(nobody)
        try:
            pair = transfer(offered, "there")
        finally:
            os.seteuid(before)
        assert pair.result["failed"] == []
        assert (box / "there" / "folder").stat().st_mode & 0o777 == 0o555
        assert (box / "there" / "folder" / "file").read_text() == words
    folder.chmod(0o755)
