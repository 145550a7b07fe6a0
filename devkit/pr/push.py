"""Pushing: the fork's base branch kept equal to the project's, and requests to the right remote and branch."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git import wip
from devkit.git.changes import Change, changes_between
from devkit.git.command import GitFailed, branch_name, line, lines_of
from devkit.git.journal import Push
from devkit.git.roles import KEPT, base_remote, fork_remote, known_remote, locate, request_of, roles
from devkit.git.session import clear_incoming, incoming
from devkit.git.snapshot import Touches
from devkit.pr.carry import carried
from devkit.pr.fetch import unreachable
from devkit.pr.rebase import chosen_branch, nothing_goes_on
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.git.command import Git, Line
    from devkit.git.roles import Roles
    from devkit.git.session import Change as Changing
    from devkit.git.session import Session
    from devkit.git.snapshot import Blobs
    from devkit.git.state import State

SHOWN = 8


@dataclass(frozen=True)
class Target:
    """Where a branch is pushed to."""

    remote: str
    name: str

    @property
    def ref(self) -> str:
        """The branch's ref there."""
        return f"refs/heads/{self.name}"

    @property
    def tracking(self) -> str:
        """The ref here that follows it."""
        return f"refs/remotes/{self.remote}/{self.name}"

    def __str__(self) -> str:
        return f"{self.remote}/{self.name}"


@dataclass
class Pushed:
    """What a push did.

    Attributes:
        before, after: the remote branch's commits; ``before`` is empty for a new branch.
        how: ``new``, ``forward``, ``rewritten`` or ``same``.
        page: the forge's page that opens a request, where its address is known.
    """

    branch: str
    target: Target
    before: str
    after: str
    how: str
    page: str = ""


@dataclass
class Synced:
    """What a sync did: the base, the fork's branch and the local one."""

    base: str
    oid: str
    fork: str = ""
    behind: int = 0
    dropped: int = 0
    local: str = ""
    notes: list[str] = field(default_factory=list)


def push_line(target: Target, source: str, expected: str, *, upstream: bool = False) -> Line:
    """Return the line of a push that only goes through while the remote has the ``expected`` commit, or none."""
    words = [
        "push",
        "--progress",
        "--no-follow-tags",
        "--no-recurse-submodules",
        f"--force-with-lease={target.ref}:{expected}",
    ]
    words += ["--set-upstream"] if upstream else []
    return line(*words, "--", target.remote, f"{source}:{target.ref}", slow=True)


def target_of(state: State, session: Session, branch: str, remote: str = "", name: str = "") -> Target:
    """Return where a branch goes: a request's to its author's branch, another to the fork.

    Raises:
        DevkitError: that is not known, or is the branch that requests go to.
    """
    config = session.app.config
    request = request_of(state, branch)
    base = roles(state, config, request.remote if request else "")
    if remote or name:
        chosen = known_remote(state, remote) if remote else fork_remote(state, config, base.base, branch)
        target = Target(chosen, branch_name(name) if name else branch)
    elif request:
        found = home_of(state, state.refs.get(request.tracking, ""), base) or _asked(session, state, branch)
        if not found:
            raise DevkitError(
                f"it is not known which branch pull request {request.number} comes from",
                "No remote of this clone has a branch at its commit, and the forge's API was not asked or did not say.",
                f"devkit pr push {request.number} --remote NAME --branch NAME",
                "git remote add AUTHOR URL && git fetch AUTHOR",
            )
        target = found
    else:
        chosen = fork_remote(state, config, base.base, branch)
        upstream = state.setting(f"branch.{branch}.merge").removeprefix("refs/heads/")
        same = state.setting(f"branch.{branch}.remote") == chosen and upstream and not upstream.startswith("refs/")
        target = Target(chosen, upstream if same else branch)
    if target.name == base.branch and target.remote == base.base:
        raise DevkitError(
            f"{target} is the branch that requests go to",
            "devkit does not push there.",
            "git switch -c NAME   and devkit pr push",
            "devkit pr sync   keeps the fork's equal to it",
        )
    return target


def home_of(state: State, tip: str, base: Roles) -> Target | None:
    """Return the remote branch whose tip is a request's commit: where it comes from."""
    if not tip:
        return None
    for remote in sorted(state.remotes, key=lambda name: name == base.base):
        prefix = f"refs/remotes/{remote}/"
        for name, oid in state.refs.items():
            if oid == tip and name.startswith(prefix) and name not in {f"{prefix}HEAD", base.tracking}:
                return Target(known_remote(state, remote), name[len(prefix) :])
    return None


def _asked(session: Session, state: State, branch: str) -> Target | None:
    """Ask the forge where a request comes from; known only where a remote of this clone leads there."""
    from devkit.pr.forge import Forge

    request = request_of(state, branch)
    if request is None:
        return None
    forge = Forge.of(session.app, state.remotes[request.remote])
    found = forge.request(request.number) if forge else None
    if found is None:
        return None
    for name, url in state.remotes.items():
        if str(locate(url)).lower() == found.head_repository.lower():
            return Target(known_remote(state, name), branch_name(found.head_branch))
    return None


def remote_tip(session: Session, target: Target) -> str:
    """Fetch a remote's branch and return its commit, or nothing where there is none."""
    try:
        return incoming(session, target.remote, {target.ref: "push"}, title=f"asking {target.remote}")[target.ref]
    except GitFailed as error:
        if "couldn't find remote ref" in error.answer.complaint:
            return ""
        raise unreachable(target.remote, error) from error


def unseen(git: Git, branch: str, tip: str, remote: str) -> list[str]:
    """Return the remote's commits that the branch never had: neither now nor in its log."""
    had = git.ask("log", "--walk-reflogs", "--format=%H", f"refs/heads/{branch}", "--").stdout.decode().split()
    data = "".join(f"^{each}\n" for each in dict.fromkeys([tip, *had])).encode()
    found = git.read("log", "--stdin", "--format=%h %s (%an)", data=f"{remote}\n".encode() + data)
    return lines_of(found)


def push(session: Session, state: State, number: int = 0, remote: str = "", name: str = "") -> Pushed:
    """Push a request's branch, or the one that is checked out.

    Raises:
        DevkitError: the remote has commits that the branch never had; nothing was pushed.
    """
    git = session.git
    branch = chosen_branch(state, number)
    target = target_of(state, session, branch, remote, name)
    tip = state.branches[branch]
    try:
        before = remote_tip(session, target)
        request = request_of(state, branch)
        if before and git.ask("merge-base", "--is-ancestor", before, tip).status:
            lost = unseen(git, branch, tip, before)
            if lost:
                git.carry_out(line("update-ref", "-m", "devkit: fetched", target.tracking, before))
                shown = lost[:SHOWN] + ([f"… and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else [])
                raise DevkitError(
                    f"{target} has {counted(len(lost), 'commit')} that {branch} never had; nothing was pushed",
                    "\n".join(shown),
                    f"devkit pr rebase --onto {shlex.quote(str(target))}   puts yours on top of them",
                )
            how = "rewritten"
        else:
            how = "same" if before == tip else "forward" if before else "new"
        done = Pushed(branch, target, before, tip, how, _page(session, state, target) if how == "new" else "")
        if how == "same":
            return done
        touches = Touches(refs=frozenset({target.tracking}))
        with session.change(f"pr push {branch}", state, touches, branch=branch, to=str(target), how=how) as change:
            each = push_line(target, f"refs/heads/{branch}", before, upstream=request is None)
            _push(change, Push(target.remote, target.ref, before, tip), each, target)
            change.record.record["result"] = {"branch": branch, "to": str(target), "commit": tip}
        return done
    finally:
        clear_incoming(session)


def _push(changing: Changing, record: Push, each: Line, target: Target) -> None:
    try:
        changing.push(record, each, title=f"pushing to {target.remote}")
    except GitFailed as error:
        complaint = error.answer.complaint
        why = "Someone pushed in the meantime." if "stale info" in complaint else complaint
        raise DevkitError(f"{target} did not take the push", why, "devkit pr push -v") from error


def preview_push(session: Session, state: State, number: int, remote: str, name: str) -> list[Line]:
    """Return the lines that a push would run; the remote is asked."""
    branch = chosen_branch(state, number)
    target = target_of(state, session, branch, remote, name)
    before = listed(session, target)
    return [push_line(target, f"refs/heads/{branch}", before, upstream=request_of(state, branch) is None)]


def listed(session: Session, target: Target) -> str:
    """Ask a remote for a branch's commit without fetching it."""
    answer = session.git.carry_out(line("ls-remote", "--", target.remote, target.ref, slow=True), title="asking")
    return os.fsdecode(answer.stdout).partition("\t")[0]


def _page(session: Session, state: State, target: Target) -> str:
    base = base_remote(state, session.app.config)
    project, fork = locate(state.remotes[base]), locate(state.remotes[target.remote])
    if not project.host or project.host != fork.host or not project.owner:
        return ""
    return f"https://{project.host}/{project}/compare/{fork.owner}:{target.name}?expand=1"


def sync(session: Session, state: State, *, yes: bool, remote: str = "") -> Synced:
    """Make the fork's base branch, and the local one, what the project's is.

    Raises:
        DevkitError: the fork's has commits of its own, and ``yes`` is not given; nothing was changed.
    """
    nothing_goes_on(state)
    config = session.app.config
    base = roles(state, config, remote)
    fork = Target(fork_remote(state, config, base.base, base.branch), base.branch)
    try:
        try:
            oid = incoming(session, base.base, {f"refs/heads/{base.branch}": "base"}, title=f"fetching {base}")
        except GitFailed as error:
            raise unreachable(base.base, error) from error
        theirs = remote_tip(session, fork) if fork.remote != base.base else ""
        return _sync(session, state, base, fork, next(iter(oid.values())), theirs, yes=yes)
    finally:
        clear_incoming(session)


def _sync(session: Session, state: State, base: Roles, fork: Target, oid: str, theirs: str, *, yes: bool) -> Synced:
    git = session.git
    done = Synced(str(base), oid)
    own = _only(git, theirs, oid) if theirs else []
    if own and not yes:
        raise DevkitError(
            f"{fork} has {counted(len(own), 'commit')} that {base} has not; nothing was changed",
            "\n".join(own[:SHOWN]),
            f"git branch NAME {own[0].split()[0]}   keeps them on a branch",
            "devkit pr sync --yes   takes them off; devkit undo brings them back",
        )
    local, moves, changes, work = _local(session, state, base, oid, done, yes=yes)
    touches = Touches(
        checkout=bool(changes),
        paths={each.path: each.before[1] for each in changes},
        refs=frozenset({base.tracking, fork.tracking}),
    )
    with session.change("pr sync", state, touches, base=str(base), fork=str(fork)) as change:
        if state.refs.get(base.tracking) != oid:
            previous = state.refs.get(base.tracking) or state.place.null
            change.run(line("update-ref", "-m", "devkit: fetched", base.tracking, oid, previous))
        aside = wip.put_aside(change, state, *work, f"carried to {oid[:10]}") if work else None
        for each in moves:
            change.run(each, title=f"updating {local}")
        if aside and wip.take_back(change, aside, session.state()):
            done.notes.append(f"your uncommitted work is put aside: devkit wip restore --from {aside.number}")
        if fork.remote != base.base:
            done.fork = str(fork)
            done.dropped = len(own)
            if theirs != oid:
                done.behind = len(_only(git, oid, theirs)) if theirs else 0
                _push(change, Push(fork.remote, fork.ref, theirs, oid), push_line(fork, oid, theirs), fork)
        change.record.record["result"] = {"base": str(base), "commit": oid, "fork": done.fork, "local": done.local}
    return done


def _local(
    session: Session, state: State, base: Roles, oid: str, done: Synced, *, yes: bool
) -> tuple[str, list[Line], tuple[Change, ...], tuple[tuple[wip.Item, ...], Blobs] | None]:
    """Return how the local base branch follows."""
    git = session.git
    branch = base.branch
    tip = state.branches.get(branch, "")
    if not tip or tip == oid:
        done.local = branch if tip else ""
        return branch, [], (), None
    own = _only(git, tip, oid)
    if own and not yes:
        what = f"your {branch} has {counted(len(own), 'commit')} of its own and stays"
        done.notes.append(f"{what}: git branch NAME {branch}, then devkit pr sync --yes")
        return branch, [], (), None
    elsewhere = state.worktree_of(branch)
    if elsewhere and elsewhere.path != state.place.top:
        done.notes.append(f"{branch} is checked out in {elsewhere.path} and stays: run devkit pr sync there")
        return branch, [], (), None
    done.local = branch
    lines = []
    if own:
        number = 1
        while f"{KEPT}{branch}/{number}" in state.refs:
            number += 1
        lines.append(line("update-ref", "-m", "devkit: kept", f"{KEPT}{branch}/{number}", tip))
        done.notes.append(f"the old tip of {branch} is kept as {KEPT.removeprefix('refs/')}{branch}/{number}")
    if state.branch != branch:
        return branch, [*lines, line("branch", "--no-track", "--force", "--", branch, oid)], (), None
    changes = changes_between(git, state.head, oid)
    work = carried(git, state, changes, f"updating {branch}", "devkit wip save")
    lines.append(line("switch", "--no-recurse-submodules", "--no-track", "-C", branch, oid, slow=True))
    return branch, lines, changes, work


def _only(git: Git, one: str, other: str) -> list[str]:
    """Return the commits of one tip that another has not."""
    return lines_of(git.read("log", "--format=%h %s", one, f"^{other}", "--"))


def preview_sync(session: Session, state: State, *, yes: bool, remote: str = "") -> Sequence[Line]:
    """Return the lines that a sync would run; the remotes are asked."""
    base = roles(state, session.app.config, remote)
    fork = Target(fork_remote(state, session.app.config, base.base, base.branch), base.branch)
    oid = listed(session, Target(base.base, base.branch))
    theirs = listed(session, fork) if fork.remote != base.base else oid
    lines = [line("fetch", "--no-tags", "--", base.base, f"+refs/heads/{base.branch}:{base.tracking}", slow=True)]
    if session.git.ask("cat-file", "-e", f"{oid}^{{commit}}").status == 0:
        lines += _local(session, state, base, oid, Synced(str(base), oid), yes=yes)[1]
    elif state.branch == base.branch:
        lines.append(line("switch", "--no-recurse-submodules", "--no-track", "-C", base.branch, oid, slow=True))
    elif base.branch in state.branches:
        lines.append(line("branch", "--no-track", "--force", "--", base.branch, oid))
    return [*lines, *([push_line(fork, oid, theirs)] if theirs != oid else [])]
