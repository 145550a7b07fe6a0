"""What the syntax tree of a Python file says: what it defines, uses and imports, and what its changed lines are in."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


def parse(text: str) -> ast.Module | None:
    """Return a file's syntax tree; None where it does not parse."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def definitions(tree: ast.Module) -> Iterator[tuple[str, int, int, ast.AST]]:
    """Yield the functions and classes of a module: qualified name, first and last line, node; outer ones first."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                first = min([child.lineno, *(expr.lineno for expr in child.decorator_list)])
                yield name, first, child.end_lineno or child.lineno, child
                if isinstance(child, ast.ClassDef):
                    yield from below(child, f"{name}.")
            elif isinstance(child, ast.If | ast.Try | ast.With):
                yield from below(child, prefix)

    yield from below(tree, "")


def changed_names(text: str, lines: Collection[int]) -> set[str]:
    """Return the innermost functions and classes that hold changed lines; ``""`` for code outside all of them.

    Comments and blank lines count for nothing.
    """
    tree = parse(text)
    if tree is None:
        return {""}
    defined = list(definitions(tree))
    written = text.split("\n")
    found = set()
    for number in lines:
        code = written[number - 1].strip() if 0 < number <= len(written) else ""
        if not code or code.startswith("#"):
            continue
        holding = [name for name, first, last, _ in defined if first <= number <= last]
        found.add(holding[-1] if holding else _assigned(tree, number))
    return found


def _assigned(tree: ast.Module, number: int) -> str:
    """Return the name that the statement at a line gives a value to, if it does nothing else."""
    for node in tree.body:
        if node.lineno <= number <= (node.end_lineno or node.lineno):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                return "" if node.targets[0].id == "__all__" else node.targets[0].id
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                return ""
    return ""


def is_prose(text: str, lines: Collection[int]) -> bool:
    """Tell whether changed lines are docstrings, comments and blanks alone."""
    tree = parse(text)
    if tree is None:
        return False
    prose: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    written = text.split("\n")
    return all(
        number in prose or not written[number - 1].strip() or written[number - 1].strip().startswith("#")
        for number in lines
        if 0 < number <= len(written)
    )


def statement_lines(text: str) -> set[int]:
    """Return the lines at which a statement within a function begins, docstrings apart: those that a test can run."""
    tree = parse(text)
    found: set[int] = set()
    for function in ast.walk(tree) if tree else ():
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                prose = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                if isinstance(node, ast.stmt) and node is not function and not prose:
                    found.add(node.lineno)
    return found


def added_to_path(text: str) -> set[str]:
    """Return the words that a module's calls of ``sys.path`` name."""
    tree = parse(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)] if tree else []
    return {
        word.value
        for call in calls if ast.unparse(call.func).startswith("sys.path.")
        for word in ast.walk(call) if isinstance(word, ast.Constant) and isinstance(word.value, str)
    }  # fmt: skip


def uses(node: ast.AST) -> set[str]:
    """Return the names that code reads, calls or imports: bare ones, and the last part of dotted ones."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            found.add(inner.id)
        elif isinstance(inner, ast.Attribute):
            found.add(inner.attr)
        elif isinstance(inner, ast.ImportFrom):
            found.update(alias.name for alias in inner.names)
    return found


def users_in_module(text: str, changed: Collection[str]) -> set[str]:
    """Return the functions and classes of a module that use changed ones, through any number of steps."""
    tree = parse(text)
    if tree is None:
        return set()
    defined = [(name, uses(node)) for name, _, _, node in definitions(tree)]
    known = {word.rpartition(".")[2] for word in changed} - {""}
    found: set[str] = set()
    while True:
        more = {name for name, used in defined if name not in found and name not in changed and used & known}
        if not more:
            return found
        found |= more
        known |= {word.rpartition(".")[2] for word in more if not word.rpartition(".")[2].startswith("__")}


@dataclass(frozen=True)
class Imports:
    """What a test file imports and uses."""

    modules: frozenset[str]
    names: Mapping[str, str]
    calls: frozenset[str]
    attributes: frozenset[str]


def imports_of(tree: ast.Module, module: str) -> Imports:  # noqa: C901 - one branch a kind of node
    """Return what a file imports (relative imports resolved against ``module``) and the dotted names that it uses."""
    modules: set[str] = set()
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules.add(alias.name)
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, module)
            modules.add(source)
            for alias in node.names:
                names[alias.asname or alias.name] = f"{source}.{alias.name}"
    calls: set[str] = set()
    attributes: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            dotted = _dotted(node)
            if dotted:
                head, _, rest = dotted.partition(".")
                if head in names:
                    calls.add(f"{names[head]}.{rest}" if rest else names[head])
            if isinstance(node, ast.Attribute):
                attributes.add(node.attr)
    return Imports(frozenset(modules), names, frozenset(calls), frozenset(attributes))


def _absolute(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return node.module or ""
    parent = module.split(".")[: -node.level]
    return ".".join([*parent, *([node.module] if node.module else [])])


def _dotted(node: ast.AST) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])
