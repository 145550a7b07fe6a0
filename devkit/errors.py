"""What devkit says when it cannot do what was asked, and the status that it exits with."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit statuses of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    BUG = 3
    VERDICT = 4
    INTERRUPTED = 130


class DevkitError(Exception):
    """Anything that a user can cause: what happened, why, and the commands that mend it.

    A remedy is a line to type, with three spaces before what it is good for:
    ``"devkit pr fetch 7 --remote origin   if the request is on your fork"``. One that begins with ``--`` is a flag of
    the command that was typed.
    """

    status = ExitStatus.FAILED

    def __init__(self, what: str, why: str = "", *remedies: str) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.remedies = remedies


class UsageError(DevkitError):
    """The words on the command line do not make a request."""

    status = ExitStatus.USAGE


class BadVerdict(DevkitError):
    """The command ran, and what it found is bad: a wrong result, a regression, a divergence."""

    status = ExitStatus.VERDICT
