"""devkit bisect on a real history: the commit is found, what does not build is skipped, the checkout is not touched."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.bisecting.search import Bisected, Search, answer_of, following, parse_candidates, run, steps_left, suspects

if TYPE_CHECKING:
    from tests.conftest import Devkit


ENV = ("--env", sys.prefix)
TEST = """import unittest

import money


class T(unittest.TestCase):
    def test_it(self):
        self.assertEqual(money.VALUE, 1)
"""


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """Nine commits; the sixth makes it bad, the fifth does not build. All files are of one size.

    Python knows what it compiled by a file's size and the second of its time, which checkouts within a second share.
    """
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    folder = tmp_path / "clone"
    git(tmp_path, "init", "-q", "-b", "develop", str(folder))
    (folder / "devkit.toml").write_text("[try]\nbuild = 'sh build.sh'\n")
    (folder / "test_money.py").write_text(TEST)
    (folder / ".gitignore").write_text("__pycache__\n")
    commits = []
    for number in range(9):
        (folder / "build.sh").write_text("exit 1\n" if number == 4 else "exit 0\n")
        (folder / "money.py").write_text(f"VALUE = {1 if number < 5 else 2}  # {number}\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", f"Commit {number}")
        commits.append(git(folder, "rev-parse", "HEAD"))
    return folder, commits


def everything(folder: Path) -> dict[str, str]:
    return {
        str(Path(place, name)): hashlib.sha256(Path(place, name).read_bytes()).hexdigest()
        for place, _, names in os.walk(folder)
        for name in names
    }


def test_a_command_finds_the_suspects_and_the_checkout_is_not_touched(
    devkit: Devkit, history: tuple[Path, list[str]]
) -> None:
    folder, commits = history
    (folder / "money.py").write_text("mine\n")
    before = everything(folder)
    code = "import money, sys; sys.exit(money.VALUE != 1)"
    said = devkit("bisect", "--good", commits[0], "--json", *ENV, "--", sys.executable, "-c", code, cwd=folder)
    assert everything(folder) == before
    assert said.status == 1, said.err
    found = json.loads(said.out)
    assert sorted(found["suspects"]) == sorted(commits[4:6]), "the commit before it does not build"
    assert [step["answer"] for step in found["steps"] if step["commit"] == commits[4]] == ["skip"]


def test_a_test_file_finds_the_commit(devkit: Devkit, history: tuple[Path, list[str]]) -> None:
    folder, commits = history
    line = ("bisect", "--good", commits[5], "--bad", "HEAD", "--test", "test_money.py", *ENV)
    wrong = devkit(*line, cwd=folder)
    assert wrong.status == 1
    assert f"{commits[5][:10]}, given as good, is bad" in wrong.err
    git(folder, "commit", "-q", "--allow-empty", "-m", "More")
    (folder / "money.py").write_text("VALUE = 1\n")
    git(folder, "commit", "-qam", "Mend")
    good = git(folder, "rev-parse", "HEAD")
    (folder / "money.py").write_text("VALUE = 3\n")
    git(folder, "commit", "-qam", "Break")
    bad = git(folder, "rev-parse", "HEAD")
    git(folder, "commit", "-q", "--allow-empty", "-m", "More")
    said = devkit("bisect", "--good", good, "--test", "test_money.py", "--json", *ENV, cwd=folder)
    assert said.status == 0, said.err
    assert json.loads(said.out)["first_bad"] == bad


def test_one_test_of_a_file_asks_all_commits_as_the_bad_one_has_it(
    devkit: Devkit, history: tuple[Path, list[str]]
) -> None:
    folder, commits = history
    (folder / "test_money.py").write_text(
        "import money\n\n\ndef test_never():\n    assert money.VALUE == 7\n\n\n"
        "def test_small():\n    assert money.VALUE < 3\n"
    )
    (folder / "money.py").write_text("VALUE = 3\n")
    line = "python -m pytest -q -p no:cacheprovider {file} --junitxml={report}"
    (folder / "devkit.toml").write_text(f"[try]\nbuild = 'sh build.sh'\ntest = '{line}'\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Break, with a test that would have told, and the project's own line to run it")
    bad = git(folder, "rev-parse", "HEAD")
    asked = ("bisect", "--good", commits[6], "--json", *ENV, "--test")
    said = devkit(*asked, "test_money.py::test_small", cwd=folder)
    assert said.status == 0, said.err
    assert json.loads(said.out)["first_bad"] == bad
    none = devkit(*asked, "test_money.py::test_absent", cwd=folder)
    assert none.status == 1
    assert "test_absent" in none.err


@pytest.mark.both_ways("bisect")
def test_the_dry_run_is_the_plan_and_refuses_as_the_run_does(
    devkit: Devkit, history: tuple[Path, list[str]], home: Path
) -> None:
    folder, commits = history
    for words in (
        ("--good", commits[0]),
        ("--good", "nowhere", "--", "true"),
        ("--good", commits[3], "--bad", commits[1], "--", "true"),
        ("--good", commits[0], "--test", "none.py"),
        ("--good", commits[0], "--env", "nowhere", "--", "true"),
    ):
        dry, real = (devkit("bisect", *flags, *words, cwd=folder) for flags in (("--dry-run",), ()))
        assert (dry.status, dry.err) == (real.status, real.err)
        assert dry.status in {1, 2}
    before = everything(home)
    planned = devkit("bisect", "--good", commits[0], "--dry-run", *ENV, "--", "true", cwd=folder)
    assert everything(home) == before
    assert planned.status == 0
    assert "8 commits, about 3 of them are tried" in planned.err
    run = devkit("bisect", "-v", "--good", commits[0], *ENV, "--", "true", cwd=folder)
    assert run.status == 1, "the bad commit is good"
    ran = [row.strip().removeprefix("$ ") for row in run.err.splitlines()]
    assert [row for row in ran if row in planned.out.splitlines()] == planned.out.splitlines()


@pytest.mark.parametrize(
    ("status", "answer"), [(0, "good"), (1, "bad"), (127, "bad"), (125, "skip"), (128, None), (-9, None)]
)
def test_a_status_says_what_git_says_that_it_does(status: int, answer: str | None) -> None:
    assert answer_of(status) == answer


@pytest.mark.parametrize(
    "line", ["python -m pytest tests/test_a.py", "pytest -m slow", "/a/.venv/bin/py.test", "python3 -W error -m pytest"]
)
@pytest.mark.parametrize(("status", "answer"), [(0, "good"), (1, "bad"), (2, "bad"), (4, "skip"), (5, "skip")])
def test_a_commit_in_which_pytest_finds_no_test_answers_nothing(line: str, status: int, answer: str) -> None:
    assert answer_of(status, line.split()) == answer
    assert answer_of(5, ["make", "pytest"]) == "bad"


@pytest.mark.parametrize("first", range(1, 20))
def test_the_first_bad_of_a_line_of_commits_is_found_in_few_steps(first: int) -> None:
    commits = [str(number) for number in range(20)]

    def ask(search: Search) -> list[str]:
        low, high = max(map(int, search.good)), int(search.bad)
        return sorted(commits[low + 1 : high + 1], key=lambda commit: abs(int(commit) - (low + high) / 2))

    search = Search("19", ["0"])
    found = run(search, ask, lambda commit: Bisected(commit, "bad" if int(commit) >= first else "good"))
    assert found == [str(first)]
    assert len(search.steps) <= steps_left(20) + 1


def test_what_was_skipped_stays_a_suspect() -> None:
    search = Search("c", ["a"], {"b"})
    assert following(["b", "c"], search) == ""
    assert suspects(["b", "c"], search) == ["b", "c"]
    assert parse_candidates("b (dist=1)\nc (dist=0, tag: x)\n") == ["b", "c"]
