"""A phase that failed, and what its log tells."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from devkit.errors import GAP, DevkitError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devkit.builds.diagnosis import Cause, Diagnosis
    from devkit.builds.request import BuildRequest

# What a download that --offline forbade looks like in a log.
DOWNLOADS = {"offline", "network", "empty-download", "download-failed", "hash-mismatch"}


class BuildFailed(DevkitError):
    """A phase failed, and its log was read.

    Attributes:
        phase: which.
        causes: what the log tells.
    """

    def __init__(self, phase: str, log: Path, error: DevkitError, request: BuildRequest, found: Diagnosis) -> None:
        self.phase = phase
        self.causes: tuple[Cause, ...] = found.causes
        read = f"devkit build doctor {log}   shows where the log says so"
        if request.offline and found.causes and found.causes[0].id in DOWNLOADS:
            first = found.causes[0]
            what = "it wanted something from the network that neither the tree nor the cache has"
            super().__init__(
                f"{phase} failed: {what}", f"line {first.line}: {first.text}", *opened(request.words), read
            )
        elif found.causes:
            first = found.causes[0]
            remedy = absolute(first.remedy, request.build)
            super().__init__(f"{phase} failed: {first.cause}", f"line {first.line}: {first.text}", remedy, read)
        else:
            shown_error = f"line {found.first_error[0]}: {found.first_error[1]}" if found.first_error else error.why
            super().__init__(f"{phase} failed: {error.what}", shown_error, f"less {log}")


def opened(words: Sequence[str]) -> tuple[str, str]:
    """Return what lets a download happen that ``--offline`` forbade; ``words`` are the flags of the build's options."""
    return (
        f"{shlex.join(['devkit', 'build', 'deps', *words])}   fetches what it knows of, where there is a network",
        f"{shlex.join(['devkit', 'build', *words])}   without --offline fetches the rest",
    )


def absolute(remedy: str, folder: Path) -> str:
    """Return a remedy whose file, which ninja and ccache name from the build folder, can be opened from anywhere."""
    line, gap, purpose = remedy.replace("-C BUILD", f"-C {shlex.quote(str(folder))}").partition(GAP)
    program, _, path = line.partition(" ")
    if program in {"$EDITOR", "rm"} and path:
        line = f"{program} {shlex.quote(os.path.normpath(folder / shlex.split(path)[0]))}"
    return f"{line}{gap}{purpose}"
