"""``--dry-run`` and the run: the same plan, status and refusals, of every command that has it."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.commands._cli import tree
from devkit.commands._cli.typer_command import load
from devkit.runs import RunStore
from tests.both_ways import never_started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Devkit
    from tests.forks import Result

TESTS = Path(__file__).parents[1]


def commands(node: tree.Node = tree.ROOT) -> Iterator[str]:
    """Yield the words of each command that has ``--dry-run``."""
    if node.own_command and any("--dry-run" in param.opts for param in load(node).params):
        yield " ".join(node.words)
    for child in node.children().values():
        yield from commands(child)


def lines_of(node: ast.AST) -> Iterator[str]:
    """Yield the strings below a node, and those that stand beside each other as one."""
    for below in ast.walk(node):
        if isinstance(below, ast.Constant) and isinstance(below.value, str):
            yield below.value
        elif isinstance(below, (ast.Call, ast.Tuple, ast.List)):
            parts = below.args if isinstance(below, ast.Call) else below.elts
            yield " ".join(part.value for part in parts if isinstance(part, ast.Constant) and type(part.value) is str)


def run_both_ways() -> Iterator[str]:
    """Yield the lines in modules of this name, and what a test elsewhere says by its mark that it runs both ways."""
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text("utf-8")
        if path.name == "test_dry_run.py":
            yield from lines_of(ast.parse(text))
        else:
            yield from re.findall(r'^@pytest\.mark\.both_ways\("(.+)"\)$', text, re.MULTILINE)


def test_every_command_with_a_dry_run_is_run_both_ways() -> None:
    have, tried = sorted(commands()), list(run_both_ways())
    assert {"build", "pr fetch", "train export"} <= set(have)
    ran = {max((words for words in have if f"{line} ".startswith(f"{words} ")), key=len, default="") for line in tried}
    assert [words for words in have if words not in ran] == []


def files(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, but for the records of runs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {"runs", "__pycache__", ".git"} & set(path.parts)
    }


def both(devkit: Devkit, line: str, *, cwd: Path, watched: Path) -> tuple[list[str], Result]:
    """Run a line with ``--dry-run``, which changes nothing, and without; return the plan and what the run said."""
    words, *behind = line.partition(" -- ")
    script = shlex.split("".join(behind))
    before = files(watched)
    dry = devkit(*shlex.split(words), "--dry-run", *script, cwd=cwd)
    assert files(watched) == before
    real = devkit(*shlex.split(words), "-v", *script, cwd=cwd)
    assert dry.status == real.status, (dry, real)
    if dry.status:
        assert refusal(dry) == refusal(real)
        assert files(watched) == before
    return dry.out.splitlines(), real


def refusal(result: Result) -> list[str]:
    return [line for line in result.err.splitlines() if line.startswith(("✗", "  →"))]


@pytest.mark.parametrize(
    "line",
    [
        "config set runs.keep 7",
        "config set runs.keep many",
        "config set nothing 7",
        "config unset runs.max-mib",
        "config unset runs.keep",
        "config unset nothing",
    ],
)
def test_a_setting(devkit: Devkit, home: Path, tmp_path: Path, line: str) -> None:
    assert devkit("config", "set", "runs.max-mib", "100").status == 0
    planned, real = both(devkit, line, cwd=tmp_path, watched=home)
    (path,) = home.rglob("config.toml")
    if real.status == 0 and planned:
        assert str(path) in planned[0]
        assert ("keep = 7" in path.read_text(), "max-mib" in path.read_text()) == (
            "set" in line.split(),
            "unset" not in line,
        )


@pytest.mark.parametrize(
    "line", ["new trainer mine", "new layer", "new editor", "op new mine", "op new mine --dir there"]
)
def test_files_from_a_template(devkit: Devkit, tmp_path: Path, line: str) -> None:
    planned, real = both(devkit, line, cwd=tmp_path, watched=tmp_path)
    assert real.status == 0, real.err
    assert sorted(planned) == sorted(f"write {path}" for path in files(tmp_path))
    both(devkit, line, cwd=tmp_path, watched=tmp_path)  # what is there is replaced by neither


@pytest.mark.parametrize(
    "line", ["new nothing", "new layer ../up", "op new 1st", "op new my_grad", "op new x --in-tree"]
)
def test_what_no_template_makes(devkit: Devkit, tmp_path: Path, line: str) -> None:
    _, real = both(devkit, line, cwd=tmp_path, watched=tmp_path)
    assert real.status in {1, 2}


def test_old_records(devkit: Devkit, home: Path, tmp_path: Path) -> None:
    store = RunStore(home / ".local/state/devkit/runs", keep=200, max_mib=2048)
    for _ in range(3):
        with store.start("doctor", argv=["doctor"]):
            pass
    there = {entry.folder for entry in store.entries()}
    planned, real = both(devkit, "runs clean --keep 1", cwd=tmp_path, watched=home)
    assert real.status == 0, real.err
    gone = {folder for folder in there if not folder.exists()}
    assert len(gone) == 2
    assert sorted(planned) == sorted(f"rm -r -- {folder}" for folder in gone)


@pytest.mark.parametrize(
    "line",
    [
        "launch --nproc 2 -- hello.py",
        "launch -- nothing.py",
        "launch --nproc 0 -- hello.py",
        "launch --gpus 99 -- hello.py",
        "launch --nnodes 2 -- hello.py",
        "launch --show no -- hello.py",
        "launch --env nowhere -- hello.py",
        "launch --hosts ,, -- hello.py",
    ],
)
def test_ranks_of_a_script(devkit: Devkit, tmp_path: Path, line: str) -> None:
    (tmp_path / "hello.py").write_text("import os, sys\nprint(os.environ['PADDLE_TRAINER_ID'], sys.executable)\n")
    planned, real = both(devkit, line, cwd=tmp_path, watched=tmp_path)
    assert (real.status == 0) is (line == "launch --nproc 2 -- hello.py"), real.err
    if real.status == 0:
        assert len(planned) == 2
        assert all("PADDLE_TRAINER_ID" in rank and "hello.py" in rank for rank in planned)
        assert subprocess.run(["sh", "-n", "-c", "\n".join(planned)], check=False, timeout=60).returncode == 0
        assert never_started(planned, real) == []
