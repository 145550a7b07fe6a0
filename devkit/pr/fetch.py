"""Bringing pull requests here: what arrives, how it stands to what is here, and the lines that follow from it."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from devkit.errors import DevkitError
from devkit.git import wip
from devkit.git.changes import Change, changes_between, obstacles, rebuilt
from devkit.git.command import GitFailed, Line, line, lines_of
from devkit.git.roles import KEPT, Request, Roles, request_of, roles
from devkit.git.session import Session, clear_incoming, fetch_line, incoming
from devkit.git.snapshot import INCOMING, Touches
from devkit.git.state import read_status
from devkit.pr.carry import blocked, carried, empty_tree
from devkit.pr.summary import Summary, summarize
from devkit.pr.trees import follow_submodules, populate_submodules, rebased_in, submodule_changes
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.git.command import Git
    from devkit.git.session import Change as Changing
    from devkit.git.state import State

Relation = Literal["new", "same", "forward", "rewritten", "ahead", "own"]
Way = Literal["switch", "branch", "detach", "worktree"]


@dataclass(frozen=True)
class Wish:
    """What the user asked for.

    Attributes:
        way: switch to the request's branch, only make it, detach at its commit, or put it in a folder of its own.
        branch: the local branch, instead of ``pr/N``.
        folder: the worktree's folder, instead of one beside the clone.
        depth: how many commits deep to fetch; 0: all.
    """

    requests: tuple[Request, ...]
    way: Way = "switch"
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

    request: Request
    oid: str
    seen: str
    branch: str
    local: str
    relation: Relation
    own: tuple[str, ...] = ()


@dataclass
class Fetched:
    """What a fetch did.

    Attributes:
        kept: the name of the old tip, where the author had force-pushed.
        range_diff: how the old commits became the new ones.
        folder: the worktree, where the request went into one.
    """

    arrival: Arrival
    summary: Summary
    kept: str = ""
    range_diff: tuple[str, ...] = ()
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)


def plan(arrival: Arrival, wish: Wish, state: State, *, old: str = "", now: float = 0) -> list[Line]:
    """Return the lines that put an arrived request in its place.

    Args:
        arrival: the request.
        wish: what the user asked for.
        state: the clone.
        old: the ref that keeps the old tip of a rewritten branch.
        now: the time, for the list's "last fetch".
    """
    request, oid, branch = arrival.request, arrival.oid, arrival.branch
    lines = []
    if arrival.seen != oid:
        previous = arrival.seen or state.place.null
        lines.append(line("update-ref", "-m", "devkit: fetched", request.tracking, oid, previous))
    if wish.way == "detach":
        return [*lines, line("switch", "--no-recurse-submodules", "--detach", oid, slow=True)]
    if arrival.relation == "rewritten":
        lines.append(line("update-ref", "-m", "devkit: the author rewrote it", old, arrival.local, state.place.null))
    lines += _move(arrival, wish, state)
    for name, value in (("remote", request.remote), ("merge", request.source), ("devkitFetched", str(int(now)))):
        if state.setting(f"branch.{branch}.{name.lower()}") != value:
            lines.append(line("config", "--local", f"branch.{branch}.{name}", value))
    return lines


def _move(arrival: Arrival, wish: Wish, state: State) -> list[Line]:
    """Return the lines that move or make the branch, and check it out where that is wanted."""
    branch, oid = arrival.branch, arrival.oid
    new, moves = arrival.relation == "new", arrival.relation in {"forward", "rewritten"}
    switch = ("switch", "--no-recurse-submodules")
    elsewhere = state.worktree_of(branch)
    if elsewhere and elsewhere.path != state.place.top:
        there = line(*switch, "--no-track", "-C", branch, oid, directory=elsewhere.path, slow=True)
        return [there] if moves else []
    move = [line("branch", "--no-track", "--force", "--", branch, oid)] if moves else []
    if wish.way == "worktree" and not elsewhere:
        made = ("--no-track", "-b", branch, "--", str(wish.folder), oid) if new else ("--", str(wish.folder), branch)
        return [*move, line("worktree", "add", *made, slow=True)]
    if wish.way == "branch" and state.branch != branch:
        return [line("branch", "--no-track", "--", branch, oid)] if new else move
    if new or moves:
        return [line(*switch, "--no-track", "-c" if new else "-C", branch, oid, slow=True)]
    return [line(*switch, branch, slow=True)] if state.branch != branch else []


def checks_out(arrival: Arrival, wish: Wish, state: State) -> bool:
    """Tell whether this checkout's files will move."""
    if wish.way == "detach":
        return True
    elsewhere = state.worktree_of(arrival.branch)
    if elsewhere:
        return elsewhere.path == state.place.top and arrival.relation in {"forward", "rewritten"}
    return wish.way == "switch"


def relation_of(git: Git, local: str, seen: str, new: str) -> tuple[Relation, tuple[str, ...]]:
    """Return how a branch stands to the commit that the forge has, and the user's own commits on it."""
    if not local:
        return "new", ()
    if local == new:
        return "same", ()
    if git.ask("merge-base", "--is-ancestor", local, new).status == 0:
        return "forward", ()
    if git.ask("merge-base", "--is-ancestor", new, local).status == 0:
        return "ahead", ()
    words = ("log", "--format=%h %s", local, f"^{new}", *([f"^{seen}"] if seen else []), "--")
    own = tuple(lines_of(git.read(*words)))
    return ("own", own) if own else ("rewritten", ())


def sources(requests: Sequence[Request]) -> dict[str, str]:
    """Return the refs to fetch, each with its name below ``refs/devkit/incoming/``."""
    return {each.source: f"{each.number}-{'merge' if each.merge else 'head'}" for each in requests}


def preview(session: Session, wish: Wish, state: State) -> list[Line]:
    """Return the lines that a fetch would run: the forge is asked what it has, and nothing is fetched."""
    lines = []
    wish = _whole(session, wish, state)
    for remote in dict.fromkeys(each.remote for each in wish.requests):
        requests = [each for each in wish.requests if each.remote == remote]
        listed = session.git.carry_out(line("ls-remote", "--", remote, *(each.source for each in requests), slow=True))
        found = {name: oid for oid, _, name in (each.partition("\t") for each in lines_of(listed.stdout))}
        lines.append(fetch_line(remote, sources(requests), depth=wish.depth))
        for request in requests:
            if request.source not in found:
                raise not_found(request, state)
            arrival = _arrival(session.git, request, found[request.source], wish, state)
            if wish.way == "worktree":
                wish = replace(wish, folder=worktree_folder(arrival.branch, wish, state))
            lines += plan(arrival, wish, state, old=_old_name(state, arrival.branch), now=time.time())
        lines += [line("update-ref", "-d", f"{INCOMING}{name}") for name in sources(requests).values()]
    return lines


def fetch(session: Session, wish: Wish, state: State) -> list[Fetched]:
    """Bring the requests here.

    Raises:
        DevkitError: one is not there, or something is in the way; then nothing was changed.
    """
    if wish.way == "switch" and len(wish.requests) > 1:
        wish = replace(wish, way="branch")
    if wish.way in {"switch", "detach"}:
        _can_switch(state, wish)
    wish = _whole(session, wish, state)
    arrivals = _arrive(session, wish, state)
    try:
        return _place(session, wish, state, arrivals)
    finally:
        clear_incoming(session)


def _whole(session: Session, wish: Wish, state: State) -> Wish:
    """Leave ``--depth`` out in a whole clone: it would become shallow, and the next gc would take what is older."""
    if not wish.depth or not state.refs or state.place.shallow:
        return wish
    session.app.console.look("this clone has its whole history, and keeps it: --depth would cut it off")
    return replace(wish, depth=0)


def _place(session: Session, wish: Wish, state: State, arrivals: list[Arrival]) -> list[Fetched]:
    git = session.git
    roles_ = roles(state, session.app.config, wish.requests[0].remote)
    moving = next((each for each in arrivals if checks_out(each, wish, state)), None)
    changes: tuple[Change, ...] = ()
    work = None
    if moving:
        changes = changes_between(git, state.head or empty_tree(git), _tip(moving))
        number = moving.request.number
        work = carried(git, state, changes, f"pull request {number}", f"devkit pr fetch {number} --worktree")
        _warn_of_rebuild(session, state, changes, number)
    if wish.way == "worktree":
        wish = replace(wish, folder=worktree_folder(arrivals[0].branch, wish, state))
    lines = {id(each): plan(each, wish, state, old=_old_name(state, each.branch), now=time.time()) for each in arrivals}
    if all(each.words[0] == "config" for all_ in lines.values() for each in all_):  # nothing that could be undone
        for each in (each for all_ in lines.values() for each in all_):
            git.carry_out(each)
        return [_fetched(session, arrival, wish, state, roles_, "") for arrival in arrivals]
    touches = Touches(
        checkout=bool(moving),
        paths={each.path: each.before[1] for each in changes},
        checkouts=_elsewhere(git, state, arrivals),
    )
    creates = (
        [wish.folder] if wish.way == "worktree" and wish.folder and not state.worktree_of(arrivals[0].branch) else []
    )
    numbers = [each.request.number for each in arrivals]
    command = f"pr fetch {' '.join(map(str, numbers))}"
    done = []
    with session.change(command, state, touches, creates=creates, numbers=numbers, way=wish.way) as change:
        aside = wip.put_aside(change, state, *work, f"carried to {_tip(arrivals[0])[:10]}") if work else None
        for arrival in arrivals:
            _carry_out(change, lines[id(arrival)], arrival)
            fetched = _fetched(session, arrival, wish, state, roles_, _old_name(state, arrival.branch))
            done.append(fetched)
            if moving is arrival:
                fetched.notes += follow_submodules(change, state, submodule_changes(changes))
            if moving is arrival and aside and wip.take_back(change, aside, session.state()):
                fetched.notes.append(f"your uncommitted work is put aside: devkit wip restore --from {aside.number}")
            if creates:
                fetched.notes += populate_submodules(change, state, creates[0])
        change.record.record["result"] = {each.arrival.branch: each.arrival.oid for each in done}
    return done


def _elsewhere(git: Git, state: State, arrivals: Sequence[Arrival]) -> dict[Path, dict[str, str]]:
    """Return the other checkouts whose branches will move, with the paths that this changes there.

    Raises:
        DevkitError: something there is in the way.
    """
    found = {}
    for arrival in arrivals:
        tree = state.worktree_of(arrival.branch)
        if tree and tree.path != state.place.top and arrival.relation in {"forward", "rewritten"}:
            changes = changes_between(git, arrival.local, arrival.oid)
            number = arrival.request.number
            blocked(
                obstacles(changes, read_status(git.at(tree.path)), tree.path),
                f"in {tree.path}, pull request {number}",
                f"cd {shlex.quote(str(tree.path))} && devkit pr fetch {number}",
            )
            found[tree.path] = {each.path: each.before[1] for each in changes}
    return found


def _carry_out(changing: Changing, lines: Sequence[Line], arrival: Arrival) -> None:
    for each in lines:
        answer = changing.run(each, check=False, title=f"checking out {arrival.branch}" if each.slow else "")
        if answer.status and not _hook_failed(changing.session, each, arrival):
            raise GitFailed(each.words, answer)


def _tip(arrival: Arrival) -> str:
    return arrival.local if arrival.relation == "ahead" else arrival.oid


def _hook_failed(session: Session, each: Line, arrival: Arrival) -> bool:
    """Tell whether a switch was made although git says that it failed: a post-checkout hook's status is its own."""
    if "switch" not in each.words and "worktree" not in each.words:
        return False
    folder = each.directory or (
        Path(each.words[each.words.index("--") + 1]) if each.words[0] == "worktree" else session.git.directory
    )
    head = session.git.at(folder).ask("rev-parse", "--verify", "--quiet", "HEAD") if folder.is_dir() else None
    if head is None or os.fsdecode(head.stdout).strip() != _tip(arrival):
        return False
    session.app.console.look("the repository's post-checkout hook failed; the checkout itself is whole")
    return True


def _arrive(session: Session, wish: Wish, state: State) -> list[Arrival]:
    arrivals = []
    for remote in dict.fromkeys(each.remote for each in wish.requests):
        requests = [each for each in wish.requests if each.remote == remote]
        names = ", ".join(str(each.number) for each in requests)
        try:
            found = incoming(
                session, remote, sources(requests), depth=wish.depth, title=f"fetching {names} from {remote}"
            )
        except GitFailed as error:
            missing = [each for each in requests if f"remote ref {each.source}" in error.answer.complaint]
            raise (not_found(missing[0], state) if missing else unreachable(remote, error)) from error
        arrivals += [_arrival(session.git, each, found[each.source], wish, state) for each in requests]
    for arrival in arrivals:
        if arrival.relation == "own":
            number = arrival.request.number
            raise DevkitError(
                f"{arrival.branch} has {counted(len(arrival.own), 'commit')} of yours, and the author went on",
                "\n".join(arrival.own),
                f"devkit pr fetch {number} --branch pr/{number}-new   takes the author's beside yours",
                f"devkit pr rebase {number} --onto {arrival.request.remote}/pull/{number}   puts yours on the author's",
            )
    return arrivals


def _arrival(git: Git, request: Request, oid: str, wish: Wish, state: State) -> Arrival:
    branch = wish.branch or request.branch
    local = state.branches.get(branch, "")
    seen = state.refs.get(request.tracking, "")
    if wish.way == "detach":
        return Arrival(request, oid, seen, branch, "", "new")
    _free(state, request, branch, local, seen)
    if local and git.ask("cat-file", "-e", f"{oid}^{{commit}}").status:
        return Arrival(request, oid, seen, branch, local, "forward")  # only a preview meets this
    relation, own = relation_of(git, local, seen, oid)
    return Arrival(request, oid, seen, branch, local, relation, own)


def _free(state: State, request: Request, branch: str, local: str, seen: str) -> None:
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
    folder = rebased_in(state, branch)
    if folder:
        raise DevkitError(
            f"{branch} is being rebased in {folder}",
            "It would move under the rebase.",
            f"cd {shlex.quote(str(folder))} && devkit pr continue",
            f"cd {shlex.quote(str(folder))} && devkit pr abort",
        )
    owner = request_of(state, branch)
    if local and owner != request and local != seen:
        whose = f"It is of pull request {owner.number} of {owner.remote}." if owner else "devkit did not make it."
        raise DevkitError(
            f"there is a branch {branch} already", whose, remedy, f"git branch -m {shlex.quote(branch)} NAME"
        )


def _can_switch(state: State, wish: Wish) -> None:
    number = wish.requests[0].number
    if state.place.top is None:
        raise DevkitError(
            "this repository is bare, there is nothing to switch",
            "",
            f"devkit pr fetch {number} --worktree",
            f"devkit pr fetch {number} --no-switch",
        )
    if state.place.operation:
        raise DevkitError(
            f"a {state.place.operation} goes on in this checkout",
            "Its state would be lost by a switch.",
            f"devkit pr fetch {number} --worktree",
            "devkit pr continue",
            "devkit pr abort",
        )


def _old_name(state: State, branch: str) -> str:
    number = 1
    while f"{KEPT}{branch}/{number}" in state.refs:
        number += 1
    return f"{KEPT}{branch}/{number}"


def worktree_folder(branch: str, wish: Wish, state: State) -> Path:
    """Return the folder of a request's worktree: beside the clone, named after it and the branch.

    Raises:
        DevkitError: something is there, or the branch is checked out where the command runs.
    """
    there = state.worktree_of(branch)
    if there and there.path == state.place.top:
        number = wish.requests[0].number
        raise DevkitError(
            f"{branch} is checked out here",
            "Git checks a branch out in one folder at a time.",
            f"devkit pr fetch {number}   updates it here",
            f"devkit pr fetch {number} --worktree   from another branch",
        )
    if there:
        return there.path
    main = state.worktrees[0].path if state.worktrees else state.place.common_dir
    name = main.name.removesuffix(".git") or main.parent.name
    folder = wish.folder or main.parent / f"{name}-{branch.replace('/', '-')}"
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links in it are the user's own
    if os.path.lexists(folder):
        raise DevkitError(
            f"{folder} is there already",
            "A worktree needs a folder of its own.",
            f"mv {shlex.quote(str(folder))} ELSEWHERE",
        )
    return folder


def _warn_of_rebuild(session: Session, state: State, changes: Sequence[Change], number: int) -> None:
    build = state.checkout / "build"
    if not any((build / name).exists() for name in ("CMakeCache.txt", "build.ninja", "Makefile")):
        return
    compiled, headers = rebuilt(changes)
    if compiled:
        session.app.console.look(
            f"build/ would be built again for {compiled} changed files, {headers} of them headers; "
            f"devkit pr fetch {number} --worktree leaves it alone"
        )


def _fetched(session: Session, arrival: Arrival, wish: Wish, state: State, roles_: Roles, old: str) -> Fetched:
    base = state.refs.get(roles_.tracking, "")
    done = Fetched(arrival, summarize(session.git, _tip(arrival), base, str(roles_)))
    if arrival.relation == "rewritten" and wish.way != "detach":
        done.kept = old.removeprefix("refs/")
        start = base or arrival.oid  # without a base, the new tip's own commits are all there is to compare with
        words = ("range-diff", "-s", "--no-color", start, arrival.local, arrival.oid)
        done.range_diff = tuple(lines_of(session.git.ask(*words).stdout))
    elsewhere = state.worktree_of(arrival.branch)
    if wish.way == "worktree" and not elsewhere:
        done.folder = wish.folder
    elif elsewhere and elsewhere.path != state.place.top:
        done.folder = elsewhere.path
    return done


def not_found(request: Request, state: State) -> DevkitError:
    """Return the error for a request that the forge does not have."""
    from devkit.git.roles import locate

    others = [name for name in state.remotes if name != request.remote]
    if request.merge:
        return DevkitError(
            f"pull request {request.number} has no merge commit on {request.remote}",
            "It conflicts with its base, or is closed.",
            f"devkit pr fetch {request.number}",
        )
    return DevkitError(
        f"pull request {request.number} was not found on {request.remote} ({locate(state.remotes[request.remote])})",
        f"The forge has no {request.source}.",
        *(f"devkit pr fetch {request.number} --remote {name}   if the request is there" for name in others),
    )


def unreachable(remote: str, error: GitFailed) -> DevkitError:
    """Return the error for a remote that did not answer."""
    complaint = error.answer.complaint
    remedies = [f"git ls-remote {remote}   shows what git says"]
    if "resolve host" in complaint or "Failed to connect" in complaint or "proxy" in complaint.lower():
        remedies = ["devkit config set proxy.url http://HOST:PORT   if there is a proxy"]
    elif "terminal prompts disabled" in complaint or "Authentication failed" in complaint:
        remedies = ["git config credential.helper cache   and one git fetch by hand", "gh auth setup-git"]
    elif "Permission denied (publickey" in complaint or "passphrase" in complaint:
        remedies = ["ssh-add   unlocks the key"]
    return DevkitError(f"{remote} could not be reached", complaint, *remedies)
