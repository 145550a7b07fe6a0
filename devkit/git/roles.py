"""Which remote plays which part, and how a pull request is named: pure functions of a clone's state."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, UsageError
from devkit.git.command import safe_url, word

if TYPE_CHECKING:
    from devkit.config import Config
    from devkit.git.state import State

TRACKING = "refs/devkit/pull/"
KEPT = "refs/devkit/old/"
USUAL_BASE_BRANCHES = ("develop", "main", "master")
_SCP = re.compile(r"^(?:[^@/:]+@)?(?P<host>[^/:]+):(?P<path>.+)$")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://(?:[^@/]*@)?(?P<host>[^/:]*)(?::\d+)?/(?P<path>.+)$", re.IGNORECASE)
_REQUEST = re.compile(r"^(?P<repository>.+?)/(?:-/)?(?:pull|pulls|merge_requests)/(?P<number>\d+)(?:[/?#].*)?$")
_PULL_REF = re.compile(r"^refs/(?:pull|merge-requests)/(?P<number>\d+)/(?P<kind>head|merge)$")


@dataclass(frozen=True)
class Location:
    """Where a remote is: its host, and the owner and name of the repository there."""

    host: str
    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}" if self.owner else self.name


@dataclass(frozen=True)
class Roles:
    """The parts that remotes play.

    Attributes:
        base: the project's remote.
        branch: the branch there that requests go to.
    """

    base: str
    branch: str

    @property
    def tracking(self) -> str:
        """The remote-tracking ref of the base branch."""
        return f"refs/remotes/{self.base}/{self.branch}"

    def __str__(self) -> str:
        return f"{self.base}/{self.branch}"


@dataclass(frozen=True)
class Request:
    """A pull request of a remote.

    Attributes:
        merge: the forge's merge commit is meant, not the author's head.
    """

    number: int
    remote: str
    style: str = "pull"
    merge: bool = False

    @property
    def source(self) -> str:
        """Its ref on the forge."""
        return f"refs/{self.style}/{self.number}/{'merge' if self.merge else 'head'}"

    @property
    def tracking(self) -> str:
        """The ref here that remembers what the forge had."""
        return f"{TRACKING}{self.remote}/{self.number}{'-merge' if self.merge else ''}"

    @property
    def branch(self) -> str:
        """The local branch that it gets by default."""
        return f"pr/{self.number}{'-merge' if self.merge else ''}"


def locate(url: str) -> Location:
    """Return where a URL leads: the last two parts of its path are the owner and the name."""
    match = _URL.match(url) or _SCP.match(url)
    host, path = (match["host"].lower(), match["path"]) if match else ("", url)
    parts = [part for part in path.rstrip("/").removesuffix(".git").split("/") if part]
    return Location(host, parts[-2] if len(parts) > 1 else "", parts[-1] if parts else "")


def known_remote(state: State, name: str) -> str:
    """Return a remote's name if there is one of this name.

    Raises:
        UsageError: the word is no name of a remote.
        DevkitError: there is no such remote, or its URL names a program.
    """
    word(name, "name of a remote")
    if name not in state.remotes:
        known = ", ".join(state.remotes) or "none"
        raise DevkitError(f"there is no remote {name}", f"There is {known}.", f"git remote add {name} URL")
    safe_url(state.remotes[name])
    return name


def base_remote(state: State, config: Config, asked: str = "") -> str:
    """Return the project's remote: the one asked for, ``upstream``, the project's owner's, ``origin``, or the only one.

    Raises:
        DevkitError: none of these is there.
    """
    chosen = asked or config.get("pr.base-remote")
    if chosen:
        return known_remote(state, chosen)
    owner = str(config.get("pr.project")).lower()
    candidates = (
        ["upstream"] * ("upstream" in state.remotes)
        + [name for name, url in state.remotes.items() if locate(url).owner.lower() == owner]
        + ["origin"] * ("origin" in state.remotes)
        + (list(state.remotes) if len(state.remotes) == 1 else [])
    )
    if candidates:
        return known_remote(state, candidates[0])
    if not state.remotes:
        raise DevkitError("this clone has no remote", "", "git remote add upstream URL")
    raise DevkitError(
        "it is not clear which remote is the project's",
        f"There is {', '.join(state.remotes)}.",
        f"devkit config set --project pr.base-remote {next(iter(state.remotes))}",
    )


def base_branch(state: State, config: Config, remote: str) -> str:
    """Return the branch of a remote that requests go to: as configured, its HEAD, or a usual name."""
    chosen = config.get("pr.base-branch")
    if chosen:
        return word(chosen, "name of a branch")
    prefix = f"refs/remotes/{remote}/"
    head = state.symrefs.get(f"{prefix}HEAD", "")
    if head.startswith(prefix):
        return head[len(prefix) :]
    return next((name for name in USUAL_BASE_BRANCHES if prefix + name in state.refs), USUAL_BASE_BRANCHES[0])


def roles(state: State, config: Config, asked: str = "") -> Roles:
    """Return the project's remote and branch."""
    remote = base_remote(state, config, asked)
    return Roles(remote, base_branch(state, config, remote))


def fork_remote(state: State, config: Config, base: str, branch: str = "") -> str:
    """Return the remote to push to: the branch's own, the configured one, or the only one beside the base.

    Raises:
        DevkitError: it is not clear which.
    """
    configured = config.get("pr.fork-remote") or state.setting("remote.pushdefault")
    chosen = (state.setting(f"branch.{branch}.pushremote") if branch else "") or configured
    if chosen:
        return known_remote(state, chosen)
    others = [name for name in state.remotes if name != base]
    if len(others) == 1:
        return known_remote(state, others[0])
    if not others:
        return base
    raise DevkitError(
        "it is not clear which remote is your fork",
        f"Beside {base} there is {', '.join(others)}.",
        *(f"git config remote.pushDefault {name}" for name in others),
    )


def parse_request(text: str, state: State, config: Config, *, remote: str = "", merge: bool = False) -> Request:
    """Return the request that a number, ``#number`` or a URL names.

    Raises:
        UsageError: the text is neither.
        DevkitError: no remote leads to the URL's repository.
    """
    digits = text.removeprefix("#")
    if re.fullmatch(r"[0-9]{1,12}", digits):
        chosen = base_remote(state, config, remote)
        return Request(_positive(digits), chosen, _style(state, chosen), merge)
    match = _REQUEST.match(text)
    if not match or text.startswith("-"):
        raise UsageError(
            f"{text!r} is no pull request", "It is a number, or the address of its page.", "devkit pr fetch 1007"
        )
    wanted = locate(match["repository"])
    if remote:
        found = [known_remote(state, remote)]
    else:
        found = [name for name, url in state.remotes.items() if _same_place(locate(url), wanted)]
    if not found:
        raise DevkitError(
            f"no remote of this clone is {wanted} on {wanted.host}",
            "There is " + ", ".join(f"{name} ({locate(url)})" for name, url in state.remotes.items()) + ".",
            f"git remote add {shlex.quote(word(wanted.owner, 'owner'))} {shlex.quote(match['repository'])}",
        )
    chosen = known_remote(state, found[0])
    return Request(_positive(match["number"]), chosen, _style(state, chosen), merge)


def _positive(digits: str) -> int:
    if not int(digits):
        raise UsageError("there is no pull request 0", "", "devkit pr fetch 1007")
    return int(digits)


def _same_place(one: Location, other: Location) -> bool:
    return [each.lower() for each in (one.host, one.owner, one.name)] == [
        each.lower() for each in (other.host, other.owner, other.name)
    ]


def _style(state: State, remote: str) -> str:
    return "merge-requests" if "gitlab" in locate(state.remotes[remote]).host else "pull"


def request_of(state: State, branch: str) -> Request | None:
    """Return the request that a branch was made for, by its settings, or None."""
    match = _PULL_REF.match(state.setting(f"branch.{branch}.merge"))
    remote = state.setting(f"branch.{branch}.remote")
    if not match or remote not in state.remotes:
        return None
    style = "merge-requests" if "/merge-requests/" in match[0] else "pull"
    return Request(int(match["number"]), remote, style, match["kind"] == "merge")


def requests_here(state: State) -> dict[str, Request]:
    """Return the branches that were made for requests, in the order of their numbers."""
    found = {name: request_of(state, name) for name in state.branches}
    return dict(
        sorted(((name, each) for name, each in found.items() if each), key=lambda pair: (pair[1].number, pair[0]))
    )


def branch_of(state: State, number: int) -> str:
    """Return the local branch of a request.

    Raises:
        DevkitError: there is none.
    """
    found = [name for name, each in requests_here(state).items() if each.number == number]
    preferred = f"pr/{number}"
    if preferred in found or not found:
        if preferred in state.branches:
            return preferred
        raise DevkitError(f"pull request {number} is not here", "", f"devkit pr fetch {number}", "devkit pr list")
    return found[0]
