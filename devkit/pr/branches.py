"""Which branch a command is about: the one that is checked out, or one that a word names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint, UsageError
from devkit.git.command import word
from devkit.git.roles import NUMBER, branch_of, request_in_address, requests_here

if TYPE_CHECKING:
    from devkit.git.command import Git
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
        check_idle(state)
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
    number = int(which.lstrip("#!")) if NUMBER.fullmatch(which) else 0
    requests = {request.number for request in requests_here(state).values()}
    if which in state.branches and number not in requests:
        return which
    if number:
        return branch_of(state, number)
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


def check_free(state: State, branch: str) -> None:
    """Refuse a branch that git keeps for a worktree whose folder was removed by hand.

    Raises:
        DevkitError: it does.
    """
    gone = state.gone_worktree_of(branch)
    if gone:
        raise DevkitError(
            f"git keeps {branch} for the worktree {gone.path}, which is gone",
            "Its folder was removed, and git was not told.",
            Hint.of("git", "worktree", "remove", "--force", "--", str(gone.path), purpose="tells it"),
        )


def check_identity(git: Git) -> None:
    """Refuse to make commits where git does not know whose they are: it would stop half-way.

    Raises:
        DevkitError: neither its settings nor its variables name a person and an address.
    """
    answer = git.ask("var", "GIT_COMMITTER_IDENT")
    if answer.status:
        why = answer.complaint.rpartition("fatal: ")[2] or "No name and no address are set."
        raise DevkitError(
            "git does not know who makes the commits",
            f"{why[:1].upper()}{why[1:]}.",
            Hint("git config --global user.name 'YOUR NAME'"),
            Hint("git config --global user.email YOU@EXAMPLE.ORG", "an address of your account on the forge"),
        )
