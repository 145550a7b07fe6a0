"""Which remote plays which part, and how a pull request is named: pure functions of a clone's state."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from devkit.errors import DevkitError, Hint, UsageError
from devkit.git.command import safe_url, word

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.config import Config
    from devkit.git.command import Git
    from devkit.git.state import State

TRACKING = "refs/devkit/pull/"
KEPT = "refs/devkit/old/"
BASE = "devkitBase"
USUAL_BASE_BRANCHES = ("develop", "main", "master")
NUMBER = re.compile(r"[#!]?[0-9]{1,12}")  # a GitLab writes !7
ForgeKind = Literal["github", "gitlab", "gitee"]
_SCP = re.compile(r"^(?:[^@/:]+@)?(?P<host>[^/:]+):(?P<path>.+)$")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://(?:[^@/]*@)?(?P<host>[^/:]*)(?::\d+)?/(?P<path>.+)$", re.IGNORECASE)
_REQUEST = re.compile(r"^(?P<repository>.+?)/(?:-/)?(?:pull|pulls|merge_requests)/(?P<number>\d+)(?:[/?#].*)?$")
_PULL_REF = re.compile(r"^refs/(?:pull|merge-requests)/(?P<number>\d+)/(?P<kind>head|merge|MERGE)$")


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
class PullRequest:
    """A pull request of a remote.

    Attributes:
        merge: the forge's merge commit is meant, not the author's head.
        merge_name: how the forge names that: Gitee ``MERGE``.
    """

    number: int
    remote: str
    style: str = "pull"
    merge: bool = False
    merge_name: str = field(default="merge", compare=False)

    @property
    def source(self) -> str:
        """Its ref on the forge."""
        return f"refs/{self.style}/{self.number}/{self.merge_name if self.merge else 'head'}"

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


def repository_path(kind: ForgeKind, url: str, root: str = "") -> str:
    """Return the path of a repository on its forge: on a GitLab its groups too, below the path that it is at."""
    match = _URL.match(url) or _SCP.match(url)
    if not match or kind != "gitlab":
        return str(locate(url))
    path = "/".join(part for part in match["path"].removesuffix(".git").split("/") if part)
    return path.removeprefix(f"{root}/") if root else path


def forge_kind(host: str, api: str = "") -> ForgeKind:
    """Return what kind of forge a host is: by the address of its API where that is set, else by its name."""
    path = api.rstrip("/")
    if path.endswith("/api/v4") or (not api and "gitlab" in host):
        return "gitlab"
    return "gitee" if path.endswith("/api/v5") or (not api and "gitee" in host) else "github"


def resolved(state: State, url: str) -> str:
    """Return a URL as git rewrites it: by the longest ``url.*.insteadOf`` that it begins with."""
    found = [
        (len(prefix), key[len("url.") : -len(".insteadof")] + url[len(prefix) :])
        for key, values in state.config.items()
        if key.startswith("url.") and key.endswith(".insteadof")
        for prefix in values
        if prefix and url.startswith(prefix)
    ]
    return max(found)[1] if found else url


def is_address(text: str) -> bool:
    """Tell whether a remote is given by its address."""
    return ":" in text or "/" in text


def push_address(git: Git, state: State, remote: str) -> str:
    """Return what to ask for what a push will meet: the remote's name, or the other address that it pushes to."""
    pushes = f"remote.{remote}.pushurl" in state.config or any(key.endswith(".pushinsteadof") for key in state.config)
    if not pushes or is_address(remote):
        return remote
    return safe_url(git.text("remote", "get-url", "--push", "--", remote).split("\n")[0])


def known_remote(state: State, name: str) -> str:
    """Return a remote's name if there is one of this name.

    Raises:
        UsageError: the word is not a name of a remote.
        DevkitError: there is no such remote, or its URL names a program.
    """
    word(name, "name of a remote")
    if name not in state.remotes:
        known = ", ".join(state.remotes) or "none"
        raise DevkitError(f"there is no remote {name}", f"There is {known}.", f"git remote add {name} URL")
    safe_url(state.remotes[name])
    return name


def base_remote(state: State, config: Config, asked: str = "") -> str:
    """Return the project's remote: as asked, ``upstream``, the project's owner's, gh's, ``origin`` or the only one.

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
        + [name for name in state.remotes if state.setting(f"remote.{name}.gh-resolved") == "base"]
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


def base_of(state: State, config: Config, branch: str) -> Roles:
    """Return the base of a branch: as remembered, the project's branch that it follows, or the default one."""
    request = request_of(state, branch)
    base = roles(state, config, request.remote if request else "")
    chosen = state.setting(f"branch.{branch}.{BASE.lower()}")
    if not chosen and state.setting(f"branch.{branch}.remote") == base.base:
        merge = state.setting(f"branch.{branch}.merge")
        followed = merge.removeprefix("refs/heads/")
        chosen = followed if merge.startswith("refs/heads/") and followed != branch else ""
    return replace(base, branch=chosen) if chosen else base


def fork_remote(state: State, config: Config, base: str, branch: str = "") -> str:
    """Return the remote to push to: the branch's own, the configured one, or the only one beside the base.

    Raises:
        DevkitError: it is not clear which.
    """
    configured = config.get("pr.fork-remote") or state.setting("remote.pushdefault")
    own = state.setting(f"branch.{branch}.pushremote") if branch else ""
    chosen = (own if own in state.remotes else "") or configured
    if chosen:
        return known_remote(state, chosen)
    project = _repository(state, base)
    others = [name for name in state.remotes if name != base and _repository(state, name) != project]
    if len(others) == 1:
        return known_remote(state, others[0])
    if not others:
        return base
    raise DevkitError(
        "it is not clear which remote is your fork",
        f"Beside {base} there is {', '.join(others)}.",
        *(f"git config remote.pushDefault {name}" for name in others),
    )


def _repository(state: State, remote: str) -> tuple[str, ...]:
    """Return what is equal for two remotes only where both fetch from, and push to, one repository."""
    url = resolved(state, state.remotes[remote])
    place = locate(url)
    return (*(_key(place) if place.host else (url,)), *state.config.get(f"remote.{remote}.pushurl", ()))


def parse_request(
    text: str,
    state: State,
    config: Config,
    *,
    remote: str = "",
    merge: bool = False,
    real_host: Callable[[str], str] = str,
) -> PullRequest:
    """Return the request that a number, ``#number`` (on a GitLab ``!number``), a URL or a branch made for one names.

    ``real_host`` gives the host that ssh reaches under an alias.

    Raises:
        UsageError: the text is none of these.
        DevkitError: no remote leads to the URL's repository.
    """
    if NUMBER.fullmatch(text):
        chosen = base_remote(state, config, remote)
        return PullRequest(_positive(text.lstrip("#!")), chosen, *_names(state, chosen, config, merge=merge))
    made_for = request_of(state, text)
    if made_for:
        return PullRequest(made_for.number, made_for.remote, *_names(state, made_for.remote, config, merge=merge))
    match = _REQUEST.match(text)
    if not match or text.startswith("-"):
        raise UsageError(
            f"{text!r} is not a pull request",
            "It is a number, the address of its page, or a branch that was made for one.",
            "devkit pr fetch 1007",
        )
    found = [known_remote(state, remote)] if remote else remotes_at(state, match["repository"], real_host)
    wanted = locate(match["repository"])
    if not found:
        raise DevkitError(
            f"no remote of this clone is {wanted} on {wanted.host}",
            "There is " + ", ".join(f"{name} ({locate(url)})" for name, url in state.remotes.items()) + ".",
            Hint.of("git", "remote", "add", word(wanted.owner, "owner"), match["repository"]),
        )
    chosen = known_remote(state, found[0])
    request = PullRequest(_positive(match["number"]), chosen, *_names(state, chosen, config, merge=merge))
    return replace(request, style="merge-requests") if "merge_requests" in text else request


def remotes_at(state: State, address: str, real_host: Callable[[str], str] = str) -> list[str]:
    """Return the remotes that lead to an address: as written, as git rewrites them, and under ssh's aliases."""
    wanted = {_key(locate(address)), _key(locate(resolved(state, address)))}
    spellings = {
        name: [
            locate(text)
            for value in (url, *state.config.get(f"remote.{name}.url", ()))
            for text in (value, resolved(state, value))
        ]
        for name, url in state.remotes.items()
    }
    found = [name for name, places in spellings.items() if any(_key(place) in wanted for place in places)]
    if found:
        return found
    return [
        name
        for name, places in spellings.items()
        for place in places[:1]
        if place.host and _key(replace(place, host=real_host(place.host))) in wanted
    ]


def project_address(url: str, project: str) -> str:
    """Return the address of the project's repository, by that of a fork of it; nothing where it cannot be told."""
    place = locate(url)
    path = f"{place.owner}/{place.name}"
    if not place.host or not place.owner or path not in url or place.owner.lower() == project.lower():
        return ""
    return url.replace(path, f"{project}/{place.name}", 1)


def _key(place: Location) -> tuple[str, str, str]:
    return place.host.lower(), place.owner.lower(), place.name.lower()


def page_of(text: str) -> str:
    """Return the repository's address in that of a request's page, or nothing."""
    match = _REQUEST.match(text)
    return match["repository"] if match and "/" in match["repository"] and not text.startswith("-") else ""


def request_in_address(text: str) -> int:
    """Return the number of the request whose page an address is, or 0."""
    match = _REQUEST.match(text)
    return int(match["number"]) if match and "/" in match["repository"] else 0


def _positive(digits: str) -> int:
    if not int(digits):
        raise UsageError("there is no pull request 0", "", "devkit pr fetch 1007")
    return int(digits)


def _names(state: State, remote: str, config: Config, *, merge: bool) -> tuple[str, bool, str]:
    """Return how a forge names its requests' refs, as ``PullRequest`` has it: by its host, or what was fetched."""
    used = any(
        values[-1].startswith("refs/merge-requests/") and state.setting(key[: -len("merge")] + "remote") == remote
        for key, values in state.config.items()
        if key.startswith("branch.") and key.endswith(".merge")
    )
    kind = forge_kind(locate(state.remotes[remote]).host, str(config.get("pr.api")))
    style = "merge-requests" if used or kind == "gitlab" else "pull"
    return style, merge, "MERGE" if kind == "gitee" else "merge"


def request_of(state: State, branch: str) -> PullRequest | None:
    """Return the request that a branch was made for, by its settings, or None."""
    match = _PULL_REF.match(state.setting(f"branch.{branch}.merge"))
    remote = state.setting(f"branch.{branch}.remote")
    if not match or remote not in state.remotes:
        return None
    style = "merge-requests" if "/merge-requests/" in match[0] else "pull"
    merge = match["kind"] != "head"
    return PullRequest(int(match["number"]), remote, style, merge, match["kind"] if merge else "merge")


def requests_here(state: State) -> dict[str, PullRequest]:
    """Return the branches that were made for requests, in the order of their numbers."""
    found = {name: request_of(state, name) for name in state.branches}
    return dict(
        sorted(
            ((name, request) for name, request in found.items() if request), key=lambda pair: (pair[1].number, pair[0])
        )
    )


def branch_of(state: State, number: int) -> str:
    """Return the local branch of a request.

    Raises:
        DevkitError: there is none.
    """
    found = [name for name, request in requests_here(state).items() if request.number == number]
    preferred = f"pr/{number}"
    if preferred in found or not found:
        if preferred in state.branches:
            return preferred
        raise DevkitError(f"pull request {number} is not here", "", f"devkit pr fetch {number}", "devkit pr list")
    return found[0]
