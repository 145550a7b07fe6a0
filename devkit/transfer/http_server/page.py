"""The page of a shared folder."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import devkit
from devkit.text import counted, shown, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.transfer.http_server.tree import Item

TEMPLATES = Path(devkit.__file__).parent / "templates" / "serve"
SORTS = ("name", "size", "date")


@cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(shown=shown, quoted=quote, text=size, date=_date)
    return environment.get_template("page.html")


def ordered(items: Sequence[Item], query: Mapping[str, str]) -> list[Item]:
    """Return a folder's lines in the order that the query asks for, folders first."""
    by = query.get("sort", "name")
    keys = {"size": lambda item: item.size, "date": lambda item: item.mtime_ns}
    found = sorted(items, key=lambda item: shown(item.name).casefold())
    found.sort(key=keys.get(by, lambda item: shown(item.name).casefold()), reverse=query.get("order") == "down")
    return sorted(found, key=lambda item: not item.is_folder)


def folder_page(
    path: bytes, items: Sequence[Item], query: Mapping[str, str], *, nonce: str, uploads: bool, hidden: int = 0
) -> str:
    """Return the page of a folder, whose path ends in a slash unless it is the root.

    The query says ``sort``, ``order``, and ``hidden`` where names that begin with a dot are in ``items``; ``hidden`` is
    how many there are.
    """
    names = [name for name in path.split(b"/") if name]
    crumbs = [("Shared files", "../" * len(names) or "./")]
    crumbs += [(shown(name), "../" * (len(names) - depth - 1) or "./") for depth, name in enumerate(names)]
    files = [item for item in items if not item.is_folder]
    folders = len(items) - len(files)
    parts = [counted(folders, "folder")] if folders else []
    parts += [f"{counted(len(files), 'file')}, {size(sum(item.size for item in files))}"] if files else []
    text: str = _template().render(
        crumbs=crumbs,
        items=ordered(items, query),
        sorts=SORTS,
        sort=query.get("sort") if query.get("sort") in SORTS else "name",
        down=query.get("order") == "down",
        summary=", ".join(parts) or "nothing here",
        hidden=hidden,
        hidden_shown="hidden" in query,
        nonce=nonce,
        style=(TEMPLATES / "style.css").read_text("utf-8"),
        script=(TEMPLATES / "upload.js").read_text("utf-8"),
        uploads=uploads,
    )
    return text


def _date(mtime_ns: int) -> str:
    try:
        return dt.datetime.fromtimestamp(mtime_ns / 1e9, dt.timezone.utc).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return ""
