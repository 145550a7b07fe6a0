"""Pieces written past the page cache: the same bytes in the file whatever the disk can do, and its errors told."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.transfer.remote import receiver, wire
from devkit.transfer.remote.names import part_name
from devkit.transfer.remote.writing import PIECE_BYTES, Writer

from .conftest import offer, transfer
from .test_transfer import spoiling

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 3 * PIECE_BYTES + 12_345


@pytest.fixture
def writer() -> Iterator[Writer]:
    """A writer, ended at the end."""
    made = Writer()
    yield made
    made.close()


def write(writer: Writer, file: int, offset: int, data: bytes, step: int = 1 << 18) -> None:
    """Write some bytes as they would arrive."""
    for at in range(0, len(data), step):
        writer.write(file, offset + at, data[at : at + step])


@pytest.mark.parametrize("start", [0, 4096, 1234])
@pytest.mark.parametrize("folder", ["disk", "/dev/shm"])  # noqa: S108 - a file system in memory
def test_what_was_taken_is_in_the_file(folder: str, start: int, writer: Writer, tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    path = tmp_path / "file" if folder == "disk" else Path(f"{folder}/devkit-test-{os.getpid()}")
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        write(writer, file, start, data)
        writer.settle(file)
        assert os.pread(file, SIZE + 1, start) == data
    finally:
        os.close(file)
        path.unlink()


def test_a_whole_piece_passes_the_page_cache(writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    through_cache: list[tuple[int, int]] = []
    really = os.pwrite

    def pwrite(file: int, data: memoryview, offset: int) -> int:
        if file == cached:
            through_cache.append((offset, len(data)))
        return really(file, data, offset)

    cached = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr("devkit.transfer.remote.writing.os.pwrite", pwrite)
    write(writer, cached, 0, os.urandom(SIZE))
    writer.settle(cached)
    os.close(cached)
    assert through_cache == [(3 * PIECE_BYTES, 12_345)]


def test_pieces_of_several_files_and_places_do_not_mix(writer: Writer, tmp_path: Path) -> None:
    chosen = random.Random(7)  # noqa: S311 - made-up bytes
    files = [os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT) for number in range(3)]
    expected = [bytearray(2 * PIECE_BYTES) for _ in files]
    ranges = [(n, at, 1 << 19) for n in range(3) for at in range(0, 2 * PIECE_BYTES, 1 << 19)]
    chosen.shuffle(ranges)
    for number, offset, length in ranges:
        data = chosen.randbytes(length)
        expected[number][offset : offset + length] = data
        write(writer, files[number], offset, data)
    for number, file in enumerate(files):
        writer.settle(file)
        assert os.pread(file, 3 * PIECE_BYTES, 0) == expected[number]
        os.close(file)


def test_a_file_that_cannot_be_written_is_told_and_the_others_are_written(writer: Writer, tmp_path: Path) -> None:
    (tmp_path / "closed").touch()
    closed = os.open(tmp_path / "closed", os.O_RDONLY)
    good = os.open(tmp_path / "good", os.O_RDWR | os.O_CREAT)
    data = os.urandom(SIZE)
    writer.write(closed, 0, data[:100])
    write(writer, good, 0, data)
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.settle(closed)
    writer.settle(good)
    assert os.pread(good, SIZE, 0) == data
    os.close(closed)
    os.close(good)


def test_an_error_is_told_while_the_rest_of_the_file_still_arrives(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("devkit.transfer.remote.writing.os.pwrite", full)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        write(writer, file, 0, bytes(50 * PIECE_BYTES), step=PIECE_BYTES)
    with pytest.raises(OSError, match="No space left"):
        writer.settle(file)
    os.close(file)


def descriptors() -> set[str]:
    """Return what is open, but for what lists it."""
    return {path.name for path in Path("/proc/self/fd").iterdir() if path.exists()}


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    before = descriptors()
    for settled in (True, False):
        writer = Writer()
        file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        write(writer, file, 0, bytes(SIZE))
        if settled:
            writer.settle(file)
        writer.close()
        os.close(file)
    assert descriptors() == before


def test_a_big_file_is_resumed_updated_and_mended_as_a_small_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "DIRECT_FROM", 1 << 20)
    data = bytearray(os.urandom(SIZE))
    (tmp_path / "file").write_bytes(data)
    there = tmp_path / "there"
    there.mkdir()
    (there / os.fsdecode(part_name(b"file"))).write_bytes(data[: PIECE_BYTES + 77])
    pair = transfer(offer(tmp_path / "file"), f"{there}/", relay=spoiling(times=3))
    assert (there / "file").read_bytes() == data
    assert pair.result["bytes"] < SIZE - PIECE_BYTES + 4 * (1 << 20)
    for at in range(0, SIZE, 1 << 20):
        data[at : at + 4096] = os.urandom(4096)
    data += os.urandom(2 * PIECE_BYTES)
    with (tmp_path / "file").open("wb") as file:
        file.write(data)
        file.seek(PIECE_BYTES, os.SEEK_CUR)  # a hole
        file.write(b"end")
    transfer(offer(tmp_path / "file"), f"{there}/")
    assert (there / "file").read_bytes() == (tmp_path / "file").read_bytes()
    assert [path.name for path in there.iterdir()] == ["file"]


def test_a_full_disk_stops_a_big_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "DIRECT_FROM", 1 << 20)
    (tmp_path / "big").write_bytes(os.urandom(SIZE))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("devkit.transfer.remote.writing.os.pwrite", full)
    with pytest.raises(wire.Stopped, match="big cannot be written") as stopped:
        transfer(offer(tmp_path / "big"), f"{tmp_path}/there/")
    assert stopped.value.why == "No space left on device."
    assert not (tmp_path / "there" / "big").exists()
