"""A request as one commit: its files stay, its history since the base becomes one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.command import line, lines_of
from devkit.git.roles import base_of
from devkit.git.snapshot import WriteSet
from devkit.pr.branches import check_identity, check_idle, chosen_branch
from devkit.pr.stack import old_tip, parent_of
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.git.command import Commit, Line
    from devkit.git.session import Session
    from devkit.git.state import State

MOST = 500
TRAILER = re.compile(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*: \S|[ \t]")
FOLDED = ("fixup! ", "squash! ", "amend! ")  # git itself would leave their subjects out


@dataclass(frozen=True)
class SquashPlan:
    """The commits that become one.

    Attributes:
        fork: the commit that they are on.
        commits: the newest first.
        commit: the line that makes the one commit.
    """

    branch: str
    tip: str
    fork: str
    commits: tuple[Commit, ...]
    message: str
    commit: Line

    @property
    def steps(self) -> list[str]:
        """What will be run, as lines."""
        return [str(self.commit), str(self.move("NEW"))]

    def move(self, oid: str) -> Line:
        """Return the line that moves the branch to the commit."""
        return line("update-ref", "-m", "devkit: squashed", f"refs/heads/{self.branch}", oid, self.tip)


def plan_squash(session: Session, state: State, which: str, message: str) -> SquashPlan:
    """Return what makes one commit of a branch's commits; nothing in any checkout changes.

    Raises:
        DevkitError: there is one commit or none, or a merge among them.
    """
    check_idle(state)
    branch = chosen_branch(state, which)
    base = base_of(state, session.app.config, branch)
    tip = state.branches[branch]
    parent, _ = parent_of(state, branch)
    fork = old_tip(session.git, state, branch, parent) if parent else ""
    if not fork and base.tracking in state.refs:
        fork = session.git.merge_base(state.refs[base.tracking], tip)
    if not fork:
        fetch = Hint.of("git", "fetch", "--", base.base)
        raise DevkitError(f"{branch} and {base} have no commit in common here", "", fetch)
    commits = session.git.commits(f"{fork}..{tip}", MOST)
    if len(commits) < 2:  # noqa: PLR2004 - one is one already
        raise DevkitError(f"{branch} has {counted(len(commits), 'commit')} on {base}", "There is nothing to squash.")
    merges = [commit for commit in commits if len(commit.parents) > 1]
    if merges:
        raise DevkitError(
            f"{branch} has a merge among its commits: {merges[0].subject}", "", "devkit pr rebase   leaves merges out"
        )
    check_identity(session.git)
    authors = lines_of(session.git.read("log", "--reverse", "--format=%an <%ae>", f"{fork}..{tip}", "--"))
    message = message or squashed_message([commit.message for commit in reversed(commits)], authors)
    sign = ["-S"] if state.setting("commit.gpgsign").lower() in {"true", "1", "yes", "on"} else []
    # the message is UTF-8, whatever the encoding that git would say of it
    commit = line(
        "-c",
        "i18n.commitEncoding=UTF-8",
        "commit-tree",
        *sign,
        "-p",
        fork,
        f"{tip}^{{tree}}",
        data=os.fsencode(message),
    )
    return SquashPlan(branch, tip, fork, tuple(commits), message, commit)


def squashed_message(messages: Sequence[str], authors: Sequence[str]) -> str:
    """Return the message of one commit for several: the first one's, the others' subjects, and all of their trailers.

    The authors of the others are its co-authors. Both are the oldest first.
    """
    bodies, trailers = [], []
    for message in messages:
        *before, last = message.strip().split("\n\n")
        found = bool(before) and all(TRAILER.match(row) for row in last.splitlines())
        bodies.append("\n\n".join(before) if found else message.strip())
        trailers += last.splitlines() if found else []
    co_authors = [f"Co-authored-by: {author}" for author in authors if author != authors[0]]
    subjects = [body.split("\n", 1)[0] for body in bodies[1:]]
    rest = "\n".join(f"- {subject}" for subject in subjects if not subject.startswith(FOLDED))
    end = "\n".join(dict.fromkeys([*trailers, *co_authors]))
    return "\n\n".join(filter(None, (bodies[0], rest, end))) + "\n"


def squash(session: Session, state: State, plan: SquashPlan) -> str:
    """Make the commit, and return it; the first commit's author stays its author."""
    git = session.git
    author = git.text("log", "-1", "--format=%an%x00%ae%x00%ad", "--date=raw", plan.commits[-1].oid, "--").split("\0")
    env = dict(zip(("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE"), author, strict=True))
    tree = state.worktree_of(plan.branch)
    here = tree is not None and tree.path == state.place.top
    others = {tree.path: dict[str, str]()} if tree and not here and not tree.missing else {}
    writes = WriteSet(checkout=here, checkouts=others)
    with session.change(f"pr squash {plan.branch}", state, writes, branch=plan.branch) as change:
        oid = change.run(plan.commit, env=env).stdout.decode().strip()
        change.run(plan.move(oid))
        change.record.record["result"] = {"branch": plan.branch, "commit": oid, "commits": len(plan.commits)}
    return oid
