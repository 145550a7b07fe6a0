"""GitHub's API, and what follows it: GitHub Enterprise."""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from dataclasses import replace
from typing import Any

from devkit.pr.forge import ORDER, Check, Forge, Known, NewRequest, summary

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
    return sorted(found, key=lambda check: (ORDER.index(check.state), check.name.lower()))


def review_of(data: Any) -> str:
    """Return what the reviewers' last words come to: ``changes requested by …``, ``approved`` or nothing."""
    last: dict[str, str] = {}
    for review in data if isinstance(data, list) else []:
        if isinstance(review, dict) and review.get("state") in {"APPROVED", "CHANGES_REQUESTED", "DISMISSED"}:
            last[str((review.get("user") or {}).get("login"))] = str(review["state"])
    if "CHANGES_REQUESTED" in last.values():
        return f"changes requested by {', '.join(who for who, state in last.items() if state == 'CHANGES_REQUESTED')}"
    return "approved" if "APPROVED" in last.values() else ""


class GitHub(Forge):
    """A repository of GitHub's."""

    @property
    def new_requests(self) -> str:
        """Where ``create`` posts."""
        return f"{self._repository}/pulls"

    @property
    def _repository(self) -> str:
        return f"repos/{urllib.parse.quote(self.path)}"

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the token."""
        return {"Accept": "application/vnd.github+json", "Authorization": f"Bearer {self.token}"}

    def request(self, number: int, *, checks: bool = False, review: bool = False) -> Known | None:
        """Ask for a request."""
        data = self.ask(f"{self._repository}/pulls/{number}")
        try:
            known = self._known(data, checks=checks) if isinstance(data, dict) else None
        except (KeyError, TypeError):
            return None
        if known and review and known.state in {"open", "draft"}:
            reviews = self.ask(f"{self._repository}/pulls/{number}/reviews?per_page=100")
            return replace(known, review=review_of(reviews))
        return known

    def open_requests(self) -> list[Known] | None:
        """Return the open requests."""
        data = self.ask(f"{self._repository}/pulls?state=open&per_page=50&sort=updated&direction=desc")
        if not isinstance(data, list):
            return None
        found = []
        with contextlib.suppress(KeyError, TypeError):
            found += [self._known(row, checks=False) for row in data]
        return found

    def checks(self, commit: str, repository: str = "") -> list[Check] | None:
        """Return the checks of a commit, those of older interfaces too."""
        del repository
        runs = self.ask(f"{self._repository}/commits/{commit}/check-runs?per_page=100")
        statuses = self.ask(f"{self._repository}/commits/{commit}/status?per_page=100")
        if runs is None and statuses is None:
            return None
        return parse_checks(runs, statuses)

    def log(self, check: Check) -> str:
        """Return the log of a check's job; its address is another host's, which gets no token."""
        job = urllib.parse.quote(check.job)
        found = self.ask(f"{self._repository}/actions/jobs/{job}/logs", raw=True) if job else ""
        return found if isinstance(found, str) else ""

    def rerun(self, check: Check) -> bool:
        """Ask for a check to be run again."""
        path = f"actions/jobs/{check.job}/rerun" if check.job else f"check-runs/{check.id}/rerequest"
        return self.ask(f"{self._repository}/{path}", body={}) is not None

    def create(self, new: NewRequest) -> Known | None:
        """Open a request."""
        head = f"{new.head_repository.partition('/')[0]}:{new.head_branch}"
        body = {"title": new.title, "head": head, "base": new.base, "body": new.body, "draft": new.draft}
        data = self.ask(self.new_requests, body=body)
        try:
            return self._known(data, checks=False) if isinstance(data, dict) else None
        except (KeyError, TypeError):
            return None

    def _known(self, data: dict[str, Any], *, checks: bool) -> Known:
        head = data["head"]
        state = "merged" if data.get("merged") else "draft" if data.get("draft") else str(data["state"])
        found = self.checks_summary(str(head["sha"])) if checks else ""
        return Known(
            str(data["title"]),
            state,
            str(data["user"]["login"]),
            str(data["base"]["ref"]),
            str((head.get("repo") or {}).get("full_name", "")),
            str(head["ref"]),
            str(head["sha"]),
            found,
            int(data.get("number") or 0),
            str(data.get("html_url") or ""),
        )

    def checks_summary(self, commit: str) -> str:
        """Return how the check runs of a commit stand, in words."""
        return summary(parse_checks(self.ask(f"{self._repository}/commits/{commit}/check-runs?per_page=100"), None))
