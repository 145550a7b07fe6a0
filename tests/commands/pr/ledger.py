"""A small repository with requests, a clone of it, and ``devkit pr try`` in that."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.commands.pr.random_clones import fork_devkit

if TYPE_CHECKING:
    from collections.abc import Mapping

MONEY = """def add(a, b):
    return a + b


def total(values):
    result = 0
    for value in values:
        result = add(result, value)
    return result


def mean(values):
    return total(values) / len(values)
"""
TEST_MONEY = """import unittest

from ledger.money import mean, total


class Money(unittest.TestCase):
    def test_total(self):
        self.assertEqual(total([1, 2]), 3)

    def test_mean_of_nothing(self):
        self.assertEqual(mean([]), 0)


if __name__ == "__main__":
    unittest.main()
"""
BENCH = "from ledger.money import total\n\ntotal(list(range(100_000)))\n"
BASE = {
    "ledger/__init__.py": "from ledger.money import add, total\n",
    "ledger/money.py": MONEY,
    "ledger/words.py": "def join(words):\n    return ' '.join(words)\n",
    "tests/test_money.py": TEST_MONEY,
    "benchmarks/bench_total.py": BENCH,
}


@dataclass
class Ledger:
    """A forge's repository with requests, and a clone of it."""

    folder: Path

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    def git(self, *words: str, cwd: Path | None = None) -> str:
        line = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", *words]  # in a module's fixture too
        place = cwd or self.folder / "forge"
        done = subprocess.run(line, cwd=place, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / "forge" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def request(self, number: int, **files: str) -> None:
        """Push a request; names have ``__`` for a slash and end in ``_`` and their suffix."""
        self.git("checkout", "-q", "-B", "request", "develop")
        self.write({name.replace("__", "/").replace("_DOT_", "."): text for name, text in files.items()})
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"request {number}")
        self.git("update-ref", f"refs/pull/{number}/head", "HEAD")
        self.git("checkout", "-q", "develop")

    def say(self, *words: str, env: str = sys.prefix) -> tuple[int, str]:
        state = self.folder / "state"
        return fork_devkit(("pr", "try", *words, *(("--env", env) if env else ())), self.clone, state)

    def tried(self, *words: str, env: str = sys.prefix) -> tuple[int, dict[str, Any]]:
        often = () if "--repeat" in words else ("--repeat", "1")
        status, text = self.say(*words, *often, "--json", env=env)
        found: dict[str, Any] = json.JSONDecoder().raw_decode(text[text.index("{") :])[0]
        return status, found


def start(folder: Path, files: Mapping[str, str]) -> Ledger:
    ledger = Ledger(folder)
    (folder / "forge").mkdir()
    ledger.git("init", "-q", "-b", "develop", ".")
    ledger.write(files)
    ledger.git("add", "-A")
    ledger.git("commit", "-q", "-m", "begin")
    ledger.git("clone", "-q", str(folder / "forge"), str(folder / "clone"), cwd=folder)
    return ledger


def everything(folder: Path) -> dict[str, str]:
    """Return every file of a clone, git's own too, with the hash of what it holds."""
    found = {}
    for directory, _, names in os.walk(folder):
        for name in names:
            path = Path(directory, name)
            held = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(folder))] = hashlib.sha256(held).hexdigest()
    return found


def words(found: dict[str, Any]) -> dict[str, str]:
    return {test["test"] or test["file"]: test["verdict"] for test in found["tests"]}
