"""Which branch a command is about: the one that is checked out, or one that a word names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, UsageError
from devkit.git.command import word
from devkit.git.roles import branch_of, request_in_address

if TYPE_CHECKING:
    from devkit.git.state import State


def chosen_branch(state: State, which: str = "") -> str:
    """Return the branch to work on: a request's, one that is named, or the one that is checked out.

    Args:
        state: the clone.
        which: a request's number, ``#7``, the address of its page, or a branch.

    Raises:
        DevkitError: there is none, or HEAD is detached.
    """
    branch = branch_named(state, which) if which else state.branch
    if not branch:
        raise DevkitError("no branch is checked out", "HEAD is detached.", "devkit pr list", "git switch -c NAME")
    if branch not in state.branches:
        raise DevkitError(f"{branch} has no commit yet", "", "git commit")
    return branch


def branch_named(state: State, which: str) -> str:
    """Return the branch that a request's number, its page's address, or its own name names.

    Raises:
        UsageError: the word is none of these.
        DevkitError: there is no such branch here.
    """
    digits = which.removeprefix("#")
    if re.fullmatch(r"[0-9]{1,12}", digits):
        return branch_of(state, int(digits))
    if which in state.branches:
        return which
    address = request_in_address(which)
    if address:
        return branch_of(state, address)
    word(which, "name of a request or a branch")
    near = [name for name in state.branches if which in name][:3]
    raise UsageError(
        f"there is no request or branch {which} here",
        f"It is a number, a page's address or a branch. Near it: {', '.join(near)}." if near else "",
        "devkit pr list",
    )


def ways_out(operation: str) -> list[str]:
    """Return the lines that end what is in progress: a bisect is not gone on with by devkit."""
    if operation == "bisect":
        return ["devkit pr abort   ends it, as git bisect reset does"]
    return ["devkit pr continue", "devkit pr abort"]


def check_idle(state: State) -> None:
    """Refuse where a rebase, merge or the like is in progress.

    Raises:
        DevkitError: one is.
    """
    if state.place.operation:
        raise DevkitError(
            f"a {state.place.operation} is in progress in this checkout", "", *ways_out(state.place.operation)
        )
