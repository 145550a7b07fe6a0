"""What a file is to a trial: tests, what they need beside them, or prose; and how a file of tests is run."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from devkit.tryout.settings import pytest_words
from devkit.tryout.syntax import imports_of, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TEST_FOLDERS = frozenset({"test", "tests", "unittests"})
TOP_FOLDERS = TEST_FOLDERS | {"testing", "bench", "benchmark", "benchmarks"}
"""Below the top alone: deeper they are a package's own code as often."""
TEST_FILE = re.compile(r"(?:^|/)(?:test_[^/]*|[^/]*_tests?)\.py$")
UNSURE = re.compile(r"(?:^|/)tests?\.py$")
"""Django's applications keep their tests in such a file; elsewhere it is a module like others."""
TEST_SUPPORT = re.compile(r"(?:^|/)conftest\.py$")
PROSE_FILE = re.compile(
    r"(?:\.(?:md|rst|adoc|svg|png|jpe?g|gif|ico|pdf)|(?:^|/)(?:LICENSE|NOTICE|AUTHORS|CHANGELOG|CODEOWNERS)[^/]*"
    r"|(?:^|/)(?:docs?|\.github/(?:ISSUE|PULL)[^/]*)/(?:.*/)?[^/]*\.(?:txt|ya?ml|html|css))$"
)


def doctest_files(listed: Iterable[str], read: Callable[[str], str]) -> list[str]:
    """Return the files of text whose examples the project runs as tests: ``--doctest-glob`` among pytest's options."""
    pairs = pairwise([*pytest_words(read, "addopts"), ""])
    globs = [word.partition("=")[2] or after for word, after in pairs if word.startswith("--doctest-glob")]
    return [path for path in listed if any(fnmatchcase(path.rpartition("/")[2], glob) for glob in globs)]


def _named_as_test(path: str, read: Callable[[str], str]) -> bool:
    """Tell whether the project's own patterns take a file for tests; ``*.py`` takes all of a folder of tests alone."""
    folder, _, name = path.rpartition("/")
    if name in ("conftest.py", "__init__.py"):
        return False
    patterns = set(pytest_words(read, "python_files"))
    narrow = any(fnmatchcase(name, pattern) for pattern in patterns - {"*.py"})
    return narrow or ("*.py" in patterns and bool(TEST_FOLDERS & set(folder.split("/"))))


def is_test(path: str, read: Callable[[str], str] | None = None) -> bool:
    """Tell whether a Python file holds tests, by its name as pytest and unittest look for them.

    Args:
        path: the file.
        read: returns a file's text; where a name alone does not tell, it decides.
    """
    folder, _, name = path.rpartition("/")
    if "/." in f"/{path}" or not name.endswith(".py"):
        return False
    if TEST_FILE.search(path) or (folder.rpartition("/")[2] in TEST_FOLDERS and name.startswith("test")):
        return True
    if read is None:
        return False
    return _named_as_test(path, read) or bool(UNSURE.search(path) and defined_tests(read(path), cases=True))


def belongs_to_tests(path: str, read: Callable[[str], str] | None = None) -> bool:
    """Tell whether a file is laid over the base with the request's tests: tests, and what they need beside them."""
    folders = PurePosixPath(path).parts[:-1]
    inside = bool(TEST_FOLDERS & set(folders) or TOP_FOLDERS & set(folders[:1]))
    return inside or is_test(path, read) or bool(TEST_SUPPORT.search(path))


def is_prose_file(path: str) -> bool:
    """Tell whether a file is there for people alone: nothing that runs reads it."""
    return bool(PROSE_FILE.search(path))


def holds_tests(text: str) -> bool:
    """Tell whether a file named as a test means to hold some; helpers beside the tests do not."""
    tree = parse(text)
    if tree is None:
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            return True
        if isinstance(node, ast.ClassDef) and (
            node.name.startswith("Test") or any("Test" in ast.unparse(base) for base in node.bases)
        ):
            return True
    return bool(re.search(r"__main__|globals\(\)|unittest\.main|load_tests", text))


def defined_tests(text: str, *, cases: bool = False) -> set[str]:
    """Return what may be the tests of a file, as ``Class::method`` or ``function``; ``Class::`` for each class.

    Args:
        text: what it holds.
        cases: whether only those of classes count that are named, or derive from one that is named, as a test.
    """
    tree = parse(text)
    found: set[str] = set()
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not cases:
            found.add(node.name)
        elif isinstance(node, ast.ClassDef) and not (cases and "Test" not in ast.unparse(node).partition(":")[0]):
            methods = {
                f"{node.name}::{stmt.name}"
                for stmt in node.body
                if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef)
                and (not cases or stmt.name.startswith("test"))
            }
            found |= methods | ({f"{node.name}::"} if methods or not cases else set())
    return found


def style_of(text: str, *, pytest_project: bool) -> str:
    """Return how a test file is run: ``pytest``, ``unittest`` (loaded) or ``script`` (it runs itself).

    Args:
        text: what it holds.
        pytest_project: whether the project says that its tests run under pytest.
    """
    tree = parse(text)
    if tree is None:
        return "pytest" if pytest_project else "script"
    main = [
        ast.unparse(node)
        for node in tree.body
        if (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))
        or (isinstance(node, ast.Expr) and re.match(r"(?:unittest\.)?main\(|pytest\.main\(", ast.unparse(node)))
    ]
    started = "\n".join(main)
    functions = any(isinstance(node, ast.FunctionDef) and node.name.startswith("test") for node in tree.body)
    imported = imports_of(tree, "tests").modules
    uses_pytest = "pytest" in imported
    in_package = any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
    if "pytest.main" in started or (pytest_project and not started):
        return "pytest"
    if "main(" in started or "TextTestRunner" in started:
        if functions and not _has_cases(tree):
            return "pytest"
        return "unittest" if in_package else "script"  # with relative imports it cannot run itself
    if pytest_project or uses_pytest or functions:
        return "pytest"
    return "unittest" if "unittest" in imported or _has_cases(tree) else "pytest"


def _has_cases(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ClassDef) and any("TestCase" in ast.unparse(base) for base in node.bases)
        for node in tree.body
    )
