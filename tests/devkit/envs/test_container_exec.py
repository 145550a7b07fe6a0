"""What a container's program writes is told apart, however it is cut into pieces."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest

from devkit.envs.container_exec import HEADER, Program, _Session


@pytest.mark.parametrize("piece", [1, 3, 8, 11, 1000])
def test_frames_reach_their_streams_however_they_are_cut(piece: int) -> None:
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    nothing = cast("Any", None)  # the engine is not asked
    program = Program(["true"], "/", {})
    session = _Session(nothing, nothing, program, "id", nothing, {1: out_write, 2: err_write})
    sent = b"".join(
        HEADER.pack(stream, len(data)) + data for stream, data in ((1, b"one "), (2, b"err"), (1, b"two"), (1, b""))
    )
    for begin in range(0, len(sent), piece):
        session.take(sent[begin : begin + piece])
    os.close(out_write)
    os.close(err_write)
    with os.fdopen(out_read, "rb") as out, os.fdopen(err_read, "rb") as err:
        assert (out.read(), err.read()) == (b"one two", b"err")
    assert session.rest == b""


def test_terminals_output_is_passed_as_it_is() -> None:
    read_end, write_end = os.pipe()
    nothing = cast("Any", None)
    session = _Session(
        nothing, nothing, Program(["sh"], "/", {}, terminal=True), "id", nothing, {1: write_end, 2: write_end}
    )
    session.take(b"\x01\x00\x00\x00as it is\r\n")
    os.close(write_end)
    with os.fdopen(read_end, "rb") as shown:
        assert shown.read() == b"\x01\x00\x00\x00as it is\r\n"


def test_each_program_carries_a_mark_of_its_own() -> None:
    assert Program(["true"], "/", {}).mark != Program(["true"], "/", {}).mark
