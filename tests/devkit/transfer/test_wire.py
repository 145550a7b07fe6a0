"""Frames: what is sent by the kernel arrives as what is sent by hand, whatever becomes of the file meanwhile."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import xxhash

from devkit.transfer.remote import durability, wire
from devkit.transfer.remote.durability import Finished, Syncer
from devkit.transfer.remote.names import part_name

if TYPE_CHECKING:
    from pathlib import Path

LENGTH = 700_000


def frame_of(path: Path, data: bytes, offset: int) -> bytes:
    """Send a frame that ends with a file's bytes, and return what arrives after its head."""
    read, write = os.pipe()
    descriptor = os.open(path, os.O_RDONLY)
    channel = wire.Channel(-1, write)

    def give() -> None:
        channel.send(wire.SAME, b"before", flush=False)
        channel.send_file(wire.DATA, b"head", memoryview(data), descriptor, offset)
        channel.send(wire.GONE, b"after")

    giving = threading.Thread(target=give)
    giving.start()
    taking = wire.Channel(read, -1, silence_s=10)
    try:
        assert bytes(taking.expect(wire.SAME)) == b"before"
        body = bytes(taking.expect(wire.DATA))
        assert bytes(taking.expect(wire.GONE)) == b"after"
    finally:
        giving.join(10)
        for number in (read, write, descriptor):
            os.close(number)
    assert channel.sent == taking.received
    assert body.startswith(b"head")
    return body[4:]


def test_a_files_bytes_arrive_whoever_sends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(LENGTH)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000 + data + b"more")
    assert frame_of(path, data, 5000) == data

    def refused(*_: object) -> int:
        raise OSError(errno.EINVAL, "this file system cannot")

    monkeypatch.setattr(os, "sendfile", refused)
    assert frame_of(path, data, 5000) == data


@pytest.mark.parametrize("kept", [0, 1, 300_000])
def test_a_file_that_became_shorter_breaks_no_frame(kept: int, tmp_path: Path) -> None:
    data = os.urandom(LENGTH)
    path = tmp_path / "file"
    path.write_bytes(data[:kept])
    assert frame_of(path, data, 0) == data


def test_a_broken_connection_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(LENGTH))
    read, write = os.pipe()
    os.close(read)
    with path.open("rb") as file, pytest.raises(wire.Closed, match="the connection broke"):
        wire.Channel(-1, write).send_file(wire.DATA, b"head", memoryview(bytes(LENGTH)), file.fileno(), 0)
    os.close(write)


def test_a_pipe_is_widened_and_a_socket_left_alone() -> None:
    read, write = os.pipe()
    pair = socket.socketpair()
    try:
        wire.widen(read)
        wire.widen(pair[0].fileno())
        assert os.write(write, bytes(1 << 20)) == 1 << 20
    finally:
        for number in (read, write):
            os.close(number)
        for end in pair:
            end.close()


def test_small_files_do_not_wait_for_company_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "BATCH_S", 0.0)
    root = os.open(tmp_path, os.O_RDONLY)
    finisher = Syncer(root)
    try:
        (tmp_path / os.fsdecode(part_name(b"one"))).write_bytes(b"1")
        finisher.put(Finished(b"one", part_name(b"one"), -1, 1))
        finisher.look()
        deadline = time.monotonic() + 10
        while not (tmp_path / "one").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        finisher.close()
        os.close(root)
    assert not finisher.failures


@pytest.mark.parametrize("length", [0, 1, 16, 17, 241, 10_240, 1 << 18])
def test_the_systems_library_and_the_module_make_one_hash(length: int) -> None:
    digest = wire.xxh3_of_library()
    assert digest is not None
    data = os.urandom(length)
    expected = xxhash.xxh3_128_digest(data)
    longer = bytearray(b"..") + data + b".."
    assert digest(data) == digest(bytearray(data)) == digest(memoryview(longer)[2:-2]) == expected
    assert digest(memoryview(bytes(longer))[2:-2]) == expected


@pytest.mark.parametrize("version", [None, 704])
def test_without_a_library_or_with_an_old_one_a_checksum_is_still_shared(
    version: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old:
        XXH3_128bits = None

        @staticmethod
        def XXH_versionNumber() -> int | None:  # noqa: N802 - the library's name
            return version

    def library(_name: str) -> type[Old]:
        if version is None:
            raise OSError
        return Old

    monkeypatch.setattr(ctypes, "CDLL", library)
    assert wire.xxh3_of_library() is None
    monkeypatch.setattr(wire, "xxh3", lambda: None)
    assert list(wire.sums()) == ["crc32"]
    assert wire.choose_sum(["xxh3", "crc32"]) == "crc32"
    assert sorted(wire.digests()) == ["blake2b", "sha256"]
