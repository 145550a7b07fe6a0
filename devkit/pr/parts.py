"""Which remote plays which part, for a person to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.roles import base_remote, fork_remote, project_address, push_address, requests_here
from devkit.redact import redact

if TYPE_CHECKING:
    from devkit.git.session import Session
    from devkit.git.state import State


@dataclass(frozen=True)
class Part:
    """A remote: its part, its addresses, the branch that its ``HEAD`` names, and how many requests came from it."""

    remote: str
    part: str
    address: str
    pushes_to: str
    branch: str
    requests: int


def parts(session: Session, state: State) -> tuple[list[Part], list[DevkitError]]:
    """Return the remotes with their parts, and what is not clear about them."""
    config = session.app.config
    unclear = []
    base = fork = ""
    try:
        base = base_remote(state, config)
        fork = fork_remote(state, config, base)
    except DevkitError as error:
        unclear.append(error)
    if base and len(state.remotes) == 1:
        url = project_address(state.remotes[base], str(config.get("pr.project")))
        if url:
            hint = Hint.of("git", "remote", "add", "upstream", url, purpose="adds the project")
            unclear.append(DevkitError(f"{base} looks like a fork, and the project is not here", "", hint))
    counts: dict[str, int] = {}
    for request in requests_here(state).values():
        counts[request.remote] = counts.get(request.remote, 0) + 1
    found = []
    for name, url in state.remotes.items():
        roles = [role for role, remote in (("project", base), ("fork", fork)) if remote == name]
        prefix = f"refs/remotes/{name}/"
        head = state.symrefs.get(f"{prefix}HEAD", "").removeprefix(prefix)
        pushes = push_address(session.git, state, name)
        found.append(
            Part(
                name,
                " and ".join(roles),
                redact(url),
                redact(url if pushes == name else pushes),
                head,
                counts.get(name, 0),
            )
        )
    return found, unclear
