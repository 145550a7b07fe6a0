"""Fetch the submodules that are not there; those at another commit are left as they are."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from devkit.builds import checkout, deps
from devkit.builds.phases.step import BuildWork, Said, Step, lines
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from devkit.builds.inventory import Inventory

FETCHERS = 4


def plan(inventory: Inventory, _will: AbstractSet[str]) -> Step:
    """Return the lines that fetch what is missing."""
    root = inventory.request.root
    if inventory.submodules_known:
        return Step("submodules", skip="all are there")
    missing = [submodule for submodule in inventory.submodules if submodule.missing]
    if not missing:
        there = checkout.state(root, [submodule.path for submodule in inventory.submodules])
        return Step("submodules", skip="all are there", keep={"submodules": {"state": there}})
    return Step("submodules", lines(*checkout.fetch_lines(root, missing, jobs=FETCHERS)))


def execute(work: BuildWork, step: Step) -> Said:
    """Fetch them."""
    request, inventory = work.request, work.inventory
    paths = {submodule.path for submodule in inventory.submodules if submodule.missing}
    with work.app.console.progress(f"fetching {counted(len(paths), 'submodule')}", total=len(paths)) as progress:
        fetched: set[str] = set()
        settings = deps.git_variables(work.app, inventory.environ)
        for line in step.lines:
            parent = os.path.relpath(line[2], request.root)

            def on_line(said: str, parent: str = parent) -> None:
                match = re.match(r"Submodule path '([^']+)': checked out", said)
                if match:
                    fetched.update({os.path.normpath(f"{parent}/{match[1]}")} & paths)
                    progress.update(done=len(fetched), text=f"fetching submodules: {match[1]}")

            work.run_line("submodules", line, extra=settings, on_line=on_line)
    inventory.changed("submodules", "submodules_known", "facts", "archives")
    return "done", f"{len(paths)} fetched"
