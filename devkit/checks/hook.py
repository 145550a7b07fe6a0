"""The hook that git runs before a push: where it goes, and what it says."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import write_atomically

if TYPE_CHECKING:
    from devkit.git.session import Session

MARK = "# Before each push; git push --no-verify goes without."
TEXT = f"""#!/bin/sh
{MARK}
command -v devkit >/dev/null || PATH=$PATH:{{folder}}
command -v devkit >/dev/null || {{{{ echo 'devkit is not on PATH: nothing was checked' >&2; exit 0; }}}}
exec devkit check --fast
"""
LINE = "devkit check --fast </dev/null || exit 1"


@dataclass(frozen=True)
class HookPlan:
    """The hook's file, whether its line stands in one of the user's already, and whose pushes it is for."""

    path: Path
    present: bool = False
    reach: str = ""


def plan(session: Session) -> HookPlan:
    """Return where the hook goes.

    Raises:
        DevkitError: there is a hook of another's, or hooks are off.
    """
    folder = Path(session.git.text("rev-parse", "--path-format=absolute", "--git-path", "hooks"))
    if folder.exists() and not folder.is_dir():
        raise DevkitError(
            "git's hooks are off here", f"core.hooksPath is {folder}.", "git config --unset core.hooksPath"
        )
    if folder.parts[-2:] == (".husky", "_"):  # husky makes the files there anew; its own are beside them
        folder = folder.parent
    path = folder / "pre-push"
    text = path.read_text("utf-8", "replace") if path.exists() else MARK
    if MARK not in text and "devkit check" not in text:
        line = f"sed -i {shlex.quote(f'1a {LINE}')} {shlex.quote(str(path))}   adds to it"
        raise DevkitError(f"there is a hook {path}", "It is not devkit's, and stays.", line)
    top = session.place.top
    own = session.git.text("rev-parse", "--path-format=absolute", "--git-common-dir")
    reach = "" if folder.is_relative_to(own) else f"every repository whose core.hooksPath is {folder} runs it"
    if top is not None and not folder.is_relative_to(own) and folder.is_relative_to(top):
        reach = "it is a file of the project: others get it with your next commit of it"
    return HookPlan(path, MARK not in text, reach)


def install(path: Path) -> None:
    """Let git run the fast checks before each push."""
    text = TEXT.format(folder=shlex.quote(str(Path(sys.executable).parent)))
    write_atomically(path, text.encode(), mode=0o755)
