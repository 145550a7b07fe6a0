"""How the program whose log this is ended, by what the log says of it: it failed, it ended well, or it does not say."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Mark(Enum):
    """What a line says of how things go."""

    STOP = "stop"  # a program ended because of an error
    FAULT = "fault"  # one thing failed; others may go on
    RETRIED = "retried"  # it failed and is tried again
    RECOVERED = "recovered"  # something that failed before is there now
    WELL = "well"  # a whole run ended well
    RESTART = "restart"  # a run begins
    PASSED = "passed"  # a test passed: what it printed before was what it is for


MARKS: dict[Mark, str] = {
    Mark.STOP: (
        r"ninja: build stopped|ninja: (?:error|fatal): |^(?:make|gmake|mingw32-make)(?:\[\d+\])?: \*\*\* |"
        r"-- Configuring incomplete|CMake (?:Generate|Configure) step failed|"
        r"[Pp]rocess completed with exit code [1-9]|exited with code [1-9]|"
        r"returned a non-zero code: [1-9]|did not complete successfully: exit code: [1-9]|"
        r"failed to (?:solve|build): |did not run successfully|executor failed running|"
        r"Sub-process \S+ returned an error|"
        r"Failed to build |Failed building wheel|^[\w ().-]+\.{5,}Failed$|Could not build wheels|"
        r"metadata-generation-failed|a second time, aborting|[1-9]\d* tests? failed out of|"
        r"FAILED \((?:failures|errors)|"
        r"\bAborted\b|(?:BUILD|Build) (?:FAILED|failed)|compilation terminated|^Error: Process |linker command failed|"
        r"ld returned [1-9]\d* exit status|=+ .*\b[1-9]\d* (?:failed|errors?)\b.* in [\d.]+s|"
        r"error (?:MSB\d+|LNK11\d\d)\b|There (?:are|is) [1-9]\d* approved errors?|Coverage Failed|"
        r"returned non-zero exit status [1-9]|subprocess-exited-with-error|ERROR: No matching distribution"
    ),
    Mark.RETRIED: (
        r"Retry scheduled|clone of '[^']*' into submodule path '[^']*' failed|Retrying|[Tt]rying again|try again"
    ),
    Mark.FAULT: (
        r"CMake Error|FAILED: |^\s*(?:fatal|FATAL)(?: error)?: |"
        r": (?:fatal )?error (?:LNK|C|D)\d+: |^\[(?:FAIL|Error)\]|: (?:fatal |internal compiler )?error: |"
        r": \*\*\* |Traceback \(most recent call last\)|^(?:ERROR|error|Error)\b:? |nvcc (?:fatal|error) |"
        r"^[A-Za-z_.]*(?:Error|Exception|EnforceNotMet): |^curl: \(\d+\) |^Killed|Segmentation fault|\): error|"
        r"^\S+: (?:line )?\d+: .*(?:not found|[Ss]yntax error|No such file|Permission denied|set: pipefail|Killed)|"
        r"LAUNCH ERROR .*Container failed|^E: "
    ),
    Mark.WELL: (
        r"Build files have been written to|\[100%\] Built target|Successfully (?:built|installed|tagged)|"
        r"100% tests passed|ninja: no work to do|exit code 0\b|naming to \S+ .*done|writing image sha256|"
        r"=+ \d+ passed(?:, \d+ (?:skipped|warnings?|deselected|xfailed|xpassed))* in |^OK(?: \(.*\))?$|"
        r"BUILD SUCCESSFUL|Build succeeded|已成功生成|^[\w ().-]+\.{5,}(?:\(no files to check\))?(?:Passed|Skipped)$|"
        r"Finished .*(?:release|dev).* target|Everything up-to-date|"
        r"paddlepaddle\S*\.whl['\"]? (?:created|built)|PaddlePaddle is installed successfully|"
        r"removing build/bdist\.|Installed \d+ packages? in|Audited \d+ packages?|"
        r"Finished processing dependencies for |running install_scripts$|LAUNCH INFO .*Pod completed"
    ),
    Mark.RECOVERED: r": checked out '|Resolving deltas: 100%|\bdone\. *$|saved \[\d+|-- Found \w+",
    Mark.PASSED: r"Test +#\d+: .*\bPassed\b|\.\.\. ok$|\bPASSED\b",
    Mark.RESTART: (
        r"^\[0?[01]/\d+\]|^\[  ?[01]%\]|-- The (?:C|CXX) compiler identification|^\$ |^\+ \S|^Scanning dependencies|"
        r"^Processing \S+|^Collecting \S+|-- Configuring done|Re-running CMake"
    ),
}
KINDS = re.compile("|".join(f"(?P<{mark.value}>{pattern})" for mark, pattern in MARKS.items()))
# A command that a script shows before it runs it (set -x), and the program that it starts.
TRACED = re.compile(
    r"\+ (?:\w+=\S+ )*(?:\S*/)?(?P<program>cmake|g?make|ninja|python[\d.]*|pip[\d.]*|uv|git|docker|\S+\.sh)\b"
)
LAST_STEP = re.compile(r"^\[\s*(\d+)/\1\] (?!.*\b(?:FAILED|Re-running))")
STEP = re.compile(r"\[\s*\d+(?:/\d+|%)\]")
# git fetches a submodule that failed a second time, after the others.
SUBMODULE_RETRIED = re.compile(r"Failed to clone '(?P<path>[^']+)'\. Retry scheduled")
SUBMODULE_FETCHED = re.compile(r"Submodule path '(?P<path>[^']+)': checked out")
ENDS_ALL = re.compile(r"Successfully installed|100% tests passed|exit code 0|writing image|BUILD SUCC|=+ \d+ passed")


@dataclass(frozen=True)
class Event:
    """A mark in a log: where it stands (bytes) and its line's text."""

    start: int
    mark: Mark
    text: str


def mark(text: str) -> Mark | None:
    """Return what a line says of how things go; None where it says nothing of it."""
    match = KINDS.search(text)
    if match and (match.lastgroup != Mark.RESTART.value or not LAST_STEP.match(text)):
        return Mark(match.lastgroup)
    return Mark.WELL if LAST_STEP.match(text) else None


@dataclass(frozen=True)
class LogOutcome:
    """How it ended.

    Attributes:
        failed: True, False, or None where the log does not say.
        begin: where the run begins whose end that is: what stands before was got over.
    """

    failed: bool | None
    begin: int = 0


def judge(events: Sequence[Event]) -> LogOutcome:
    """Return how a log ended, by its marks in their order."""
    begin, inner, well = 0, False, False
    broken: Event | None = None
    restart: Event | None = None
    for event in _without_next_commands(_with_submodules_fetched(events)):
        if event.mark is Mark.RESTART:
            if broken and broken.mark is Mark.STOP and _is_another_run(broken.text, event.text, inner=inner):
                restart = event
            inner = inner or bool(STEP.match(event.text))
        elif event.mark in {Mark.STOP, Mark.FAULT}:
            if restart:
                begin, inner, broken, restart = restart.start, False, None, None
            inner = inner or "FAILED: " in event.text
            if broken is None or broken.mark is Mark.FAULT or event.mark is Mark.STOP:
                broken = event
        elif event.mark is Mark.WELL:
            well = True
            if broken and (restart or broken.mark is Mark.FAULT or ENDS_ALL.search(event.text)):
                broken = restart = None
    if broken:
        return LogOutcome(True, begin)
    return LogOutcome(False) if well else LogOutcome(None)


def _with_submodules_fetched(events: Sequence[Event]) -> Iterator[Event]:
    """Mark as well what fetches the last of the submodules whose fetch failed before."""
    lacking: set[str] = set()
    for event in events:
        if retried := SUBMODULE_RETRIED.search(event.text):
            lacking.add(retried["path"])
        fetched = SUBMODULE_FETCHED.search(event.text)
        last = fetched is not None and lacking == {fetched["path"]}
        lacking -= {fetched["path"]} if fetched else set()
        yield replace(event, mark=Mark.WELL) if last else event


def _without_next_commands(events: Iterable[Event]) -> Iterator[Event]:
    """Leave out the commands by which a script that shows them goes on: what it starts for the first time."""
    programs: set[str] = set()
    for event in events:
        traced = TRACED.match(event.text)
        if not event.text.startswith("+ ") or (traced and traced["program"] in programs):
            yield event
        programs |= {traced["program"]} if traced else set()


def _is_another_run(stop: str, restart: str, *, inner: bool) -> bool:
    """Tell whether what begins after a stop is another run, and not what goes on beside a project that stopped.

    Args:
        stop: the line that stopped.
        restart: the line that begins something.
        inner: whether the steps of a build came before, inside of which a project may stop alone.
    """
    if "-- Configuring incomplete" in stop:
        return not inner
    if re.match(r"g?make\[\d+\]", stop):
        return False
    return not restart.startswith("-- ") or "ninja: build stopped" in stop or re.match(r"g?make: ", stop) is not None
