"""The page of a shared folder."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import devkit
from devkit.text import counted, size
from devkit.transfer.shown import shown

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
    """Return the page of a folder."""
    kept = "&hidden" if "hidden" in query else ""
    names = [name for name in path.split(b"/") if name]
    crumbs = [("Shared files", "../" * len(names) or "./")]
    crumbs += [(shown(name), "../" * (len(names) - depth - 1) or "./") for depth, name in enumerate(names)]
    rows = [
        {
            "name": shown(item.name),
            "href": "./" + quote(item.name) + (f"/{kept.replace('&', '?')}" if item.is_folder else ""),
            "folder": item.is_folder,
            "size": "" if item.is_folder else size(item.size),
            "bytes": item.size,
            "date": _date(item.mtime_ns),
        }
        for item in ordered(items, query)
    ]
    by = query.get("sort") if query.get("sort") in SORTS else "name"
    down = query.get("order") == "down"
    heads = [
        {
            "name": name,
            "href": f"?sort={name}&order={'down' if name == by and not down else 'up'}{kept}",
            "mark": ("▾" if down else "▴") if name == by else "",
            "aria": ("descending" if down else "ascending") if name == by else "none",
        }
        for name in SORTS
    ]
    files = [item for item in items if not item.is_folder]
    folders = len(items) - len(files)
    parts = [counted(folders, "folder")] if folders else []
    parts += [f"{counted(len(files), 'file')}, {size(sum(item.size for item in files))}"] if files else []
    style = (TEMPLATES / "style.css").read_text("utf-8")
    script = (TEMPLATES / "upload.js").read_text("utf-8") if uploads else ""
    text: str = _template().render(
        title=crumbs[-1][0],
        crumbs=crumbs,
        rows=rows,
        heads=heads,
        summary=", ".join(parts) or "nothing here",
        archives=("tar", "zip") if items or hidden else (),
        hidden=hidden,
        hidden_shown=bool(kept),
        up="../" if names else "",
        nonce=nonce,
        style=style,
        script=script,
        uploads=uploads,
    )
    return text


def _date(mtime_ns: int) -> str:
    try:
        return dt.datetime.fromtimestamp(mtime_ns / 1e9, dt.timezone.utc).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return ""
