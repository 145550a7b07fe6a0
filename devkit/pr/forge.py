"""What a forge's API knows of a request, where there is a token: everything else works without."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git.roles import locate
from devkit.redact import remember_secret

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.git.roles import Location

TIMEOUT_S = 2.0  # in all: a list is not kept waiting for what only adds to it
LARGEST = 8 << 20
_SILENT: set[str] = set()
TOKENS = ("GH_TOKEN", "GITHUB_TOKEN")


@dataclass(frozen=True)
class Known:
    """What the forge says of a request.

    Attributes:
        state: ``open``, ``draft``, ``merged`` or ``closed``.
        checks: how its checks stand, in words.
        head_repository, head_branch: where it comes from: ``owner/name`` and the branch there.
    """

    title: str
    state: str
    author: str
    base: str
    head_repository: str
    head_branch: str
    head: str
    checks: str = ""


@dataclass(frozen=True)
class Forge:
    """A forge's API and the token for it."""

    app: App
    address: str
    place: Location
    token: str
    deadline: float = 0.0

    @classmethod
    def of(cls, app: App, url: str) -> Forge | None:
        """Return the forge of a remote, or None where it is not known or there is no token."""
        place = locate(url)
        address = app.config.get("pr.api") or ("https://api.github.com" if place.host == "github.com" else "")
        if not address or not place.owner:
            return None
        parts = urllib.parse.urlsplit(address)
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise DevkitError(
                f"pr.api is {address}", "A token only goes over https.", "devkit config set pr.api https://…"
            )
        token = next((os.environ[name] for name in TOKENS if os.environ.get(name)), "") or _gh_token(app, place.host)
        if not token:
            return None
        remember_secret(token)
        return cls(app, address.rstrip("/"), place, token, time.monotonic() + TIMEOUT_S)

    def request(self, number: int, *, checks: bool = False) -> Known | None:
        """Ask for a request, with how its checks stand; None where the forge does not answer."""
        data = self._get(f"pulls/{number}")
        try:
            return self._known(data, checks=checks) if isinstance(data, dict) else None
        except (KeyError, TypeError):
            return None

    def _known(self, data: dict[str, Any], *, checks: bool) -> Known:
        head = data["head"]
        state = "merged" if data.get("merged") else "draft" if data.get("draft") else str(data["state"])
        return Known(
            str(data["title"]),
            state,
            str(data["user"]["login"]),
            str(data["base"]["ref"]),
            str((head.get("repo") or {}).get("full_name", "")),
            str(head["ref"]),
            str(head["sha"]),
            summary_of_checks(self._get(f"commits/{head['sha']}/check-runs?per_page=100")) if checks else "",
        )

    def _get(self, path: str) -> Any:
        url = f"{self.address}/repos/{urllib.parse.quote(str(self.place))}/{path}"
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "User-Agent": "devkit",
        }
        environ = self.app.child_environment()
        proxies = {kind: environ[f"{kind}_proxy"] for kind in ("http", "https") if environ.get(f"{kind}_proxy")}
        if urllib.parse.urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}:
            proxies = {}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _NoRedirect())
        found: list[Any] = []

        def ask() -> None:
            left = max(self.deadline - time.monotonic(), 0.01)
            try:
                with opener.open(urllib.request.Request(url, headers=headers), timeout=left) as answer:  # noqa: S310 - checked in ``of``
                    found.append(json.loads(answer.read(LARGEST)))
            except urllib.error.HTTPError as error:  # it answered
                found.append(None)
                if self.app.console.verbose:
                    self.app.console.look(f"{url}: {error}")
            except (OSError, ValueError, urllib.error.URLError) as error:
                if self.app.console.verbose:
                    self.app.console.look(f"{url}: {error}")

        # In a thread: the look-up of a name heeds no time-out.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(max(self.deadline - time.monotonic(), 0.01))
        if not found:
            self._silent()
            return None
        return found[0]

    def _silent(self) -> None:
        """Say once that the forge's API did not answer."""
        if self.place.host not in _SILENT:
            _SILENT.add(self.place.host)
            self.app.console.look(f"{self.address} did not answer; what only it knows is left out")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""
        return


def summary_of_checks(data: Any) -> str:
    """Return how checks stand: ``12 passed, 1 failed (CI-Build), 2 running``."""
    runs = data.get("check_runs", []) if isinstance(data, dict) else []
    failed = [str(each.get("name")) for each in runs if each.get("conclusion") in {"failure", "timed_out", "cancelled"}]
    running = sum(each.get("status") != "completed" for each in runs)
    passed = len(runs) - len(failed) - running
    parts = [f"{passed} passed"] if passed else []
    parts += [f"{len(failed)} failed ({', '.join(failed[:3])})"] if failed else []
    parts += [f"{running} running"] if running else []
    return ", ".join(parts)


def _gh_token(app: App, host: str) -> str:
    if not shutil.which("gh"):
        return ""
    try:
        done = app.runner.run(["gh", "auth", "token", "--hostname", host], check=False, timeout_s=TIMEOUT_S)
    except DevkitError:
        return ""
    return done.text.strip() if done.status == 0 else ""
