"""Requests in, events out: how the device side talks with the tool that started it.

A request is one JSON object a line on standard input; the end of input ends the process. An event is one JSON object a
line on a pipe of its own, named by ``DEVKIT_EVENTS_FD``, so that a library which prints cannot break it. Started by
hand, without that variable, events go to standard output.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import traceback
from typing import Any, Callable, Iterator, Protocol

PROTOCOL = 1


class Refusal(Exception):
    """A request that cannot be met: what happened, why, and the lines that mend it."""

    def __init__(self, what: str, why: str = "", *remedies: str) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.remedies = remedies


def finite(value: Any) -> Any:
    """Return ``value`` with every float that JSON cannot hold (nan, inf) replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def emit(event: str, **fields: Any) -> None:
    """Send one event, whole: a single write of less than a pipe's buffer is not torn by another thread's."""
    line = json.dumps({"event": event, **finite(fields)}, allow_nan=False) + "\n"
    descriptor = int(os.environ.get("DEVKIT_EVENTS_FD", "1"))
    data = line.encode()
    while data:
        data = data[os.write(descriptor, data) :]


def requests() -> Iterator[dict[str, Any]]:
    """Yield the requests on standard input.

    Raises:
        Refusal: a line is not a JSON object, or it speaks another version of this protocol.
    """
    for line in sys.stdin:
        try:
            request = json.loads(line)
        except ValueError as error:
            raise Refusal("a request is not JSON", str(error)) from error
        if not isinstance(request, dict):
            raise Refusal("a request is not a JSON object", f"It is a {type(request).__name__}.")
        if request.get("protocol") != PROTOCOL:
            raise Refusal(
                "the two sides of devkit disagree",
                f"The tool speaks protocol {request.get('protocol')}, this environment's device side {PROTOCOL}.",
                "devkit env adopt ENVIRONMENT   puts this devkit's device side into it",
            )
        yield request


def _missing(error: ModuleNotFoundError) -> dict[str, Any]:
    return {
        "what": f"{error.name} is not installed in this environment",
        "why": f"Its Python is {sys.executable}.",
        "remedies": ["devkit env create   makes one with Paddle", "devkit doctor   says which environments there are"],
    }


def serve(handle: Callable[[dict[str, Any]], None]) -> int:
    """Answer each request with ``handle`` and return the exit status: 0, 1 for a refusal, 3 for a bug of ours.

    ``handle`` imports Paddle and what comes with it when it is called, so that their absence is a refusal too.
    """
    emit("hello", protocol=PROTOCOL, pid=os.getpid(), python=platform.python_version())
    try:
        for request in requests():
            handle(request)
    except Refusal as refusal:
        emit("error", what=refusal.what, why=refusal.why, remedies=refusal.remedies)
        return 1
    except ModuleNotFoundError as error:
        emit("error", **_missing(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the one place where a bug of the device side becomes an event
        emit("crash", what=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
        return 3
    return 0


class Worker(Protocol):
    """What answers the requests of one process, and lets go of what it holds at the end."""

    def handle(self, request: dict[str, Any]) -> None:
        """Answer a request by events."""

    def forget(self) -> None:
        """Let go of what was kept for further requests; nothing, unless a worker says more."""
        return


def serve_worker(make: Callable[[], Worker]) -> int:
    """Answer as ``serve`` does, with a worker that is made at the first request: what it imports may be missing."""
    # Threads that wait for work spin for 200 ms, where the other library's process is measured by then.
    os.environ.setdefault("KMP_BLOCKTIME", "1")
    made: list[Worker] = []

    def handle(request: dict[str, Any]) -> None:
        if not made:
            made.append(make())
        made[0].handle(request)

    try:
        return serve(handle)
    finally:
        for worker in made:
            worker.forget()
