"""Running the tree's unit tests as Paddle's CI does: its variables, each file in a process of its own."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.build.checkout import git
from devkit.build.overlay import PACKAGE, PTH
from devkit.errors import DevkitError
from devkit.process import TimedOut, fate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from devkit.app import App
    from devkit.build.python import Python
    from devkit.process import Runner

VARIABLES = {"FLAGS_init_allocated_mem": "true", "FLAGS_cudnn_deterministic": "true"}
COUNTED = re.compile(r"^Ran (\d+) tests? in|(\d+) passed", re.MULTILINE)
NEAR = 3


@dataclass(frozen=True)
class Verdict:
    """How a test file went: how many tests ran (None where it does not say), and what went wrong."""

    name: str
    passed: bool
    tests: int | None
    seconds: float
    complaint: str = ""


def named(words: Iterable[str], files: Iterable[str]) -> list[str]:
    """Return the test files that words name: a file's name without its suffix, or its path.

    Raises:
        DevkitError: a word names none.
    """
    import difflib

    known: dict[str, list[str]] = {}
    for path in files:
        known.setdefault(path.rpartition("/")[2].removesuffix(".py"), []).append(path)
    everything = {path for paths in known.values() for path in paths}
    found: list[str] = []
    for word in words:
        paths = [word] if word in everything else known.get(word.rpartition("/")[2].removesuffix(".py"), [])
        if not paths:
            near = difflib.get_close_matches(word, known, n=NEAR)
            raise DevkitError(f"there is no test {word}", "", *[f"devkit build test {each}" for each in near])
        found += [path for path in paths if path not in found]
    return found


def touched(changed: Iterable[str], texts: Mapping[str, str]) -> list[str]:
    """Return the test files that a change touches: itself changed, or importing or naming a changed module.

    Args:
        changed: files of the tree.
        texts: test file → its text.
    """
    changed = list(changed)
    modules = [
        path.removeprefix("python/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in changed
        if path.startswith(f"{PACKAGE}/") and path.endswith(".py")
    ]
    patterns = [re.compile(_mention(module)) for module in modules]
    return [
        path for path, text in texts.items() if path in changed or any(pattern.search(text) for pattern in patterns)
    ]


def _mention(module: str) -> str:
    parent, _, name = module.rpartition(".")
    imported = rf"|from {re.escape(parent)} import .*\b{re.escape(name)}\b" if parent else ""
    return rf"\b{re.escape(module)}\b{imported}"


def test_files(runner: Runner, root: Path) -> list[str]:
    """Return the test files that git knows or would add."""
    listed = git(runner, root, "ls-files", "-co", "--exclude-standard", "-z", "--", "test/").text.split("\0")
    return [each for each in listed if re.search(r"(?:^|/)test_[^/]*\.py$", each) and (root / each).is_file()]


def environ(app: App, told: Python, copies: Path) -> dict[str, str]:
    """Return the environment of a test: over the overlay where there is one, else the build folder, else as it is."""
    from pathlib import Path

    found = {name: value for name, value in app.child_environment().items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    found.update(VARIABLES)
    if not (Path(told.purelib) / PTH).is_file() and (copies / "base" / "libpaddle.so").is_file():
        found["PYTHONPATH"] = str(copies.parent)
    return found


def run(app: App, told: Python, root: Path, path: str, env: Mapping[str, str], *, log: Path, limit_s: float) -> Verdict:
    """Run one test file to its end, its output in the log."""
    begin = time.monotonic()
    try:
        done = app.runner.run(
            [told.executable, "-u", str(root / path)], cwd=log.parent, env=env, timeout_s=limit_s, check=False, log=log
        )
    except TimedOut as error:
        return Verdict(path, False, None, time.monotonic() - begin, error.what)
    said = (done.stdout + done.stderr).decode(errors="replace")
    counts = [int(one or two) for one, two in COUNTED.findall(said)]
    complaint = "" if done.status == 0 else f"{fate(done.status)}\n{done.complaint}"
    return Verdict(path, done.status == 0, sum(counts) if counts else None, done.seconds, complaint)
