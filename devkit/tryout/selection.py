"""Which test files a change concerns, by the syntax tree: those that import or call what it changes, ranked."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from devkit.tryout.syntax import Imports, definitions, imports_of, parse, users_in_module, uses

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

SOURCE_ROOTS = ("python/", "src/", "lib/")
DISTANCE = 2
COMMON = 3
"""A method's name alone says nothing where it is as short as this."""
RANKS = {
    "changed": "the request changes it",
    "examples": "the request changes it, and the project runs its examples",
    "calls": "it calls what the request changes",
    "imports": "it imports the changed module, or one that names a changed file",
    "indirect": "it calls what uses what the request changes",
    "fixture": "it takes fixtures from a conftest.py or a plugin that the request changes",
    "settings": "the request changes pytest's settings",
    "operator": "it is named after an operator that the request changes",
    "named": "it names a file or module that the request changes",
}


@dataclass(frozen=True)
class Names:
    """What changed in a module: qualified names of functions and classes; none where it is code outside them."""

    module: str
    changed: frozenset[str]


@dataclass(frozen=True)
class Chosen:
    """A test file, why it is concerned (a key of ``RANKS``), and by which name."""

    path: str
    rank: str
    name: str = ""


def plugins(conftests: Iterable[str], read: Callable[[str], str]) -> dict[str, str]:
    """Return the modules that are plugins of pytest's: their dotted names → the conftest.py that names them."""
    found: dict[str, str] = {}
    for path in conftests:
        tree = parse(read(path))
        for node in tree.body if tree else ():
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytest_plugins":
                words = [word.value for word in ast.walk(node.value) if isinstance(word, ast.Constant)]
                found |= {word: path for word in words if isinstance(word, str)}
    return found


def is_for_all(text: str, names: Collection[str]) -> bool:
    """Tell whether what changed in a conftest.py or plugin concerns tests that do not name it: hooks, autouse."""
    tree = parse(text)
    for name, _, _, node in definitions(tree) if tree else ():
        decorators = " ".join(map(ast.unparse, getattr(node, "decorator_list", [])))
        if name in names and (name.startswith("pytest_") or "autouse=True" in decorators):
            return True
    return False


def beside(
    changed: Collection[tuple[str, Collection[str]]], tests: Iterable[str], read: Callable[[str], str]
) -> list[Chosen]:
    """Return the test files that take what changed from a ``conftest.py`` above them.

    Args:
        changed: a conftest.py, and the names that changed in it or in a plugin that it names; none where all of it
            may matter.
        tests: every test file.
        read: returns a file's text.
    """
    found = []
    for path in tests:
        for conftest, names in sorted(changed):
            folder = conftest.rpartition("/")[0]
            if folder and not path.startswith(f"{folder}/"):
                continue
            words = [name.rpartition(".")[2] for name in names]
            hit = next((word for word in words if re.search(rf"\b{re.escape(word)}\b", read(path))), "")
            if hit or not words:
                found.append(Chosen(path, "fixture", hit or conftest))
                break
    return found


def naming(
    files: Iterable[str], modules: Iterable[str], tests: Iterable[str], read: Callable[[str], str]
) -> list[Chosen]:
    """Return the test files that name a changed file or module: they read it, start it, or replace what is in it.

    Args:
        files: the changed ones that are not Python's.
        modules: the changed modules, by their dotted names.
        tests: every test file.
        read: returns a file's text.
    """
    names = {rf"(?<![\w.-]){re.escape(file.rpartition('/')[2])}(?![\w-])" for file in files}
    for module in modules:
        dotted = module.removesuffix(".__main__")
        within = re.escape(dotted) if "." not in dotted else rf"{re.escape(dotted)}(?:\.[\w.]+)?"
        names |= {rf"""(?<=['"]){within}(?=['"])"""}  # as a string: what it imports was seen already
        names |= {rf"(?<![\w.-]){re.escape(dotted.replace('.', '/'))}\.py\b"} if "." in dotted else set()
    if not names:
        return []
    wanted = re.compile("|".join(sorted(names)))
    return [Chosen(path, "named", match[0]) for path in tests if (match := wanted.search(read(path)))]


def importing(modules: Iterable[str], texts: Iterable[str], read: Callable[[str], str]) -> list[Chosen]:
    """Return the files of text whose examples import a changed module."""
    words = "|".join(map(re.escape, modules))
    wanted = re.compile(rf">>> (?:from|import) ({words})\b")
    return [Chosen(path, "named", match[1]) for path in texts if words and (match := wanted.search(read(path)))]


def module_of(path: str) -> str:
    """Return the name that a file of the tree is imported by."""
    path = path.rpartition("/src/")[2]
    for root in SOURCE_ROOTS:
        if path.startswith(root):
            path = path[len(root) :]
            break
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def concern(imports: Imports, names: Names) -> tuple[str, str]:
    """Return how a file is concerned by changed names (``calls``, ``imports`` or nothing) and by which name.

    A name that a package hands on counts under every module of that package: ``paddle.diff`` is
    ``paddle.tensor.math.diff``.
    """
    top = names.module.partition(".")[0]
    for name in sorted(names.changed, key=lambda dotted: (dotted.count("."), dotted)):
        parts = name.split(".")
        wanted = parts[0]
        for used in imports.calls | frozenset(imports.names.values()):
            inside = used.split(".")
            if inside[0] == top and wanted in inside[1:] and (len(parts) == 1 or parts[-1].startswith("__")):
                return "calls", f"{names.module}.{name}"
            if inside[0] == top and len(parts) > 1 and wanted in inside and parts[-1] in imports.attributes:
                return "calls", f"{names.module}.{name}"
        methods = len(parts) > 1 and len(parts[-1]) > COMMON and parts[-1] in imports.attributes
        if methods and names.module in imports.modules:
            return "calls", f"{names.module}.{name}"
    whole = not names.changed
    mentioned = names.module in imports.modules or any(
        used == names.module or (whole and used.startswith(f"{names.module}.")) for used in imports.names.values()
    )
    if whole and mentioned:
        return "imports", names.module
    return "", ""


def select(
    changed: Collection[tuple[str, Names]],
    own: Iterable[str],
    tests: Iterable[str],
    read: Callable[[str], str],
    sources: Collection[str] = (),
) -> list[Chosen]:
    """Return the concerned test files, the request's own first, then by how near they are.

    Args:
        changed: files of the tree, and what changed in each.
        own: the test files that the request adds or changes.
        tests: every test file.
        read: returns a file's text.
        sources: other modules of the tree, through which a test may reach what changed; few, or none.
    """
    own = list(own)
    found = [Chosen(path, "changed") for path in sorted(own)]
    wanted: list[tuple[str, Names]] = []
    for path, names in changed:
        inner = users_in_module(read(path), names.changed) if names.changed else set()
        wanted.append(("calls", Names(names.module, frozenset(names.changed | inner))))
    wanted += [("indirect", names) for names in _reached(wanted, sources, read)]
    needles = _needles(wanted)
    order = list(RANKS)
    rated: list[tuple[int, int, str, str]] = []
    if needles is None:
        return found
    for path in tests:
        text = read(path)
        tree = parse(text) if path not in own and needles.search(text) else None
        if tree is None:
            continue
        imports, stem = imports_of(tree, module_of(path)), PurePosixPath(path).stem
        concerns = [(rank, *concern(imports, names)) for rank, names in wanted]
        rated += sorted(
            (order.index(how if rank == "calls" else "indirect"), -_nearness(stem, name), path, name)
            for rank, how, name in concerns
            if how
        )[:1]
    return found + [Chosen(path, order[place], name) for place, _, path, name in sorted(rated)]


def _needles(wanted: Iterable[tuple[str, Names]]) -> re.Pattern[str] | None:
    """Return a pattern that every concerned file's text holds: it is faster than parsing all."""
    words = set()
    for _, names in wanted:
        words |= {part for name in names.changed for part in name.split(".") if not part.startswith("__")}
        if not names.changed:
            words.add(names.module.rpartition(".")[2])
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(words)))})\b") if words else None


def _nearness(stem: str, name: str) -> int:
    """Return how many words a test's file name shares with a changed name."""
    words = set(re.split(r"[._]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))
    return len(words & set(stem.lower().removeprefix("test_").split("_")))


def _reached(wanted: Iterable[tuple[str, Names]], sources: Collection[str], read: Callable[[str], str]) -> list[Names]:
    """Return what in other modules of the tree uses changed names, some steps away."""
    frontier = [names for _, names in wanted]
    seen = {names.module for names in frontier}
    found: list[Names] = []
    parsed = {path: tree for path in sources if (tree := parse(read(path))) is not None}
    read_imports = {path: imports_of(tree, _package_of(path)) for path, tree in parsed.items()}
    for _ in range(DISTANCE):
        following = []
        for path, tree in parsed.items():
            module = module_of(path)
            if module in seen:
                continue
            hits = [names for names in frontier if concern(read_imports[path], names)[0]]
            if hits:
                words = {word.rpartition(".")[2] for names in hits for word in names.changed}
                whole = {names.module for names in hits if not names.changed}
                words |= {name.rpartition(".")[2] for name in whole}
                aliases = {
                    alias: name for alias, name in read_imports[path].names.items() if name.rpartition(".")[2] in words
                    or name.rpartition(".")[0] in whole
                }  # fmt: skip
                users = {name for name, _, _, node in definitions(tree) if uses(node) & (words | aliases.keys())}
                users |= {alias for alias, name in aliases.items() if name.rpartition(".")[0] in whole}  # handed on
                following.append(Names(module, frozenset(users)))
                seen.add(module)
        found += following
        frontier = following
    return [names for names in found if names.changed]


def _package_of(path: str) -> str:
    """Return the module name against which a file's relative imports are resolved."""
    module = module_of(path)
    return f"{module}.__init__" if path.endswith("__init__.py") else module
