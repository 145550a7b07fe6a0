"""Profiles: named sets of options for CMake, from devkit's table and from ``devkit.toml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.builds.templates import table
from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from devkit.config import Config

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
TYPES = r"(?::(?:BOOL|STRING|PATH|FILEPATH))?"
FIELDS = {"purpose", "extends", "options"}


@dataclass(frozen=True)
class Profile:
    """A profile, whole: what it extends is in its options already."""

    name: str
    purpose: str
    options: Mapping[str, str]
    origin: str


def profiles(config: Config) -> dict[str, Profile]:
    """Return the profiles by name: devkit's, then the user's, then the project's, the later ones over the earlier.

    Raises:
        DevkitError: a file's profile is not one.
    """
    rows: dict[str, tuple[Mapping[str, Any], str]] = {name: (row, "devkit") for name, row in table("profiles").items()}
    for path in (config.user_file, config.project_file):
        if path is not None:
            rows.update({name: (row, str(path)) for name, row in _own(path).items()})
    return {name: _whole(name, rows) for name in rows}


def _own(path: Path) -> dict[str, Any]:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(path.read_text("utf-8")).unwrap()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise DevkitError(f"{path} does not parse as TOML", str(error), f"$EDITOR {path}   to fix it") from error
    section = document.get("build", {})
    found = section.get("profiles", {}) if isinstance(section, dict) else None
    if not isinstance(found, dict):
        raise DevkitError(f"build.profiles in {path} is not a section", "", f"$EDITOR {path}   to fix it")
    for name, row in found.items():
        options = row.get("options", {}) if isinstance(row, dict) else None
        if not isinstance(options, dict) or not set(row) <= FIELDS or not all(map(NAME.fullmatch, options)):
            why = 'A profile has purpose, extends and options = { NAME = "VALUE" }, and nothing else.'
            raise DevkitError(f"build.profiles.{name} in {path} is not a profile", why, f"$EDITOR {path}   to fix it")
    return found


def _whole(name: str, rows: Mapping[str, tuple[Mapping[str, Any], str]], below: tuple[str, ...] = ()) -> Profile:
    row, origin = rows[name]
    options: dict[str, str] = {}
    base = row.get("extends", "")
    if base:
        if base not in rows or base in (*below, name):
            what = "extends itself" if base in rows else f"extends {base}, which is none"
            raise DevkitError(f"the profile {name} of {origin} {what}", "", "devkit build profiles")
        options.update(_whole(base, rows, (*below, name)).options)
    options.update({key: value_text(value) for key, value in row.get("options", {}).items()})
    return Profile(name, str(row.get("purpose", "")), options, origin)


def value_text(value: object) -> str:
    """Return an option's value as CMake takes it."""
    return ("ON" if value else "OFF") if isinstance(value, bool) else str(value)


def choose(config: Config, name: str, *, gpus: bool) -> Profile:
    """Return the profile called ``name``, the configured one, or the one that fits this machine.

    Raises:
        UsageError: there is none of that name.
    """
    import difflib

    known = profiles(config)
    chosen = name or config.get("build.profile") or ("gpu" if gpus else "cpu")
    if chosen not in known:
        near = difflib.get_close_matches(chosen, known, n=2)
        remedies = [f"devkit build --profile {similar}" for similar in near] or [
            "devkit build profiles   explains them"
        ]
        raise UsageError(f"there is no profile named {chosen}", f"There is {', '.join(known)}.", *remedies)
    return known[chosen]


def defines(words: Sequence[str]) -> dict[str, str]:
    """Parse the values of ``-D``: NAME=VALUE, with CMake's type after the name or without.

    Raises:
        UsageError: one is not of that form.
    """
    found = {}
    for word in words:
        match = re.fullmatch(rf"({NAME.pattern}){TYPES}=(.*)", word, re.DOTALL)
        if match is None or "\n" in word:
            raise UsageError(f"-D {word} is not NAME=VALUE", "", "devkit build -D WITH_TESTING=ON")
        found[match[1]] = match[2]
    return found
