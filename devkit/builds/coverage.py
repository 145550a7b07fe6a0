"""Whether the unit tests run the lines that a change made: what was measured, beside the bar that it must clear.

diff-cover (11.0, tried) judges all languages together, where Paddle's CI wants each to clear the bar, and passes over a
changed file that nothing is known of; here that one is named, with the reason.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from devkit.builds import changes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path, PurePosixPath

    from devkit.app import App

Language = Literal["Python", "C++"]
LANGUAGES: tuple[Language, ...] = ("Python", "C++")
FOLDERS = ("paddle/", "python/paddle/")
COMPILED = {".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hh", ".hpp"}


@dataclass(frozen=True)
class Lines:
    """What is known of a file's lines: those that can run, and those that did."""

    executable: frozenset[int]
    executed: frozenset[int]


@dataclass(frozen=True)
class File:
    """A file's changed lines: how many can run, how many did, and those that did not as first and last."""

    path: str
    language: Language
    changed: int
    covered: int
    uncovered: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Unmeasured:
    """A changed file of whose lines nothing is known, and why."""

    path: str
    language: Language
    why: str


@dataclass(frozen=True)
class CoverageReport:
    """What the tests cover of a change.

    Attributes:
        base: what the change is counted from.
        minimum: the bar, in per cent of the changed lines.
        files: those of which a changed line can run.
        unmeasured: those of which that is not known.
    """

    base: changes.Base
    minimum: float
    files: tuple[File, ...]
    unmeasured: tuple[Unmeasured, ...] = ()

    def counts(self, language: str = "") -> tuple[int, int]:
        """Return covered and changed lines, of a language or in all."""
        chosen = [file for file in self.files if language in {"", file.language}]
        return sum(file.covered for file in chosen), sum(file.changed for file in chosen)

    def below(self) -> list[Language]:
        """Return the languages whose lines do not clear the bar: each must by itself, as in Paddle's CI."""
        found: list[Language] = []
        for language in LANGUAGES:
            covered, changed = self.counts(language)
            if 100 * covered < self.minimum * changed:
                found.append(language)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return what the record and ``--json`` hold."""
        totals = {language: self.counts(language) for language in ("", *LANGUAGES)}
        return {
            "base": asdict(self.base),
            "minimum_percent": self.minimum,
            "files": [asdict(file) for file in self.files],
            "unmeasured": [asdict(unmeasured) for unmeasured in self.unmeasured],
            "totals": {
                name or "all": {"covered": covered, "changed": changed, "percent": percent(covered, changed)}
                for name, (covered, changed) in totals.items()
            },
            "passed": not self.below(),
        }


def percent(covered: int, changed: int) -> float | None:
    """Return covered lines per cent of changed ones; None where none can run."""
    return round(100 * covered / changed, 2) if changed else None


def language(path: str) -> Language | None:
    """Return the language of a file whose lines Paddle's CI counts; None for tests and for all else."""
    from pathlib import PurePosixPath

    name = PurePosixPath(path)
    if not path.startswith(FOLDERS) or {"tests", "test"} & set(name.parts[:-1]) or _is_test(name):
        return None
    if path.startswith("python/"):
        return "Python" if name.suffix == ".py" else None
    return "C++" if name.suffix in COMPILED else None


def _is_test(name: PurePosixPath) -> bool:
    return name.stem.startswith("test_") or name.stem.endswith(("_test", "_tester"))


def change(app: App, root: Path, base: changes.Base) -> dict[str, frozenset[int]]:
    """Return the files of a change whose lines count, and those lines."""
    found = changes.lines(app.runner, root, base.commit, FOLDERS)
    return {path: numbers for path, numbers in sorted(found.items()) if numbers and language(path)}


def judge(
    base: changes.Base,
    minimum: float,
    changed: Mapping[str, frozenset[int]],
    measured: Mapping[str, Lines],
    unmeasured: Mapping[str, str],
) -> CoverageReport:
    """Lay what was measured over what was changed; lines that cannot run are not counted.

    Args:
        base: what the change is counted from.
        minimum: the bar, in per cent.
        changed: file → changed lines.
        measured: file → what is known of its lines.
        unmeasured: file → why nothing is.
    """
    return CoverageReport(
        base,
        minimum,
        tuple(_files(changed, measured)),
        tuple(Unmeasured(path, language(path) or "C++", why) for path, why in sorted(unmeasured.items())),
    )


def _files(changed: Mapping[str, frozenset[int]], measured: Mapping[str, Lines]) -> Iterable[File]:
    for path in sorted(measured):
        counted = changed[path] & measured[path].executable
        missed = counted - measured[path].executed
        if counted:
            ranges = tuple(changes.ranges(missed))
            yield File(path, language(path) or "C++", len(counted), len(counted) - len(missed), ranges)
