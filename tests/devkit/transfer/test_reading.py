"""What the sender reads: small files while ssh connects, and none that is not as it was offered."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from devkit.transfer import copy
from devkit.transfer.copy import read_ahead
from devkit.transfer.remote import requests
from devkit.transfer.remote.names import part_name
from devkit.transfer.remote.reading import SMALL, Changed, Reader

from .conftest import offer, transfer, tree

if TYPE_CHECKING:
    from pathlib import Path


def always() -> bool:
    return True


def test_small_files_are_read_ahead_and_arrive(source: Path, tmp_path: Path) -> None:
    offered = offer(source)
    ahead = read_ahead(offered, always)
    names = {os.fsdecode(offered.entries[index].path) for index in ahead}
    assert "source/script.sh" in names
    assert "source/big.bin" not in names
    transfer(offered, tmp_path / "there", ahead=ahead)
    assert tree(tmp_path / "there" / "source") == tree(source)


def test_a_file_that_changes_after_it_was_read_ahead_arrives_as_the_manifest_says(source: Path, tmp_path: Path) -> None:
    offered = offer(source)
    ahead = read_ahead(offered, always)
    before = tree(source)
    (source / "script.sh").write_text("another version")
    pair = transfer(offered, tmp_path / "there", ahead=ahead)
    assert pair.result["failed"] == []
    assert tree(tmp_path / "there" / "source") == before


def test_a_file_that_changes_before_it_is_read_arrives_as_it_is_then(source: Path, tmp_path: Path) -> None:
    offered = offer(source)
    (source / "script.sh").write_text("another version")
    assert all(offered.entries[index].path != b"source/script.sh" for index in read_ahead(offered, always))
    pair = transfer(offered, tmp_path / "there")
    assert (pair.result["failed"], pair.result["remarks"]) == ([], [])
    assert tree(tmp_path / "there" / "source") == tree(source)
    assert transfer(offer(source), tmp_path / "there").plan["files"] == 0


def test_reading_ahead_ends_when_the_far_side_speaks(source: Path) -> None:
    assert read_ahead(offer(source), lambda: False) == {}


def test_reading_ahead_keeps_within_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "AHEAD_BYTES", 3 * SMALL)
    for number in range(5):
        (tmp_path / str(number)).write_bytes(bytes(SMALL))
    assert len(read_ahead(offer(f"{tmp_path}/"), always)) == 3


def test_a_pipe_in_the_place_of_a_small_file_blocks_nothing(source: Path) -> None:
    offered = offer(source)
    (source / "script.sh").unlink()
    os.mkfifo(source / "script.sh")
    index = next(i for i, entry in enumerate(offered.entries) if entry.path == b"source/script.sh")
    with pytest.raises(Changed):
        Reader(offered).whole(index)


@pytest.mark.parametrize("size", [10_000, 1_000_000])
@pytest.mark.parametrize("begun", [0, 5_000])
@pytest.mark.parametrize("how", ["removed", "shorter"])
def test_a_file_that_is_gone_is_said_once_however_often_it_is_asked_for(
    size: int, begun: int, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "WANT_SPAN", 1 << 16)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(size))
    (source / "stays").write_text("stays")
    there = tmp_path / "there"
    there.mkdir()
    (there / os.fsdecode(part_name(b"file"))).write_bytes(bytes(begun))
    offered = offer(f"{source}/")
    if how == "removed":
        (source / "file").unlink()
    else:
        (source / "file").write_bytes(bytes(size // 3))
    pair = transfer(offered, there)
    if how == "shorter" and not begun and size <= requests.WANT_SPAN:
        assert pair.result["failed"] == []
        assert (there / "file").stat().st_size == size // 3
        return
    assert [path for path, _ in pair.result["failed"]] == ["file"]
    assert (there / "stays").read_text() == "stays"
