"""Bytes that moved within a file: a rebuilt library shifts, and only what is new of it is sent."""

from __future__ import annotations

import os
import random
import struct
from typing import TYPE_CHECKING

import pytest

from devkit.transfer.remote import wire
from devkit.transfer.remote.chunking import LONGEST, SHORTEST, chunks
from devkit.transfer.remote.names import part_name

from .conftest import FUZZ, offer, transfer

if TYPE_CHECKING:
    from pathlib import Path


def library(size: int) -> bytes:
    """Return bytes of which some are frequent, as in a program: a quarter zeros."""
    made = random.Random(4)  # noqa: S311 - the same each time
    return bytes(b if b < 192 else 0 for b in made.randbytes(size))


@pytest.mark.parametrize("size", [0, 1, SHORTEST, LONGEST + 1, 3_000_000])
@pytest.mark.parametrize("start", [0, 5000])
def test_chunks_are_the_file_and_neither_too_short_nor_too_long(size: int, start: int, tmp_path: Path) -> None:
    data = library(size)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        found = [(offset, bytes(chunk)) for offset, chunk in chunks(file.fileno(), start, size)]
    assert b"".join(chunk for _, chunk in found) == data[start:]
    assert [offset for offset, _ in found] == [start + sum(len(c) for _, c in found[:n]) for n in range(len(found))]
    assert all(SHORTEST <= len(chunk) <= LONGEST for _, chunk in found[:-1])


def test_bytes_that_are_the_same_make_chunks_of_the_longest(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200_000))
    with (tmp_path / "file").open("rb") as file:
        assert {len(chunk) for _, chunk in list(chunks(file.fileno(), 0, 200_000))[:-1]} == {LONGEST}


@pytest.mark.parametrize("kind", ["table", "picture", "weights", "offsets"])
def test_after_an_insertion_the_same_chunks_come_again_whatever_the_bytes(kind: str, tmp_path: Path) -> None:
    made = random.Random(5)  # noqa: S311 - the same each time
    data = {
        "table": lambda: b"".join(b"%d,%d\n" % (n, made.randrange(10**6)) for n in range(100_000)),
        "picture": lambda: made.randbytes(1_000_000).translate(bytes(40 + n % 8 for n in range(256))),
        "weights": lambda: b"".join(struct.pack("<f", made.gauss(0, 0.02))[2:] for _ in range(500_000)),
        "offsets": lambda: b"".join(struct.pack("<Q", n * 24) for n in range(150_000)),
    }[kind]()
    found = []
    for inserted in (b"", b"inserted"):
        (tmp_path / "file").write_bytes(data[:100_000] + inserted + data[100_000:])
        with (tmp_path / "file").open("rb") as file:
            found.append([bytes(chunk) for _, chunk in chunks(file.fileno(), 0, len(data) + len(inserted))])
    assert sum(len(chunk) for chunk in set(found[1]) - set(found[0])) < 2 * LONGEST


@pytest.mark.parametrize("kept", [0, 1_000_000])
def test_of_a_library_that_shifted_only_what_is_new_is_sent(kept: int, tmp_path: Path) -> None:
    old = library(6_000_000)
    new = old[:70_000] + b"inserted" + old[70_000:3_000_000] + old[3_500_000:] + b"at the end"
    (tmp_path / "lib.so").write_bytes(new)
    there = tmp_path / "there"
    there.mkdir()
    (there / "lib.so").write_bytes(old)
    if kept:
        (there / os.fsdecode(part_name(b"lib.so"))).write_bytes(new[:kept])
    pair = transfer(offer(tmp_path / "lib.so"), f"{there}/")
    assert (there / "lib.so").read_bytes() == new
    assert pair.result["bytes"] < 6 * LONGEST
    assert pair.result["bytes"] + pair.result["same_bytes"] == len(new)


def test_what_has_holes_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(library(200_000))
    os.truncate(tmp_path / "image", 5_000_000)
    there = tmp_path / "there"
    there.mkdir()
    (there / "image").write_bytes(bytes(1_000_000))
    transfer(offer(tmp_path / "image"), f"{there}/")
    assert (there / "image").read_bytes() == (tmp_path / "image").read_bytes()
    assert (there / "image").stat().st_blocks * 512 < 2_000_000


def test_pieces_that_are_moved_about_at_random_arrive_as_they_are(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    made = random.Random(7)  # noqa: S311 - the same each time
    for _ in range(6 * FUZZ):
        old = library(made.randrange(1, 1_500_000))
        cuts = sorted(made.randrange(len(old) + 1) for _ in range(made.randrange(8)))
        pieces = [old[a:b] for a, b in zip([0, *cuts], [*cuts, len(old)], strict=True)]
        made.shuffle(pieces)
        new = b"".join(piece + made.randbytes(made.randrange(3) * 1000) for piece in pieces[: made.randrange(1, 9)])
        (there / "file").write_bytes(old)
        (tmp_path / "file").write_bytes(new)
        os.utime(there / "file", (1, 1))
        pair = transfer(offer(tmp_path / "file"), f"{there}/")
        assert pair.result["failed"] == []
        assert (there / "file").read_bytes() == new


@pytest.mark.parametrize(
    "frame",
    [
        (wire.KNOWN, b"short"),
        (wire.KNOWN, wire.HOLDS.pack(0, 0, 1) + b"half of a chunk"),
        (wire.KNOWN, wire.HOLDS.pack(7, 0, 1)),
        (wire.KNOWN, wire.HOLDS.pack(0, 1 << 40, 1)),
    ],
)
def test_what_the_sender_is_told_of_chunks_is_proven(frame: tuple[int, bytes], tmp_path: Path) -> None:
    from .test_hostile import _requests

    assert [type(error) for error in _requests(tmp_path, frame)] == [wire.ProtocolError]


def test_a_move_from_beyond_what_is_here_is_refused(tmp_path: Path) -> None:
    from .test_hostile import FILE, _answers

    came = _answers(tmp_path, [FILE], (wire.MOVED, wire.MOVE.pack(0, 0, 10, 1 << 40)))
    assert type(came) is wire.ProtocolError
