"""Bringing pull requests here: what arrives, how it stands to what is here, and the lines that follow from it."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from devkit.errors import DevkitError, Hint
from devkit.git import wip
from devkit.git.changes import Change, changes_between, obstacles, rebuilt
from devkit.git.command import GitFailed, Line, line, lines_of
from devkit.git.roles import BASE, KEPT, TRACKING, Request, base_of, request_of, roles
from devkit.git.session import Session, fetch_line, incoming
from devkit.git.snapshot import INCOMING, WriteSet
from devkit.git.state import read_status
from devkit.pr.base import nearest_base, with_default_branch
from devkit.pr.carry import Carried, carried, carry_steps, check_obstacles, empty_tree
from devkit.pr.remote import not_found, unreachable
from devkit.pr.summary import Summary, summarize
from devkit.pr.trees import follow_submodules, populate_submodules, rebased_in, submodule_changes
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.git.command import Git
    from devkit.git.roles import Roles
    from devkit.git.session import Change as Changing
    from devkit.git.state import State

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

    requests: tuple[Request, ...]
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


def plan(arrival: Arrival, options: FetchOptions, state: State, *, old: str = "", now: float = 0) -> list[Line]:
    """Return the lines that put an arrived request in its place.

    Args:
        arrival: the request.
        options: what the user asked for.
        state: the clone.
        old: the ref that keeps the old tip of a rewritten branch.
        now: the time, for the list's "last fetch".
    """
    request, oid, branch = arrival.request, arrival.oid, arrival.branch
    lines = []
    if arrival.seen != oid:
        previous = state.refs.get(request.tracking, "") or state.place.null
        lines.append(line("update-ref", "-m", "devkit: fetched", request.tracking, oid, previous))
    if options.way == "detach":
        return [*lines, line("switch", "--no-recurse-submodules", "--detach", oid, slow=True)]
    if arrival.relation == "rewritten":
        lines.append(line("update-ref", "-m", "devkit: the author rewrote it", old, arrival.local, state.place.null))
    lines += _move(arrival, options, state)
    for name, value in (("remote", request.remote), ("merge", request.source), ("devkitFetched", str(int(now)))):
        if state.setting(f"branch.{branch}.{name.lower()}") != value:
            lines.append(line("config", "--local", f"branch.{branch}.{name}", value))
    return lines


def _move(arrival: Arrival, options: FetchOptions, state: State) -> list[Line]:
    """Return the lines that move or make the branch, and check it out where that is wanted."""
    branch, oid = arrival.branch, arrival.oid
    new, moves = arrival.relation == "new", arrival.relation in {"forward", "rewritten"}
    switch = ("switch", "--no-recurse-submodules")
    elsewhere = state.worktree_of(branch)
    if elsewhere and elsewhere.path != state.place.top:
        there = line(*switch, "--no-track", "-C", branch, oid, directory=elsewhere.path, slow=True)
        return [there] if moves else []
    move = [line("branch", "--no-track", "--force", "--", branch, oid)] if moves else []
    if options.way == "worktree" and not elsewhere:
        made = (
            ("--no-track", "-b", branch, "--", str(options.folder), oid) if new else ("--", str(options.folder), branch)
        )
        return [*move, line("worktree", "add", *made, slow=True)]
    if options.way == "branch" and state.branch != branch:
        return [line("branch", "--no-track", "--", branch, oid)] if new else move
    if new or moves:
        return [line(*switch, "--no-track", "-c" if new else "-C", branch, oid, slow=True)]
    return [line(*switch, branch, slow=True)] if state.branch != branch else []


def checks_out(arrival: Arrival, options: FetchOptions, state: State) -> bool:
    """Tell whether this checkout's files will move."""
    if options.way == "detach":
        return True
    elsewhere = state.worktree_of(arrival.branch)
    if elsewhere:
        return elsewhere.path == state.place.top and arrival.relation in {"forward", "rewritten"}
    return options.way == "switch"


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
    return {one.source: f"{one.number}-{'merge' if one.merge else 'head'}" for one in requests}


@dataclass(frozen=True)
class FetchPlan:
    """What a fetch will do with what arrived.

    Attributes:
        bases: each remote's base, and the lines by which its tracking refs follow what arrived.
        moving: the request that moves this checkout.
        changes: what that changes there.
        work: the uncommitted work that is carried.
        lines: each request's lines.
        elsewhere: the other checkouts that move, with the paths that change there.
        creates: the worktree that is made.
    """

    options: FetchOptions
    state: State
    fetched: tuple[str, ...]
    arrivals: tuple[Arrival, ...]
    bases: Mapping[str, Roles]
    follows: tuple[Line, ...]
    moving: Arrival | None
    changes: tuple[Change, ...]
    work: Carried | None
    lines: tuple[tuple[Line, ...], ...]
    elsewhere: Mapping[Path, Mapping[str, str]]
    creates: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def trivial(self) -> bool:
        """Whether there is nothing that could be undone: settings, and where the project's branches are."""
        return not self.work and all(step.words[0] == "config" for steps in self.lines for step in steps)

    @property
    def steps(self) -> list[str]:
        """What will be run, as lines."""
        stash, restore = carry_steps(self.work)
        moves = [str(step) for steps in self.lines for step in steps]
        private = [str(line("update-ref", "-d", f"{INCOMING}{name}")) for name in _names(self.options.requests)]
        return [*self.fetched, *map(str, self.follows), *stash, *moves, *restore, *private]


def _names(requests: Sequence[Request]) -> list[str]:
    return list(sources(requests).values())


def plan_fetch(session: Session, state: State, options: FetchOptions) -> FetchPlan:
    """Return what brings the requests here; what the forge has is fetched beside all that is here.

    Raises:
        DevkitError: one is not there, or something is in the way.
    """
    if options.way == "switch" and len(options.requests) > 1:
        options = replace(options, way="branch")
    if options.way in {"switch", "detach"}:
        _can_switch(state, options)
    options = _whole(session, options, state)
    bases = {}
    for remote in dict.fromkeys(one.remote for one in options.requests):
        state = with_default_branch(session, state, remote)
        bases[remote] = roles(state, session.app.config, remote)
    if options.way == "worktree":
        first = options.requests[0]
        options = replace(options, folder=worktree_folder(options.branch or first.branch, options, state))
    arrivals, follows, lines_run = _arrive(session, options, state, bases)
    return _placed(session, options, state, arrivals, bases, follows, lines_run)


def _whole(session: Session, options: FetchOptions, state: State) -> FetchOptions:
    """Leave ``--depth`` out in a whole clone: it would become shallow, and the next gc would take what is older."""
    if not options.depth or not state.refs or state.place.shallow:
        return options
    session.app.console.look("this clone has its whole history, and keeps it: --depth would cut it off")
    return replace(options, depth=0)


def _placed(
    session: Session,
    options: FetchOptions,
    state: State,
    arrivals: Sequence[Arrival],
    bases: Mapping[str, Roles],
    follows: Sequence[Line],
    fetched: Sequence[str],
) -> FetchPlan:
    git = session.git
    moving = next((one for one in arrivals if checks_out(one, options, state)), None)
    changes: tuple[Change, ...] = ()
    work = None
    notes = []
    if moving:
        number = str(moving.request.number)
        changes = changes_between(git, state.head or empty_tree(git), _tip(moving))
        aside = Hint.of("devkit", "pr", "fetch", number, "--worktree")
        work = carried(git, state, changes, f"pull request {number}", aside, tip=_tip(moving))
        notes += _rebuild(state, changes, moving.request.number)
        notes += left_behind(git, state, _tip(moving))
    lines = [plan(one, options, state, old=_old_name(state, one.branch), now=time.time()) for one in arrivals]
    here = state.worktree_of(arrivals[0].branch)
    makes = options.way == "worktree" and options.folder and not here
    return FetchPlan(
        options,
        state,
        tuple(fetched),
        tuple(arrivals),
        bases,
        tuple(follows),
        moving,
        changes,
        work,
        tuple(tuple(steps) for steps in lines),
        _elsewhere(git, state, arrivals),
        (options.folder,) if makes and options.folder else (),
        tuple(notes),
    )


def left_behind(git: Git, state: State, tip: str) -> list[str]:
    """Return what a switch away from a detached HEAD leaves that no branch has, as lines for a person."""
    if state.branch or not state.head:
        return []
    known = [oid for name, oid in state.refs.items() if state.kinds.get(name) == "commit"]
    data = "".join(f"^{oid}\n" for oid in dict.fromkeys([*known, tip])) + f"{state.head}\n"
    left = lines_of(git.read("log", "--stdin", "--format=%h %s", data=data.encode()))
    if not left:
        return []
    keep = shlex.join(["git", "branch", "NAME", state.head[:10]])
    return [f"{counted(len(left), 'commit')} on no branch stay behind ({left[0]}): {keep}   keeps them"]


def fetch(session: Session, plan_: FetchPlan) -> list[Fetched]:
    """Do what was planned."""
    git, state, options = session.git, plan_.state, plan_.options
    arrivals = plan_.arrivals
    for note in plan_.notes:
        session.app.console.look(note)
    if plan_.trivial:
        for step in (*plan_.follows, *(step for steps in plan_.lines for step in steps)):
            git.execute(step)
        return [_fetched(session, arrival, plan_, "") for arrival in arrivals]
    writes = WriteSet(
        checkout=bool(plan_.moving),
        paths={change.path: change.before[1] for change in plan_.changes},
        refs=frozenset(step.words[3] for step in plan_.follows if step.words[0] == "update-ref"),
        checkouts=plan_.elsewhere,
    )
    numbers = [one.request.number for one in arrivals]
    command = f"pr fetch {' '.join(map(str, numbers))}"
    done = []
    with session.change(command, state, writes, creates=plan_.creates, numbers=numbers, way=options.way) as change:
        for step in plan_.follows:
            change.run(step)
        message = f"carried to {_tip(arrivals[0])[:10]}"
        aside = wip.stash(change, state, *plan_.work, message) if plan_.work else None
        for arrival, steps in zip(arrivals, plan_.lines, strict=True):
            _execute(change, steps, arrival)
            fetched = _fetched(session, arrival, plan_, _old_name(state, arrival.branch))
            done.append(fetched)
            if plan_.moving is arrival:
                fetched.notes += follow_submodules(change, state, submodule_changes(plan_.changes))
                if aside and wip.restore(change, aside, session.state()):
                    fetched.notes.append(
                        f"your uncommitted work is put aside: devkit wip restore --from {aside.number}"
                    )
            if plan_.creates:
                fetched.notes += populate_submodules(change, state, plan_.creates[0])
        change.record.record["result"] = {one.arrival.branch: one.arrival.oid for one in done}
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
            check_obstacles(
                obstacles(changes, read_status(git.at(tree.path)), tree.path),
                f"in {tree.path}, pull request {number}",
                f"cd {shlex.quote(str(tree.path))} && devkit pr fetch {number}",
            )
            found[tree.path] = {each.path: each.before[1] for each in changes}
    return found


def _execute(changing: Changing, lines: Sequence[Line], arrival: Arrival) -> None:
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


def _arrive(
    session: Session, options: FetchOptions, state: State, bases: Mapping[str, Roles]
) -> tuple[list[Arrival], list[Line], list[str]]:
    """Fetch the requests, and in the same round trip the branch that they go to; return also how its refs follow."""
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
        found = _incoming(session, state, remote, requests, (with_bases, wanted), options.depth, title)
        ran.append(str(fetch_line(remote, with_bases if len(found) > len(wanted) else wanted, depth=options.depth)))
        arrivals += [_arrival(session.git, one, found[one.source], options, state) for one in requests]
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
    return arrivals, follows, ran


def _base_branches(state: State, session: Session, requests: Sequence[Request], base: Roles) -> list[str]:
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
    requests: Sequence[Request],
    choices: Sequence[dict[str, str]],
    depth: int,
    title: str,
) -> dict[str, str]:
    """Fetch the first choice of refs, or the next where the remote has no such branch."""
    for wanted in choices[:-1]:
        with contextlib.suppress(_NoBase):
            return _tried(session, state, remote, requests, wanted, depth, title)
    return _tried(session, state, remote, requests, choices[-1], depth, title)


class _NoBase(DevkitError):
    """The remote has no branch of the base's name."""


def _tried(
    session: Session,
    state: State,
    remote: str,
    requests: Sequence[Request],
    wanted: dict[str, str],
    depth: int,
    title: str,
) -> dict[str, str]:
    try:
        return incoming(session, remote, wanted, depth=depth, title=title)
    except GitFailed as error:
        missing = [one for one in requests if f"remote ref {one.source}" in error.answer.said]
        if missing:
            raise not_found(missing[0], state, str(session.app.config.get("pr.project"))) from error
        failed = unreachable(remote, error)
        if "remote ref refs/heads/" in error.answer.said:
            raise _NoBase(failed.what, failed.why, *failed.hints) from error
        raise failed from error


def _arrival(git: Git, request: Request, oid: str, options: FetchOptions, state: State) -> Arrival:
    branch = options.branch or request.branch
    local = state.branches.get(branch, "")
    seen = _seen(state, request)
    if options.way == "detach":
        return Arrival(request, oid, seen, branch, "", "new")
    _free(state, request, branch, local, seen)
    if local and git.ask("cat-file", "-e", f"{oid}^{{commit}}").status:
        return Arrival(request, oid, seen, branch, local, "forward")  # only a preview meets this
    relation, own = relation_of(git, local, seen, oid)
    return Arrival(request, oid, seen, branch, local, relation, own)


def _seen(state: State, request: Request) -> str:
    """Return what the forge had the last time, under an older name of its remote too."""
    if request.tracking in state.refs:
        return state.refs[request.tracking]
    old = [name for name in state.refs if name.startswith(TRACKING) and name.endswith(f"/{request.number}")]
    renamed = [name for name in old if name[len(TRACKING) :].rpartition("/")[0] not in state.remotes]
    return state.refs[renamed[0]] if len(renamed) == 1 and not request.merge else ""


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


def _can_switch(state: State, options: FetchOptions) -> None:
    number = options.requests[0].number
    if state.place.top is None:
        raise DevkitError(
            "this repository is bare, there is nothing to switch",
            "",
            f"devkit pr fetch {number} --worktree",
            f"devkit pr fetch {number} --no-switch",
        )
    if state.place.operation:
        raise DevkitError(
            f"a {state.place.operation} is in progress in this checkout",
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


def worktree_folder(branch: str, options: FetchOptions, state: State) -> Path:
    """Return the folder of a request's worktree: beside the clone, named after it and the branch.

    Raises:
        DevkitError: something is there, or the branch is checked out where the command runs.
    """
    there = state.worktree_of(branch)
    if there and there.path == state.place.top:
        number = options.requests[0].number
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
    folder = options.folder or main.parent / f"{name}-{branch.replace('/', '-')}"
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links in it are the user's own
    if os.path.lexists(folder):
        raise DevkitError(
            f"{folder} is there already",
            "A worktree needs a folder of its own.",
            f"mv {shlex.quote(str(folder))} ELSEWHERE",
        )
    return folder


def _rebuild(state: State, changes: Sequence[Change], number: int) -> list[str]:
    build = state.checkout / "build"
    if not any((build / name).exists() for name in ("CMakeCache.txt", "build.ninja", "Makefile")):
        return []
    compiled, headers = rebuilt(changes)
    if not compiled:
        return []
    what = f"build/ would be built again for {compiled} changed files, {headers} of them headers"
    return [f"{what}; devkit pr fetch {number} --worktree leaves it alone"]


def _fetched(session: Session, arrival: Arrival, plan_: FetchPlan, old: str) -> Fetched:
    state, options = plan_.state, plan_.options
    moved = {step.words[3]: step.words[4] for step in plan_.follows if step.words[0] == "update-ref"}
    refs = {**state.refs, **moved}
    now = replace(state, refs=refs)
    roles_ = base_of(now, session.app.config, arrival.branch)
    if roles_.base != arrival.request.remote:  # the branch has no settings yet
        roles_ = plan_.bases[arrival.request.remote]
    near = nearest_base(session, now, _tip(arrival), roles_)
    if near != roles_.branch and options.way != "detach":
        session.git.execute(line("config", "--local", f"branch.{arrival.branch}.{BASE}", near))
    roles_ = replace(roles_, branch=near)
    base = refs.get(roles_.tracking, "")
    done = Fetched(arrival, summarize(session.git, _tip(arrival), base, str(roles_)))
    if arrival.relation == "rewritten" and options.way != "detach":
        done.kept = old.removeprefix("refs/")
        start = base or arrival.oid  # without a base, the new tip's own commits are all there is to compare with
        words = ("range-diff", "-s", "--no-color", start, arrival.local, arrival.oid)
        done.range_diff = tuple(lines_of(session.git.ask(*words).stdout))
    elsewhere = state.worktree_of(arrival.branch)
    if options.way == "worktree" and not elsewhere:
        done.folder = options.folder
    elif elsewhere and elsewhere.path != state.place.top:
        done.folder = elsewhere.path
    return done
