"""Opening a request: its title and text from the commits, in the project's own template."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.command import GitFailed, line, lines_of
from devkit.git.roles import base_of, forge_kind, locate, push_address, repository_path, request_of, resolved
from devkit.pr.branches import chosen_branch
from devkit.pr.forge import NewRequest
from devkit.pr.pages import Opening, opening_page
from devkit.pr.push import web_host
from devkit.pr.target import target_of

if TYPE_CHECKING:
    from devkit.git.command import Commit, Git
    from devkit.git.session import Session
    from devkit.git.state import State

FOLDERS = (".gitlab/merge_request_templates/", ".gitee/", ".github/", "", "docs/")
TEMPLATE = re.compile(
    r"(?:.*/)?(?:pull_request_template(?:\.md|\.txt)?|merge_request_templates/default\.md)", re.IGNORECASE
)
MOST = 100
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_DESCRIPTION = re.compile(r"(?im)^#+\s*(description|描述).*$")


@dataclass(frozen=True)
class CreatePlan:
    """A request that will be opened.

    Attributes:
        head: where it comes from: ``owner:branch``.
        new: what the forge's API is told.
        page: the forge's page that opens it, with the title and the text filled in.
    """

    branch: str
    head: str
    page: str
    new: NewRequest


def described(template: str, commits: list[Commit]) -> str:
    """Return a template with what the commits say below its heading for the description, or at its beginning."""
    texts = [commit.message.strip() for commit in reversed(commits)]
    said = (
        texts[0].partition("\n")[2].strip()
        if len(texts) == 1
        else "\n".join(f"- {text.splitlines()[0]}" for text in texts)
    )
    if not template.strip():
        return said
    match = _DESCRIPTION.search(template)
    if not match:
        return f"{said}\n\n{template}" if said else template
    before, after = template[: match.end()], _COMMENT.sub("", template[match.end() :], count=1)
    return f"{before}\n{said}\n{after.lstrip()}" if said else template


def plan_create(
    session: Session, state: State, which: str, *, title: str = "", base: str = "", draft: bool = False
) -> CreatePlan:
    """Return what opens a request from a branch that was pushed.

    Raises:
        DevkitError: it was not pushed as it is, is a request already, or has no commit of its own.
    """
    branch = chosen_branch(state, which)
    request = request_of(state, branch)
    if request:
        raise DevkitError(
            f"{branch} is pull request {request.number} already", "", Hint.of("devkit", "pr", "push", branch)
        )
    goes = base_of(state, session.app.config, branch)
    tip = state.branches[branch]
    commits = session.git.commits(f"{state.refs.get(goes.tracking) or goes.tracking}..{tip}", MOST)
    if not commits:
        raise DevkitError(f"{branch} has no commit that {goes} has not", "", "git commit")
    target = target_of(session, state, branch)
    address = push_address(session.git, state, target.remote)
    if _tip_there(session, address, target.ref) != tip:
        raise DevkitError(
            f"{target} is not what {branch} is",
            "A request shows what is there.",
            Hint.of("devkit", "pr", "push", branch),
        )
    project, fork = (resolved(state, state.remotes.get(name, name)) for name in (goes.base, address))
    place = locate(project)
    host = web_host(session, place.host)
    kind = forge_kind(place.host, str(session.app.config.get("pr.api")))
    template = _template(session.git, state.refs.get(goes.tracking, "")) or _template(session.git, tip)
    subject = title or commits[-1].subject
    body = described(template, commits)
    into = base or goes.branch
    opening = Opening(repository_path(kind, fork), target.name, repository_path(kind, project), into)
    page = opening_page(kind, host, opening, subject, body) if host else ""
    new = NewRequest(subject, body, opening.fork, target.name, into, draft)
    return CreatePlan(branch, f"{locate(fork).owner}:{target.name}", page, new)


def _template(git: Git, commit: str) -> str:
    """Return the template that a commit has for requests: under any name, and in any folder, that the forges take."""
    if not commit:
        return ""
    words = ("ls-tree", "-z", "--full-tree", "--name-only", commit)
    answers = git.read_all((*words, "--", *filter(None, FOLDERS)), words)
    names = [name for answer in answers for name in os.fsdecode(answer.stdout).split("\0") if TEMPLATE.fullmatch(name)]
    names.sort(key=lambda name: FOLDERS.index(name[: name.rfind("/") + 1]))
    found = (git.ask("cat-file", "blob", f"{commit}:{name}") for name in names)  # a folder of several is none
    return next((answer.stdout.decode(errors="replace") for answer in found if answer.stdout.strip()), "")


def _tip_there(session: Session, address: str, ref: str) -> str:
    try:
        answer = session.git.execute(line("ls-remote", "--", address, ref, slow=True), title=f"asking {address}")
    except GitFailed:
        return ""
    rows = (row.partition("\t") for row in lines_of(answer.stdout))
    return next((oid for oid, _, name in rows if name == ref), "")
