"""Checking an operator in an environment: one check at a time, so that one that ends the process is known by name."""

from __future__ import annotations

import os
import queue
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.checks.finding import edit
from devkit.child import TURN_S
from devkit.errors import DevkitError, Hint, UsageError
from devkit.launch import Ended, Worker, device_environment, raise_if_error
from devkit.process import fate

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app import App
    from devkit.envs.resolve import Environment
    from devkit.runs import Run

COMPILE_ERROR = re.compile(
    r"^(?:(?P<file>[^\s:(]+)[:(](?P<line>\d+)\)?.*: (?:fatal error|error|致命错误|错误) ?[:：]"
    r"|.*(?:undefined (?:symbol|reference)|未定义的引用)).*$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Target:
    """What is checked: a file, or a name in Paddle, and a function of the file."""

    place: str
    function: str = ""


@dataclass(frozen=True)
class OperatorFinding:
    """What a check found: wrong, in a sentence."""

    check: str
    message: str


@dataclass(frozen=True)
class CheckReport:
    """What was checked of an operator.

    Attributes:
        checks: the names of the checks that were made.
        without: those that could not be made for want of a reference.
        notes: why a check could not be made of this operator.
        time_ms: of a call on a large input; None where it could not be measured.
    """

    name: str
    reference: bool
    checks: tuple[str, ...]
    findings: tuple[OperatorFinding, ...]
    without: tuple[str, ...] = ()
    time_ms: float | None = None
    notes: tuple[OperatorFinding, ...] = ()


def target_of(text: str, function: str = "") -> Target:
    """Return what a word means: a folder made by ``op new``, a file, or a name in Paddle.

    Raises:
        UsageError: a folder holds no module of its name.
    """
    path = Path(text)
    if path.is_dir():
        file = path.resolve() / f"{path.resolve().name}.py"
        if not file.is_file():
            raise UsageError(f"{text} holds no {file.name}", "The function of that name in it is what is checked.")
        return Target(str(file), function)
    if text.endswith(".py"):
        if not path.is_file():
            raise UsageError(f"{text} does not exist", "")
        return Target(str(path.resolve()), function)
    return Target(text, function)


def check(
    app: App, environment: Environment, target: Target, run: Run, *, limit_s: float, on_check: Callable[[str], None]
) -> CheckReport:
    """Make every check.

    Raises:
        DevkitError: the operator cannot be loaded.
    """
    worker = _start(app, environment, run, 0)
    starts = 1
    try:
        try:
            loaded = _ask(worker, _load(target), "loaded", limit_s)
        except DevkitError as error:
            raise compile_error(target, worker.log) or error from error
        if isinstance(loaded, str):
            raise DevkitError(
                f"{target.place} could not be loaded and called", loaded, f"less {worker.log}   shows all that it said"
            )
        done: list[str] = []
        findings: list[OperatorFinding] = []
        notes: list[OperatorFinding] = []
        for name in loaded["checks"]:
            on_check(name)
            answer = _ask(worker, {"do": "check", "check": name}, "checked", limit_s)
            done.append(name)
            if isinstance(answer, str):
                findings.append(OperatorFinding(name, answer))
                worker.end()
                worker = _start(app, environment, run, starts)
                starts += 1
                again = _ask(worker, _load(target), "loaded", limit_s)
                if isinstance(again, str):
                    break
                continue
            for finding in answer["findings"]:
                (notes if finding["good"] else findings).append(OperatorFinding(finding["check"], finding["message"]))
        on_check("speed")
        timed = _ask(worker, {"do": "speed"}, "speed", limit_s) if not findings else ""
        time_ms = None if isinstance(timed, str) else timed["time_ms"]
    finally:
        worker.end()
    without = () if loaded["reference"] else ("forward", "shapes", "special values")
    return CheckReport(
        loaded["name"], loaded["reference"], tuple(done), tuple(findings), without, time_ms, tuple(notes)
    )


def compile_error(target: Target, log: Path) -> DevkitError | None:
    """Return the first true line of a compilation that failed: cpp_extension prints it, and fails later for another."""
    printed = log.read_text("utf-8", "replace") if log.is_file() else ""
    match = COMPILE_ERROR.search(printed)
    if not match:
        return None
    hints = [Hint.of("less", str(log), purpose="shows all that the compiler said")]
    if match["file"]:
        hints.insert(0, Hint(edit(match["file"], int(match["line"]))))
    return DevkitError(f"{target.place} does not compile", match[0].strip(), *hints)


def _load(target: Target) -> dict[str, Any]:
    return {"do": "load", "target": target.place, "function": target.function}


def _start(app: App, environment: Environment, run: Run, number: int) -> Worker:
    environ = device_environment(app)
    environ["PATH"] = os.pathsep.join([str(environment.python.parent), environ.get("PATH", os.defpath)])
    return Worker(app, environment, "operators", folder=run.folder, name=f"operators-{number}", environ=environ)


def _ask(worker: Worker, request: dict[str, Any], answer: str, limit_s: float) -> Any:
    """Return the event that answers a request, or a sentence where the process ended or took too long."""
    worker.send(request)
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            _, event = worker.inbox.get(timeout=TURN_S)
        except queue.Empty:
            continue
        if isinstance(event, Ended):
            return f"the process {fate(event.status)}"
        raise_if_error(event)
        if event["event"] == answer:
            return event
    return f"no answer after {limit_s:g} s"


def ask_once(app: App, environment: Environment, request: dict[str, Any], answer: str, run: Run) -> dict[str, Any]:
    """Return what the worker answers to one request.

    Raises:
        DevkitError: it refuses, or ends.
    """
    with _start(app, environment, run, 0) as worker:
        event: dict[str, Any] = worker.ask(request, answer)
        return event
