"""Which forge a remote is on, how its API is reached, and the token for it."""

from __future__ import annotations

import os
import shutil
import time
import urllib.parse
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.roles import forge_kind, locate, repository_path
from devkit.pr.forge import TIMEOUT_S, Forge
from devkit.pr.gitee import Gitee
from devkit.pr.github import GitHub
from devkit.pr.gitlab import GitLab
from devkit.redact import remember_secret

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.git.roles import ForgeKind

DIALECTS: dict[ForgeKind, type[Forge]] = {"github": GitHub, "gitlab": GitLab, "gitee": Gitee}
TOKENS = {
    "github": ("GH_TOKEN", "GITHUB_TOKEN"),
    "gitlab": ("GITLAB_TOKEN", "GITLAB_ACCESS_TOKEN"),
    "gitee": ("GITEE_TOKEN", "GITEE_ACCESS_TOKEN"),
}


def forge_of(app: App, url: str, *, timeout_s: float = TIMEOUT_S) -> Forge | None:
    """Return the forge of a remote, or None where it is not known or there is no token."""
    place = locate(url)
    kind = forge_kind(place.host, str(app.config.get("pr.api")))
    address = str(app.config.get("pr.api")) or default_api(kind, place.host)
    if not address or not place.owner:
        return None
    parts = urllib.parse.urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise DevkitError(f"pr.api is {address}", "A token only goes over https.", "devkit config set pr.api https://…")
    token = next((os.environ[name] for name in TOKENS[kind] if os.environ.get(name)), "")
    if not token and kind == "github":
        token = _gh_token(app, place.host)
    if not token:
        return None
    remember_secret(token)
    path = repository_path(kind, url, parts.path.partition("/api/v4")[0].strip("/"))
    return DIALECTS[kind](app, address.rstrip("/"), place, path, token, time.monotonic() + timeout_s)


def default_api(kind: ForgeKind, host: str) -> str:
    """Return where the API of a forge is, by its kind and host; nothing where that is not known."""
    if kind == "github":
        return "https://api.github.com" if host == "github.com" else ""
    return f"https://{host}/api/{'v4' if kind == 'gitlab' else 'v5'}"


def needs_token(app: App, url: str) -> tuple[str, list[Hint]]:
    """Return what to say where a forge's API was not asked for want of a token: why, and what to type."""
    kind = forge_kind(locate(url).host, str(app.config.get("pr.api")))
    names = " or ".join(TOKENS[kind])
    if kind == "github":
        return f"It is asked with a token, in {names}, or through gh.", [Hint("gh auth login")]
    return f"It is asked with a token, in {names}.", [
        Hint(f"read -rs {TOKENS[kind][0]} && export {TOKENS[kind][0]}", "takes one that the forge's settings make")
    ]


def _gh_token(app: App, host: str) -> str:
    if not shutil.which("gh"):
        return ""
    try:
        done = app.runner.run(["gh", "auth", "token", "--hostname", host], check=False, timeout_s=TIMEOUT_S)
    except DevkitError:
        return ""
    return done.text.strip() if done.status == 0 else ""
