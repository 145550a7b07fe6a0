"""GitLab's API (version 4), of gitlab.com or a host of one's own."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

from devkit.pr.forge import ORDER, Check, Forge, Known, NewRequest, summary

STATES = {
    "success": "passed",
    "failed": "failed",
    "canceled": "cancelled",
    "canceling": "cancelled",
    "skipped": "skipped",
    "manual": "waiting",
}
_JOB = re.compile(r"/(?:jobs|builds)/(\d+)$")


def parse_statuses(data: Any, repository: str) -> list[Check]:
    """Return what GitLab says of a commit's checks: the jobs of its pipelines and the statuses of others.

    Args:
        data: the commit's statuses.
        repository: where they are.
    """
    found = []
    for status in data if isinstance(data, list) else []:
        state = STATES.get(str(status.get("status")), "running")
        text, page = str(status.get("description") or ""), str(status.get("target_url") or "")
        if state == "failed" and status.get("allow_failure"):
            state, text = "skipped", text or "failed, as it may"
        job = _JOB.search(page)  # another program's status has another number than its page
        name, number = str(status.get("name") or "?"), str(status.get("id") or "")
        found.append(Check(name, state, number, number if job and job[1] == number else "", text, page, repository))
    return sorted(found, key=lambda check: (ORDER.index(check.state), check.name.lower()))


def review_of(reviewers: Any, approvals: Any) -> str:
    """Return what the reviewers say: ``changes requested by …``, ``approved`` or nothing."""
    rows = reviewers if isinstance(reviewers, list) else []
    against = [str((row.get("user") or {}).get("username")) for row in rows if row.get("state") == "requested_changes"]
    if against:
        return f"changes requested by {', '.join(against)}"
    answer = approvals if isinstance(approvals, dict) else {}
    return "approved" if answer.get("approved") and answer.get("approved_by") else ""


class GitLab(Forge):
    """A project of a GitLab's."""

    @property
    def new_requests(self) -> str:
        """Where ``create`` posts: the fork's own requests, which name the project."""
        return "projects/FORK/merge_requests"

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the token."""
        return {"Accept": "application/json", "PRIVATE-TOKEN": self.token}

    def request(self, number: int, *, checks: bool = False, review: bool = False) -> Known | None:
        """Ask for a merge request."""
        at = f"{self._project(self.path)}/merge_requests/{number}"
        data = self.ask(at)
        try:
            known = self._known(data, head=self._head(data)) if isinstance(data, dict) else None
        except (KeyError, TypeError):
            return None
        if known and checks:
            known = replace(known, checks=summary(self.checks_of(known) or []))
        if known and review and known.state in {"open", "draft"}:
            found = review_of(self.ask(f"{at}/reviewers"), self.ask(f"{at}/approvals"))
            return replace(known, review=found)
        return known

    def open_requests(self) -> list[Known] | None:
        """Return the open merge requests."""
        words = "state=opened&per_page=50&order_by=updated_at&sort=desc"
        data = self.ask(f"{self._project(self.path)}/merge_requests?{words}")
        if not isinstance(data, list):
            return None
        try:
            return [self._known(row, head=self._own_head(row)) for row in data]
        except (KeyError, TypeError):
            return []

    def checks(self, commit: str, repository: str = "") -> list[Check] | None:
        """Return the checks of a commit: those in the project, else those in the fork, where its pipelines may run."""
        answers = []
        for path in dict.fromkeys([self.path, repository or self.path]):
            data = self.ask(f"{self._project(path)}/repository/commits/{commit}/statuses?per_page=100")
            found = None if data is None else parse_statuses(data, path)
            if found:
                return found
            answers.append(found)
        return None if all(answer is None for answer in answers) else []

    def log(self, check: Check) -> str:
        """Return the log of a job."""
        if not check.job:
            return ""
        found = self.ask(f"{self._project(check.repository or self.path)}/jobs/{check.job}/trace", raw=True)
        return found if isinstance(found, str) else ""

    def rerun(self, check: Check) -> bool:
        """Ask for a job to be run again; what others report cannot be."""
        if not check.job:
            return False
        return self.ask(f"{self._project(check.repository or self.path)}/jobs/{check.job}/retry", body={}) is not None

    def create(self, new: NewRequest) -> Known | None:
        """Open a merge request, in the fork that it comes from."""
        project = self.ask(self._project(self.path))
        if not isinstance(project, dict) or "id" not in project:
            return None
        body = {
            "source_branch": new.head_branch,
            "target_branch": new.base,
            "target_project_id": project["id"],
            "title": f"Draft: {new.title}" if new.draft else new.title,
            "description": new.body,
        }
        root = urlsplit(self.address).path.partition("/api/v4")[0].strip("/")
        fork = new.head_repository.removeprefix(f"{root}/") if root else new.head_repository
        data = self.ask(f"{self._project(fork)}/merge_requests", body=body)
        try:
            return self._known(data, head=fork) if isinstance(data, dict) else None
        except (KeyError, TypeError):
            return None

    @staticmethod
    def _project(path: str) -> str:
        return f"projects/{quote(path, safe='')}"

    def _own_head(self, data: dict[str, Any]) -> str:
        return self.path if data.get("source_project_id") == data.get("target_project_id") else ""

    def _head(self, data: dict[str, Any]) -> str:
        """Return the path of the project that a merge request comes from; one that is gone has none."""
        own = self._own_head(data)
        if own or not data.get("source_project_id"):
            return own
        project = self.ask(f"projects/{data['source_project_id']}")
        return str(project.get("path_with_namespace") or "") if isinstance(project, dict) else ""

    @staticmethod
    def _known(data: dict[str, Any], *, head: str) -> Known:
        state = str(data["state"])
        draft = data.get("draft") or data.get("work_in_progress")
        state = "draft" if draft and state == "opened" else "open" if state in {"opened", "locked"} else state
        head_commit = str(data.get("sha") or "")
        tested = str((data.get("head_pipeline") or {}).get("sha") or "")
        return Known(
            str(data["title"]),
            state,
            str((data.get("author") or {}).get("username", "")),
            str(data["target_branch"]),
            head,
            str(data["source_branch"]),
            head_commit,
            number=int(data.get("iid") or 0),
            page=str(data.get("web_url") or ""),
            tested=tested if tested != head_commit else "",
        )
