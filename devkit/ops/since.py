"""Since which release an API is there, as the tags of a clone of Paddle tell."""

from __future__ import annotations

import bisect
import re
from typing import TYPE_CHECKING

from devkit.builds.checkout import git

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.app import App

RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
PARTIAL = r"^(extensions\.partialclone|remote\..*\.promisor)$"
FOLDER = "python/paddle"


def since(app: App, root: Path, name: str) -> str:
    """Return the first release whose Python defines a function or class of this name; nothing where none can tell.

    Args:
        app: whose runner starts git.
        root: a clone of Paddle. One that has only some files' contents is not asked: it would fetch the rest.
        name: with or without the modules before it.
    """
    runner = app.runner
    if not git(runner, root, "config", "--get-regexp", PARTIAL, check=False).status:
        return ""
    listed = git(runner, root, "tag", "--list", "v*").text.split()
    tags = sorted((tag for tag in listed if RELEASE.fullmatch(tag)), key=_version)
    pattern = rf"^(def|class) {re.escape(name.rpartition('.')[2])}\b"

    def defines(tag: str) -> bool:
        return not git(runner, root, "grep", "-q", "-E", pattern, tag, "--", FOLDER, check=False).status

    place = bisect.bisect_left(tags, True, key=defines)
    if place == len(tags):
        return ""
    return f"{tags[place]}{' or before' if place == 0 else ''}"


def _version(tag: str) -> tuple[int, ...]:
    return tuple(map(int, tag[1:].split(".")))
