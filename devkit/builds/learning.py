"""What logs of builds that ended well teach of lines that alarm: ``devkit.builds.good`` tells what is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.builds.diagnosis import alarms, diagnose
from devkit.builds.good import shipped, template
from devkit.builds.logs import COMMAND, PHASE_LOGS

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.runs import RunStore

BUILDS = 2
LARGEST = 4 << 20


def learn(data: bytes) -> frozenset[str]:
    """Return the templates of what alarms in a log, by the rules or by its words; of one that failed nothing."""
    if not data.strip() or diagnose(data, good=frozenset()).ended == "failed":
        return frozenset()
    return frozenset(template(text) for text in alarms(data))


def of_builds(runs: RunStore, root: Path | None) -> frozenset[str]:
    """Return the templates that devkit brings, and those of the last builds of a checkout that ended well."""
    found = shipped()
    if root is None:
        return found
    done = (
        entry for entry in runs.entries()
        if entry.record["command"] == COMMAND and entry.state == "done"
        and entry.record["arguments"].get("checkout") == str(root)
    )  # fmt: skip
    for entry, _ in zip(done, range(BUILDS), strict=False):
        for path in (entry.folder / f"{phase}.log" for phase in PHASE_LOGS):
            if path.is_file() and path.stat().st_size <= LARGEST:
                found |= learn(path.read_bytes())
    return found
