"""Pull requests as they come from the forge, and how each stands to what is here."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from devkit.errors import DevkitError
from devkit.git.command import GitFailed, Line, line, lines_of
from devkit.git.roles import TRACKING, PullRequest, base_of, request_of
from devkit.git.session import fetch_line, incoming
from devkit.git.state import read_status
from devkit.pr.branches import check_free
from devkit.pr.remote import not_found, renamed, unreachable
from devkit.pr.trees import check_no_operation
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from devkit.git.command import Git
    from devkit.git.roles import Roles
    from devkit.git.session import Session
    from devkit.git.state import State, Status

Relation = Literal["new", "same", "forward", "rewritten", "ahead", "own"]
CheckoutMode = Literal["switch", "branch", "detach", "worktree"]


@dataclass(frozen=True)
class FetchOptions:
    """What the user asked for.

    Attributes:
        way: switch to the request's branch, only make it, detach at its commit, or put it in a folder of its own.
        branch: the local branch, instead of ``pr/N``.
        folder: the worktree's folder, instead of one beside the clone.
        depth: how many commits deep to fetch; 0: all.
    """

    requests: tuple[PullRequest, ...]
    way: CheckoutMode = "switch"
    branch: str = ""
    folder: Path | None = None
    depth: int = 0


@dataclass(frozen=True)
class Arrival:
    """A request as it came, and how it stands to what is here.

    Attributes:
        oid: the commit that the forge has.
        seen: what the forge had the last time, or nothing.
        branch: the local branch.
        local: that branch's commit, or nothing.
        relation: ``new`` (no branch yet), ``same``, ``forward`` (the branch can follow), ``rewritten`` (the author
            force-pushed, and nothing of the user's is on the branch), ``ahead`` (the user's commits are on top),
            ``own`` (the author went on and the branch has commits of the user's).
        own: the user's commits, for ``own``.
    """

    request: PullRequest
    oid: str
    seen: str
    branch: str
    local: str
    relation: Relation
    own: tuple[str, ...] = ()


def relation_of(git: Git, local: str, seen: str, new: str) -> tuple[Relation, tuple[str, ...]]:
    """Return how a branch stands to the commit that the forge has, and the user's own commits on it."""
    if not local:
        return "new", ()
    if local == new:
        return "same", ()
    if git.is_ancestor(local, new):
        return "forward", ()
    if git.is_ancestor(new, local):
        return "ahead", ()
    words = ("log", "--format=%h %s", local, f"^{new}", *([f"^{seen}"] if seen else []), "--")
    own = tuple(lines_of(git.read(*words)))
    return ("own", own) if own else ("rewritten", ())


def sources(requests: Sequence[PullRequest]) -> dict[str, str]:
    """Return the refs to fetch, each with its name below ``refs/devkit/incoming/``."""
    return {one.source: f"{one.number}-{'merge' if one.merge else 'head'}" for one in requests}


def tip_of(arrival: Arrival) -> str:
    """Return the commit that a request's branch will be at."""
    return arrival.local if arrival.relation == "ahead" else arrival.oid


def arrive(
    session: Session, options: FetchOptions, state: State, bases: Mapping[str, Roles]
) -> tuple[State, list[Arrival], list[Line], list[str]]:
    """Fetch the requests, and in the same round trip the branch that they go to; return also how its refs follow.

    What is dirty in the checkout is read while git fetches.
    """
    git = session.git
    status: list[Status] = []

    def look() -> None:
        if not status and state.place.top:
            status.append(read_status(git))
        # What follows needs these, and git waits for the network.
        from devkit import fingerprint
        from devkit.git import operation, wip  # noqa: F401

        fingerprint.host_fingerprint()

    arrivals = []
    follows: list[Line] = []
    ran = []
    for remote, base in bases.items():
        requests = [one for one in options.requests if one.remote == remote]
        names = ", ".join(str(one.number) for one in requests)
        wanted = sources(requests)
        branches = _base_branches(state, session, requests, base)
        with_bases = {**wanted, **{f"refs/heads/{name}": f"base/{name}" for name in branches}}
        title = f"fetching {names} from {remote}"
        fetching = partial(incoming, session, remote, depth=options.depth, title=title, meanwhile=look)
        found = _incoming(session, state, remote, requests, (with_bases, wanted), fetching)
        ran.append(str(fetch_line(remote, with_bases if len(found) > len(wanted) else wanted, depth=options.depth)))
        if len(found) < len(with_bases) and base.tracking in state.refs:
            session.app.console.warn(f"{base} is no longer there, and old here: {renamed(remote).command}")
        state = session.since_fetch(replace(state, status=status[0] if status else state.status))
        arrivals += [_arrival(git, one, found[one.source], options, state) for one in requests]
        for name in branches:
            follows += _follow(state, base, name, found.get(f"refs/heads/{name}", ""))
    for arrival in arrivals:
        if arrival.relation == "own":
            number = arrival.request.number
            raise DevkitError(
                f"{arrival.branch} has {counted(len(arrival.own), 'commit')} of yours, and the author went on",
                "\n".join(arrival.own),
                f"devkit pr fetch {number} --branch pr/{number}-new   takes the author's beside yours",
                f"devkit pr rebase {number} --onto {arrival.request.remote}/pull/{number}   puts yours on the author's",
            )
    return state, arrivals, follows, ran


def _base_branches(state: State, session: Session, requests: Sequence[PullRequest], base: Roles) -> list[str]:
    """Return the branches that requests go to, as far as that is known."""
    config = session.app.config
    return list(dict.fromkeys([base.branch, *(base_of(state, config, one.branch).branch for one in requests)]))


def _follow(state: State, base: Roles, name: str, oid: str) -> list[Line]:
    tracking = f"refs/remotes/{base.base}/{name}"
    before = state.refs.get(tracking, "")
    if not oid or before == oid:
        return []
    return [line("update-ref", "-m", "devkit: fetched", tracking, oid, before or state.place.null)]


def _incoming(
    session: Session,
    state: State,
    remote: str,
    requests: Sequence[PullRequest],
    choices: Sequence[dict[str, str]],
    fetching: Callable[[dict[str, str]], dict[str, str]],
) -> dict[str, str]:
    """Fetch the first choice of refs, or the next where the remote has no such branch."""
    for wanted in choices[:-1]:
        with contextlib.suppress(_NoBase):
            return _tried(session, state, remote, requests, wanted, fetching)
    return _tried(session, state, remote, requests, choices[-1], fetching)


class _NoBase(DevkitError):
    """The remote has no branch of the base's name."""


def _tried(
    session: Session,
    state: State,
    remote: str,
    requests: Sequence[PullRequest],
    wanted: dict[str, str],
    fetching: Callable[[dict[str, str]], dict[str, str]],
) -> dict[str, str]:
    try:
        return fetching(wanted)
    except GitFailed as error:
        missing = [one for one in requests if f"remote ref {one.source}" in error.answer.said]
        if missing:
            raise not_found(missing[0], state, str(session.app.config.get("pr.project"))) from error
        failed = unreachable(remote, error)
        if "remote ref refs/heads/" in error.answer.said:
            raise _NoBase(failed.what, failed.why, *failed.hints) from error
        raise failed from error


def _arrival(git: Git, request: PullRequest, oid: str, options: FetchOptions, state: State) -> Arrival:
    branch = options.branch or request.branch
    local = state.branches.get(branch, "")
    seen = _seen(state, request)
    if options.way == "detach":
        return Arrival(request, oid, seen, branch, "", "new")
    _free(state, request, branch, local, seen)
    check_free(state, branch)
    check_no_operation(state, branch)
    if local and not git.has_commit(oid):
        return Arrival(request, oid, seen, branch, local, "forward")  # only a preview meets this
    relation, own = relation_of(git, local, seen, oid)
    return Arrival(request, oid, seen, branch, local, relation, own)


def _seen(state: State, request: PullRequest) -> str:
    """Return what the forge had the last time, under an older name of its remote too."""
    if request.tracking in state.refs:
        return state.refs[request.tracking]
    old = [name for name in state.refs if name.startswith(TRACKING) and name.endswith(f"/{request.number}")]
    renamed = [name for name in old if name[len(TRACKING) :].rpartition("/")[0] not in state.remotes]
    return state.refs[renamed[0]] if len(renamed) == 1 and not request.merge else ""


def _free(state: State, request: PullRequest, branch: str, local: str, seen: str) -> None:
    """Refuse a branch that is another's."""
    number = request.number
    remedy = f"devkit pr fetch {number} --branch pr-{number}"
    clash = next(
        (name for name in state.branches if branch.startswith(f"{name}/") or name.startswith(f"{branch}/")), ""
    )
    if clash:
        raise DevkitError(
            f"the branch {branch} cannot be beside the branch {clash}", "One's name holds the other's.", remedy
        )
    owner = request_of(state, branch)
    if local and owner != request and local != seen:
        whose = f"It is of pull request {owner.number} of {owner.remote}." if owner else "devkit did not make it."
        raise DevkitError(
            f"there is a branch {branch} already", whose, remedy, f"git branch -m {shlex.quote(branch)} NAME"
        )
