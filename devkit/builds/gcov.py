"""Which lines of compiled code the unit tests run, read by gcov from a build that was configured WITH_COVERAGE.

The counters of one run go into a folder of their own (``GCOV_PREFIX``), so that neither those of earlier runs nor the
build folder are touched. gcovr (8.8, tried) does not read them there, since gcov wants the notes beside them ("cannot
open notes file"); it reads every object of a build, where a change needs those made from its files alone; and of a file
that was edited after it was compiled it names the wrong lines without a word.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import configure
from devkit.builds.coverage import Lines
from devkit.builds.stats import parse_deps
from devkit.kernels.machine import cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from devkit.app import App
    from devkit.process import Finished

BATCH = 40
LIMIT_S = 600.0
WITHOUT = "the build has no WITH_COVERAGE"
UNTOUCHED = "the library that the tests loaded left no counts: it is not of this build"
STALE = "it was edited after it was compiled"
UNBUILT = "nothing in the build folder was compiled from it"
MISMATCH = re.compile(r"^(\d+)\.gcda:.*mismatch", re.MULTILINE)
OTHER = "the library that the tests loaded was compiled from another version of it"


def configured(build: Path) -> bool:
    """Tell whether a build folder was configured to count lines."""
    return configure.is_on((configure.read_cache(build) or {}).get("WITH_COVERAGE", "OFF"))


def environ(folder: Path) -> dict[str, str]:
    """Return the variables that send the counters of a test into a folder."""
    return {"GCOV_PREFIX": str(folder), "GCOV_PREFIX_STRIP": "0"}


def program(build: Path) -> str:
    """Return the gcov of the compiler that a build folder was configured for; empty where that has none."""
    compiler = Path((configure.read_cache(build) or {}).get("CMAKE_CXX_COMPILER", "g++"))
    match = re.fullmatch(r"(?:(?P<target>.+-)?(?:g\+\+|gcc)|c\+\+)(?P<version>-[\d.]+)?", compiler.name)
    if match is None:
        return ""
    name = f"{match['target'] or ''}gcov{match['version'] or ''}"
    beside = compiler.with_name(name)
    return str(beside) if beside.is_file() else shutil.which(name) or ""


def read(
    app: App, root: Path, build: Path, folder: Path, paths: Iterable[str]
) -> tuple[dict[str, Lines], dict[str, str]]:
    """Return changed file → its lines, and changed file → why nothing is known of them.

    Args:
        app: whose runner starts ninja and gcov.
        root: the checkout.
        build: the build folder.
        folder: where the tests' counters went.
        paths: changed files of compiled code.

    Raises:
        DevkitError: gcov or ninja failed.
    """
    paths = list(paths)
    if not configured(build):
        return {}, dict.fromkeys(paths, WITHOUT)
    tool = program(build)
    if not tool:
        return {}, dict.fromkeys(paths, "there is no gcov for the build's compiler")
    if "--json-format" not in app.runner.run([tool, "--help"], timeout_s=LIMIT_S).text:
        return {}, dict.fromkeys(paths, f"{tool} is older than GCC 9's, the first that tells lines as JSON")
    counters = {_notes(Path("/", counter.relative_to(folder))): counter for counter in folder.rglob("*.gcda")}
    if not counters:
        return {}, dict.fromkeys(paths, UNTOUCHED)
    objects = made_from(app, build, {path: os.path.realpath(root / path) for path in paths})
    why = {path: said for path in paths if (said := _unusable(root / path, objects[path]))}
    wanted = sorted({object_ for path in paths if path not in why for object_ in objects[path]})
    counts, mismatched = _counts(
        app, tool, folder, [(object_, counters.get(os.path.realpath(object_))) for object_ in wanted]
    )
    why |= {path: OTHER for path in paths if path not in why and set(objects[path]) & mismatched}
    measured = {}
    for path in [word for word in paths if word not in why]:
        found = counts.get(os.path.realpath(root / path), {})
        measured[path] = Lines(frozenset(found), frozenset(line for line, count in found.items() if count))
    return measured, why


def _notes(counters: Path) -> str:
    return os.path.realpath(counters.with_suffix(".gcno"))


def _unusable(source: Path, notes: Sequence[Path]) -> str:
    if not notes:
        return UNBUILT
    edited = source.stat().st_mtime_ns
    return STALE if any(note.stat().st_mtime_ns < edited for note in notes) else ""


def made_from(app: App, build: Path, places: Mapping[str, str]) -> dict[str, list[Path]]:
    """Return changed file → the notes of the objects that were compiled from it, as ninja remembers it.

    Raises:
        DevkitError: ninja failed.
    """
    dependencies = parse_deps(app.runner.run(["ninja", "-C", str(build), "-t", "deps"], timeout_s=LIMIT_S).text)
    by_place = {place: path for path, place in places.items()}
    names = {Path(place).name for place in by_place}
    found: dict[str, list[Path]] = {path: [] for path in places}
    for output, files in dependencies.items():
        notes = (build / output).with_suffix(".gcno")
        for file in files:
            if file.rpartition("/")[2] in names:
                path = by_place.get(os.path.realpath(build / file))
                if path is not None and notes.is_file():
                    found[path].append(notes)
    return found


def _counts(
    app: App, tool: str, folder: Path, objects: Sequence[tuple[Path, Path | None]]
) -> tuple[dict[str, dict[int, int]], set[Path]]:
    """Return file → line → how often it ran, and the notes of objects that other counters came for.

    gcov looks for notes and counters beside each other: both are linked into one room, under a number each.
    """
    room = folder / ".read"
    room.mkdir(exist_ok=True)
    for number, (notes, counters) in enumerate(objects):
        (room / f"{number}.gcno").symlink_to(notes)
        if counters is not None:
            (room / f"{number}.gcda").symlink_to(counters)
    given = [f"{number}.{'gcno' if counters is None else 'gcda'}" for number, (_, counters) in enumerate(objects)]
    batches = [given[begin : begin + BATCH] for begin in range(0, len(given), BATCH)]
    found: dict[str, dict[int, int]] = defaultdict(dict)
    mismatched: set[Path] = set()

    def run(batch: Sequence[str]) -> Finished:
        return app.runner.run([tool, "--json-format", "--stdout", *batch], cwd=room, timeout_s=LIMIT_S)

    with ThreadPoolExecutor(cores()) as pool:
        for done in pool.map(run, batches):
            said = done.stderr.decode(errors="replace")
            mismatched |= {objects[int(match)][0] for match in MISMATCH.findall(said)}
            for text in filter(None, done.stdout.split(b"\n")):
                report = json.loads(text)
                for file in report["files"]:
                    place = os.path.realpath(Path(report["current_working_directory"], file["file"]))
                    for line in file["lines"]:
                        number, count = line["line_number"], line["count"]
                        found[place][number] = max(found[place].get(number, 0), count)
    return found, mismatched
