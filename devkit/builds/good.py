"""Lines that alarm, and that logs of what ended well hold too: they are a cause only where nothing else is known.

They are kept as templates: without paths, numbers and hashes. Some are shipped, learnt from logs of configures,
compilations, tests and wheels that ended well; others are learnt from the last good builds of the checkout.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from devkit.builds import templates

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.runs import RunStore

NAME = "good.txt"
VARIABLE = re.compile(r"(?:[\w.+@~-]*/)+[\w.+@~-]*|\b[0-9a-f]{7,40}\b|\d+(?:\.\d+)*")
LONGEST = 200
BUILDS = 2
LARGEST = 4 << 20


def template(text: str) -> str:
    """Return a line without what differs from one log to the next."""
    return VARIABLE.sub("#", text.strip()[:LONGEST])


@cache
def shipped() -> frozenset[str]:
    """Return the templates that devkit brings; a line that begins with ``# `` tells where the next ones are from."""
    return frozenset(line for line in templates.text(NAME).splitlines() if line and not line.startswith("# "))


def learn(data: bytes) -> frozenset[str]:
    """Return the templates of what alarms in a log, by the rules or by its words; of one that failed nothing."""
    from devkit.builds.diagnosis import alarms, diagnose

    if not data.strip() or diagnose(data, good=frozenset()).ended == "failed":
        return frozenset()
    return frozenset(template(text) for text in alarms(data))


def of_builds(runs: RunStore, root: Path | None) -> frozenset[str]:
    """Return the templates that devkit brings, and those of the last builds of a checkout that ended well."""
    from devkit.builds.logs import COMMAND, PHASE_LOGS

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
