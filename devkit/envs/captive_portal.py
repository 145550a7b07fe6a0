"""A network that wants a login first answers with its own page, whatever is asked: to uv, an index without files."""

from __future__ import annotations

import re
import urllib.request
from typing import TYPE_CHECKING

from devkit import web

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT_S = 5
READ_BYTES = 1 << 16
MISSING = re.compile(r"no versions of ([A-Za-z0-9][\w.-]*)|([A-Za-z0-9][\w.-]*) was not found in the package registry")
FILES = re.compile(r"""href\s*=\s*["']?[^"'>\s]+\.(whl|zip|egg|tar\.\w+|tgz)\b""", re.IGNORECASE)
LOGIN = re.compile(
    r"<(form|input|script)\b|http-equiv\s*=\s*.?refresh|\blog ?in\b|\bsign ?in\b|登录|登陆|认证", re.IGNORECASE
)
TITLE = re.compile(r"<title[^>]*>\s*([^<]*?)\s*</title", re.IGNORECASE)


def missing_package(said: str) -> str:
    """Return the package of which uv says that the index has none; empty where it says no such thing."""
    matched = MISSING.search(said)
    return (matched[1] or matched[2]).rstrip(".") if matched else ""


def look(index: str, package: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Ask an index for a package, and return the address and the title of the login page that answers, if one does.

    Args:
        index: the address of a simple index.
        package: its name.
        environ: with the proxies that hold.
    """
    url = f"{index.rstrip('/')}/{package}/"
    try:
        with web.opener(url, environ).open(urllib.request.Request(url), timeout=LIMIT_S) as answer:  # noqa: S310 - http
            page = answer.read(READ_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return None
    title = login_page(page, package)
    return None if title is None else (url, title)


def login_page(page: str, package: str) -> str | None:
    """Return the title of a page that is not an index, empty where it has none; None for an index.

    An index's page names files. One without any has its package's name, and nothing to fill in.
    """
    if not re.search(r"<(html|body|head|!doctype)", page, re.IGNORECASE) or FILES.search(page):
        return None
    if not LOGIN.search(page.replace(package, "")):
        return None
    titled = TITLE.search(page)
    return titled[1] if titled else ""
