"""Pictures for the pages, drawn from real runs by ``make pictures``: of the terminal, a share's page, training curves.

Each is one SVG with a light and a dark palette (a viewer that knows no media query shows the light one), which fetches
nothing and keeps its spaces. ``env`` wants a package index or uv's cache, ``curve`` Paddle, ``share`` Chromium.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import queue
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.app import App
from devkit.console import terminal_svg
from devkit.files import write_atomically
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 92
LIMIT_S = 300.0
WHO = {
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.com", "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com", "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05Z", "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z",
}  # fmt: skip
SECRET = 'token = "' + "ghp_" + 'a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"\n'
LOG = "[ 61%] Building CXX object a.cc.o\nc++: fatal error: Killed signal terminated program cc1plus\n"


CURVES = ("devkit train --size tiny --steps 60", "devkit train --size tiny --steps 60 --nproc 2 --stage 3")
EVERY = 4
"""Which of a curve's steps are drawn."""
PAGE = (920, 300)
SCHEMES = {"day": 1, "night": 0}
"""Chromium's numbers of the light and the dark palette."""
BACKGROUND = (
    ".ground{fill:#ffffff}@media (prefers-color-scheme: dark){.ground{fill:#0d1117}}</style>"
    '<rect class="ground" width="100%" height="100%"/>'
)
SPINNER = re.compile(r"[\u2800-\u28ff] ")


@dataclass(frozen=True)
class Picture:
    """A picture of the terminal: its name, and the lines that are typed one after another.

    Attributes:
        cached: whether they may use what was downloaded or compiled before.
    """

    name: str
    lines: tuple[str, ...]
    cached: bool = False


PICTURES = (
    Picture("undo", ("devkit pr fetch 1007", "devkit pr rebase", "devkit undo")),
    Picture("check", ("devkit check --fast",)),
    Picture("explain", ("devkit explain build.log",)),
    Picture("map", ("devkit --help",)),
    Picture("env", ("devkit env create", "devkit env create second --no-verify", "devkit env list"), cached=True),
)


class World:
    """A clone of a small project with a request, and devkit in it."""

    def __init__(self, app: App, folder: Path, *, cached: bool = False) -> None:
        self.app = app
        self.folder = folder
        cache = cache_home().parent if cached else folder / "cache"
        self.environ = {
            **app.child_environment(), **WHO, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "LC_ALL": "C.UTF-8",
            "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(cache),
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
        argv = [sys.executable, "-m", "devkit", *shlex.split(line)[1:]]
        shell = ["sh", "-c", 'exec "$@" >"$0" 2>&1', str(log), *argv]  # a run's log has no empty lines
        self.app.runner.run(shell, cwd=self.folder / "clone", env=self.environ, timeout_s=LIMIT_S, check=False)
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
    from rich.text import Text

    texts = [Text.from_ansi(row) for row in rows]
    width = max(WIDTH, *(text.cell_len for text in texts))
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    for text in texts:
        console.print(text, soft_wrap=True)
    return terminal_svg(console, "devkit")


def share(world: World) -> str:
    """Return an SVG of a share's page as Chromium shows it, in its light and its dark palette."""
    clone = world.folder / "clone"
    files = {
        "paddle_ext-0.3.1-cp313-linux_x86_64.whl": 48_311_002,
        "train.log": 18_204,
        "checkpoint/model.safetensors": 9,
    }
    for name, size in files.items():
        path = clone / "dist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
        for changed in (path, path.parent):
            os.utime(changed, (1_767_323_045, 1_767_323_045))
    addresses: queue.SimpleQueue[str] = queue.SimpleQueue()

    def take(line: str) -> None:
        if line.startswith("{"):
            addresses.put(json.loads(line)["url"])

    line = [sys.executable, "-m", "devkit", "serve", "dist", "--json", "--expire", "10m"]
    child = world.app.runner.start(line, cwd=clone, env=world.environ, on_line=take)
    try:
        address = addresses.get(timeout=LIMIT_S)
        shots = {name: _screenshot(world, address, name) for name in SCHEMES}
    finally:
        child.end()
        world.app.runner.forget(child)
    width, height = PAGE
    images = "".join(
        f'<image class="{name}" width="{width}" height="{height}" href="data:image/png;base64,{shot}"/>'
        for name, shot in shots.items()
    )
    rules = ".night{display:none}@media (prefers-color-scheme: dark){.day{display:none}.night{display:inline}}"
    return (
        f'<svg xml:space="preserve" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="the page of devkit serve"><style>{rules}</style>{images}</svg>'
    )


def _screenshot(world: World, address: str, scheme: str) -> str:
    """Return a picture of a page as PNG in base64."""
    file = world.folder / f"{scheme}.png"
    line = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--disable-background-networking", f"--user-data-dir={world.folder / scheme}",
        f"--window-size={PAGE[0]},{PAGE[1]}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        f"--screenshot={file}", address,
    ]  # fmt: skip
    world.app.runner.run(line, cwd=world.folder, env=world.environ, timeout_s=LIMIT_S, ends_rest=True)
    return base64.b64encode(file.read_bytes()).decode()


def curve(world: World) -> str:
    """Return an SVG of the losses of two trainings, of one process and of two ranks."""
    from devkit.bench.charts import Chart, Line, Point, svg

    runs = [re.findall(r"\brun (\w+)", world.typed(line))[-1] for line in CURVES]
    world.typed(f"devkit train report {' '.join(runs)} --csv curve.csv")
    with (world.folder / "clone" / "curve.csv").open(newline="") as file:
        steps = [(row["run"], int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
    lines = [
        Line(
            line.removeprefix("devkit train --size tiny --steps 60").strip() or "one process",
            tuple(Point(step, loss, loss, loss) for of, step, loss in steps if of == run and step % EVERY == 1),
        )
        for line, run in zip(CURVES, runs, strict=True)
    ]
    drawn = svg(Chart("devkit train --size tiny --steps 60", "step", "loss, nats a byte", tuple(lines), log_x=False))
    return drawn.replace("</style>", BACKGROUND, 1).replace("<svg ", '<svg xml:space="preserve" ', 1)


DRAWN = {"share": share, "curve": curve}


def main(out: Path, *names: str) -> None:
    """Draw pictures into a folder; all of them where none is named."""
    app = App()
    out.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        if picture.name in names or not names:
            with tempfile.TemporaryDirectory() as place:
                world = World(app, Path(place), cached=picture.cached)
                world.prepare(picture.name)
                rows: list[str] = []
                for line in picture.lines:
                    shown = screen(world.typed(line).replace(place, "~"))
                    rows += [f"$ {line}", *(shown[:-1] if shown and not shown[-1] else shown)]
                write_atomically(out / f"{picture.name}.svg", f"{draw(rows)}\n".encode())
    for name, make in DRAWN.items():
        if name in names or not names:
            with tempfile.TemporaryDirectory() as place:
                write_atomically(out / f"{name}.svg", f"{make(World(app, Path(place), cached=True))}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
