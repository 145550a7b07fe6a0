"""devkit check on a real branch: every kind of finding, and the checkout as it was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import both_ways
from tests.forks import REPOSITORY

if TYPE_CHECKING:
    from tests.conftest import Devkit


HOOK = """import pathlib
import sys

for name in sys.argv[1:]:
    path = pathlib.Path(name)
    if "bad" in path.read_text():
        print(f"{name}:2:1: bad word")
        sys.exit(1)
    if "teh" in path.read_text():
        path.write_text(path.read_text().replace("teh", "the"))
        print("mended", name)
        sys.exit(1)
"""
CONFIG = """repos:
  - repo: local
    hooks:
      - id: spelling
        name: spelling
        entry: python3 spelling.py
        language: system
        files: \\.py$
        exclude: spelling
"""
MONEY = '''def add(a, b):
    """Return the sum.

    >>> add(1, 2)
    3
    """
    return a + b


def untested():
    return 1
'''
TEST = """import unittest

from money import add


class T(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(1, 2), 3)
"""


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a base on its remote, and a branch with one commit."""
    forge, folder = tmp_path / "forge", tmp_path / "clone"
    git(tmp_path, "init", "-q", "-b", "develop", str(forge))
    files = {"money.py": MONEY, "tests/test_money.py": TEST, ".pre-commit-config.yaml": CONFIG, "spelling.py": HOOK}
    for name, text in files.items():
        (forge / name).parent.mkdir(exist_ok=True)
        (forge / name).write_text(text)
    git(forge, "add", "-A")
    git(forge, "commit", "-q", "-m", "Begin")
    git(tmp_path, "clone", "-q", "-o", "upstream", str(forge), str(folder))
    git(folder, "config", "user.email", "test@example.com")
    git(folder, "switch", "-q", "-c", "mine")
    return folder


def everything(folder: Path) -> dict[str, str]:
    return {
        str(Path(place, name)): hashlib.sha256(Path(place, name).read_bytes()).hexdigest()
        for place, _, names in os.walk(folder)
        for name in names
    }


def found(devkit: Devkit, clone: Path, *words: str) -> tuple[int, dict[str, list[str]]]:
    said = devkit("check", "--json", *words, cwd=clone)
    assert said.out, said.err
    by: dict[str, list[str]] = {}
    for load in json.loads(said.out)["findings"]:
        by.setdefault(load["check"], []).append(load["message"])
        assert load["hint"]
    return said.status, by


def test_a_branch_that_is_fine_and_one_with_a_conflicts_markers(devkit: Devkit, clone: Path) -> None:
    (clone / "money.py").write_text(MONEY.replace("return 1", "return 2"))
    git(clone, "commit", "-qam", "Return two")
    assert found(devkit, clone, "--fast") == (0, {})
    (clone / "new.py").write_text("<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> other\n")
    before = everything(clone)
    assert found(devkit, clone, "--fast") == (4, {"conflict markers": ["a merge's markers are left"]})
    assert everything(clone) == before


def test_tests_coverage_and_examples_of_what_is_not_committed_too(devkit: Devkit, clone: Path) -> None:
    (clone / ".pre-commit-config.yaml").unlink()
    wrong = MONEY.replace("a + b", "a - b").replace("return 1", "return 2")
    (clone / "money.py").write_text(wrong)
    (clone / "test_new.py").write_text("import money\n\n\ndef test_new():\n    assert money.untested() == 2\n")
    before = everything(clone)
    planned = devkit("check", "--dry-run", "--env", sys.prefix, cwd=clone).out.splitlines()
    assert planned == [
        "run test_new.py before and after the change",
        "run tests/test_money.py before and after the change",
        "run the examples of add, money.py:2",
    ]
    assert devkit("check", "--dry-run", cwd=clone).out == "tests and examples are not run: there is no .venv here\n"
    said = devkit("check", "-v", "--env", sys.prefix, cwd=clone)
    runs = [words for words in both_ways.started(said) if "devkit/" in " ".join(words)]
    ran = {word.rpartition(f"/0/{side}/")[2] for side in ("base", "request") for words in runs for word in words[:5]}
    assert {word for word in ran if not word.startswith("-") and word.endswith(".py") and not word.startswith("/")} == {
        "test_new.py", "tests/test_money.py",
    }  # fmt: skip
    assert len([words for words in runs if "checks/examples.py" in words[1]]) == 1
    assert everything(clone) == before
    (clone / "test_new.py").unlink()
    before = everything(clone)
    status, by = found(devkit, clone, "--env", sys.prefix)
    assert everything(clone) == before
    assert status == 4
    assert by["tests"] == ["T::test_add passed before and fails with the change"]
    assert by["coverage"] == ["1 of 2 changed lines ran in no test: 11"]
    assert by["examples"] == ["add: got -1, not 3"]


EXAMPLES = {
    "value_that_no_line_awaits": (">>> {}.setdefault(1, 2)", ""),
    "digits_past_the_fifth": (">>> print([0.333333343])\n[0.33333331]", ""),
    "another_place": (">>> print('Tensor(shape=[1], place=Place(cpu))')\nTensor(shape=[1], place=Place(gpu:0))", ""),
    "passed_over": (">>> # doctest: +REQUIRES(env:GPU)\n>>> 1 / 0", ""),
    "in_part": (">>> # doctest: +SKIP('no')\n>>> 1 / 0\n>>> # doctest: -SKIP\n>>> print(1)\n2", "got 1, not 2"),
    "raises": (">>> 1 / 0", "ZeroDivisionError: division by zero"),
    "raises_as_told": (">>> 1 / 0\nTraceback (most recent call last):\nZeroDivisionError: division by zero", ""),
    "other": (">>> 1 + 1\n3", "got 2, not 3"),
    "invalid_python": (">>> def f(\n>>> x", "the example is not valid Python"),
}  # fmt: skip


def test_examples_are_run_as_the_documentation_job_runs_them(tmp_path: Path) -> None:
    rows = [
        {"file": "a.py", "module": "module_of_nobody", "name": name, "line": 1, "text": f"Say.\n\n{text}\n"}
        for name, (text, _) in EXAMPLES.items()
    ]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    program = str(REPOSITORY / "devkit" / "checks" / "examples.py")
    done = subprocess.run(
        [sys.executable, program, str(tmp_path / "list.json")], capture_output=True, text=True, check=True, timeout=120
    )
    examples = [json.loads(row[8:]) for row in done.stdout.splitlines() if row.startswith("EXAMPLE ")]
    assert {example["name"]: example["said"] if example["failed"] else "" for example in examples} == {
        name: said for name, (_, said) in EXAMPLES.items()
    }


@pytest.mark.engine
def test_hooks_run_on_a_copy_and_fix_takes_over_what_they_mended(devkit: Devkit, clone: Path) -> None:
    (clone / "money.py").write_text(MONEY + "# teh end\n")
    before = everything(clone)
    status, by = found(devkit, clone)
    assert everything(clone) == before
    assert (status, by["pre-commit"]) == (4, ["spelling: mended money.py"])
    (clone / "money.py").write_text(MONEY)
    (clone / "worse.py").write_text("x = 1\ny = 'bad'\n")
    hooked = json.loads(devkit("check", "--json", cwd=clone).out)["findings"][0]
    assert (hooked["file"], hooked["line"], hooked["hint"]) == ("worse.py", 2, "${EDITOR:-vi} +2 worse.py")
    assert hooked["message"] == "spelling: worse.py:2:1: bad word"
    (clone / "worse.py").unlink()
    (clone / "money.py").write_text(MONEY + "# teh end\n")
    fixed = devkit("check", "--fix", cwd=clone)
    assert "fixed: money.py" in fixed.err
    assert (clone / "money.py").read_text().endswith("# the end\n")


@pytest.mark.both_ways("check")
def test_the_dry_run_prints_what_would_be_run_and_refuses_as_the_run_does(devkit: Devkit, clone: Path) -> None:
    (clone / "money.py").write_text(MONEY + "# teh end\n")
    before = everything(clone)
    line = devkit("check", "--dry-run", cwd=clone).out.splitlines()[0]
    assert line.endswith("pre-commit run --color=never --files money.py")
    hook = clone / ".git" / "hooks" / "pre-push"
    assert devkit("check", "--install", "--dry-run", cwd=clone).out == f"write {hook}\n"
    assert everything(clone) == before
    hook.write_text("#!/bin/sh\nexit 0\n")
    dry, real = (devkit("check", "--install", *flags, cwd=clone) for flags in (["--dry-run"], []))
    assert (dry.status, dry.err) == (real.status, real.err)


def test_the_hook_is_installed_once_and_anothers_stays(devkit: Devkit, clone: Path) -> None:
    assert devkit("check", "--install", cwd=clone).status == 0
    hook = clone / ".git" / "hooks" / "pre-push"
    assert os.access(hook, os.X_OK)
    assert devkit("check", "--install", cwd=clone).status == 0
    hook.write_text("#!/bin/sh\nexit 0\n")
    refused = devkit("check", "--install", cwd=clone)
    assert refused.status == 1
    assert hook.read_text() == "#!/bin/sh\nexit 0\n"
    line = refused.err.splitlines()[2].partition("→")[2].partition("   ")[0]
    subprocess.run(["sh", "-c", line], check=True, timeout=60)
    with_line = hook.read_text()
    assert with_line.splitlines() == ["#!/bin/sh", "devkit check --fast </dev/null || exit 1", "exit 0"]
    assert devkit("check", "--install", cwd=clone).status == 0
    assert hook.read_text() == with_line
    git(clone, "config", "core.hooksPath", ".husky/_")
    assert "it is a file of the project" in devkit("check", "--install", cwd=clone).err
    assert (clone / ".husky" / "pre-push").is_file()
    git(clone, "config", "core.hooksPath", os.devnull)
    assert "git config --unset core.hooksPath" in devkit("check", "--install", cwd=clone).err


def test_what_a_later_commit_removed_links_and_clones_within_the_clone(devkit: Devkit, clone: Path) -> None:
    secret = "token = 'ghp_" + "a1" * 18 + "'\n"
    (clone / "money.py").write_text(MONEY + secret)
    (clone / "weights.bin").write_bytes(bytes(2 << 20))
    (clone / "there").symlink_to("/etc/passwd")
    git(clone, "init", "-q", "inner")
    git(clone / "inner", "commit", "-q", "--allow-empty", "-m", "Begin")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "Add too much")
    (clone / "money.py").write_text(MONEY)
    git(clone, "rm", "-q", "weights.bin")
    git(clone, "commit", "-qam", "Take it out again")
    status, by = found(devkit, clone, "--fast")
    assert status == 4
    assert {kind: [message.partition(" is in ")[0].partition(": ")[0] for message in by[kind]] for kind in by} == {
        "secrets": ["a token of GitHub"],
        "large files": ["2.00 MiB would stay in every clone"],
        "links": ["it leads to /etc/passwd, outside the project"],
        "submodules": ["it is a clone within this one"],
    }
    assert devkit("pr", "squash", "-m", "Add nothing", cwd=clone).status == 0
    assert set(found(devkit, clone, "--fast")[1]) == {"links", "submodules"}
