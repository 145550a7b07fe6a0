"""Lines that alarm, and that logs of what ended well hold too: they are a cause only where nothing else is known.

They are kept as templates: without paths, numbers and hashes. Those that devkit brings are learnt from logs of
configures, compilations, tests and wheels that ended well.
"""

from __future__ import annotations

import re
from functools import cache

from devkit.builds import templates

NAME = "good.txt"
VARIABLE = re.compile(r"(?:[\w.+@~-]*/)+[\w.+@~-]*|\b[0-9a-f]{7,40}\b|\d+(?:\.\d+)*")
LONGEST = 200


def template(text: str) -> str:
    """Return a line without what differs from one log to the next."""
    return VARIABLE.sub("#", text.strip()[:LONGEST])


@cache
def shipped() -> frozenset[str]:
    """Return the templates that devkit brings; a line that begins with ``# `` tells where the next ones are from."""
    return frozenset(line for line in templates.text(NAME).splitlines() if line and not line.startswith("# "))
