"""What a forge's API knows of a request, where there is a token: everything else works without."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from devkit.redact import redact
from devkit.web import LOOPBACK, opener

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from devkit.app import App
    from devkit.git.roles import Location

TIMEOUT_S = 2.0  # in all: a list is not kept waiting for what only adds to it
LOG_S = 30.0  # for a log, and for what changes something
LARGEST = 32 << 20
READERS = 4
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SILENT: set[str] = set()
ORDER = ("failed", "waiting", "running", "cancelled", "passed", "skipped")


@dataclass(frozen=True)
class Known:
    """What the forge says of a request.

    Attributes:
        state: ``open``, ``draft``, ``merged`` or ``closed``.
        checks: how its checks stand, in words.
        review: ``approved``, ``changes requested by …`` or nothing.
        head_repository, head_branch: where it comes from: ``owner/name`` and the branch there.
        tested: the commit that its checks ran on, where that is not its head but the merge of it with its base.
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
    tested: str = ""


@dataclass(frozen=True)
class Check:
    """A check of a commit.

    Attributes:
        state: ``passed``, ``failed``, ``cancelled``, ``skipped``, ``waiting`` (for an approval) or ``running``.
        job: the number of the job whose log can be asked for, or nothing.
        text: what the check itself says of its end.
        output: what it says of it at length.
        page: where it is shown.
        repository: where its job is, when not in the project.
    """

    name: str
    state: str
    id: str = ""
    job: str = ""
    text: str = ""
    page: str = ""
    repository: str = ""
    output: str = ""


@dataclass(frozen=True)
class NewRequest:
    """A request to be opened: from a branch of ``head_repository`` (``owner/name``) into one of the project's."""

    title: str
    body: str
    head_repository: str
    head_branch: str
    base: str
    draft: bool = False


@dataclass(frozen=True)
class Forge(ABC):
    """A forge's API and the token for it; what a forge's API does not tell is None, or nothing.

    Attributes:
        address: where the API begins.
        path: the repository's path there, groups included.
        logs: whether its API gives the logs of checks.
    """

    app: App
    address: str
    place: Location
    path: str
    token: str
    deadline: float = 0.0
    logs: ClassVar[bool] = True

    @property
    @abstractmethod
    def new_requests(self) -> str:
        """Where ``create`` posts."""

    @abstractmethod
    def request(self, number: int, *, checks: bool = False, review: bool = False) -> Known | None:
        """Ask for a request, with how its checks and reviews stand; None where the forge does not answer."""

    @abstractmethod
    def open_requests(self) -> list[Known] | None:
        """Return the open requests, the newest first; None where the forge does not answer."""

    @abstractmethod
    def checks(self, commit: str, repository: str = "") -> list[Check] | None:
        """Return the checks of a commit; None where the forge does not tell.

        ``repository`` is where the request comes from, whose own checks count where the project has none.
        """

    def checks_of(self, known: Known) -> list[Check] | None:
        """Return the checks of a request: those of the commit that was tested, and what else is said of its head."""
        found = self.checks(known.head, known.head_repository)
        tested = self.checks(known.tested, known.head_repository) if known.tested else None
        if tested is None:
            return found
        names = {check.name for check in tested}
        return [*tested, *(check for check in found or [] if check.name not in names)]

    def requests(self, numbers: Sequence[int]) -> dict[int, Known]:
        """Ask for several requests, with how their reviews stand; what the forge does not tell is left out."""
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(lambda number: self.request(number, review=True), numbers)
            return {number: known for number, known in zip(numbers, found, strict=True) if known}

    @abstractmethod
    def log(self, check: Check) -> str:
        """Return the log of a check, or nothing."""

    @abstractmethod
    def rerun(self, check: Check) -> bool:
        """Ask for a check to be run again; return whether the forge took it."""

    @abstractmethod
    def create(self, new: NewRequest) -> Known | None:
        """Open a request; None where the forge did not."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """Return the headers that carry the token."""

    def ask(self, path: str, *, body: dict[str, Any] | None = None, raw: bool = False, changes: bool = True) -> Any:
        """Ask the forge, or tell it something; None where it does not answer in time or refuses.

        Args:
            path: what is asked for, below the API's address, or an address of its own.
            body: what the forge is told.
            raw: the answer is text, not JSON.
            changes: with a body: it changes something, which takes its time, and whose refusal is said.
        """
        url = path if "://" in path else f"{self.address}/{path}"
        changes = changes and body is not None
        headers = {**self.headers(), "User-Agent": "devkit"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        found: list[Any] = []
        left = LOG_S if changes or raw else max(self.deadline - time.monotonic(), 0.01)

        def answer() -> None:
            data = None if body is None else json.dumps(body).encode()
            try:
                found.append(self._answer(urllib.request.Request(url, data, headers), left, raw=raw))  # noqa: S310 - checked in ``of``
            except urllib.error.HTTPError as error:  # it answered
                found.append(None)
                if self.app.console.verbose or changes:
                    self.app.console.warn(f"{redact(url)}: {error}{_reason(error)}")
            except (OSError, ValueError) as error:
                if self.app.console.verbose:
                    self.app.console.warn(f"{redact(url)}: {error}")

        # In a thread: the look-up of a name heeds no time-out.
        thread = threading.Thread(target=answer, daemon=True)
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
            self.app.console.warn(f"{self.address} did not answer; what only it knows is left out")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""
        return


def summary(checks: Iterable[Check]) -> str:
    """Return how checks stand: ``12 passed, 1 failed (CI-Build), 2 running``."""
    states = [check.state for check in checks]
    failed = [check.name for check in checks if check.state in {"failed", "cancelled"}]
    counts = [(sum(state in {"passed", "skipped", "waiting"} for state in states), "passed", "")]
    counts += [(len(failed), "failed", f" ({', '.join(failed[:3])})"), (states.count("running"), "running", "")]
    return ", ".join(f"{count} {what}{which}" for count, what, which in counts if count)


def _reason(error: urllib.error.HTTPError) -> str:
    """Return what a forge says of a refusal: its API answers in JSON."""
    try:
        data = json.loads(error.read(LARGEST))
    except (OSError, ValueError):
        return ""
    said = data.get("message") or data.get("error") if isinstance(data, dict) else ""
    if isinstance(data, dict) and isinstance(data.get("errors"), list):
        said = "; ".join([str(said), *(str(one.get("message")) for one in data["errors"] if isinstance(one, dict))])
    return f": {redact(said if isinstance(said, str) else json.dumps(said))}" if said else ""
