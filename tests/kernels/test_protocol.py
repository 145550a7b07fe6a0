"""The pipe between the two sides, on its own."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from devkit.kernels.protocol import PROTOCOL, Refusal, emit, finite, requests, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pipe:
    """The pipe that events go to."""

    def __init__(self) -> None:
        read_end, write_end = os.pipe()
        self.reader, self.writer = os.fdopen(read_end, "rb"), os.fdopen(write_end, "wb", 0)

    def events(self) -> list[dict[str, Any]]:
        self.writer.close()
        return [json.loads(line) for line in self.reader]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """A pipe in ``DEVKIT_EVENTS_FD``."""
    pipe = Pipe()
    monkeypatch.setenv("DEVKIT_EVENTS_FD", str(pipe.writer.fileno()))
    yield pipe
    pipe.reader.close()
    pipe.writer.close()


def asked(monkeypatch: pytest.MonkeyPatch, *lines: object) -> None:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_floats_that_json_lacks_become_none() -> None:
    value = {"a": float("nan"), "b": [1.5, float("inf"), (2, float("-inf"))], "c": "nan"}
    assert finite(value) == {"a": None, "b": [1.5, None, [2, None]], "c": "nan"}


def test_events_of_threads_are_whole(pipe: Pipe) -> None:
    def emit_many(name: str) -> None:
        for _ in range(50):
            emit("step", text=name * 500)

    threads = [threading.Thread(target=emit_many, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    lines = [pipe.reader.readline() for _ in range(150)]
    for thread in threads:
        thread.join(10)
    assert {len(set(json.loads(line)["text"])) for line in lines} == {1}


@pytest.mark.parametrize(
    ("line", "what"),
    [("{", "not JSON"), ("[1]", "not a JSON object"), ({"protocol": PROTOCOL + 1}, "disagree"), ({}, "disagree")],
)
def test_what_is_no_request_is_refused(monkeypatch: pytest.MonkeyPatch, line: object, what: str) -> None:
    asked(monkeypatch, line)
    with pytest.raises(Refusal, match=what):
        list(requests())


def test_serve_says_hello_answers_and_ends_with_the_input(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    asked(monkeypatch, {"protocol": PROTOCOL, "n": 1}, {"protocol": PROTOCOL, "n": 2})
    assert serve(lambda request: emit("answer", n=request["n"])) == 0
    hello, *answers = pipe.events()
    assert (hello["event"], hello["protocol"], hello["pid"]) == ("hello", PROTOCOL, os.getpid())
    assert [answer["n"] for answer in answers] == [1, 2]


@pytest.mark.parametrize(
    ("error", "status", "event"),
    [(Refusal("no", "because", "do"), 1, "error"), (KeyError("bug"), 3, "crash"), (KeyboardInterrupt(), 130, None)],
)
def test_what_a_handler_raises_is_an_event_and_a_status(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe, error: BaseException, status: int, event: str | None
) -> None:
    def handle(_request: dict[str, Any]) -> None:
        raise error

    asked(monkeypatch, {"protocol": PROTOCOL})
    assert serve(handle) == status
    assert [entry["event"] for entry in pipe.events()[1:]] == ([event] if event else [])
