"""The wheels that a project's own CI built of a commit, where the configured addresses answer.

An address is a template with ``{number}`` (the request's, 0 for a commit of the base branch), ``{sha}`` and
``{python}`` (``cp310``). What comes is checked: it must be for this Python and for the accelerator of the environment's
own Paddle, and name its commit where it names one.
Such a wheel may be built without the processor's fast paths: it is never used to measure speed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from devkit.builds.overlay import UnpackedWheel, unpacked
from devkit.errors import DevkitError
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.builds.python import Python

FIELDS = ("number", "sha", "python")
ACCELERATOR = re.compile(r"^(cuda|hip|xpu_xre)_version\s*=\s*['\"](?!False|None)\w", re.MULTILINE)


def addresses(templates: Sequence[str], number: int, sha: str, python: str) -> list[str]:
    """Return the addresses to ask, in their order.

    Args:
        templates: as the setting ``try.wheels`` holds them.
        number: the request's; 0 for a commit of the base branch.
        sha: the commit, in full.
        python: ``3.10``.

    Raises:
        DevkitError: a template holds another field.
    """
    values = {"number": str(number), "sha": sha, "python": f"cp{python.replace('.', '')}"}
    found = []
    for template in templates:
        unknown = set(re.findall(r"\{(\w*)\}", template)) - set(FIELDS)
        if unknown:
            raise DevkitError(
                f"try.wheels holds {template}",
                f"{', '.join(sorted(unknown))} is none of {', '.join(FIELDS)}.",
                "devkit config get try.wheels",
            )
        found.append(re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template))
    return list(dict.fromkeys(found))


def find(app: App, number: int, sha: str, interpreter: Python) -> tuple[UnpackedWheel | None, list[str]]:
    """Return the wheel of a commit from the first address that has a fitting one, and why the others did not do."""
    notes = []
    own = accelerator(Path(interpreter.purelib) / "paddle")
    for url in addresses(app.config.get("try.wheels"), number, sha, interpreter.short):
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        if f"-cp{interpreter.short.replace('.', '')}-" not in name:
            notes.append(f"{name} is for another Python than {interpreter.short}")
            continue
        if own and name.startswith("paddlepaddle_gpu-") != (own != "cpu"):
            notes.append(f"{name} is for another device than the environment's Paddle ({own})")
            continue
        try:
            wheel = unpacked(app, _fetched(url, sha, name, app))
        except DevkitError as error:
            notes.append(f"{url}: {error.what}")
            continue
        if wheel.commit and not sha.startswith(wheel.commit) and number == 0:
            notes.append(f"{url} holds a wheel of {wheel.commit[:10]}")
            continue
        built = accelerator(wheel.package)
        if own and built and built != own:
            notes.append(f"{url} is built for {built}, and the environment's Paddle for {own}")
            continue
        return wheel, notes
    return None, notes


def accelerator(package: Path) -> str:
    """Return what a Paddle is built for, as its version file says: ``cuda``, ``hip``, ``xpu_xre`` or ``cpu``."""
    file = package / "version" / "__init__.py"
    if not file.is_file():
        return ""
    match = ACCELERATOR.search(file.read_text("utf-8", "replace"))
    return match[1] if match else "cpu"


def _fetched(url: str, sha: str, name: str, app: App) -> Path:
    """Return the wheel's file, downloaded where it is not here yet."""
    import shutil
    import urllib.error

    from devkit.files import explained, replacing
    from devkit.web import LOOPBACK, opener

    target = cache_home() / "ci-wheels" / sha / name
    if target.is_file():
        return target
    if urlsplit(url).scheme not in {"http", "https"}:
        raise DevkitError(f"{url} is not an http address", "", "devkit config get try.wheels")
    try:
        with (
            opener(url, app.child_environment(), around=LOOPBACK).open(url, timeout=10) as answer,
            explained(target),
            app.console.progress(f"fetching {name}"),
            replacing(target) as part,
        ):
            with part.open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
            length = answer.headers.get("Content-Length")
            if length is not None and part.stat().st_size != int(length):
                raise DevkitError(f"{name} came only in part", "")
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise DevkitError(f"there is none ({getattr(error, 'code', None) or error})", url) from error
    return target
