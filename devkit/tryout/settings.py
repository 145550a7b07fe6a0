"""What a project's own files say of it: pyproject.toml, setup.cfg, tox.ini, pytest.ini and, by its syntax, setup.py.

Most functions take ``read``, which returns the text of a file of the project's folder, nothing where there is none.
What does not parse says nothing.
"""

from __future__ import annotations

import ast
import configparser
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from devkit.tryout.syntax import parse

if TYPE_CHECKING:
    from pathlib import Path

Read = Callable[[str], str]
PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
PYTEST_FILES = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""In the order in which pytest takes the first that has its section."""
GROUPS = frozenset({"test", "tests", "testing", "dev"})
COMPILING_BACKENDS = {
    "mesonpy": "cc", "scikit_build_core": "cc", "py_build_cmake": "cc", "sipbuild": "cc", "enscons": "cc",
    "maturin": "cargo",
}  # fmt: skip
"""Packages of build backends whose wheels are compiled, and what compiles."""
COMPILING_KEYWORDS = {"ext_modules": "cc", "cffi_modules": "cc", "rust_extensions": "cargo"}
EXTENSION_CLASS = "Extension"


@dataclass(frozen=True)
class SetupCall:
    """What ``setup.py`` gives to ``setup()``, as far as its text says it.

    Attributes:
        keywords: those whose values are literals, or names of literals.
        folders: in which it looks for packages.
        extensions: extension module → its sources; a module whose name is computed is not among them.
        compilers: what its extension modules need.
    """

    keywords: Mapping[str, Any] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()
    extensions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    compilers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Extensions:
    """The compiled modules that a project's build makes.

    Attributes:
        compiler: ``cc`` or ``cargo``.
        requires: what the build needs.
        modules: module → its sources, as far as the project's files say it in plain words.
    """

    compiler: str
    requires: tuple[str, ...]
    modules: Mapping[str, tuple[str, ...]]


def reader(folder: Path) -> Read:
    """Return what reads the files of a folder."""

    def read(name: str) -> str:
        path = folder / name
        return path.read_text("utf-8", "replace") if path.is_file() else ""

    return read


@lru_cache(64)
def toml(text: str) -> dict[str, Any]:
    """Return what TOML holds."""
    try:
        import tomllib  # of Python 3.11 and later
    except ModuleNotFoundError:
        import tomlkit

        try:
            return tomlkit.parse(text).unwrap()
        except ValueError:
            return {}
    try:
        return tomllib.loads(text)
    except ValueError:
        return {}


@lru_cache(64)
def ini(text: str) -> dict[str, dict[str, str]]:
    """Return section → key → value of an INI file."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    return {name: dict(parser[name]) for name in parser.sections()}


def table(data: Any, *keys: str) -> dict[str, Any]:
    """Return the table at some keys, an empty one where there is none."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def strings(value: Any) -> list[str]:
    """Return the strings of a value: itself, those of a list, or none."""
    return [word for word in (value if isinstance(value, list | tuple) else [value]) if isinstance(word, str)]


@lru_cache(64)
def setup_call(text: str) -> SetupCall:
    """Return what a ``setup.py`` gives to ``setup()``."""
    tree = parse(text)
    if tree is None:
        return SetupCall()
    known = {
        target.id: node.value
        for node in tree.body if isinstance(node, ast.Assign)
        for target in node.targets if isinstance(target, ast.Name)
    }  # fmt: skip

    def literal(node: ast.expr | None) -> Any:
        try:
            return ast.literal_eval(known.get(node.id, node) if isinstance(node, ast.Name) else node or "")
        except (ValueError, TypeError, SyntaxError, RecursionError):
            return None

    keywords: dict[str, Any] = {}
    extensions: dict[str, tuple[str, ...]] = {}
    folders: set[str] = set()
    named: set[str] = set()
    for node in ast.walk(tree):
        keys = [node.slice] if isinstance(node, ast.Subscript) else node.keys if isinstance(node, ast.Dict) else []
        named |= {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func).rpartition(".")[2]
        given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        named |= given.keys() if function in ("setup", "dict", "update") else set()
        if function == "setup":
            keywords |= {key: found for key, value in given.items() if (found := literal(value)) is not None}
        elif function in ("find_packages", "find_namespace_packages"):
            folders.update(strings(literal(given.get("where") or next(iter(node.args), None))))
        elif function.endswith(EXTENSION_CLASS):
            name = literal(given.get("name") or next(iter(node.args), None))
            sources = literal(given.get("sources") or next(iter(node.args[1:]), None))
            extensions |= {name: tuple(strings(sources))} if isinstance(name, str) else {}
    compilers = {compiler for key, compiler in COMPILING_KEYWORDS.items() if key in named}
    return SetupCall(keywords, frozenset(folders), extensions, frozenset(compilers))


def extensions(read: Read) -> Extensions | None:
    """Return the compiled modules that a project declares; None where its build compiles nothing."""
    data = toml(read("pyproject.toml"))
    build = table(data, "build-system")
    backend = str(build.get("build-backend", "")).partition(":")[0].partition(".")[0]
    setuptools = table(data, "tool", "setuptools")
    listed = [one for one in setuptools.get("ext-modules", []) if isinstance(one, dict)]
    modules = {str(one.get("name")): tuple(strings(one.get("sources"))) for one in listed}
    compilers = {COMPILING_BACKENDS[backend]} if backend in COMPILING_BACKENDS else set()
    compilers |= {"cc"} if modules else set()
    compilers |= {"cargo"} if "setuptools-rust" in table(data, "tool") else set()
    if backend in {"", "setuptools", "scikit_build_core"}:
        call = setup_call(read("setup.py"))
        modules |= call.extensions
        compilers |= call.compilers
    name = table(data, "tool", "maturin").get("module-name")
    modules |= {name: ()} if isinstance(name, str) else {}
    if not compilers:
        return None
    return Extensions(min(compilers), tuple(strings(build.get("requires", ["setuptools"]))), modules)


@lru_cache(256)
def pytest_section(name: str, text: str) -> Mapping[str, Any] | None:
    """Return pytest's section of a file of settings; None where it has none."""
    if name == "pyproject.toml":
        found = table(toml(text), "tool", "pytest")
        return found.get("ini_options", found) if found else None
    return ini(text).get("tool:pytest" if name == "setup.cfg" else "pytest")


def pytest_words(read: Read, key: str) -> list[str]:
    """Return the words of one of pytest's settings, which is a list."""
    section = next((found for name in PYTEST_FILES if (found := pytest_section(name, read(name))) is not None), {})
    value = section.get(key, "")
    if isinstance(value, list):
        return strings(value)
    try:
        return shlex.split(str(value), comments=True)
    except ValueError:
        return str(value).split()


def code_folders(read: Read) -> set[str]:
    """Return the folders, other than the top, in which a project's files say that its packages lie."""
    words = {word.removeprefix("./").rstrip("/") for word in _code_folders(read)} - {"", "."}
    return {word for word in words if not word.startswith("/") and ".." not in word.split("/")}


def _code_folders(read: Read) -> Iterator[str]:
    tools = table(toml(read("pyproject.toml")), "tool")
    options = ini(read("setup.cfg"))
    call = setup_call(read("setup.py"))
    rows = options.get("options", {}).get("package_dir", "").splitlines()
    folders = {key.strip(): value.strip() for key, sign, value in (row.partition("=") for row in rows) if sign}
    for packages in (table(tools, "setuptools", "package-dir"), folders, table(call.keywords, "package_dir")):
        for package, folder in packages.items():
            place = str(package).replace(".", "/")
            if str(folder).endswith(place):
                yield str(folder).removesuffix(place)
    yield from strings(table(tools, "setuptools", "packages", "find").get("where"))
    yield from options.get("options.packages.find", {}).get("where", "").split()
    yield from call.folders
    packed = table(tools, "poetry").get("packages", [])
    yield from strings([table(one).get("from") for one in packed] if isinstance(packed, list) else [])
    yield from strings(table(tools, "uv", "build-backend").get("module-root"))
    for package in strings(table(tools, "hatch", "build", "targets", "wheel").get("packages")):
        yield str(PurePosixPath(package).parent)
    yield from strings(table(tools, "pdm", "build").get("package-dir"))
    yield from strings(table(tools, "maturin").get("python-source"))


def requirements(read: Read) -> list[str]:
    """Return the requirements that a project names, those of its tests among them; markers and extras as written."""
    data = toml(read("pyproject.toml"))
    tools = table(data, "tool")
    options = ini(read("setup.cfg"))
    setup = setup_call(read("setup.py")).keywords
    found = strings(table(data, "project").get("dependencies", []))
    found += options.get("options", {}).get("install_requires", "").splitlines()
    found += [row for key in ("install_requires", "tests_require") for row in strings(setup.get(key, []))]
    groups = table(data, "dependency-groups")
    for extras in (
        table(data, "project", "optional-dependencies"), groups, table(setup, "extras_require"),
        {name: rows.splitlines() for name, rows in options.get("options.extras_require", {}).items()},
        table(tools, "pdm", "dev-dependencies"), {"dev": table(tools, "uv").get("dev-dependencies", [])},
    ):  # fmt: skip
        for name in GROUPS & extras.keys():
            found += strings(extras[name])
            included = [one.get("include-group") for one in extras[name] if isinstance(one, dict)]
            found += [row for other in included if other in groups for row in strings(groups[other])]
    poetry = table(tools, "poetry")
    for dependencies in (
        table(poetry, "dependencies"), table(poetry, "dev-dependencies"),
        *(table(poetry, "group", name, "dependencies") for name in GROUPS),
    ):  # fmt: skip
        found += [name for name in dependencies if name != "python"]  # its versions are in signs of its own
    for environment in ("default", "test", "hatch-test"):
        own = table(tools, "hatch", "envs", environment)
        found += [row for key in ("dependencies", "extra-dependencies") for row in strings(own.get(key, []))]
    rows = ini(read("tox.ini")).get("testenv", {}).get("deps", "").splitlines()
    found += [row for row in rows if row.strip()[:1].isalnum() and not set(row) & set(":{/")]  # no conditions, no files
    return [row.strip() for row in found if row.strip()]
