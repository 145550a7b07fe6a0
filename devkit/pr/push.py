"""Pushing a branch to where it belongs, while the remote still has what the branch has had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git import journal
from devkit.git.command import GitFailed, line, lines_of
from devkit.git.journal import Push
from devkit.git.roles import (
    base_branch,
    base_remote,
    forge_kind,
    locate,
    push_address,
    repository_path,
    request_of,
    resolved,
)
from devkit.git.session import incoming
from devkit.git.snapshot import WriteSet
from devkit.pr.branches import chosen_branch
from devkit.pr.remote import check_pushes_refs, ssh_host, unreachable
from devkit.pr.target import Target, remember_line, remembered, target_of
from devkit.text import counted

if TYPE_CHECKING:
    from devkit.git.command import Line
    from devkit.git.operation import RunningChange
    from devkit.git.session import Session
    from devkit.git.state import State

SHOWN = 8
FORGES = frozenset({"github.com", "gitlab.com", "gitee.com", "gitcode.com"})


@dataclass(frozen=True)
class PushOptions:
    """What the user asked for: a request (0 or a branch's name), another remote, another name there, no hooks."""

    which: str = ""
    remote: str = ""
    name: str = ""
    verify: bool = True


@dataclass(frozen=True)
class PushPlan:
    """A push that will be taken.

    Attributes:
        before, after: the remote branch's commits; ``before`` is empty for a new branch.
        how: ``new``, ``forward``, ``rewritten`` or ``same``.
        page: the forge's page that opens a request, where its address is known.
        steps: the lines of git.
    """

    branch: str
    target: Target
    before: str
    after: str
    how: str
    page: str = ""
    steps: tuple[Line, ...] = ()


def push_line(
    target: Target, source: str, expected: str, *, upstream: bool = False, verify: bool = True, at: str = ""
) -> Line:
    """Return the line of a push that only goes through while the remote has the ``expected`` commit, or none.

    ``at`` is where the remote's pushes go, where that is not the target's remote.
    """
    words = ["push", "--progress", "--no-follow-tags", "--no-recurse-submodules"]
    words += [] if verify else ["--no-verify"]
    words += [f"--force-with-lease={target.ref}:{expected}", *(["--set-upstream"] if upstream else [])]
    return line(*words, "--", at or target.remote, f"{source}:{target.ref}", slow=True)


def remote_tip(session: Session, state: State, target: Target) -> str:
    """Fetch a remote's branch, to push there, and return its commit; nothing where there is none.

    Raises:
        DevkitError: it cannot be reached, or takes all of the clone's refs or none.
    """
    check_pushes_refs(state, target.remote)
    address = push_address(session.git, state, target.remote)
    try:
        return incoming(session, address, {target.ref: "push"}, title=f"asking {target.remote}")[target.ref]
    except GitFailed as error:
        if "couldn't find remote ref" in error.answer.said:
            return ""
        raise unreachable(target.remote, error) from error


def unseen(session: Session, state: State, branch: str, tip: str, remote: str) -> list[str]:
    """Return the remote's commits that the branch never had: not now, not in its log, not in an earlier push of it."""
    git = session.git
    had = git.ask("log", "--walk-reflogs", "--format=%H", f"refs/heads/{branch}", "--").stdout.decode().split()
    _, last = remembered(state, branch)
    pushed = [push.after for entry in journal.entries(session.place) for push in entry.pushes]
    ours = [oid for oid in (last, *pushed) if oid and git.has_commit(oid)]
    data = "".join(f"^{oid}\n" for oid in dict.fromkeys([tip, *had, *ours])).encode()
    found = git.read("log", "--stdin", "--format=%h %s (%an)", data=f"{remote}\n".encode() + data)
    return lines_of(found)


def plan_push(session: Session, state: State, options: PushOptions) -> PushPlan:
    """Return the push of a request's branch, or of the one that is checked out; the remote is asked.

    Raises:
        DevkitError: it is not clear where to, or the remote has commits that the branch never had.
    """
    branch = chosen_branch(state, options.which)
    target = target_of(session, state, branch, options.remote, options.name)
    tip = state.branches[branch]
    before = remote_tip(session, state, target)
    how = _how(session, state, branch, target, before, tip)
    request = request_of(state, branch)
    tracked = request is None and bool(target.tracking)
    steps = [
        push_line(target, f"refs/heads/{branch}", before, upstream=tracked, verify=options.verify),
        line(*remember_line(branch, target, tip)),
    ]
    page = _page(session, state, target) if how == "new" and request is None else ""
    return PushPlan(branch, target, before, tip, how, page, () if how == "same" else tuple(steps))


def _how(session: Session, state: State, branch: str, target: Target, before: str, tip: str) -> str:
    if not before:
        return "new"
    if before == tip:
        return "same"
    if session.git.is_ancestor(before, tip):
        return "forward"
    lost = unseen(session, state, branch, tip, before)
    if lost:
        shown = lost[:SHOWN] + ([f"… and {len(lost) - SHOWN} more"] if len(lost) > SHOWN else [])
        onto = str(target) if target.tracking else before
        raise DevkitError(
            f"{target} has {counted(len(lost), 'commit')} that {branch} never had; nothing was pushed",
            "\n".join(shown),
            Hint.of("devkit", "pr", "rebase", "--onto", onto, purpose="puts yours on top of them"),
        )
    return "rewritten"


def push(session: Session, state: State, plan: PushPlan) -> PushPlan:
    """Push as planned.

    Raises:
        DevkitError: the remote did not take it.
    """
    if not plan.steps:
        return plan
    target = plan.target
    writes = WriteSet(refs=frozenset({target.tracking} - {""}))
    with session.change(
        f"pr push {plan.branch}", state, writes, branch=plan.branch, to=str(target), how=plan.how
    ) as change:
        first, *rest = plan.steps
        execute_push(change, Push(target.remote, target.ref, plan.before, plan.after), first, target)
        for step in rest:
            change.run(step)
        change.record.record["result"] = {"branch": plan.branch, "to": str(target), "commit": plan.after}
    return plan


def execute_push(changing: RunningChange, record: Push, step: Line, target: Target, *, title: str = "") -> None:
    """Run the line of a push, and say why where the remote does not take it.

    Raises:
        DevkitError: it does not.
    """
    try:
        changing.push(record, step, title=title or f"pushing to {target.remote}")
    except GitFailed as error:
        log = changing.session.git.log
        hints = [Hint.of("less", str(log), purpose="all that was said")] if log else []
        if "stale info" in error.answer.said:
            raise DevkitError(f"{target} did not take the push", "Someone pushed in the meantime.", *hints) from error
        why = error.answer.complaint or "It said so above."
        raise DevkitError(f"{target} did not take the push", why, *hints) from error


def listed(session: Session, remote: str, ref: str) -> str:
    """Ask a remote for a ref's object without fetching it; nothing where it has none.

    Raises:
        DevkitError: it did not answer.
    """
    try:
        answer = session.git.execute(line("ls-remote", "--", remote, ref, slow=True), title=f"asking {remote}")
    except GitFailed as error:
        raise unreachable(remote, error) from error
    rows = (row.partition("\t") for row in lines_of(answer.stdout))
    return next((oid for oid, _, name in rows if name == ref), "")


def _page(session: Session, state: State, target: Target) -> str:
    from devkit.pr.pages import Opening, opening_page

    base = base_remote(state, session.app.config)
    address = push_address(session.git, state, target.remote)
    urls = [resolved(state, url) for url in (state.remotes[base], state.remotes.get(address, address))]
    project, fork = (replace(place, host=web_host(session, place.host)) for place in map(locate, urls))
    if not project.host or project.host != fork.host or not project.owner:
        return ""
    kind = forge_kind(project.host, str(session.app.config.get("pr.api")))
    opening = Opening(repository_path(kind, urls[1]), target.name, repository_path(kind, urls[0]))
    if kind == "gitee":
        opening = replace(opening, base=base_branch(state, session.app.config, base))
    return opening_page(kind, project.host, opening)


def web_host(session: Session, host: str) -> str:
    """Return the host of a forge's pages by that of its repositories, which may be an alias of ssh's."""
    return host if host in FORGES or not host else ssh_host(session.app, host)
