"""A folder that is new gets its name when all that is in it is there, and not before."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.transfer.remote import destination, durability, folders, wire
from devkit.transfer.remote.folders import Staging
from devkit.transfer.remote.names import part_name

from .conftest import as_nobody, offer, transfer, tree

if TYPE_CHECKING:
    from collections.abc import Callable


def named(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def hidden(folder: Path) -> Path:
    return folder.parent / os.fsdecode(part_name(os.fsencode(folder.name) + b"/"))


def theirs(path: Path) -> None:
    path.write_text("theirs")


def theirs_below(folder: Path) -> None:
    folder.mkdir()
    theirs(folder / "theirs")


def cut_after(limit: int, also: Callable[[], None] = lambda: None) -> Callable[[int, int], None]:
    """Return what passes on so many bytes, does something, and ends the connection."""

    def relay(source: int, target: int) -> None:
        left = limit
        while left and (data := os.read(source, min(left, 1 << 16))):
            os.write(target, data)
            left -= len(data)
        also()

    return relay


def pass_all(also: Callable[[], None]) -> Callable[[int, int], None]:
    """Return what does something once the first bytes of a file have passed, and passes on everything."""

    def relay(source: int, target: int) -> None:
        passed = 0
        while data := os.read(source, 1 << 16):
            os.write(target, data)
            if passed < 1 << 20 <= passed + len(data):
                also()
            passed += len(data)

    return relay


def test_a_new_folder_is_not_seen_before_it_is_whole_and_what_came_does_not_come_again(
    source: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    with pytest.raises(wire.ProtocolError):
        transfer(offer(source), there, relay=cut_after(2_000_000))
    assert not there.exists()
    begun = hidden(there)
    assert begun.is_dir()
    again = transfer(offer(source), there)
    assert not begun.exists()
    assert tree(there / "source") == tree(source)
    assert again.sent < 2_000_000


def test_a_new_folder_in_one_that_is_there_is_not_seen_before_it_is_whole(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "source").mkdir(parents=True)
    with pytest.raises(wire.ProtocolError):
        transfer(offer(source), there, relay=cut_after(3_060_000))
    assert not (there / "source" / "nested").exists()
    assert (hidden(there / "source" / "nested") / "small 3").is_file()
    again = transfer(offer(source), there)
    assert tree(there / "source") == tree(source)
    assert (there / "source").stat().st_mtime_ns == source.stat().st_mtime_ns
    assert again.plan["have_files"] > 0


def test_files_of_all_sizes_arrive_in_a_new_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for size in (0, 1, 1 << 16, (1 << 18) + 1, 5_000_000):
        (source / str(size)).write_bytes(os.urandom(size))
    (source / "read-only").write_bytes(b"x" * 300_000)
    (source / "read-only").chmod(0o444)
    with (source / "sparse").open("wb") as file:
        file.truncate(10 << 20)
    transfer(offer(f"{source}/"), tmp_path / "there")
    assert tree(tmp_path / "there") == tree(source)
    assert (tmp_path / "there" / "sparse").stat().st_blocks == 0


def test_a_new_folder_has_the_mode_that_folders_get_here(source: Path, tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.mkdir()
    transfer(offer(f"{source}/"), tmp_path / "there")
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_what_someone_puts_under_the_name_meanwhile_is_joined_and_kept(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"

    def meanwhile() -> None:
        (there / "nested").mkdir(parents=True)
        (there / "nested" / "theirs").write_text("stays")

    pair = transfer(offer(f"{source}/"), there, relay=pass_all(meanwhile))
    assert pair.result["failed"] == []
    assert (there / "nested" / "theirs").read_text() == "stays"
    (there / "nested" / "theirs").unlink()
    assert tree(there) == tree(source)
    assert not hidden(there).exists()


def test_a_file_that_comes_in_its_way_meanwhile_stays_and_what_was_sent_too(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    with pytest.raises(wire.Stopped, match="cannot be written"):
        transfer(offer(f"{source}/"), there, relay=pass_all(lambda: theirs(there)))
    assert there.read_text() == "theirs"
    there.unlink()
    again = transfer(offer(f"{source}/"), there)
    assert tree(there) == tree(source)
    assert again.result["bytes"] == 0


def test_a_folder_that_another_transfer_fills_is_not_touched(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "LOCK_WAIT_S", 0.2)
    there = tmp_path / "there"
    hidden(there).mkdir()
    held = os.open(hidden(there), os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(wire.Stopped) as stopped:
            transfer(offer(f"{source}/"), there)
    finally:
        os.close(held)
    assert "Another transfer" in stopped.value.why
    assert named(hidden(there)) == []


def test_transfers_leave_no_files_open(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "LOCK_WAIT_S", 0.1)
    offered = offer(f"{source}/")
    hidden(tmp_path / "held").mkdir()
    held = os.open(hidden(tmp_path / "held"), os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    before = len(named(Path("/proc/self/fd")))
    for number in range(5):
        with pytest.raises(wire.Stopped):
            transfer(offered, tmp_path / "held")
        transfer(offered, tmp_path / str(number))
        transfer(offered, tmp_path / str(number))
    assert len(named(Path("/proc/self/fd"))) == before
    os.close(held)


def test_a_new_folder_in_one_that_may_not_be_listed_arrives(source: Path, tmp_path: Path) -> None:
    (source / "folder").mkdir()
    offered = offer(f"{source}/folder/")
    with as_nobody(tmp_path / "box"):
        Path("drop").mkdir()
        Path("drop").chmod(0o333)
        transfer(offered, "drop/new")
    assert (tmp_path / "box" / "drop" / "new").is_dir()


def test_what_has_the_temporary_name_and_is_no_folder_of_ours_stays(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    hidden(there).symlink_to(elsewhere)
    transfer(offer(f"{source}/"), there)
    assert tree(there) == tree(source)
    assert named(elsewhere) == []


def test_new_folders_beyond_the_limit_are_made_as_they_are_called(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Staging, "LIMIT", 1)
    there = tmp_path / "there"
    there.mkdir()
    transfer(offer(source / "empty folder", source / "nested"), there)
    assert tree(there / "nested") == tree(source / "nested")
    assert named(there) == ["empty folder", "nested"]


def test_a_link_that_takes_the_temporary_name_meanwhile_leads_nowhere(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    begun = hidden(there / "source")

    def meanwhile() -> None:
        subprocess.run(["mv", begun, tmp_path / "moved"], check=True)
        begun.symlink_to(elsewhere)

    transfer(offer(source), there, relay=pass_all(meanwhile))
    assert named(elsewhere) == []


def test_a_read_only_file_that_is_empty_by_now_is_gone_on_with(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(3_000_000))
    (source / "a").write_text("a")
    (source / "a").chmod(0o444)
    box = tmp_path / "box"
    first = offer(f"{source}/")
    with as_nobody(box), pytest.raises(wire.ProtocolError):
        transfer(first, "there", relay=cut_after(1_000_000))
    (source / "a").chmod(0o644)
    (source / "a").write_text("")
    second = offer(f"{source}/")
    with as_nobody(box):
        pair = transfer(second, "there")
    assert pair.result["failed"] == []
    assert tree(box / "there") == tree(source)


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A folder with folders in it, and a file that is big enough for something to be done meanwhile."""
    root = tmp_path / "source"
    (root / "folder" / "inner").mkdir(parents=True)
    (root / "big").write_bytes(os.urandom(3_000_000))
    (root / "folder" / "file").write_text("ours")
    (root / "folder" / "inner" / "file").write_text("ours")
    os.utime(root / "folder", (1e9, 1e9))
    return root


def test_folders_that_are_joined_get_their_modes_and_times(nested: Path, tmp_path: Path) -> None:
    (nested / "folder").chmod(0o750)
    there = tmp_path / "there"
    there.mkdir()
    transfer(offer(nested), there, relay=pass_all(lambda: theirs_below(there / "source")))
    for arrived, was in ((there / "source", nested), (there / "source" / "folder", nested / "folder")):
        assert stat.S_IMODE(arrived.stat().st_mode) == stat.S_IMODE(was.stat().st_mode)
        assert arrived.stat().st_mtime_ns == was.stat().st_mtime_ns


def test_read_only_folders_are_joined(nested: Path, tmp_path: Path) -> None:
    for folder in (nested / "folder" / "inner", nested / "folder"):
        folder.chmod(0o555)
    offered = offer(f"{nested}/")
    with as_nobody(tmp_path / "box"):
        pair = transfer(offered, "there", relay=pass_all(lambda: theirs_below(Path("there"))))
    assert pair.result["failed"] == []
    assert named(tmp_path / "box") == ["there"]
    assert (tmp_path / "box" / "there" / "folder" / "inner" / "file").read_text() == "ours"
    assert stat.S_IMODE((tmp_path / "box" / "there" / "folder").stat().st_mode) == 0o555
    for folder in (nested, tmp_path / "box" / "there"):
        (folder / "folder").chmod(0o755)
        (folder / "folder" / "inner").chmod(0o755)


def test_what_cannot_be_joined_is_said_and_takes_no_room(nested: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"

    def meanwhile() -> None:
        (there / "big").mkdir(parents=True)
        (there / "folder").write_text("theirs")

    pair = transfer(offer(f"{nested}/"), there, relay=pass_all(meanwhile))
    assert [path for path, _ in pair.result["failed"]] == [
        "big",
        "folder",
        "folder/file",
        "folder/inner",
        "folder/inner/file",
    ]
    assert (there / "folder").read_text() == "theirs"
    assert not hidden(there).exists()


def test_a_file_in_the_way_of_one_new_folder_stops_no_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "big").write_bytes(os.urandom(3_000_000))
    there = tmp_path / "there"
    there.mkdir()
    pair = transfer(offer(tmp_path / "a", tmp_path / "b"), there, relay=pass_all(lambda: theirs(there / "b")))
    assert pair.result["failed"] == [["b", "no folder, or a symbolic link, is in its way"]]
    assert tree(there / "a") == tree(tmp_path / "a")
    assert (there / "b").read_text() == "theirs"


@pytest.mark.parametrize("batch", [2, 100])
def test_a_folder_that_the_disk_could_not_write_is_not_shown(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: set[int] = set()

    def tells_once(descriptor: int) -> bool:  # as the kernel does
        known = descriptor in told
        told.add(descriptor)
        return known

    monkeypatch.setattr(durability, "BATCH_FILES", batch)
    monkeypatch.setattr(durability, "sync_file_system", tells_once)
    monkeypatch.setattr(folders, "sync_all_of", tells_once)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        (source / str(number)).write_text("x")
    with pytest.raises(wire.Stopped) as stopped:
        transfer(offer(f"{source}/"), tmp_path / "there")
    assert stopped.value.why == "Input/output error."
    assert not (tmp_path / "there").exists()


def test_new_folders_on_other_file_systems_are_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def sync(descriptor: int) -> bool:
        synced.append(os.fstat(descriptor).st_dev)
        return True

    monkeypatch.setattr(folders, "sync_all_of", sync)
    staging = Staging(enabled=True)
    root = os.open(tmp_path, os.O_RDONLY)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        there = os.open(elsewhere, os.O_RDONLY)
        staging.begin(root, b"a", b"a")
        staging.begin(there, b"mounted/b", b"b")
        assert staging.sync(root)
        assert sorted(synced) == sorted(os.fstat(number).st_dev for number in (root, there))
        staging.close()
        os.close(there)
    os.close(root)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_was_a_folder_when_it_was_cut_off_arrives_as_the_file_that_it_is_now(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "x").mkdir(parents=True)
    (source / "x" / "big").write_bytes(os.urandom(3_000_000))
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(wire.ProtocolError):
        transfer(offer(f"{source}/"), there, relay=cut_after(1_000_000))
    shutil.rmtree(source / "x")
    if kind == "file":
        (source / "x").write_text("a file")
    else:
        (source / "x").symlink_to("elsewhere")
    pair = transfer(offer(f"{source}/"), there)
    assert pair.result["failed"] == []
    assert tree(there)["x"] == tree(source)["x"]


def test_what_an_earlier_transfer_left_and_is_offered_no_more_is_not_shown(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("step 1", "step 2/inner", "step 3"):
        (source / name).mkdir(parents=True)
        (source / name / "small").write_text("s")
    (source / "step 2" / "inner" / "gone").write_text("g")
    (source / "step 3" / "big").write_bytes(os.urandom(3_000_000))
    there = tmp_path / "there"
    first = offer(f"{source}/")
    with pytest.raises(wire.ProtocolError):
        transfer(first, there, relay=cut_after(1_000_000))
    (source / "step 1").rename(tmp_path / "step 1")
    (source / "step 2" / "inner" / "gone").unlink()
    transfer(offer(f"{source}/"), there)
    assert {path for path in tree(there) if ".devkit-part-" not in path} == tree(source).keys()
    again = transfer(offer(tmp_path / "step 1"), there)
    assert again.result["bytes"] == 0
    assert not hidden(there / "step 1").exists()


def test_half_a_file_that_cannot_be_read_any_more_is_not_shown(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(3_000_000))
    (source / "a").write_text("whole")
    there = tmp_path / "there"
    with pytest.raises(wire.ProtocolError):
        transfer(offer(f"{source}/"), there, relay=cut_after(1_000_000))
    (hidden(there) / "a").write_text("ha")
    offered = offer(f"{source}/")
    (source / "a").unlink()
    pair = transfer(offered, there)
    assert [path for path, _ in pair.result["failed"]] == ["a"]
    assert not (there / "a").exists()
    assert (there / "big").read_bytes() == (source / "big").read_bytes()


def test_what_was_written_before_the_machine_went_down_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(3_000_000))
    (source / "a").write_bytes(os.urandom(100_000))
    there = tmp_path / "there"
    with pytest.raises(wire.ProtocolError):
        transfer(offer(f"{source}/"), there, relay=cut_after(1_000_000))
    lost = hidden(there) / "a"
    was = lost.stat()
    lost.write_bytes(bytes(100_000))
    os.utime(lost, ns=(was.st_mtime_ns, was.st_mtime_ns))
    monkeypatch.setattr(destination, "booted_at", lambda: time.time() + 1)
    transfer(offer(f"{source}/"), there)
    assert tree(there) == tree(source)


def test_this_machine_was_started_before_now() -> None:
    assert 0 < folders.booted_at() < time.time()


def test_what_was_of_another_kind_in_an_earlier_transfer_is_in_no_ones_way(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "to a file").mkdir(parents=True)
    (source / "to a link").mkdir()
    (source / "to a file" / "x").write_text("x")
    (source / "to a folder").write_text("x")
    (source / "z big").write_bytes(os.urandom(3_000_000))
    there = tmp_path / "there"
    with pytest.raises(wire.ProtocolError):
        transfer(offer(f"{source}/"), there, relay=cut_after(1_000_000))
    shutil.rmtree(source / "to a file")
    (source / "to a file").write_text("a file")
    (source / "to a link").rmdir()
    (source / "to a link").symlink_to("to a file")
    (source / "to a folder").unlink()
    (source / "to a folder").mkdir()
    (source / "to a folder" / "y").write_text("y")
    pair = transfer(offer(f"{source}/"), there)
    assert pair.result["failed"] == []
    assert {path: what for path, what in tree(there).items() if ".devkit-part-" not in path} == tree(source)
