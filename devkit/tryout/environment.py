"""What the tests need: the requirements that the project names, else those that the test files import."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import write_atomically
from devkit.tryout import settings
from devkit.tryout.selection import module_of
from devkit.tryout.syntax import imports_of, parse
from devkit.tryout.verdict import PLUGINS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from devkit.app import App
    from devkit.envs.resolve import Environment
    from devkit.runs import Run

TOOLS = ("pytest", "coverage")
STAMP = "devkit-tryout.json"
PADDLE_LIST = "python/unittest_py/requirements.txt"
PADDLE_RUNTIME = "python/requirements.txt"
LISTS = (
    "requirements.txt", "requirements-test.txt", "requirements-tests.txt", "requirements-dev.txt",
    "requirements_test.txt",
    "test-requirements.txt", "tests/requirements.txt", "test/requirements.txt",
)  # fmt: skip
# A name that a stranger's test imports is looked up in no index: only what is listed here, or by the project, is
# installed.
DISTRIBUTIONS = {
    "astor": "astor", "attr": "attrs", "cv2": "opencv-python-headless", "dateutil": "python-dateutil", "ddt": "ddt",
    "decorator": "decorator", "einops": "einops", "google.protobuf": "protobuf", "gym": "gym", "httpx": "httpx",
    "hypothesis": "hypothesis", "jinja2": "jinja2", "librosa": "librosa", "matplotlib": "matplotlib", "mock": "mock",
    "networkx": "networkx", "numpy": "numpy", "onnx": "onnx", "opt_einsum": "opt-einsum", "packaging": "packaging",
    "pandas": "pandas", "parameterized": "parameterized", "PIL": "pillow", "prettytable": "prettytable",
    "psutil": "psutil", "pytest": "pytest", "pytest_asyncio": "pytest-asyncio", "requests": "requests",
    "safetensors": "safetensors", "scipy": "scipy", "skimage": "scikit-image", "sklearn": "scikit-learn",
    "soundfile": "soundfile", "sympy": "sympy", "tqdm": "tqdm", "xdoctest": "xdoctest", "xlsxwriter": "xlsxwriter",
    "yaml": "pyyaml",
}  # fmt: skip


@dataclass(frozen=True)
class Needs:
    """What an environment for trying gets.

    Attributes:
        packages: requirements, one a package.
        missing: modules that the tests import and that nothing here or in the project names a package for.
    """

    packages: tuple[str, ...]
    missing: tuple[str, ...] = ()


def requirement_lines(text: str) -> list[str]:
    """Return the requirements of a file of them, without comments, options and addresses."""
    found = []
    for row in text.splitlines():
        plain = row.partition(" #")[0].strip()
        if plain and not plain.startswith(("#", "-")) and "://" not in plain:
            found.append(plain)
    return found


def name_of(requirement: str) -> str:
    """Return the package that a requirement is for, in its normal form."""
    match = re.match(r"[A-Za-z0-9][\w.-]*", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def declared(folder: Path) -> list[str]:
    """Return the requirements that a project's own files name, those of its tests among them."""
    read = settings.reader(folder)
    return [*settings.requirements(read), *(row for name in LISTS for row in requirement_lines(read(name)))]


def modules_of(texts: Mapping[str, str]) -> set[str]:
    """Return the top-level modules that files import."""
    found: set[str] = set()
    for path, text in texts.items():
        tree = parse(text)
        if tree is not None:
            found |= {module.partition(".")[0] for module in imports_of(tree, module_of(path)).modules if module}
    return found


def listed(folder: Path, *, paddle: bool) -> list[str]:
    """Return the requirements that a tree's own lists name."""
    if not paddle:
        return declared(folder)
    read = settings.reader(folder)
    return [row for name in (PADDLE_LIST, PADDLE_RUNTIME) for row in requirement_lines(read(name))]


def package_of(module: str, lists: Iterable[str]) -> str:
    """Return the requirement that brings a module, from the project's lists and what is known here; else nothing."""
    top = module.partition(".")[0]
    distribution = DISTRIBUTIONS.get(top, top)
    named = next((list_ for list_ in lists if name_of(list_) == name_of(distribution)), "")
    return named or DISTRIBUTIONS.get(top, "")


def plugins(text: str) -> list[str]:
    """Return the plugins of pytest that a test file asks for without importing them."""
    tree = parse(text)
    nodes = list(ast.walk(tree)) if tree else []
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    taken = {argument.arg for function in functions for argument in function.args.args}  # a fixture takes fixtures, too
    marked = any(isinstance(node, ast.Attribute) and node.attr == "asyncio" for node in nodes)
    top = tree.body if tree else []
    awaits = any(isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test") for node in top)
    found = {PLUGINS[name] for name in taken & set(PLUGINS)} | ({"pytest-asyncio"} if marked or awaits else set())
    return sorted(found)


def with_runtime(folder: Path, environment: Environment, wanted: Needs) -> Needs:
    """Return what is wanted, with what the tree's Paddle itself needs and the environment's wheel did not bring."""
    there = {
        name_of(path.name.partition("-")[0])
        for path in environment.folder.glob("lib/python*/site-packages/*.dist-info")
    }
    wheel = {"paddlepaddle", "paddlepaddle-gpu"}
    lines = requirement_lines(settings.reader(folder)(PADDLE_RUNTIME)) if there & wheel else []
    more = [line for line in lines if name_of(line) not in there | {name_of(one) for one in wanted.packages}]
    return Needs((*wanted.packages, *more), wanted.missing)


def needs(
    texts: Mapping[str, str], lists: Iterable[str], *, paddle: bool, own: Iterable[str], asked: Sequence[str]
) -> Needs:
    """Return what the tests need.

    Args:
        texts: test file → its text.
        lists: the requirements that the tree's own lists name.
        paddle: whether it is a tree of Paddle: of its long list only what the tests import is taken.
        own: the modules of the tree itself, and those beside the tests.
        asked: what the settings name.
    """
    import sys

    by_name = {name_of(word): word for word in lists}
    packages = {} if paddle else dict(by_name)
    outside = modules_of(texts) - set(own) - set(sys.stdlib_module_names) - {"paddle"}
    missing = []
    for module in sorted(outside):
        known = package_of(module, by_name.values())
        if known:
            packages.setdefault(name_of(known), known)
        else:
            missing.append(module)
    for text in texts.values():
        packages.update((name_of(plugin), by_name.get(name_of(plugin), plugin)) for plugin in plugins(text))
    packages.update({name_of(word): word for word in asked})
    for tool in TOOLS:
        packages[tool] = packages.get(tool, tool) if not paddle else tool
    return Needs(tuple(packages.values()), tuple(missing))


def chosen(app: App, checkout: Path, asked: str) -> str:
    """Return the environment that a checkout's tests run in: what is asked for, the default, the project's own."""
    from devkit.envs.places import project_environment

    own = project_environment(checkout)
    return asked or app.config.get("env.default") or (str(own) if own else "")


def create(app: App, name: str, run: Run, *, paddle: str) -> None:
    """Make an environment for trying.

    Raises:
        DevkitError: there is no Python or no package index.
    """
    from pathlib import Path

    from devkit.envs import create as making

    request = making.EnvironmentRequest(name=name, paddle=paddle)
    with making.naming(name), app.console.progress(f"making the environment {name}"):
        made = making.execute(app, making.plan(app, request, Path.cwd()), run, verify=False)
    app.console.done(f"{name}  Python {made.plan.interpreter.dotted}, {', '.join(made.paddles) or 'no Paddle'}")


def install(app: App, environment: Environment, wanted: Needs, run: Run) -> list[str]:
    """Install what is not there yet into an environment of devkit's own, and return what could not be, as notes."""
    from devkit.envs import uv

    stamp = environment.folder / STAMP
    try:
        have: list[str] = json.loads(stamp.read_text("utf-8"))
    except (OSError, ValueError):
        have = []
    todo = [package for package in wanted.packages if package not in have]
    if not todo:
        return []
    source = uv.Source(default_index=uv.check_url("env.index-url", app.config.get("env.index-url")))
    notes = []
    done = list(have)

    def add(packages: Sequence[str]) -> DevkitError | None:
        words = ("pip", "install", "--python", str(environment.python), "--", *packages)
        try:
            uv.run(app, uv.Line(words, source.variables(), environment.folder), log=run.log("uv"))
        except DevkitError as error:
            return error
        done.extend(packages)
        return None

    with app.console.progress(f"installing {', '.join(todo)}"):
        if add(todo) is not None:
            for word in todo:  # one that cannot be downloaded must not keep the others out
                plain = name_of(word)
                failed = add([word])
                if failed is not None and plain != word:
                    failed = add([plain])
                if failed is not None:
                    notes.append(f"{word} could not be installed: {failed.what}")
    write_atomically(stamp, json.dumps(done).encode())
    return notes
