"""What it means that a remote did not give what was asked: which of network, permission, hook, disk or name it was."""

from __future__ import annotations

import re
import shlex
import shutil
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.command import line, safe_url, word
from devkit.git.environ import with_settings
from devkit.git.roles import locate, page_of, project_address, remotes_at
from devkit.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.git.command import GitFailed
    from devkit.git.roles import PullRequest
    from devkit.git.session import Session
    from devkit.git.state import State

SSH_S = 2.0  # for ssh to read its configuration
_NETWORK = re.compile(
    r"resolve host|Failed to connect|Connection (timed out|refused|reset)|proxy|Network is unreachable|early EOF"
    r"|No route to host|gnutls_handshake|SSL_ERROR|Operation timed out|RPC failed",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"terminal prompts disabled|Authentication failed|could not read (Username|Password)")
_KEY = re.compile(r"Permission denied \(publickey|passphrase|Host key verification failed")
_HOOK = re.compile(r"aborted by hook|reference-transaction hook|hook declined the transaction")
_DISK = re.compile(r"No space left on device|Disk quota exceeded|Read-only file system|unable to write|write error")
_HERE = re.compile(r"Permission denied|unable to create|cannot lock ref|insufficient permission for adding an object")
_MISSING = re.compile(r"couldn't find remote ref (\S+)")


def renamed(remote: str) -> Hint:
    """Return the line by which git learns which branch a remote's default one is now."""
    line_ = f"git fetch {shlex.quote(remote)} && git remote set-head {shlex.quote(remote)} --auto"
    return Hint(line_, "where the project renamed its branch")


def unreachable(remote: str, error: GitFailed) -> DevkitError:
    """Return the error for a fetch that failed: who refused it, and what to type."""
    said = error.answer.said
    look = Hint.of("git", "ls-remote", "--", remote, purpose="shows what git says")
    missing = _MISSING.search(said)
    if missing:
        name = missing[1].removeprefix("refs/heads/")
        what, hints = f"{remote} has no {name}", [renamed(remote), look]
    elif _HOOK.search(said):
        where = Hint.of("git", "config", "core.hooksPath", purpose="shows where the hooks are, if not in .git/hooks")
        what, hints = f"a hook of this repository refused what came from {remote}", [where]
    elif _DISK.search(said):
        what, hints = f"what came from {remote} could not be written", [Hint.of("df", "-h", ".")]
    elif _NETWORK.search(said):
        proxy = Hint("devkit config set proxy.url http://HOST:PORT", "if there is a proxy")
        what, hints = f"{remote} could not be reached", [proxy, look]
    elif _LOGIN.search(said):
        again = Hint("git config credential.helper cache", "and one git fetch by hand")
        what, hints = f"{remote} wants a login", [again, Hint("gh auth setup-git")]
    elif _KEY.search(said):
        what, hints = f"{remote} did not accept the key", [Hint("ssh-add", "unlocks the key")]
    elif _HERE.search(said) and "unable to access" not in said:
        whose = Hint.of("ls", "-ld", ".git", ".git/objects", purpose="shows whose they are")
        what, hints = f"what came from {remote} could not be stored here", [whose]
    else:
        what, hints = f"{remote} could not be reached", [look]
    return DevkitError(what, error.answer.complaint, *hints)


def not_found(request: PullRequest, state: State, project: str) -> DevkitError:
    """Return the error for a request that the forge does not have; ``project`` is the owner of the project."""
    number = str(request.number)
    others = [name for name in state.remotes if name != request.remote]
    if request.merge:
        return DevkitError(
            f"pull request {number} has no merge commit on {request.remote}",
            "It conflicts with its base, or is closed.",
            Hint.of("devkit", "pr", "fetch", number),
        )
    place = locate(state.remotes[request.remote])
    hints = [
        Hint.of("devkit", "pr", "fetch", number, "--remote", name, purpose="if the request is there") for name in others
    ]
    why = f"The forge has no {request.source}."
    if not others:
        why += f" {request.remote} may be a fork or a mirror, which has no requests of the project."
        url = project_address(state.remotes[request.remote], project) or "URL"
        then = f"adds the project; then devkit pr fetch {number}"
        if url != "URL" and "upstream" not in state.remotes:
            hints.append(Hint.of("devkit", "pr", "fetch", number, "--add-remote", purpose=f"adds {url} as upstream"))
        hints.append(Hint.of("git", "remote", "add", "upstream", url, purpose=then))
    return DevkitError(f"pull request {number} was not found on {request.remote} ({place})", why, *hints)


def missing_remote(state: State, texts: Sequence[str], project: str) -> tuple[str, str]:
    """Return the name and the address of the remote that requests are on where this clone has none that leads there.

    A page's address says it; else the project's is told by that of the clone's only remote, a fork. Two empty texts:
    nothing is missing, or it cannot be told.
    """
    for text in texts:
        page = page_of(text)
        if page and not remotes_at(state, page):
            owner = locate(page).owner
            name = owner if "upstream" in state.remotes else "upstream"
            return (name, page) if name not in state.remotes else ("", "")
    if len(state.remotes) == 1 and "upstream" not in state.remotes:
        address = project_address(next(iter(state.remotes.values())), project)
        return ("upstream", address) if address else ("", "")
    return "", ""


def with_remote(session: Session, state: State, texts: Sequence[str]) -> tuple[State, list[str]]:
    """Add the remote that requests are on where it is missing, and return the state with it and the line that adds it.

    In a dry run git takes the remote for there.
    """
    name, address = missing_remote(state, texts, str(session.app.config.get("pr.project")))
    if not name:
        return state, []
    added = line("remote", "add", "--", word(name, "name of a remote"), safe_url(address))
    if session.dry:
        settings = {"url": address, "fetch": f"+refs/heads/*:refs/remotes/{name}/*"}
        named = {f"remote.{name}.{key}": value for key, value in settings.items()}
        session.git.env.update(with_settings(session.git.env, named))
    else:
        session.git.execute(added)
        session.app.console.note(f"added the remote {name}, {redact(address)}")
    return session.state(status=False), [str(added)]


def check_pushes_refs(state: State, remote: str) -> None:
    """Refuse a push of one branch to a remote that git makes the image of the whole clone.

    Raises:
        DevkitError: ``remote.NAME.mirror`` is set.
    """
    key = f"remote.{remote}.mirror"
    if state.setting(key).lower() not in {"", "false", "no", "off", "0"}:
        raise DevkitError(
            f"{remote} is a mirror of this whole clone; nothing was pushed",
            f"With {key} git pushes all refs there, devkit's among them, or none, and removes those that are not here.",
            Hint.of("git", "config", "--unset-all", key, purpose="lets single branches go there"),
            Hint.of("git", "push", "--", remote, purpose="pushes all"),
        )


def overwritten(state: State) -> list[str]:
    """Return what fetches do to the branches here where they mirror a remote's, as lines for a person."""
    notes = []
    for remote in state.remotes:
        key = f"remote.{remote}.fetch"
        if {"refs/*", "refs/heads/*"} & {refspec.rpartition(":")[2] for refspec in state.config.get(key, ())}:
            apart = shlex.join(["git", "config", "--replace-all", key, f"+refs/heads/*:refs/remotes/{remote}/*"])
            what = f"git fetch {remote} replaces the branches here, and with --prune removes yours"
            notes.append(f"{what}: {apart}   keeps them apart")
    return notes


def ssh_host(app: App, host: str) -> str:
    """Return the host that ssh reaches under a name of its configuration; the name itself where it has none."""
    if not host or not shutil.which("ssh"):
        return host
    try:
        done = app.runner.run(["ssh", "-G", "--", host], check=False, timeout_s=SSH_S)
    except DevkitError:
        return host
    found = next((row.split(" ", 1)[1] for row in done.text.splitlines() if row.startswith("hostname ")), "")
    return found.lower() or host
