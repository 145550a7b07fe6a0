"""Gitee's API (version 5): GitHub's in shape, with the token among the parameters, and without reviews and logs.

What a check says of itself is all that it tells of one.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from devkit.pr.github import GitHub, parse_checks

if TYPE_CHECKING:
    from devkit.pr.forge import Check, Known


class Gitee(GitHub):
    """A repository of Gitee's."""

    logs: ClassVar[bool] = False
    graphql: ClassVar[bool] = False

    def headers(self) -> dict[str, str]:
        """Return no token: it is among the parameters."""
        return {"Accept": "application/json"}

    def ask(self, path: str, *, body: dict[str, Any] | None = None, raw: bool = False, changes: bool = True) -> Any:
        """Ask the forge, the token among the parameters, as its documentation has it."""
        if body is not None:
            return super().ask(path, body={**body, "access_token": self.token}, raw=raw, changes=changes)
        mark = "&" if "?" in path else "?"
        return super().ask(f"{path}{mark}access_token={urllib.parse.quote(self.token, safe='')}", raw=raw)

    def request(self, number: int, *, checks: bool = False, review: bool = False) -> Known | None:
        """Ask for a request; who accepted it is among its assignees."""
        del review
        return super().request(number, checks=checks)

    def checks(self, commit: str, repository: str = "") -> list[Check] | None:
        """Return the check runs of a commit."""
        del repository
        runs = self.ask(f"{self._repository}/commits/{commit}/check-runs?per_page=100")
        return None if runs is None else parse_checks(runs, None)

    def log(self, check: Check) -> str:
        """Return nothing: the API gives no logs."""
        del check
        return ""

    def rerun(self, check: Check) -> bool:
        """Return that nothing is run again: the API has nothing for that."""
        del check
        return False

    def _known(self, data: dict[str, Any], *, checks: bool) -> Known:
        known = super()._known({**data, "draft": data.get("draft") and data.get("state") == "open"}, checks=checks)
        assignees = data.get("assignees") or []
        accepted = sum(bool(one.get("accept")) for one in assignees)
        wanted = int(data.get("assignees_number") or 0) or len(assignees)
        approved = known.state in {"open", "draft"} and accepted >= max(wanted, 1)
        return replace(known, review="approved" if approved else "")
