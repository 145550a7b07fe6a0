"""Pictures of the terminal for the pages, drawn from real runs by ``make pictures``.

Each is one SVG with a light and a dark palette (a viewer that knows no media query shows the light one), which fetches
nothing and keeps its spaces.
"""

from __future__ import annotations

import io
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.app import App
from devkit.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 92
LIMIT_S = 120.0
WHO = {
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.com", "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com", "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z",
}  # fmt: skip
SECRET = 'token = "' + "ghp_" + 'a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"\n'
LOG = "[ 61%] Building CXX object a.cc.o\nc++: fatal error: Killed signal terminated program cc1plus\n"


SPINNER = re.compile(r"[\u2800-\u28ff] ")


@dataclass(frozen=True)
class Picture:
    """A picture: its name, and the lines that are typed one after another."""

    name: str
    lines: tuple[str, ...]


PICTURES = (
    Picture("undo", ("devkit pr fetch 1007", "devkit pr rebase", "devkit undo")),
    Picture("check", ("devkit check --fast",)),
    Picture("mesh", ("devkit train mesh '[[[0,1],[2,3]],[[4,5],[6,7]]]' dp,mp,pp",)),
    Picture("explain", ("devkit explain build.log",)),
    Picture("map", ("devkit --help",)),
)


class World:
    """A clone of a small project with a request, and devkit in it."""

    def __init__(self, app: App, folder: Path) -> None:
        self.app = app
        self.folder = folder
        self.environ = {
            **app.child_environment(), **WHO, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "LC_ALL": "C.UTF-8",
            "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_CONFIG_HOME": str(folder / "config"), "XDG_DATA_HOME": str(folder / "data"),
        }  # fmt: skip
        self._make()

    def git(self, where: str, *words: str) -> None:
        self.app.runner.run(["git", *words], cwd=self.folder / where, env=self.environ, timeout_s=LIMIT_S)

    def _make(self) -> None:
        project = self.folder / "project"
        project.mkdir()
        self.git("project", "init", "-q", "-b", "develop", ".")
        self._commit("Begin", "diff.py", "def diff(x, n=1):\n    return x\n")
        self.git("project", "switch", "-q", "-c", "request")
        self._commit("Let diff take n of 0", "diff.py", "def diff(x, n=1):\n    return x if n else 0\n")
        self.git("project", "update-ref", "refs/pull/1007/head", "HEAD")
        self.git("project", "switch", "-q", "develop")
        self._commit("Say more", "README.md", "# Paddle\n")
        self.git(".", "clone", "-q", "-o", "upstream", "project", "clone")

    def _commit(self, message: str, name: str, text: str) -> None:
        (self.folder / "project" / name).write_text(text)
        self.git("project", "add", "-A")
        self.git("project", "commit", "-q", "-m", message)

    def prepare(self, name: str) -> None:
        """Write what a picture shows."""
        clone = self.folder / "clone"
        if name == "check":
            (clone / "merge.py").write_text("<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> other\n")
            (clone / "upload.py").write_text(SECRET)
        elif name == "explain":
            (clone / "build.log").write_text(LOG)

    def typed(self, line: str) -> str:
        """Return what the screen shows after a line was typed."""
        log = self.folder / "screen.log"
        log.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "devkit", *shlex.split(line)[1:]]
        self.app.runner.run(
            argv, cwd=self.folder / "clone", env=self.environ, timeout_s=LIMIT_S, check=False, log=log, keep=None
        )
        return log.read_text("utf-8", "replace")


def screen(text: str) -> list[str]:
    """Return the rows that a line leaves on the screen: progress goes when it is done."""
    plain = re.sub(r"\x1b\[[?\d;]*[A-Za-ln-z]", "", text)
    rows: list[str] = []
    for row in re.split(r"[\r\n]+" if SPINNER.search(plain) else r"\r?\n", plain):
        if not SPINNER.match(re.sub(r"\x1b\[[\d;]*m", "", row)) and (row or rows):
            rows.append(row)
    return rows


def draw(rows: Sequence[str]) -> str:
    """Return an SVG of a terminal that shows some rows."""
    from rich.console import Console
    from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for row in rows:
        console.print(Text.from_ansi(row), soft_wrap=True)
    light, dark = (
        console.export_svg(title="devkit", theme=theme, clear=False, unique_id="devkit")
        for theme in (DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME)
    )
    plain, night = (re.search(r'<rect fill="(#\w+)"', picture) for picture in (light, dark))
    light = re.sub(r"@font-face \{.*?\}\s*", "", light, flags=re.DOTALL)
    rules = re.findall(r"^\s*(\.devkit-r\d+ \{[^}]*\}|\.devkit-title \{[^}]*\})", dark, re.MULTILINE)
    ground = f".devkit-ground {{ fill: {night[1]} }}" if night else ""
    query = f"@media (prefers-color-scheme: dark) {{ {ground} {' '.join(rules)} }}"
    light = light.replace("</style>", f"    {query}\n    </style>", 1)
    if plain:
        light = light.replace(f'<rect fill="{plain[1]}"', f'<rect class="devkit-ground" fill="{plain[1]}"', 1)
    return light.replace("<svg ", '<svg xml:space="preserve" ', 1)


def main(out: Path) -> None:
    """Draw all pictures into a folder."""
    app = App()
    out.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        with tempfile.TemporaryDirectory() as place:
            world = World(app, Path(place))
            world.prepare(picture.name)
            rows: list[str] = []
            for line in picture.lines:
                shown = screen(world.typed(line).replace(place, "~"))
                rows += [f"$ {line}", *(shown[:-1] if shown and not shown[-1] else shown)]
            write_atomically(out / f"{picture.name}.svg", f"{draw(rows)}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
