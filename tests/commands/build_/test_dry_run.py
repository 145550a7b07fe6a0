"""Every command of builds that has ``--dry-run``, both ways: the lines that it shows are those that it runs."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit import commands

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit
    from tests.forks import Result

ROOM = Path(commands.__file__).parent / "build_"


def planned(result: Result) -> list[str]:
    found: list[str] = json.loads(result.out)["plan"]
    return found


def refusal(result: Result) -> str:
    """What a command refused and what it says to do about it."""
    return result.err[result.err.index("✗") :] if "✗" in result.err else ""


def both(devkit: Devkit, project: Project, *words: str) -> tuple[Result, Result]:
    """Run a command as a dry run, and then as it is, every line that it starts told."""
    dry = devkit(*words, "--dry-run", "--json", cwd=project.root)
    real = devkit(*words, "--verbose", cwd=project.root)
    assert dry.status == real.status, f"{dry.err}\n{real.err}"
    assert refusal(dry) == refusal(real)
    return dry, real


def started(result: Result) -> list[str]:
    return re.findall(r"^\$ (.+)$", result.err, re.MULTILINE)


def test_each_command_that_has_a_dry_run_is_run_both_ways_here() -> None:
    have = {path.stem for path in ROOM.rglob("[!_]*.py") if "dry_run: DryRun" in path.read_text("utf-8")}
    elsewhere = {"test"}  # test_clean_and_test.py
    assert have - elsewhere == {"build", "clean", "overlay", "preflight", "sync"}


def test_a_build_runs_the_lines_that_it_shows_and_then_those_that_are_left(devkit: Devkit, project: Project) -> None:
    line = ("build", "--env", str(project.env), "-j", "2")
    dry, real = both(devkit, project, *line)
    lines = planned(dry)
    assert [word.split()[0].rpartition("/")[2] for word in lines] == ["cmake", "ninja", "ninja", "uv", "python"]
    ran = started(real)
    for word in lines[:4]:
        assert any(fnmatch(one, word.replace("[", "[[]")) for one in ran), (word, ran)
    again, real = both(devkit, project, *line)
    assert [word.split()[0] for word in planned(again)] == ["ninja"]
    assert "wheel      " in again.err
    assert not [word for word in started(real) if word.startswith(("cmake", "ninja -C")) and word not in planned(again)]
    (project.root / "python" / "paddle" / "new.py").write_text("x = 1\n")
    edited = devkit(*line, "--dry-run", "--json", cwd=project.root)
    assert [word.split()[0].rpartition("/")[2] for word in planned(edited)] == ["ninja", "ninja", "uv", "python"]
    fresh = devkit(*line, "--fresh", "--dry-run", "--json", cwd=project.root)
    assert [word.split()[0] for word in planned(fresh)[:2]] == ["rm", "cmake"]
    copies = project.build / "python" / "paddle"
    (copies / "new.py").unlink(missing_ok=True)
    dry, _ = both(devkit, project, "build", "sync")
    assert planned(dry) == [f"cp {project.root}/python/paddle/new.py {copies}/new.py"]
    assert (copies / "new.py").is_file()
    dry, _ = both(devkit, project, "build", "clean", "objects")
    assert planned(dry)
    assert not [path for path in (word.removeprefix("rm -r ") for word in planned(dry)) if Path(path).exists()]


def refused_by_preflight(project: Project) -> None:
    (project.packages / "jinja2.py").unlink()
    for info in project.packages.glob("jinja2-*"):
        (info / "RECORD").unlink()
        (info / "METADATA").unlink()


def other_generator(project: Project) -> None:
    project.build.mkdir()
    (project.build / "CMakeCache.txt").write_text("CMAKE_GENERATOR:INTERNAL=Unix Makefiles\n")


def nothing(_project: Project) -> None:
    """Leave the project as it is."""


@pytest.mark.parametrize(
    ("words", "prepare", "said"),
    [
        (("build", "--from", "submodules"), other_generator, "was configured for Unix Makefiles"),
        (("build", "--only", "compile"), nothing, "is not configured"),
        (("build", "--only", "wheel"), nothing, "is not configured"),
        (("build", "--only", "install"), nothing, "there is no wheel in"),
        (("build", "--only", "verify"), nothing, "there is no"),
        (("build", "--from", "submodules", "-D", "WITH_PYTHON=OFF"), nothing, "this build makes no wheel"),
        (("build", "--offline"), nothing, "neither in the tree nor in the cache"),
        (("build", "clean", "nonsense"), nothing, "unknown kind nonsense"),
        (("build", "sync"), nothing, "there is no"),
        (("build", "overlay", "--wheel", "installed"), nothing, ""),
        (("build", "overlay", "--remove"), nothing, ""),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(
    devkit: Devkit, project: Project, words: tuple[str, ...], prepare: Callable[[Project], None], said: str
) -> None:
    prepare(project)
    env = () if words[1] in {"clean", "sync"} else ("--env", str(project.env))
    dry, _ = both(devkit, project, *words, *env)
    assert said in dry.err
    if said:
        assert dry.status in {1, 2}


def test_a_preflight_that_fixes_shows_its_lines_and_ends_as_it_does(devkit: Devkit, project: Project) -> None:
    archive = project.root / "third_party" / "lapack" / "Linux" / "lapack_lnx_v1.tar.gz"
    archive.parent.mkdir(parents=True)
    archive.touch()
    dry, real = both(devkit, project, "build", "preflight", "--offline", "--fix", "--env", str(project.env))
    assert planned(dry) == [f"rm -- {archive}"]
    assert "rm -- " in real.err + real.out
    assert not archive.exists()
