"""The plan of a receiver: decided by what is offered and what is here, and the same for a dry run as for the run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from devkit.transfer.remote.manifest import ManifestEntry
from devkit.transfer.remote.messages import About, Options
from devkit.transfer.remote.names import part_name
from devkit.transfer.remote.plan import Here, Wanted, lack_of_room, plan
from devkit.transfer.remote.wire import Stopped

from .conftest import as_nobody, offer, transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = ManifestEntry("f", b"file", size=10, allocated=10, mtime_ns=5, mode=0o644)
SAME = Here(10, 5, 0o644)


@pytest.mark.parametrize(
    ("here", "options", "wanted"),
    [
        (None, Options(), Wanted(0, 0, 0)),
        (SAME, Options(), None),
        (SAME._replace(part=3), Options(), None),
        (SAME, Options(checksum=True), Wanted(0, 0, 10)),
        (SAME._replace(certain=False), Options(), Wanted(0, 0, 10)),
        (SAME._replace(size=9), Options(), Wanted(0, 0, 9)),
        (SAME._replace(mtime_ns=6, part=4), Options(), Wanted(0, 4, 10)),
        (SAME._replace(size=9, mtime_ns=6), Options(update=True), None),
        (SAME._replace(size=9, mtime_ns=4), Options(update=True), Wanted(0, 0, 9)),
        (Here(part=7), Options(), Wanted(0, 7, 0)),
    ],
)
def test_a_file_is_asked_for_where_it_is_not_here_as_it_is_offered(
    here: Here | None, options: Options, wanted: Wanted | None
) -> None:
    steps = plan([FILE], {0: here} if here else {}, options, About())
    assert steps.wanted == ([wanted] if wanted else [])
    assert (steps.plan.files, steps.plan.have_files) == ((1, 0) if wanted else (0, 1))
    assert steps.plan.begun_bytes == (wanted.part if wanted else 0)


def test_a_mode_is_given_to_what_is_here_and_not_to_what_is_left_for_being_newer() -> None:
    other = SAME._replace(mode=0o600)
    assert plan([FILE], {0: other}, Options(), About()).modes == [0]
    assert plan([FILE], {0: other._replace(mtime_ns=6)}, Options(update=True), About()).modes == []


def test_what_cannot_be_put_here_is_refused_and_not_counted() -> None:
    entries = [FILE, ManifestEntry("f", b"FILE", size=3), ManifestEntry("l", b"out", target=b"/etc")]
    steps = plan(entries, {}, Options(), About(), case_blind=True)
    assert sorted(steps.refusals) == [1, 2]
    assert (steps.plan.files, steps.plan.bytes, len(steps.plan.failed)) == (1, 10, 2)
    assert plan(entries, {0: Here(why="no")}, Options(unsafe_links=True), About()).refusals == {0: "no"}


def test_room_is_what_the_disk_has_beyond_what_stays_free() -> None:
    assert lack_of_room(10, 100, 0) == lack_of_room(0, 0, 1 << 40) == lack_of_room(1, 1 << 30, 1 << 40) == ""
    assert "free there" in lack_of_room(1, 1 << 26, 1 << 40)
    assert lack_of_room(99, 100, 1000) != ""
    assert lack_of_room(90, 100, 1000) == ""


def _begun(there: Path) -> None:
    hidden = there / os.fsdecode(part_name(b"source/"))
    (hidden / "nested").mkdir(parents=True)
    (hidden / "nested" / "small 1").write_bytes(b"of another version")
    (hidden / os.fsdecode(part_name(b"big.bin"))).write_bytes(bytes(1000))


def _link_in_the_way(there: Path) -> None:
    (there / "source" / "link" / "in").mkdir(parents=True)


def _root_begun(there: Path) -> None:
    there.rmdir()
    hidden = there.with_name(os.fsdecode(part_name(b"there/")))
    hidden.mkdir()
    (hidden / "zero").write_bytes(b"more")


def _file_in_the_way(there: Path) -> None:
    (there / "source" / "nested").parent.mkdir()
    (there / "source" / "nested").write_bytes(b"no folder")


@pytest.mark.parametrize("prepare", [_begun, _link_in_the_way, _root_begun, _file_in_the_way])
def test_a_dry_run_says_what_the_run_does(prepare: Callable[[Path], None], source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    prepare(there)
    before = sorted(tmp_path.rglob("*"))
    dry = transfer(offer(source), there, Options(dry_run=True))
    assert sorted(tmp_path.rglob("*")) == before
    run = transfer(offer(source), there)
    assert (dry.plan, dry.result["failed"]) == (run.plan, run.result["failed"])
    assert dry.plan["failed"] == run.result["failed"]


@pytest.mark.parametrize("where", ["new/folder", "held", "held/inner"])
def test_a_dry_run_is_refused_where_the_run_would_be(where: str, source: Path, tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    (box / "held").mkdir()
    if where == "new/folder":
        box.chmod(0o555)
    came = []
    offered = offer(source / "nested")
    tmp_path.chmod(0o755)
    for options in (Options(dry_run=True), Options()):
        with as_nobody(tmp_path / "mine"):
            try:
                came.append(transfer(offered, box / where, options).result["failed"])
            except Stopped as error:
                came.append([error.what, error.why])
    assert came[0] == came[1] != []
