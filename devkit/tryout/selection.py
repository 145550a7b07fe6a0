"""Which test files a change concerns, by the syntax tree: those that import or call what it changes, ranked."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

TEST_FOLDERS = frozenset({"test", "tests", "unittests"})
TOP_FOLDERS = TEST_FOLDERS | {"testing", "bench", "benchmark", "benchmarks"}
"""Below the top alone: deeper they are a package's own code as often."""
TEST_FILE = re.compile(r"(?:^|/)(?:test_[^/]*|[^/]*_tests?)\.py$")
UNSURE = re.compile(r"(?:^|/)tests?\.py$")
"""Django's applications keep their tests in such a file; elsewhere it is a module like others."""
PYTEST_SETTINGS = ("pytest.ini", ".pytest.ini", "pyproject.toml", "setup.cfg", "tox.ini")
TEST_SUPPORT = re.compile(r"(?:^|/)conftest\.py$")
SOURCE_ROOTS = ("python/", "src/", "lib/")
DISTANCE = 2
COMMON = 3
"""A method's name alone says nothing where it is as short as this."""

RANKS = {
    "changed": "the request changes it",
    "examples": "the request changes it, and the project runs the examples in its docstrings",
    "calls": "it calls what the request changes",
    "imports": "it imports the changed module",
    "indirect": "it calls what uses what the request changes",
    "fixture": "it takes fixtures from a conftest.py that the request changes",
    "operator": "it is named after an operator that the request changes",
    "named": "it names a file or module that the request changes",
}
PROSE_FILE = re.compile(
    r"(?:\.(?:md|rst|adoc|svg|png|jpe?g|gif|ico|pdf)|(?:^|/)(?:LICENSE|NOTICE|AUTHORS|CHANGELOG|CODEOWNERS)[^/]*"
    r"|(?:^|/)(?:docs?|\.github/(?:ISSUE|PULL)[^/]*)/(?:.*/)?[^/]*\.(?:txt|ya?ml|html|css))$"
)


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
    return bool(UNSURE.search(path)) and read is not None and bool(defined_tests(read(path), cases=True))


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


def beside(changed: Mapping[str, Collection[str]], tests: Iterable[str], read: Callable[[str], str]) -> list[Chosen]:
    """Return the test files that take what changed from a ``conftest.py`` above them.

    Args:
        changed: conftest.py → the names that changed in it; none where all of it may matter.
        tests: every test file.
        read: returns a file's text.
    """
    found = []
    for path in tests:
        for conftest, names in sorted(changed.items()):
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


def module_of(path: str) -> str:
    """Return the name that a file of the tree is imported by."""
    path = path.rpartition("/src/")[2]
    for root in SOURCE_ROOTS:
        if path.startswith(root):
            path = path[len(root) :]
            break
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


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
    rated = []
    for path in tests:
        if path in own:
            continue
        text = read(path)
        if needles is None or not needles.search(text):
            continue
        tree = parse(text)
        if tree is None:
            continue
        imports = imports_of(tree, module_of(path))
        best = None
        for rank, names in wanted:
            how, name = concern(imports, names)
            if how:
                how = how if rank == "calls" else "indirect"
                stem = PurePosixPath(path).stem
                near = _nearness(stem, name)
                candidate = (list(RANKS).index(how), -near, path, Chosen(path, how, name))
                best = min(best, candidate, key=lambda rival: rival[:3]) if best else candidate
        if best:
            rated.append(best)
    return found + [pair[3] for pair in sorted(rated, key=lambda entry: entry[:3])]


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
                words |= {alias for alias, name in read_imports[path].names.items() if name.rpartition(".")[2] in words}
                users = {name for name, _, _, node in definitions(tree) if uses(node) & words}
                following.append(Names(module, frozenset(users)))
                seen.add(module)
        found += following
        frontier = following
    return [names for names in found if names.changed]


def _package_of(path: str) -> str:
    """Return the module name against which a file's relative imports are resolved."""
    module = module_of(path)
    return f"{module}.__init__" if path.endswith("__init__.py") else module


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


def defined_tests(text: str, *, cases: bool = False) -> set[str]:
    """Return the tests that a file defines, as ``Class::method`` or ``function``; ``Class::`` for each class.

    Args:
        text: what it holds.
        cases: whether only those of classes count that are named, or derive from one that is named, as a test.
    """
    tree = parse(text)
    found: set[str] = set()
    for node in tree.body if tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test") and not cases:
            found.add(node.name)
        elif isinstance(node, ast.ClassDef) and not (cases and "Test" not in ast.unparse(node).partition(":")[0]):
            methods = {
                f"{node.name}::{stmt.name}"
                for stmt in node.body
                if isinstance(stmt, ast.FunctionDef | ast.AsyncFunctionDef) and stmt.name.startswith("test")
            }
            found |= methods | ({f"{node.name}::"} if methods or not cases else set())
    return found
