"""Opening a request: its title and text from the commits, in the project's own template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from devkit.errors import DevkitError, Hint
from devkit.git.command import GitFailed, line, lines_of
from devkit.git.roles import base_of, locate, push_address, request_of
from devkit.pr.branches import chosen_branch
from devkit.pr.push import web_host
from devkit.pr.target import target_of

if TYPE_CHECKING:
    from devkit.git.command import Commit
    from devkit.git.session import Session
    from devkit.git.state import State

TEMPLATES = (
    ".github/PULL_REQUEST_TEMPLATE.md",
    ".github/pull_request_template.md",
    "PULL_REQUEST_TEMPLATE.md",
    "docs/PULL_REQUEST_TEMPLATE.md",
)
MOST = 100
LONGEST = 6000  # characters of an address that browsers and forges take
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_DESCRIPTION = re.compile(r"(?im)^#+\s*(description|描述).*$")


@dataclass(frozen=True)
class CreatePlan:
    """A request that will be opened.

    Attributes:
        head: where it comes from: ``owner:branch``.
        base: the project's branch that it goes to.
        page: the forge's page that opens it, with the title and the text filled in.
    """

    branch: str
    head: str
    base: str
    title: str
    body: str
    page: str
    draft: bool = False


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
    project, fork = (locate(state.remotes.get(name, name)) for name in (goes.base, address))
    host = web_host(session, project.host)
    template = next(
        (text for name in TEMPLATES if (text := session.git.ask("cat-file", "blob", f"{tip}:{name}").stdout)), b""
    )
    subject = title or commits[-1].subject
    body = described(template.decode(errors="replace"), commits)
    into = base or goes.branch
    head = quote(f"{fork.owner}:{target.name}", safe=":/")
    page = f"https://{host}/{quote(str(project))}/compare/{quote(into, safe='')}...{head}"
    page += f"?expand=1&title={quote(subject, safe='')}"
    filled = f"{page}&body={quote(body, safe='')}"
    shown = filled if len(filled) <= LONGEST else page
    return CreatePlan(branch, f"{fork.owner}:{target.name}", into, subject, body, shown if host else "", draft)


def _tip_there(session: Session, address: str, ref: str) -> str:
    try:
        answer = session.git.execute(line("ls-remote", "--", address, ref, slow=True), title=f"asking {address}")
    except GitFailed:
        return ""
    rows = (row.partition("\t") for row in lines_of(answer.stdout))
    return next((oid for oid, _, name in rows if name == ref), "")
