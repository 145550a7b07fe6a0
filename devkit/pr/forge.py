"""What a forge's API knows of a request, where there is a token: everything else works without."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git.roles import locate
from devkit.redact import remember_secret
from devkit.web import LOOPBACK, opener

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.git.roles import Location

TIMEOUT_S = 2.0  # in all: a list is not kept waiting for what only adds to it
LOG_S = 30.0  # for a log, and for what changes something
LARGEST = 32 << 20
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SILENT: set[str] = set()
TOKENS = ("GH_TOKEN", "GITHUB_TOKEN")


@dataclass(frozen=True)
class Known:
    """What the forge says of a request.

    Attributes:
        state: ``open``, ``draft``, ``merged`` or ``closed``.
        checks: how its checks stand, in words.
        review: ``approved``, ``changes requested by …`` or nothing.
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
    number: int = 0
    page: str = ""
    review: str = ""


@dataclass(frozen=True)
class Check:
    """A check of a commit.

    Attributes:
        state: ``passed``, ``failed``, ``cancelled``, ``skipped``, ``waiting`` (for an approval) or ``running``.
        job: the number of the job whose log can be asked for, or nothing.
        text: what the check itself says of its end.
        page: where it is shown.
    """

    name: str
    state: str
    id: str = ""
    job: str = ""
    text: str = ""
    page: str = ""


@dataclass(frozen=True)
class Forge:
    """A forge's API and the token for it."""

    app: App
    address: str
    place: Location
    token: str
    deadline: float = 0.0

    @classmethod
    def of(cls, app: App, url: str, *, timeout_s: float = TIMEOUT_S) -> Forge | None:
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
        return cls(app, address.rstrip("/"), place, token, time.monotonic() + timeout_s)

    def request(self, number: int, *, checks: bool = False, review: bool = False) -> Known | None:
        """Ask for a request, with how its checks and reviews stand; None where the forge does not answer."""
        data = self._get(f"pulls/{number}")
        try:
            known = self._known(data, checks=checks) if isinstance(data, dict) else None
        except (KeyError, TypeError):
            return None
        if known and review and known.state in {"open", "draft"}:
            return replace(known, review=review_of(self._get(f"pulls/{number}/reviews?per_page=100")))
        return known

    def open_requests(self) -> list[Known] | None:
        """Return the open requests, the newest first; None where the forge does not answer."""
        data = self._get("pulls?state=open&per_page=50&sort=updated&direction=desc")
        if not isinstance(data, list):
            return None
        found = []
        with contextlib.suppress(KeyError, TypeError):
            found += [self._known(row, checks=False) for row in data]
        return found

    def checks(self, commit: str) -> list[Check] | None:
        """Return the checks of a commit, those of older interfaces too; None where the forge does not answer."""
        runs = self._get(f"commits/{commit}/check-runs?per_page=100")
        statuses = self._get(f"commits/{commit}/status?per_page=100")
        if runs is None and statuses is None:
            return None
        return parse_checks(runs, statuses)

    def log(self, job: str) -> str:
        """Return the log of a job, or nothing; its address is another host's, which gets no token."""
        found = self._request(f"actions/jobs/{urllib.parse.quote(job)}/logs", raw=True)
        return found if isinstance(found, str) else ""

    def rerun(self, check: Check) -> bool:
        """Ask for a check to be run again; return whether the forge took it."""
        path = f"actions/jobs/{check.job}/rerun" if check.job else f"check-runs/{check.id}/rerequest"
        return self._request(path, body={}) is not None

    def create(self, body: dict[str, Any]) -> Known | None:
        """Open a request; None where the forge did not."""
        data = self._request("pulls", body=body)
        try:
            return self._known(data, checks=False) if isinstance(data, dict) else None
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
            int(data.get("number") or 0),
            str(data.get("html_url") or ""),
        )

    def _get(self, path: str) -> Any:
        return self._request(path)

    def _request(self, path: str, *, body: dict[str, Any] | None = None, raw: bool = False) -> Any:
        """Ask the forge, or tell it something; None where it does not answer in time or refuses."""
        url = f"{self.address}/repos/{urllib.parse.quote(str(self.place))}/{path}"
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self.token}",
            "User-Agent": "devkit",
        }
        found: list[Any] = []
        left = max(self.deadline - time.monotonic(), 0.01) if body is None and not raw else LOG_S

        def ask() -> None:
            data = None if body is None else json.dumps(body).encode()
            try:
                found.append(self._answer(urllib.request.Request(url, data, headers), left, raw=raw))  # noqa: S310 - checked in ``of``
            except urllib.error.HTTPError as error:  # it answered
                found.append(None)
                if self.app.console.verbose or body is not None:
                    self.app.console.look(f"{url}: {error}")
            except (OSError, ValueError) as error:
                if self.app.console.verbose:
                    self.app.console.look(f"{url}: {error}")

        # In a thread: the look-up of a name heeds no time-out.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(left)
        if not found:
            self._silent()
            return None
        return found[0]

    def _answer(self, request: urllib.request.Request, left: float, *, raw: bool) -> Any:
        environ = self.app.child_environment()
        try:
            with opener(request.full_url, environ, _NoRedirect(), around=LOOPBACK).open(
                request, timeout=left
            ) as answer:
                data = answer.read(LARGEST)
        except urllib.error.HTTPError as error:
            elsewhere = error.headers.get("Location", "") if error.code in REDIRECTS and raw else ""
            if not elsewhere.startswith("https://"):
                raise
            with opener(elsewhere, environ, _NoRedirect()).open(elsewhere, timeout=left) as answer:
                data = answer.read(LARGEST)
        if raw:
            return data.decode(errors="replace")
        return json.loads(data) if data.strip() else {}

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


STATES = {
    "success": "passed",
    "neutral": "passed",
    "failure": "failed",
    "error": "failed",
    "timed_out": "failed",
    "startup_failure": "failed",
    "action_required": "waiting",
    "cancelled": "cancelled",
    "stale": "cancelled",
    "skipped": "skipped",
}
_JOB = re.compile(r"/job/(\d+)")


def parse_checks(runs: Any, statuses: Any) -> list[Check]:
    """Return what two interfaces of a forge say of a commit's checks: check runs and statuses."""
    found = []
    for run in runs.get("check_runs", []) if isinstance(runs, dict) else []:
        ended = run.get("status") == "completed"
        page = str(run.get("details_url") or run.get("html_url") or "")
        job = _JOB.search(page)
        output = run.get("output") or {}
        found.append(
            Check(
                str(run.get("name") or "?"),
                STATES.get(str(run.get("conclusion")), "failed") if ended else "running",
                str(run.get("id") or ""),
                job[1] if job else "",
                str(output.get("title") or ""),
                page,
            )
        )
    for status in statuses.get("statuses", []) if isinstance(statuses, dict) else []:
        state = str(status.get("state"))
        text, page = str(status.get("description") or ""), str(status.get("target_url") or "")
        found.append(Check(str(status.get("context") or "?"), STATES.get(state, "running"), "", "", text, page))
    order = ["failed", "waiting", "running", "cancelled", "passed", "skipped"]
    return sorted(found, key=lambda check: (order.index(check.state), check.name.lower()))


def review_of(data: Any) -> str:
    """Return what the reviewers' last words come to: ``changes requested by …``, ``approved`` or nothing."""
    last: dict[str, str] = {}
    for review in data if isinstance(data, list) else []:
        if isinstance(review, dict) and review.get("state") in {"APPROVED", "CHANGES_REQUESTED", "DISMISSED"}:
            last[str((review.get("user") or {}).get("login"))] = str(review["state"])
    if "CHANGES_REQUESTED" in last.values():
        return f"changes requested by {', '.join(who for who, state in last.items() if state == 'CHANGES_REQUESTED')}"
    return "approved" if "APPROVED" in last.values() else ""


def summary_of_checks(data: Any) -> str:
    """Return how checks stand: ``12 passed, 1 failed (CI-Build), 2 running``."""
    runs = data.get("check_runs", []) if isinstance(data, dict) else []
    failed = [str(run.get("name")) for run in runs if run.get("conclusion") in {"failure", "timed_out", "cancelled"}]
    running = sum(run.get("status") != "completed" for run in runs)
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
