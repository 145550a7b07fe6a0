"""Where the two sides of a trial come from, and what a fetch of them that fails means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git.command import Git, GitFailed, line, safe_url
from devkit.git.roles import base_branch, base_of

if TYPE_CHECKING:
    from devkit.config import Config
    from devkit.git.command import Line
    from devkit.git.roles import PullRequest
    from devkit.git.state import State


@dataclass(frozen=True)
class Sources:
    """Where the two sides come from.

    Attributes:
        remote: the remote's name, as git knows it from the clone's settings, or an address.
        request: the request's ref there.
        base: the base branch's ref there; empty where a commit of the clone is the base.
        commit: that commit.
        branches: where the clone keeps the remote's branches; empty where the base is not a guess.
    """

    remote: str
    request: str
    base: str
    commit: str = ""
    branches: str = ""


def fetch_line(sources: Sources, number: str, repository: Path) -> Line:
    """Return the line that fetches the sides beside all that is here."""
    refs = [f"+{sources.request}:refs/tryout/{number}/request"]
    refs += [f"+{sources.base}:refs/tryout/{number}/base"] if sources.base else []
    words = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--refmap=", "--no-recurse-submodules")
    return line(*words, "--", sources.remote, *refs, directory=repository, slow=True)


def explain_fetch(failed: GitFailed, sources: Sources) -> DevkitError:
    """Return what a failed fetch means for the user."""
    if "couldn't find remote ref" in failed.why and sources.request in failed.why:
        return DevkitError(
            f"{sources.request} was not found on {sources.remote}",
            "The forge has no request of this number.",
            "git remote -v   shows where the clone leads",
            "--remote NAME   asks another remote",
        )
    return failed


def sources_of(state: State, config: Config, request: PullRequest, base: str, git: Git) -> Sources:
    """Return where the sides come from.

    Args:
        state: the clone's.
        config: the settings.
        request: the request.
        base: a commit or branch of the clone that is the base; empty for where the request left the base branch.
        git: in the clone.

    Raises:
        DevkitError: ``base`` is not a commit.
    """
    url = safe_url(state.remotes[request.remote])
    local = "://" not in url and not Path(url).is_absolute() and (state.place.top is not None)
    nearby = local and state.place.top is not None and (state.place.top / url).exists()
    remote = str((state.place.top / url).resolve()) if nearby and state.place.top is not None else request.remote
    if base:
        answer = git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
        if base.startswith("-") or answer.status:
            raise DevkitError(f"--base {base} is not a commit of this clone", "", "git branch -a   lists the branches")
        return Sources(remote, request.source, "", answer.stdout.decode().strip())
    branch = base_branch(state, config, request.remote)
    remembered = base_of(state, config, request.branch).branch if request.branch in state.branches else branch
    tracked = f"refs/remotes/{request.remote}/"
    known = f"{tracked}{remembered}" in state.refs or bool(config.get("pr.base-branch"))
    guessed = tracked if remembered == branch and not config.get("pr.base-branch") else ""
    return Sources(remote, request.source, f"refs/heads/{remembered}" if known else "HEAD", branches=guessed)
