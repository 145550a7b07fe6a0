"""What people read is said in the field's words."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
# What we once said, and what is said instead.
PHRASES = {
    r"(?<![Tt]here )\bis no (?:wheel|lock|entry|folder|file|address|environment|setting|target|path)\b": "not a",
    r"\b(?:could not|cannot) be had\b": "could not be downloaded",
    r"\b(?:SHA-256|MD5|checksum|archive|wheel) is another\b": "has the wrong checksum",
    r"\bin a circle\b": "redirect loop",
    r"\bearlier making of\b": "was left half-made",
    r"\bbegun anew\b": "starting over",
    r"\bgoes on in this checkout\b": "is in progress",
    r"\bthe conversation\b": "progress and messages",
    r"\bcompilations? (?:was |were )?spared\b": "cache hits",
    r"\bfar side\b": "remote",
}


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield a module's strings that are not docstrings, and their lines."""
    parsed = ast.parse(path.read_text("utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(parsed)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(parsed):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def read() -> Iterator[tuple[str, str]]:
    """Yield all that people read, and where it is."""
    for room in ("devkit", "commands", "kernels"):
        for path in (ROOT / room).rglob("*.py"):
            if path.resolve() == path:
                for line, text in strings(path):
                    yield f"{path.relative_to(ROOT)}:{line}", text
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        if path.name != "CHANGELOG.md":
            for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
                yield f"{path.relative_to(ROOT)}:{number}", text


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    """What people read."""
    return list(read())


@pytest.mark.parametrize("phrase", PHRASES)
def test_people_read_the_fields_words(phrase: str, texts: list[tuple[str, str]]) -> None:
    found = [f"{where}: {text[:80]}" for where, text in texts if re.search(phrase, text)]
    assert found == [], PHRASES[phrase]
