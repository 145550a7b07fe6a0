"""The last result of a trial, which is shown again where nothing that it depends on has changed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from devkit.errors import DevkitError
from devkit.files import write_atomically
from devkit.tryout.report import Result, from_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.config import Config
    from devkit.tryout.trial import Commits, Trial
    from devkit.tryout.work import TryOptions, TryWork

LAST = "last.json"
SETTINGS = ("build", "test", "bench", "ctest", "path", "requirements", "wheels")
MOST_SOURCES = 5000
"""Files of a package in development that are looked at; what has more of them may have changed."""


def remembered(trial: Trial, options: TryOptions, commits: Commits, config: Config) -> Result | None:
    """Return the last trial's result where it holds still, and its work trees are at the commits that it is of."""
    if options.again or not trial.is_at(commits):
        return None
    try:
        held = json.loads((trial.folder / LAST).read_text("utf-8"))
        if held["key"] == json.loads(json.dumps(key(trial, options, commits, config))):
            return from_dict(held["result"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def remember(work: TryWork, result: Result) -> None:
    """Write a result down for the next trial, unless what it says may change by itself."""
    doubtful = any(test.verdict == "flaky" for test in result.verdict.tests)
    waiting = any(test.verdict == "not run" and "GPU" not in test.reason for test in result.verdict.tests)
    if not doubtful and not (waiting and result.verdict.kind == "undecided") and not result.bench:
        held = {"key": key(work.trial, work.options, work.commits, work.config), "result": result.as_dict()}
        write_atomically(work.trial.folder / LAST, json.dumps(held).encode())


def key(trial: Trial, options: TryOptions, commits: Commits, config: Config) -> dict[str, Any]:
    """Return what a result depends on: the same commits, environment and settings give it again."""
    named = options.env or f"try-{trial.folder.name}"
    wheel = Path(options.wheel)
    return {
        "head": commits.head,
        "base": commits.base,
        "environment": named,
        "packages": packages(environment_of(trial.app.config, named)),
        "wheel": [options.wheel, _stamp(wheel) if options.wheel.endswith(".whl") else ""],
        "limits": asdict(options.limits),
        "number": trial.folder.name,
        "others": options.others,
        "bench": options.bench,
        "build": options.build,
        "settings": {name: config.get(f"try.{name}") for name in SETTINGS},
        "programs": [
            hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(__file__).parent.glob("*.py"))
        ],
    }


def environment_of(config: Config, name: str) -> Path | None:
    """Return the folder of an environment; None where it is not there."""
    from devkit.envs.resolve import resolve

    try:
        return resolve(config, name).folder
    except DevkitError:
        return None


def packages(folder: Path | None) -> list[str]:
    """Return what an environment holds: each package with the time of its installation, or of its newest source."""
    found = []
    for place in sorted(folder.glob("lib/python*/site-packages")) if folder else ():
        for path in (*place.glob("*.dist-info"), *place.glob("*.pth"), *place.glob("*.egg-link")):
            found.append(f"{path.name} {_stamp(path / 'RECORD' if path.suffix == '.dist-info' else path)}")
            source = _source(path / "direct_url.json")
            if source is not None:
                found.append(f"{source} {newest(source)}")
    return sorted(found)


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _source(direct_url: Path) -> Path | None:
    """Return the folder of a package that is installed in development; None for all others."""
    try:
        data = json.loads(direct_url.read_text("utf-8"))
        editable = data.get("dir_info", {}).get("editable", False)
        return Path(unquote(urlsplit(data["url"]).path)) if editable else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def newest(folder: Path) -> str:
    """Return when a Python file below a folder was changed last, and how many there are."""
    last, count = 0, 0
    for path in _sources(folder):
        count += 1
        try:
            last = max(last, path.stat().st_mtime_ns)
        except OSError:
            continue
        if count > MOST_SOURCES:
            return f"unknown {os.urandom(8).hex()}"
    return f"{count} {last}"


def _sources(folder: Path) -> Iterator[Path]:
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if not name.startswith((".", "__pycache__"))]
        yield from (Path(place, name) for name in names if name.endswith(".py"))
