"""What a request is compared with: the remote's default branch, asked; the branch that a request goes to, found."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from devkit.git.command import GitFailed, line, lines_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from devkit.git.roles import Roles
    from devkit.git.session import Session
    from devkit.git.state import State

RELEASES = 40  # branches of the project's that a request may go to, beside the default one


def with_default_branch(session: Session, state: State, remote: str) -> State:
    """Return the state with the branch that a remote's ``HEAD`` names; asked once, and kept as ``REMOTE/HEAD``."""
    name = f"refs/remotes/{remote}/HEAD"
    if name in state.symrefs or session.app.config.get("pr.base-branch"):
        return state
    words = ("ls-remote", "--symref", "--", remote, "HEAD")
    try:
        answer = session.git.execute(line(*words, slow=True), title=f"asking {remote}")
    except GitFailed:
        return state  # what is asked of it next says why
    for row in lines_of(answer.stdout):
        if row.startswith("ref: refs/heads/") and row.endswith("\tHEAD"):
            branch = row[len("ref: refs/heads/") : -len("\tHEAD")]
            leads = f"refs/remotes/{remote}/{branch}"
            if not session.dry and leads in state.refs:
                session.git.execute(line("symbolic-ref", name, leads))
            return replace(state, symrefs={**state.symrefs, name: leads})
    return state


@contextlib.contextmanager
def finding_base(session: Session, state: State, tip: str, base: Roles) -> Iterator[Callable[[], str]]:
    """Begin to look which of the project's branches a request goes to, beside what the caller does.

    What is yielded returns it: that which leaves the fewest commits for it. The default branch is meant unless a
    release branch is strictly nearer.
    """
    prefix = f"refs/remotes/{base.base}/"
    releases = [(name, oid) for name, oid in state.refs.items() if name.startswith(f"{prefix}release/")][-RELEASES:]
    if base.tracking not in state.refs or not releases:
        yield lambda: base.branch
        return
    count = ("rev-list", "--count", tip, "--not", state.refs[base.tracking])
    # Most often no release branch has any of the commits, which one look at all of them tells.
    with session.git.beside(count, (*count, *(oid for _, oid in releases))) as answers:

        def found() -> str:
            alone, beside = answers()
            if alone.status or beside.status or int(alone.stdout) == int(beside.stdout):
                return base.branch
            nearer = _nearest(session, dict(releases), tip, int(alone.stdout))
            return nearer.removeprefix(prefix) or base.branch

        yield found


def _nearest(session: Session, refs: Mapping[str, str], tip: str, most: int) -> str:
    """Return the ref that leaves the fewest commits of a tip, and fewer than ``most``; nothing where none does."""
    answers = session.git.read_all(*(("rev-list", "--count", tip, f"^{oid}", "--") for oid in refs.values()))
    counts = {name: int(answer.stdout) for name, answer in zip(refs, answers, strict=True) if not answer.status}
    least = min(counts, key=lambda name: counts[name], default="")
    return least if least and counts[least] < most else ""
