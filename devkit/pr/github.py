"""GitHub's API, and what follows it: GitHub Enterprise.

Lists are asked of its GraphQL, where one question tells reviews and checks too; else of the REST API.
"""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from devkit.pr.forge import ORDER, Check, Forge, Known, NewRequest, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

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
OVERVIEW = """number title state isDraft url reviewDecision author { login } baseRefName headRefName headRefOid
headRepository { nameWithOwner } commits(last: 1) { nodes { commit { statusCheckRollup { state } } } }"""
NEWEST = "pullRequests(states: OPEN, first: 50, orderBy: {field: UPDATED_AT, direction: DESC})"
ROLLUPS = {"SUCCESS": "passed", "FAILURE": "failed", "ERROR": "failed", "PENDING": "running", "EXPECTED": "running"}
MOST_PAGES = 10
DECISIONS = {"APPROVED": "approved", "CHANGES_REQUESTED": "changes requested"}
_JOB = re.compile(r"/job/(\d+)")


def parse_checks(runs: Any, statuses: Any) -> list[Check]:
    """Return what two interfaces of a forge say of a commit's checks: check runs and statuses."""
    found = []
    for run in runs.get("check_runs", []) if isinstance(runs, dict) else []:
        ended = run.get("status") == "completed"
        page = str(run.get("details_url") or run.get("html_url") or "")
        job = _JOB.search(page)
        output = run.get("output") or {}
        said = "\n".join(str(output[part]) for part in ("summary", "text") if output.get(part))
        found.append(
            Check(
                str(run.get("name") or "?"),
                STATES.get(str(run.get("conclusion")), "failed") if ended else "running",
                str(run.get("id") or ""),
                job[1] if job else "",
                str(output.get("title") or ""),
                page,
                output=said,
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


def parse_overview(data: dict[str, Any]) -> Known:
    """Return a request as GraphQL tells it: how its checks stand in one word.

    Raises:
        KeyError, TypeError: it does not.
    """
    commits = data["commits"]["nodes"]
    rollup = (commits[0]["commit"]["statusCheckRollup"] if commits else None) or {}
    state = str(data["state"]).lower()
    return Known(
        str(data["title"]),
        "draft" if data["isDraft"] and state == "open" else state,
        str((data["author"] or {}).get("login", "")),
        str(data["baseRefName"]),
        str((data["headRepository"] or {}).get("nameWithOwner", "")),
        str(data["headRefName"]),
        str(data["headRefOid"]),
        ROLLUPS.get(str(rollup.get("state")), ""),
        int(data["number"]),
        str(data["url"]),
        DECISIONS.get(str(data["reviewDecision"]), "") if state == "open" else "",
    )


class GitHub(Forge):
    """A repository of GitHub's."""

    graphql: ClassVar[bool] = True

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
        rows = self.overview(f"requests: {NEWEST} {{ nodes {{ {OVERVIEW} }} }}")
        with contextlib.suppress(KeyError, TypeError):
            if rows is not None:
                return [parse_overview(row) for row in rows["requests"]["nodes"]]
        data = self.ask(f"{self._repository}/pulls?state=open&per_page=50&sort=updated&direction=desc")
        if not isinstance(data, list):
            return None
        found = []
        with contextlib.suppress(KeyError, TypeError):
            found += [self._known(row, checks=False) for row in data]
        return found

    def requests(self, numbers: Sequence[int]) -> dict[int, Known]:
        """Ask for several requests at once."""
        selection = " ".join(f"r{number}: pullRequest(number: {number}) {{ {OVERVIEW} }}" for number in numbers)
        rows = self.overview(selection)
        with contextlib.suppress(KeyError, TypeError):
            if rows is not None:
                told = {number: rows.get(f"r{number}") for number in numbers}
                return {number: parse_overview(row) for number, row in told.items() if row}
        return super().requests(numbers)

    def overview(self, selection: str) -> dict[str, Any] | None:
        """Ask the GraphQL of the forge for fields of the repository; None where it has none, or does not tell."""
        if not self.graphql:
            return None
        query = f"query($owner: String!, $name: String!) {{ repository(owner: $owner, name: $name) {{ {selection} }} }}"
        body = {"query": query, "variables": {"owner": self.place.owner, "name": self.place.name}}
        data = self.ask(f"{self.address.removesuffix('/v3')}/graphql", body=body, changes=False)
        found = data.get("data") if isinstance(data, dict) else None
        rows = found.get("repository") if isinstance(found, dict) else None
        return rows if isinstance(rows, dict) else None

    def checks(self, commit: str, repository: str = "") -> list[Check] | None:
        """Return the checks of a commit, those of older interfaces too."""
        del repository
        runs = self._pages(f"{self._repository}/commits/{commit}/check-runs", "check_runs")
        statuses = self._pages(f"{self._repository}/commits/{commit}/status", "statuses")
        if runs is None and statuses is None:
            return None
        return parse_checks(runs, statuses)

    def _pages(self, path: str, key: str) -> dict[str, list[Any]] | None:
        """Ask for a list that comes in pages, of which the forge tells the length; None where it does not answer."""
        rows: list[Any] = []
        for page in range(1, MOST_PAGES + 1):
            data = self.ask(f"{path}?per_page=100" + (f"&page={page}" if page > 1 else ""))
            if not isinstance(data, dict) or not isinstance(data.get(key), list):
                return {key: rows} if rows else None
            rows += data[key]
            if not data[key] or len(rows) >= int(data.get("total_count") or 0):
                break
        return {key: rows}

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
        return summary(parse_checks(self._pages(f"{self._repository}/commits/{commit}/check-runs", "check_runs"), None))
