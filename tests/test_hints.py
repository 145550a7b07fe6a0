"""Every line of devkit that the code advises exists and parses, whatever is filled into it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.commands._cli import tree
from tests.hints import fault

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parent.parent
SOURCES = [
    path
    for room in ("devkit", "commands")
    for path in sorted((REPOSITORY / room).rglob("*.py"))
    if path.resolve().is_relative_to(REPOSITORY / room)
]
FILLED = "NAME"  # stands for what is filled in when the line is shown


def text_of(node: ast.AST) -> str | None:
    """Return a string of the source, with ``FILLED`` for what it is filled with."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else FILLED for part in node.values)  # type: ignore[misc]
    return None


def advised_in(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of devkit that a module advises: strings that begin with it, and hints made of words."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Hint.of":
            words = [text_of(arg) or FILLED for arg in node.args if not isinstance(arg, ast.Starred)]
            if words[:1] == ["devkit"]:
                yield node.lineno, " ".join(words)
        elif isinstance(node, ast.Call):
            for arg in node.args:
                text = text_of(arg)
                if text and text.startswith("devkit ") and "\n" not in text and not is_prose(text) and "(?" not in text:
                    yield node.lineno, text.partition("   ")[0].strip()


def is_prose(text: str) -> bool:
    """Tell whether a string that begins with devkit's name is a sentence about it."""
    words = text.partition("   ")[0].split()
    return text.endswith(".") or (len(words) > 3 and words[1] not in tree.ROOT.children() and words[1].islower())


def test_the_reader_of_advice_knows_good_from_bad() -> None:
    assert fault("devkit doctor") == ""
    assert fault("devkit pr fetch NAME --branch NAME") == ""
    assert "no such command" in fault("devkit pr nonsense")
    assert "--nonsense" in fault("devkit doctor --nonsense")
    assert "line of a shell" in fault("devkit get 'half")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_is_advised_can_be_typed(path: Path) -> None:
    wrong = [f"line {line}: {found}" for line, text in advised_in(path) if (found := fault(text))]
    assert wrong == []
