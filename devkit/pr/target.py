"""Where a branch is pushed to: remembered, asked of the forge and of the remotes, and never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.command import branch_name, line, lines_of, safe_url
from devkit.git.roles import (
    base_remote,
    fork_remote,
    is_address,
    known_remote,
    locate,
    push_address,
    remotes_at,
    repository_path,
    request_of,
    roles,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.git.roles import PullRequest, Roles
    from devkit.git.session import Session
    from devkit.git.state import State

REMEMBERED = "devkitPush"


@dataclass(frozen=True)
class Target:
    """Where a branch is pushed to.

    Attributes:
        remote: a remote's name, or an address where git's settings name one.
        name: the branch there.
    """

    remote: str
    name: str

    @property
    def ref(self) -> str:
        """The branch's ref there."""
        return f"refs/heads/{self.name}"

    @property
    def tracking(self) -> str:
        """The ref here that follows it; nothing for an address."""
        return "" if is_address(self.remote) else f"refs/remotes/{self.remote}/{self.name}"

    def __str__(self) -> str:
        return f"{self.remote}/{self.name}"


def remembered(state: State, branch: str) -> tuple[Target | None, str]:
    """Return where a branch was pushed the last time, and the commit that it was then."""
    remote, _, rest = state.setting(f"branch.{branch}.{REMEMBERED.lower()}").partition(" ")
    name, _, oid = rest.partition(" ")
    known = remote in state.remotes or is_address(remote)
    return (Target(remote, name) if name and known else None), oid


def remember_line(branch: str, target: Target, oid: str) -> tuple[str, ...]:
    """Return the words that remember where a branch was pushed."""
    return ("config", "--local", f"branch.{branch}.{REMEMBERED}", f"{target.remote} {target.name} {oid}")


class UnclearTarget(DevkitError):
    """A branch may go to one of some places, which only its author knows."""

    def __init__(self, what: str, why: str, which: str, choices: Sequence[Target]) -> None:
        lines = (
            Hint.of("devkit", "pr", "push", *([which, "--remote", one.remote] if which else []), "--branch", one.name)
            for one in choices
        )
        super().__init__(what, why, *lines)
        self.choices = tuple(choices)


def target_of(session: Session, state: State, branch: str, remote: str = "", name: str = "") -> Target:
    """Return where a branch goes: a request's to its author's branch, another to the fork.

    Raises:
        DevkitError: that is not known, or is the branch that requests go to.
    """
    config = session.app.config
    request = request_of(state, branch)
    base = roles(state, config, request.remote if request else "")
    before, _ = remembered(state, branch)
    if remote or name:
        chosen = known_remote(state, remote) if remote else fork_remote(state, config, base.base, branch)
        target = Target(chosen, branch_name(name) if name else branch)
    elif before:
        target = _still_meant(state, branch, before)
    elif request:
        target = request_target(session, state, branch, request)
    else:
        target = own_target(session, state, branch, base)
    if target.name == base.branch and target.remote == base.base and not pushes_elsewhere(session, state, target):
        raise DevkitError(
            f"{target} is the branch that requests go to",
            "devkit does not push there.",
            "git switch -c NAME   and devkit pr push",
            "devkit pr sync   keeps the fork's equal to it",
        )
    return target


def _still_meant(state: State, branch: str, before: Target) -> Target:
    """Return where a branch was pushed the last time, unless its settings name another remote.

    Raises:
        UnclearTarget: they do.
    """
    own = state.setting(f"branch.{branch}.pushremote")
    if own not in state.remotes or own == before.remote:
        return before
    other = Target(own, before.name)
    raise UnclearTarget(
        f"it is not clear whether {branch} goes to {before} or {other}",
        f"It was pushed to {before} the last time, and branch.{branch}.pushRemote is {own}.",
        branch,
        [before, other],
    )


def pushes_elsewhere(session: Session, state: State, target: Target) -> bool:
    """Tell whether pushes to a remote go to another repository than fetches from it."""
    address = push_address(session.git, state, target.remote)
    if address == target.remote:
        return False
    return locate(address) != locate(state.remotes.get(target.remote, ""))


def own_target(session: Session, state: State, branch: str, base: Roles) -> Target:
    """Return where a branch of one's own goes: to its own name on the fork.

    An upstream of another name is taken only where git itself would (``push.default``, an address that gh wrote): it
    may be no more than where the branch began.
    """
    upstream = state.setting(f"branch.{branch}.merge").removeprefix("refs/heads/")
    tracked = state.setting(f"branch.{branch}.remote")
    pushed = state.setting(f"branch.{branch}.pushremote") or tracked
    if is_address(pushed) and pushed not in state.remotes:
        known = next(iter(remotes_at(state, pushed)), "")
        return Target(known or safe_url(pushed), upstream or branch)
    chosen = fork_remote(state, session.app.config, base.base, branch)
    if not upstream or tracked != chosen or upstream == branch or upstream.startswith("refs/"):
        return Target(chosen, branch)
    if state.setting("push.default") == "upstream":
        return Target(chosen, upstream)
    if upstream == base.branch or f"refs/remotes/{base.base}/{upstream}" in state.refs:
        return Target(chosen, branch)  # it began at a branch of the project's
    raise UnclearTarget(
        f"it is not clear whether {branch} goes to {chosen}/{upstream} or {chosen}/{branch}",
        f"{chosen}/{upstream} is its upstream, which may only be where it began.",
        "",
        [Target(chosen, upstream), Target(chosen, branch)],
    )


def request_target(session: Session, state: State, branch: str, request: PullRequest) -> Target:
    """Return the branch that a request comes from: as its last push says, the forge's API, or the remotes.

    Raises:
        DevkitError: none of them knows, or several branches are at the request's commit.
    """
    before, _ = remembered(state, branch)
    if before:
        return before
    asked = _asked(session, state, request)
    if asked:
        return asked
    number = str(request.number)
    found = _at_its_commit(session, state, request)
    if len(found) == 1:
        return found[0]
    if found:
        raise UnclearTarget(
            f"it is not clear which branch pull request {number} comes from",
            f"{', '.join(map(str, found))} are at its commit.",
            number,
            found,
        )
    raise DevkitError(
        f"it is not known which branch pull request {number} comes from",
        "No remote of this clone has a branch at its commit, and the forge's API was not asked or did not say.",
        f"devkit pr push {number} --remote NAME --branch NAME",
        "git remote add AUTHOR URL && git fetch AUTHOR",
    )


def _asked(session: Session, state: State, request: PullRequest) -> Target | None:
    """Ask the forge's API where a request comes from; known only where a remote of this clone leads there."""
    from devkit.pr.forges import forge_of

    forge = forge_of(session.app, state.remotes[request.remote])
    found = forge.request(request.number) if forge else None
    if found is None:
        return None
    for name, url in state.remotes.items():
        path = repository_path("gitlab", url).lower()  # in full, as a GitLab tells it
        if found.head_repository and f"/{path}".endswith(f"/{found.head_repository.lower()}"):
            return Target(known_remote(state, name), branch_name(found.head_branch))
    return None


def _at_its_commit(session: Session, state: State, request: PullRequest) -> list[Target]:
    """Return the branches that are at a request's commit, as the remotes have them now; the forks are asked first."""
    tips = {state.refs.get(request.tracking, "")} - {""}
    listed: dict[str, list[tuple[str, str]]] = {}
    base = base_remote(state, session.app.config, request.remote)
    for remote in [request.remote, *state.remotes]:
        if remote not in listed:
            known_remote(state, remote)
            words = ("ls-remote", "--", remote, "refs/heads/*", *([request.source] if remote == request.remote else []))
            answer = session.git.execute(line(*words, slow=True), check=False, title=f"asking {remote}")
            rows = (row.partition("\t") for row in lines_of(answer.stdout))
            listed[remote] = [(oid, name) for oid, _, name in rows]
    tips |= {oid for oid, name in listed[request.remote] if name == request.source}
    forks = [remote for remote in listed if remote != base]
    for remotes in (forks, [base]):
        found = [
            Target(remote, name.removeprefix("refs/heads/"))
            for remote in remotes
            for oid, name in listed[remote]
            if oid in tips and name.startswith("refs/heads/")
        ]
        if found:
            return found
    return []
