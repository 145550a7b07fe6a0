"""A request's checks, and of a failed one whose fault it is: yours, the base's, the machine's, or an approval's."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from devkit.builds.diagnosis import diagnose
from devkit.errors import DevkitError, Hint
from devkit.git.roles import base_of, base_remote, request_of
from devkit.pr.branches import chosen_branch
from devkit.pr.forge import Check, Forge
from devkit.pr.forges import forge_of, needs_token

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devkit.builds.diagnosis import Diagnosis
    from devkit.git.command import Git
    from devkit.git.session import Session
    from devkit.git.state import State

Whose = Literal["", "yours", "the base's", "the machine's", "an approval is missing"]
ANSWER_S = 20.0  # for all that is asked but logs
LOGS = 4  # failed checks whose logs are read at most
MACHINE = re.compile(
    r"No space left on device|Connection (timed out|reset|refused)|Could not resolve host|TLS handshake|429 Too Many"
    r"|The runner has received a shutdown signal|lost communication with the server|Killed signal|OOM|docker: Error"
    r"|Cannot connect to the Docker daemon|CUDA error: out of memory|The operation was canceled|503 Service",
    re.IGNORECASE,
)
APPROVAL = re.compile(
    r"approv\w+ (is |are |was )?(required|needed|missing)|must have one of .* approv|need.{0,40}approv|RD.{0,30}approv"
    r"|CLA.{0,40}(not|sign)|not signed the CLA",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class CiFinding:
    """A check, and what is known of its failure.

    Attributes:
        whose: whose fault it is, as far as that can be told.
        why: why that is thought.
        log: the name of the log that was read.
        diagnosis: what the log tells.
    """

    check: Check
    whose: Whose = ""
    why: str = ""
    log: str = ""
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True)
class Examined:
    """The checks of a branch, the forge that has them, and how its reviews stand.

    Attributes:
        mismatch: a warning where the branch here is at another commit than the checks are of, with the remedy.
    """

    branch: str
    findings: list[CiFinding]
    forge: Forge | None = None
    review: str = ""
    mismatch: str = ""


def judge(check: Check, log: str, on_base: Mapping[str, str]) -> CiFinding:
    """Return what is known of a failed check by its words, its log and how it stands on the base."""
    words = f"{check.name}\n{check.text}\n{log}"
    found = CiFinding(check, diagnosis=diagnose(log) if log else None)
    if check.state == "waiting" or APPROVAL.search(words):
        return replace(found, whose="an approval is missing", why=check.text or "the check says so")
    if on_base.get(check.name) == "failed":
        return replace(found, whose="the base's", why="it fails on the base too")
    match = MACHINE.search(log)
    if match or check.state == "cancelled":
        return replace(found, whose="the machine's", why=match[0] if match else "it was cancelled")
    if log and found.diagnosis and found.diagnosis.failed:
        return replace(found, whose="yours", why="its log has an error, and the base passes" if on_base else "")
    return found


def examine(session: Session, state: State, which: str, logs: Mapping[str, Path]) -> Examined:
    """Return the checks of a request, or of the branch that is checked out, each with what is known of it.

    Args:
        session: the clone.
        state: its state.
        which: a request or a branch.
        logs: logs that were saved by hand, by the names of their checks.

    Raises:
        DevkitError: the forge was not asked, for want of a token, or did not answer.
    """
    branch = chosen_branch(state, which)
    request = request_of(state, branch)
    remote = base_remote(state, session.app.config, request.remote if request else "")
    forge = forge_of(session.app, state.remotes[remote], timeout_s=ANSWER_S)
    texts = {name: _read(path) for name, path in logs.items()}
    if forge is None:
        if texts:
            found = [judge(Check(name, "failed"), text, {}) for name, text in texts.items()]
            return Examined(branch, [replace(one, log=str(logs[one.check.name])) for one in found])
        why, hints = needs_token(session.app, state.remotes[remote])
        raise DevkitError(
            f"the checks of {branch} are known to the forge alone",
            why,
            *hints,
            Hint("devkit pr checks --log NAME=FILE", "reads a log that you saved from the check's page"),
        )
    known = forge.request(request.number, review=True) if request else None
    checks = forge.checks_of(known) if known else forge.checks(state.branches[branch])
    if checks is None:
        raise DevkitError(
            f"{forge.address} did not tell the checks of {branch}",
            "It did not answer, or has none for this token.",
            Hint.of("devkit", "pr", "checks", which or branch, "-v", purpose="shows what it answered"),
            Hint("devkit pr checks --log NAME=FILE", "reads a log that you saved from the check's page"),
        )
    base = state.refs.get(base_of(state, session.app.config, branch).tracking, "")
    bad = [check for check in checks if check.state in {"failed", "waiting", "cancelled"}]
    on_base = {check.name: check.state for check in (forge.checks(base) or [] if bad and base else [])}
    read = 0
    found = []
    for check in checks:
        if check not in bad:
            found.append(CiFinding(check))
            continue
        text, name = texts.get(check.name, ""), str(logs.get(check.name, ""))
        if not text and forge.logs and check.job and check.state == "failed" and read < LOGS:
            read += 1
            text, name = forge.log(check), f"the log of job {check.job}"
        if not text and check.state == "failed":
            text, name = check.output, "what the check says"
        found.append(replace(judge(check, text, on_base), log=name if text else ""))
    mismatch = _mismatch(session.git, branch, state.branches[branch], known.head) if known else ""
    return Examined(branch, found, forge, known.review if known else "", mismatch)


def _mismatch(git: Git, branch: str, tip: str, head: str) -> str:
    if head == tip:
        return ""
    remedy = Hint.of("devkit", "pr", "push" if git.is_ancestor(head, tip) else "fetch", branch).command
    return f"these are of {head[:10]}, and {branch} is at {tip[:10]}: {remedy}"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError as error:
        raise DevkitError(f"{path} cannot be read", f"{error.strerror}.") from error
