"""Ends that mean harm: nothing is written outside the destination, nothing read outside what is offered."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.transfer.remote import wire
from devkit.transfer.remote.manifest import ManifestEntry, Offer, Source, describe, pack, unpack
from devkit.transfer.remote.messages import Choice, Options, Result
from devkit.transfer.remote.names import Ignore, collisions, link_stays_inside, part_name, split
from devkit.transfer.remote.receiver import Receiver

from .conftest import FUZZ, offer, transfer, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

ESCAPES = [
    b"../out",
    b"..",
    b".",
    b"",
    b"/etc/passwd",
    b"a/../../out",
    b"a/..",
    b"a//b",
    b"a/./b",
    b"a/",
    b"x" * 256,
    b"/".join([b"d"] * 3000),
    b"a\0b",
    part_name(b"other"),
    b"a/" + part_name(b"other"),
]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_path_that_leads_out_is_refused(path: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        split(path)
    with pytest.raises(wire.ProtocolError):
        unpack(pack(ManifestEntry("f", path)), [])


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        (b"link", b"file", True),
        (b"a/link", b"../file", True),
        (b"a/b/link", b"../../file", True),
        (b"link", b"./a/b", True),
        (b"link", b"../file", False),
        (b"a/link", b"../../file", False),
        (b"link", b"/etc/passwd", False),
        (b"link", b"a/../../out", False),
        (b"d1/d2/y", b"x/../../out", False),  # x may be a link to the root
        (b"link", b"", False),
        (b"a/link", b"..", True),
    ],
)
def test_links_that_point_out_are_told_from_those_that_do_not(path: bytes, target: bytes, inside: bool) -> None:
    assert link_stays_inside(path, target) is inside


def test_a_link_that_points_out_is_neither_offered_nor_made(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "out").symlink_to("/etc")
    assert [name for name, _ in offer(f"{tmp_path}/source/").left_out] == [b"out"]
    pair = transfer(offer(f"{tmp_path}/source/", unsafe_links=True), tmp_path / "there")
    assert pair.result["failed"] == [["out", "a symbolic link that points out"]]
    transfer(offer(f"{tmp_path}/source/", unsafe_links=True), tmp_path / "there", Options(unsafe_links=True))
    assert (tmp_path / "there" / "out").readlink() == Path("/etc")


def test_a_link_in_the_destination_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "source" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "sub" / "file").write_text("new")
    (tmp_path / "source" / "plain").write_text("new")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "plain").write_text("precious")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "sub").symlink_to(outside)
    (tmp_path / "there" / "plain").symlink_to(outside / "plain")
    pair = transfer(offer(f"{tmp_path}/source/"), tmp_path / "there")
    assert {name for name, _ in pair.result["failed"]} == {"sub", "sub/file"}
    assert sorted(path.name for path in outside.iterdir()) == ["plain"]
    assert (outside / "plain").read_text() == "precious"
    assert (tmp_path / "there" / "plain").read_text() == "new"


@pytest.mark.parametrize("size", [10, 1 << 20])
@pytest.mark.parametrize("trap", ["symlink", "hard link", "pipe"])
def test_what_lies_under_the_temporary_name_is_not_written_through(trap: str, size: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(size))
    (tmp_path / "there").mkdir()
    (tmp_path / "precious").write_text("precious")
    part = tmp_path / "there" / os.fsdecode(part_name(b"file"))
    if trap == "symlink":
        part.symlink_to(tmp_path / "precious")
    elif trap == "hard link":
        part.hardlink_to(tmp_path / "precious")
    else:
        os.mkfifo(part)
    transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "there" / "file").read_bytes() == (tmp_path / "file").read_bytes()


def test_a_folder_in_the_way_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("new")
    (tmp_path / "there" / "file").mkdir(parents=True)
    pair = transfer(offer(tmp_path / "file"), f"{tmp_path}/there/")
    assert pair.result["failed_count"] == 1
    assert (tmp_path / "there" / "file").is_dir()


def test_devices_pipes_and_sockets_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    os.mkfifo(tmp_path / "source" / "pipe")
    (tmp_path / "source" / "file").write_text("file")
    offered = offer(f"{tmp_path}/source/")
    assert offered.left_out == [(b"pipe", "a device, pipe or socket")]
    transfer(offered, tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file"]


def test_a_file_replaced_by_a_link_or_a_pipe_after_the_walk_is_not_read(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "sub").mkdir(parents=True)
    for name in ("one", "two", "sub/three"):
        (shared / name).write_text("shared")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "three").write_text("secret")
    offered = offer(f"{shared}/")
    (shared / "one").unlink()
    (shared / "one").symlink_to(tmp_path / "secret" / "three")
    (shared / "two").unlink()
    os.mkfifo(shared / "two")
    (shared / "sub" / "three").unlink()
    (shared / "sub").rmdir()
    (shared / "sub").symlink_to(tmp_path / "secret")
    pair = transfer(offered, tmp_path / "there")
    assert {name for name, _ in pair.result["failed"]} == {"one", "two", "sub/three"}
    assert all(what != (b"secret",) for _, what in tree(tmp_path / "there").values())
    assert not list((tmp_path / "there").rglob("three"))


def test_names_that_differ_in_case_alone_are_refused_where_they_would_collide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collisions([b"Readme", b"README", b"other"]) == {b"README"}
    assert collisions(["é".encode(), "e\u0301".encode()]) == {"e\u0301".encode()}
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "Makefile").write_text("one")
    (tmp_path / "source" / "makefile").write_text("other")
    transfer(offer(f"{tmp_path}/source/"), tmp_path / "both")
    assert len(list((tmp_path / "both").iterdir())) == 2
    monkeypatch.setattr("devkit.transfer.remote.destination.ignores_case", lambda _folder: True)
    pair = transfer(offer(f"{tmp_path}/source/"), tmp_path / "one")
    assert pair.result["failed"] == [["makefile", "this file system takes its name for another's"]]
    assert [path.read_text() for path in (tmp_path / "one").iterdir()] == ["one"]


@pytest.mark.parametrize(
    ("patterns", "path", "is_folder", "left_out"),
    [
        (["*.o"], b"a/b.o", False, True),
        (["/*.o"], b"a/b.o", False, False),
        (["build/"], b"a/build", True, True),
        (["build/"], b"a/build", False, False),
        (["a/**/z"], b"a/b/c/z", False, True),
        (["a/**/z"], b"a/z", False, True),
        (["**/z"], b"q/z", False, True),
        (["a/**"], b"a/b/c", False, True),
        (["*.o", "!keep.o"], b"keep.o", False, False),
        (["[ab]?"], b"bx", False, True),
        (["[!ab]x"], b"cx", False, True),
        (["[z-a]"], b"q", False, False),
        (["\\#x"], b"#x", False, True),
        (["# comment", ""], b"# comment", False, False),
        (["name  "], b"name", False, True),
    ],
)
def test_patterns_mean_what_gitignore_says(patterns: list[str], path: bytes, is_folder: bool, left_out: bool) -> None:
    assert Ignore(pattern.encode() for pattern in patterns).leaves_out(path, is_folder) is left_out


# A receiver that asks for what is not offered, an sender that sends what was not asked for.


def _requests(tmp_path: Path, *frames: tuple[int, bytes]) -> list[BaseException]:
    """Send requests to an honest sender, and return what it raised."""
    (tmp_path / "shared").mkdir(exist_ok=True)
    (tmp_path / "shared" / "file").write_bytes(b"shared" * 100)
    offered = offer(tmp_path / "shared")
    raised: list[BaseException] = []
    ours, theirs = _sockets()
    giving = wire.Channel(theirs, theirs, silence_s=5)

    def give() -> None:
        from devkit.transfer.remote.sender import Sender

        try:
            Sender(giving, offered, "sha256", "crc32").serve()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=give)
    thread.start()
    channel = wire.Channel(ours, ours, silence_s=5)
    for kind, body in frames:
        with contextlib.suppress(wire.ProtocolError):
            channel.send(kind, body)
    thread.join(10)
    assert not thread.is_alive()
    os.close(ours)
    os.close(theirs)
    return raised


def _sockets() -> tuple[int, int]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


@pytest.mark.parametrize(
    "frame",
    [
        (wire.WANT, wire.RANGE.pack(0, 0, 0)),  # a folder
        (wire.WANT, wire.RANGE.pack(7, 0, 1)),
        (wire.WANT, wire.RANGE.pack(1, 0, 601)),
        (wire.WANT, wire.RANGE.pack(1, 2**63, 2**63)),
        (wire.WANT, b"short"),
        (wire.CHECK, b"short"),
        (wire.CHECK, wire.COMPARE.pack(1, 0, 600, 1)),
        (wire.CHECK, wire.COMPARE.pack(1, 0, 600, 0)),
        (wire.CHECK, wire.COMPARE.pack(1, 0, 2**62, 16384) + bytes(16)),
        (wire.PLAN, b"not json"),
        (wire.RESULT, b"[]"),
        (99, b""),
        (wire.ENTRIES, b""),
    ],
)
def test_a_request_for_what_is_not_offered_ends_the_transfer(frame: tuple[int, bytes], tmp_path: Path) -> None:
    raised = _requests(tmp_path, frame)
    assert [type(base_exception) for base_exception in raised] == [wire.ProtocolError]


def _answers(tmp_path: Path, manifest: list[ManifestEntry], *frames: tuple[int, bytes]) -> BaseException | Result:
    """Let an honest receiver hear a manifest and answers, and return what came of it."""
    ours, theirs = _sockets()
    liar = wire.Channel(ours, ours, silence_s=5)
    for entry in manifest:
        liar.send(wire.ENTRIES, pack(entry))
    liar.send_json(wire.ENTRIES_END, {"one_file": False, "left_out": []})
    for kind, body in frames:
        liar.send(kind, body)
    with socket.socket(fileno=os.dup(ours)) as end:
        end.shutdown(socket.SHUT_WR)
    try:
        return Receiver(
            wire.Channel(theirs, theirs, silence_s=5), os.fsencode(tmp_path / "there"), "sha256", "crc32"
        ).run()
    except (wire.ProtocolError, wire.Stopped) as error:
        return error
    finally:
        os.close(ours)
        os.close(theirs)


FILE = ManifestEntry("f", b"file", size=10)


def _data(index: int, offset: int, data: bytes) -> tuple[int, bytes]:
    return wire.DATA, wire.PIECE.pack(index, offset, len(data), 0, wire.crc32(data)) + data


@pytest.mark.parametrize(
    "frame",
    [
        _data(0, 0, b"more than ten bytes"),
        _data(0, 5, b"gap"),
        _data(1, 0, b"no such entry"),
        (wire.SAME, wire.RANGE.pack(0, 0, 10)),
        (wire.HOLE, wire.RANGE.pack(0, 0, 11)),
        (wire.HOLE, wire.RANGE.pack(0, 2**63, 2**63)),
        (wire.GONE, wire.RANGE.pack(3, 0, 0)),
        (wire.DATA, b"short"),
        (wire.DATA, wire.PIECE.pack(0, 0, 1 << 30, 1, bytes(16)) + b"bomb"),
        (wire.RESULT, b"{}"),
        (77, b""),
    ],
)
def test_an_answer_that_was_not_asked_for_ends_the_transfer(frame: tuple[int, bytes], tmp_path: Path) -> None:
    came = _answers(tmp_path, [FILE], frame)
    assert type(came) is wire.ProtocolError
    assert not (tmp_path / "there" / "file").exists()


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path) -> None:
    import zlib

    bomb = zlib.compress(bytes(50 << 20))
    piece = wire.PIECE.pack(0, 0, 10, 1, bytes(16))
    assert type(_answers(tmp_path, [FILE], (wire.DATA, piece + bomb))) is wire.ProtocolError


@pytest.mark.parametrize(
    "manifest",
    [
        [ManifestEntry("h", b"hard", target=b"0")],
        [FILE, ManifestEntry("h", b"hard", target=b"99")],
        [FILE, ManifestEntry("h", b"hard", target=b"../file")],
        [ManifestEntry("l", b"link", target=b"")],
        [ManifestEntry("x", b"odd")],
        [ManifestEntry("f", b"file", size=-1)],
        [ManifestEntry("f", b"file", size=2**63)],
        [ManifestEntry("f", b"../file", size=1)],
    ],
)
def test_a_manifest_that_lies_is_refused(manifest: list[ManifestEntry], tmp_path: Path) -> None:
    assert type(_answers(tmp_path, manifest)) is wire.ProtocolError
    assert not (tmp_path / "there").exists()


def test_modes_that_give_rights_away_do_not_arrive(tmp_path: Path) -> None:
    _answers(tmp_path, [ManifestEntry("f", b"empty", size=0, mode=0o6777)])
    assert (tmp_path / "there" / "empty").stat().st_mode & 0o7000 == 0


def test_no_name_escapes_of_thousands_that_are_made_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(7)  # noqa: S311 - a fuzz that can be repeated
    pieces = [
        b"..",
        b".",
        b"",
        b"a",
        b"b",
        b"-rf",
        b"\n",
        b"\xff",
        b"~",
        b"\\..\\",
        b"con",
        b"A",
        b"\x00",
        part_name(b"x"),
    ]
    refused = taken = 0
    (tmp_path / "canary").write_text("untouched")
    for _ in range(300 * FUZZ):
        manifest: list[ManifestEntry] = []
        for _ in range(10):
            path = b"/".join(chance.choice(pieces) for _ in range(chance.randint(1, 5)))
            kind = chance.choice("fdl")
            entry = ManifestEntry(
                kind, path, target=b"/".join(chance.choice(pieces) for _ in range(3)) if kind == "l" else b""
            )
            try:
                unpack(pack(entry), manifest)
                taken += 1
            except wire.ProtocolError:
                refused += 1
        unique = list({manifest_entry.path: manifest_entry for manifest_entry in manifest}.values())
        _answers(tmp_path, unique)
    outside = sorted(child.name for child in tmp_path.iterdir())
    with capsys.disabled():
        print(f"\n  names: {taken} taken, {refused} refused, 0 escapes")  # noqa: T201 - the count is the point
    assert outside == ["canary", "there"]
    assert taken > 500
    assert refused > 500
    for folder, folders, names in os.walk(os.fsencode(tmp_path / "there")):
        for name in (*folders, *names):
            path = os.path.join(folder, name)  # noqa: PTH118 - the names are bytes
            inside = os.fsencode(os.path.realpath(tmp_path / "there"))
            if not _loops(path):  # of a loop realpath makes something, the kernel nothing
                assert os.path.realpath(path).startswith(inside)  # links included


def _loops(path: bytes) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - the name is bytes
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def test_no_made_up_stream_of_answers_breaks_the_taking_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(11)  # noqa: S311 - a fuzz that can be repeated
    ends: dict[str, int] = {}
    for number in range(300 * FUZZ):
        frames = []
        for _ in range(chance.randint(1, 4)):
            body = bytearray(_data(chance.randint(0, 1), chance.randint(0, 3), os.urandom(chance.randint(0, 12)))[1])
            for _ in range(chance.randint(0, 3)):
                body[chance.randrange(len(body))] = chance.randrange(256)
            frames.append((chance.randint(0, 18), bytes(body)))
        came = _answers(tmp_path / str(number), [FILE], *frames)
        ends[type(came).__name__] = ends.get(type(came).__name__, 0) + 1
    with capsys.disabled():
        print(f"\n  streams: {ends}")  # noqa: T201 - the count is the point
    assert ends["ProtocolError"] > 100 * FUZZ
    assert set(ends) <= {"ProtocolError", "Closed", "Stopped", "Result"}


def test_a_source_beyond_the_offer_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    root = os.open(tmp_path / "root", os.O_RDONLY)
    status = (tmp_path / "secret").stat()
    lie = Offer(
        [ManifestEntry("f", b"x", size=6, mtime_ns=status.st_mtime_ns)],
        [Source(root, b"../secret")],
        [],
        one_file=False,
    )
    with pytest.raises(wire.Closed):
        transfer(lie, tmp_path / "there")
    os.close(root)
    assert not (tmp_path / "there" / "x").exists()


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same").write_text(name)
    with pytest.raises(wire.Stopped, match="twice"):
        describe([os.fsencode(tmp_path / name / "same") for name in ("one", "two")], Choice())


def test_a_frame_of_json_that_nests_without_end_is_refused() -> None:
    with pytest.raises(wire.ProtocolError, match="not JSON"):
        wire.as_object(b"[" * 900_000)


@contextlib.contextmanager
def swapping(folder: Path, target: Path) -> Iterator[list[int]]:
    """Put a link to ``target`` in a folder's place and take it back, over and over; give how often."""
    count = [0]
    over = threading.Event()
    aside, link = folder.with_name("aside"), folder.with_name("link aside")

    def swap() -> None:
        while not over.is_set():
            link.symlink_to(target)
            with contextlib.suppress(OSError):  # a transfer made the folder anew
                folder.rename(aside)
                link.rename(folder)
                count[0] += 1
                time.sleep(0.0005)
            for leftover in (folder, link):
                if leftover.is_symlink():
                    leftover.unlink()
            if aside.exists() and not folder.exists():
                with contextlib.suppress(OSError):  # by now there is one
                    aside.rename(folder)
            shutil.rmtree(aside, ignore_errors=True)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield count
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("end", ["sender", "receiver"])
def test_a_folder_that_turns_into_a_link_during_transfers_leads_nowhere(
    end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(20):
        (outside / str(number)).write_text("secret")
    folder = tmp_path / "source" / "top" / "folder"
    folder.mkdir(parents=True)
    for number in range(20):
        (folder / str(number)).write_text("public")
    swapped = folder if end == "sender" else tmp_path / "there" / "folder"
    swapped.mkdir(parents=True, exist_ok=True)
    with swapping(swapped, outside) as count:
        for _ in range(100):
            with contextlib.suppress(wire.Stopped, wire.ProtocolError):
                transfer(offer(f"{folder.parent}/"), tmp_path / "there", Options(checksum=True))
    with capsys.disabled():
        print(f"\n  {end}: {count[0]} swaps in 100 transfers, 0 escapes")  # noqa: T201 - the count is the point
    assert count[0] > 10
    assert {path.name: path.read_text() for path in outside.iterdir()} == {str(n): "secret" for n in range(20)}
    there = [
        path for path in (tmp_path / "there").rglob("*") if path.is_file() and outside not in path.resolve().parents
    ]
    assert {path.read_text() for path in there if not path.name.startswith(".devkit-part-")} <= {"public"}
