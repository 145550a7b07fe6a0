"""Putting pull requests that arrived in their place: the lines that follow, and the work that is carried."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.changes import Change, changes_between, obstacles, rebuilt
from devkit.git.command import Answer, GitFailed, Line, line, lines_of
from devkit.git.roles import BASE, KEPT, base_of, roles
from devkit.git.state import read_status
from devkit.pr.arrival import arrive, tip_of
from devkit.pr.base import finding_base, with_default_branch
from devkit.pr.branches import ways_out
from devkit.pr.carry import carried, carry_steps, check_obstacles, empty_tree
from devkit.pr.remote import overwritten
from devkit.pr.summary import summarize, summarizing
from devkit.pr.trees import follow_submodules, populate_submodules, submodule_changes
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from devkit.git.command import Git
    from devkit.git.operation import RunningChange
    from devkit.git.roles import Roles
    from devkit.git.session import Session
    from devkit.git.state import State
    from devkit.pr.arrival import Arrival, FetchOptions
    from devkit.pr.carry import Carried
    from devkit.pr.summary import Summary


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
    seen = []
    if arrival.seen != oid:
        previous = state.refs.get(request.tracking, "") or state.place.null
        seen.append(line("update-ref", "-m", "devkit: fetched", request.tracking, oid, previous))
    if options.way == "detach":
        return [line("switch", "--no-recurse-submodules", "--detach", oid, slow=True), *seen]
    if arrival.relation == "rewritten":
        lines.append(line("update-ref", "-m", "devkit: the author rewrote it", old, arrival.local, state.place.null))
    lines += [*_move(arrival, options, state), *seen]  # what follows a switch is done while it runs
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
        return [*self.fetched, *map(str, self.follows), *stash, *moves, *restore]


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
    state, arrivals, follows, lines_run = arrive(session, options, state, bases)
    return _placed(session, options, state, arrivals, bases, follows, lines_run)


def _whole(session: Session, options: FetchOptions, state: State) -> FetchOptions:
    """Leave ``--depth`` out in a whole clone: it would become shallow, and the next gc would take what is older."""
    if not options.depth or not state.refs or state.place.shallow:
        return options
    session.app.console.warn("this clone has its whole history, and keeps it: --depth would cut it off")
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
    notes = [] if options.way == "detach" else overwritten(state)
    if moving:
        number = str(moving.request.number)
        changes = changes_between(git, state.head or empty_tree(git), tip_of(moving))
        aside = Hint.of("devkit", "pr", "fetch", number, "--worktree")
        work = carried(git, state, changes, f"pull request {number}", aside, tip=tip_of(moving))
        notes += _rebuild(state, changes, moving.request.number)
        notes += left_behind(git, state, tip_of(moving))
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
    from devkit.git import wip  # imported while git fetched
    from devkit.git.snapshot import WriteSet

    git, state, options = session.git, plan_.state, plan_.options
    arrivals = plan_.arrivals
    for note in plan_.notes:
        session.app.console.warn(note)
    if plan_.trivial:
        for step in (*plan_.follows, *(step for steps in plan_.lines for step in steps)):
            git.execute(step)
        found = []
        for arrival in arrivals:
            with _comparing(session, arrival, plan_) as compared:
                found.append(_fetched(session, arrival, plan_, "", compared))
        return found
    writes = WriteSet(
        checkout=bool(plan_.moving),
        paths={change.path: change.before[1] for change in plan_.changes},
        refs=frozenset(step.words[3] for step in plan_.follows if step.words[0] == "update-ref"),
        checkouts=plan_.elsewhere,
    )
    numbers = [one.request.number for one in arrivals]
    command = f"pr fetch {' '.join(map(str, numbers))}"
    done = []
    changing = session.change(command, state, writes, creates=plan_.creates, numbers=numbers, way=options.way)
    with contextlib.ExitStack() as beside:
        first = beside.enter_context(_comparing(session, arrivals[0], plan_))  # while the snapshot is taken
        change = beside.enter_context(changing)
        for step in plan_.follows:
            change.run(step)
        message = f"carried to {tip_of(arrivals[0])[:10]}"
        aside = wip.stash(change, state, *plan_.work, message) if plan_.work else None
        for arrival, steps in zip(arrivals, plan_.lines, strict=True):
            compared = first if arrival is arrivals[0] else beside.enter_context(_comparing(session, arrival, plan_))
            summary = partial(_fetched, session, arrival, plan_, _old_name(state, arrival.branch), compared)
            fetched = _execute(change, steps, arrival, summary)
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
            found[tree.path] = {change.path: change.before[1] for change in changes}
    return found


def _execute(
    changing: RunningChange, lines: Sequence[Line], arrival: Arrival, summary: Callable[[], Fetched]
) -> Fetched:
    """Run a request's lines and return its summary; what follows a switch is done while it runs."""
    if not lines:
        return summary()
    git_line, *rest = lines
    beside = git_line.words[0] == "switch"
    found: list[Fetched] = []

    def go_on() -> None:
        found.append(_execute(changing, rest, arrival, summary))

    title = f"checking out {arrival.branch}" if git_line.slow else ""
    answer = changing.run(git_line, check=False, title=title, meanwhile=go_on if beside else None)
    if answer.status and not _hook_failed(changing.session, git_line, arrival, answer):
        raise GitFailed(git_line.words, answer)
    if not beside:
        go_on()
    return found[0]


def _hook_failed(session: Session, git_line: Line, arrival: Arrival, answer: Answer) -> bool:
    """Tell whether a switch was made although git says that it failed: a post-checkout hook's status is its own."""
    if "switch" not in git_line.words and "worktree" not in git_line.words:
        return False
    folder = git_line.directory or (
        Path(git_line.words[git_line.words.index("--") + 1])
        if git_line.words[0] == "worktree"
        else session.git.directory
    )
    if not folder.is_dir() or session.git.at(folder).commit_of("HEAD") != tip_of(arrival):
        return False
    session.app.console.warn("the repository's post-checkout hook failed; the checkout itself is whole")
    for said in answer.complaint.splitlines():
        if not said.startswith(("Switched to", "Preparing worktree", "HEAD is now at")):
            session.app.console.note(f"    {said}", "dim")
    return True


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
            *ways_out(state.place.operation),
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
    name = main.name.removesuffix(".git")
    if not name or name.startswith("."):  # a bare clone below the folder that its worktrees are in
        name = main.parent.name
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


@dataclass(frozen=True)
class _Comparison:
    """A request beside its base, while git looks.

    Attributes:
        base: where it goes, as far as that is known before git has looked.
        refs: the refs as they will be.
        nearest: waits for the branch that it goes to.
        summary: waits for how it stands to ``base``.
    """

    base: Roles
    refs: Mapping[str, str]
    nearest: Callable[[], str]
    summary: Callable[[], Summary]


@contextlib.contextmanager
def _comparing(session: Session, arrival: Arrival, plan_: FetchPlan) -> Iterator[_Comparison]:
    """Begin to compare a request with its base, beside what the caller does."""
    moved = {step.words[3]: step.words[4] for step in plan_.follows if step.words[0] == "update-ref"}
    now = replace(plan_.state, refs={**plan_.state.refs, **moved})
    base = base_of(now, session.app.config, arrival.branch)
    if base.base != arrival.request.remote:  # the branch has no settings yet
        base = plan_.bases[arrival.request.remote]
    tip = tip_of(arrival)
    with (
        finding_base(session, now, tip, base) as nearest,
        summarizing(session.git, tip, now.refs.get(base.tracking, ""), str(base)) as summary,
    ):
        yield _Comparison(base, now.refs, nearest, summary)


def _fetched(session: Session, arrival: Arrival, plan_: FetchPlan, old: str, compared: _Comparison) -> Fetched:
    state, options = plan_.state, plan_.options
    near = compared.nearest()
    roles_ = replace(compared.base, branch=near)
    base = compared.refs.get(roles_.tracking, "")
    if near == compared.base.branch:
        summary = compared.summary()
    else:
        summary = summarize(session.git, tip_of(arrival), base, str(roles_))
        if options.way != "detach":
            session.git.execute(line("config", "--local", f"branch.{arrival.branch}.{BASE}", near))
    done = Fetched(arrival, summary)
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
