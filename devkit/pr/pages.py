"""The forge's pages on which a request is opened, by the kind of the forge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from devkit.git.roles import ForgeKind

LONGEST = 6000  # characters of an address that browsers and forges take


@dataclass(frozen=True)
class Opening:
    """A request to be opened: from a branch of a fork into one of the project's; both by their paths on the forge."""

    fork: str
    branch: str
    project: str
    base: str = ""


def opening_page(kind: ForgeKind, host: str, what: Opening, title: str = "", body: str = "") -> str:
    """Return the address of the page that opens a request, filled in as far as the forge takes that."""
    if kind == "gitee":  # its page takes no title and no text
        owner, project = what.fork.rpartition("/")[0], what.project.rpartition("/")[0]
        ends = f"{quote(owner)}:{quote(what.branch)}...{quote(project)}:{quote(what.base)}"
        return f"https://{host}/{quote(what.project)}/pull/new/{ends}"
    if kind == "gitlab":
        address = f"https://{host}/{quote(what.fork)}/-/merge_requests/new?"
        given = {"source_branch": what.branch, "target_branch": what.base, "title": title, "description": body}
        query = {f"merge_request[{name}]": text for name, text in given.items() if text}
    else:
        head = quote(f"{what.fork.partition('/')[0]}:{what.branch}", safe=":/")
        ends = f"{quote(what.base, safe='')}...{head}" if what.base else head
        address = f"https://{host}/{quote(what.project)}/compare/{ends}?"
        query = {"expand": "1", **{name: text for name, text in (("title", title), ("body", body)) if text}}
    filled = address + urlencode(query, quote_via=quote)
    return filled if len(filled) <= LONGEST or not body else opening_page(kind, host, what, title)
