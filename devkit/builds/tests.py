"""Running the tree's unit tests as Paddle's CI does: its variables, each in a process of its own.

Those of Python are files; compiled ones are what ``ctest`` knows in a build folder that was configured WITH_TESTING.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import changes, overlay, sync
from devkit.builds.checkout import git
from devkit.builds.overlay import PACKAGE
from devkit.errors import DevkitError, Hint
from devkit.ops import tree
from devkit.process import TimedOut, fate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from devkit.app import App
    from devkit.builds.python import Python
    from devkit.process import Runner

VARIABLES = {"FLAGS_init_allocated_mem": "true", "FLAGS_cudnn_deterministic": "true"}
COUNTED = re.compile(r"^Ran (\d+) tests? in|(\d+) (?:passed|failed)|out of (\d+)$", re.MULTILINE)
MISSING = re.compile(r"^(?:E\s+)?ModuleNotFoundError: No module named '([^']+)'$", re.MULTILINE)
WITHOUT_PYTEST = re.compile(r"No module named pytest$", re.MULTILINE)
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
NEAR = 3
FRAMES = 12
GDB = (
    "-q", "-batch", "-return-child-result", "-iex", "set debuginfod enabled off", "-ex", "run",
    "-ex", f"bt {FRAMES}", "-ex", "continue",
)  # fmt: skip
FRAME = re.compile(r"^#\d+ .+", re.MULTILINE)
LISTING_LIMIT_S = 60.0
REMADE = re.compile(r"(?:Building|Linking) (?:C|CXX|CUDA|HIP) |Re-running CMake")
UNKNOWN = "A test is a file test_*.py below test/, or one that ctest knows in a build folder with WITH_TESTING."


@dataclass(frozen=True)
class FileVerdict:
    """How a test file went: how many tests ran (None where it does not say), and what went wrong.

    Attributes:
        not_run: why nothing can be said: no test ran in it, or a module is missing; empty where tests ran.
        crashed: whether a signal ended it, as where compiled code reads what it may not.
        stack: where it crashed, C++ first and then Python; empty where that was not asked for.
        runs: how often it ran, the last run's outcome being this one.
        log: the file with all that the last run said.
    """

    name: str
    passed: bool
    tests: int | None
    seconds: float
    complaint: str = ""
    not_run: str = ""
    crashed: bool = False
    stack: str = ""
    runs: int = 1
    log: str = ""


def named(words: Iterable[str], files: Iterable[str], compiled: Iterable[str] = ()) -> list[str]:
    """Return the tests that words name: a file's name without its suffix, its path, or a compiled test's name.

    Raises:
        DevkitError: a word names none.
    """
    import difflib

    known: dict[str, list[str]] = {}
    for path in files:
        known.setdefault(path.rpartition("/")[2].removesuffix(".py"), []).append(path)
    everything = {path for paths in known.values() for path in paths}
    for name in compiled:
        known.setdefault(name, [name])
    found: list[str] = []
    for word in words:
        paths = [word] if word in everything else known.get(word.rpartition("/")[2].removesuffix(".py"), [])
        if not paths:
            near = difflib.get_close_matches(word, known, n=NEAR)
            remedies = [f"devkit build test {name}" for name in near]
            raise DevkitError(f"there is no test {word}", UNKNOWN, *remedies, "devkit build --profile test")
        found += [path for path in paths if path not in found]
    return found


def touched(changed: Iterable[str], texts: Mapping[str, str]) -> list[str]:
    """Return the test files that a change touches: itself changed, or importing or naming a changed module.

    Args:
        changed: files of the tree.
        texts: test file → its text.
    """
    changed = list(changed)
    modules = [
        path.removeprefix("python/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in changed
        if path.startswith(f"{PACKAGE}/") and path.endswith(".py")
    ]
    patterns = [re.compile(_mention(module)) for module in modules]
    return [
        path for path, text in texts.items() if path in changed or any(pattern.search(text) for pattern in patterns)
    ]


def affected(operators: Iterable[str], texts: Mapping[str, str]) -> list[str]:
    """Return the test files of operators: named after one, or naming one as OpTest and the generated API do.

    Args:
        operators: names as the YAML has them.
        texts: test file → its text.
    """
    found: dict[str, None] = {}
    for name in operators:
        says = re.compile(rf"op_type\s*=\s*['\"]{name}['\"]|_C_ops\.{name}_?\b|\bpaddle(?:\.\w+)*\.{name}_?\(")
        stems = {f"test_{name}.py", f"test_{name}_op.py", f"test_{name}_api.py"}
        found |= {path: None for path, text in texts.items() if path.rpartition("/")[2] in stems or says.search(text)}
    return list(found)


def _mention(module: str) -> str:
    parent, _, name = module.rpartition(".")
    imported = rf"|from {re.escape(parent)} import .*\b{re.escape(name)}\b" if parent else ""
    return rf"\b{re.escape(module)}\b{imported}"


def all_files(words: Iterable[str], files: Iterable[str]) -> bool:
    """Tell whether words name test files alone, so that ctest need not be asked."""
    stems = {path.rpartition("/")[2].removesuffix(".py") for path in files}
    return all(word.rpartition("/")[2].removesuffix(".py") in stems for word in words)


def sources(changed: Iterable[str], compiled: Iterable[str]) -> list[str]:
    """Return the compiled tests whose own source is among changed files, as Paddle names them."""
    stems = {path.rpartition("/")[2].rpartition(".")[0] for path in changed if path.endswith((".cc", ".cu"))}
    return [name for name in compiled if name in stems]


def compiled_tests(runner: Runner, build: Path) -> list[str]:
    """Return the tests that ctest knows in a build folder; none where it was configured without."""
    if not (build / "CTestTestfile.cmake").is_file() or not shutil.which("ctest"):
        return []
    line = ["ctest", "--show-only=json-v1"]
    done = runner.run(line, cwd=build, timeout_s=LISTING_LIMIT_S, check=False)
    try:
        return [load["name"] for load in json.loads(done.stdout)["tests"]]
    except (ValueError, KeyError):
        return []


def refuse_stale(runner: Runner, build: Path, names: Iterable[str]) -> None:
    """Refuse compiled tests that are not built as the tree is now; what every build copies anew counts for nothing.

    Raises:
        DevkitError: one is not.
    """
    old = []
    for name in names:
        done = runner.run(["ninja", "-C", str(build), "-n", name], timeout_s=LISTING_LIMIT_S, check=False)
        old += [name] if not done.status and REMADE.search(done.text) else []
    if old:
        targets = [word for name in old for word in ("--target", name)]
        what = f"{', '.join(old)} {'is' if len(old) == 1 else 'are'} not built as the tree is now"
        line = f"{shlex.join(['devkit', 'build', *targets])}   with the profile of that build folder"
        raise DevkitError(what, "It would run what was compiled before.", line)


def test_files(runner: Runner, root: Path) -> list[str]:
    """Return the test files that git knows or would add."""
    listed = git(runner, root, "ls-files", "-co", "--exclude-standard", "-z", "--", "test/").text.split("\0")
    return [word for word in listed if re.search(r"(?:^|/)test_[^/]*\.py$", word) and (root / word).is_file()]


def added_files(runner: Runner, root: Path, commit: str) -> list[str]:
    """Return the files that came to the tree since a commit, those not committed too."""
    line = ("diff", "--name-only", "--no-relative", "--no-renames", "--diff-filter=A", "-z", "--ignore-submodules=all")
    listed = git(runner, root, *line, commit).text.split("\0")
    return [*filter(None, listed), *changes.untracked(runner, root)]


def ci_variables(app: App) -> dict[str, str]:
    """Return the environment of a test with the variables of Paddle's CI, and no Python of someone else's."""
    kept = {name: value for name, value in app.child_environment().items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    return {**kept, **VARIABLES}


def changed_operators(runner: Runner, root: Path, commit: str) -> list[str]:
    """Return the operators whose kernels or YAML entries differ from a commit."""
    found = changes.lines(runner, root, commit, ("paddle/",))
    read = [path for path in found if tree.is_read(path)]
    return tree.touched(found, {path: (root / path).read_text("utf-8", "replace") for path in read})


def choose(
    runner: Runner,
    root: Path,
    build: Path,
    words: Iterable[str],
    changed: Collection[str],
    operators: Collection[str] = (),
) -> list[str]:
    """Return the tests that words name, then those that changed files touch, then those of operators.

    Raises:
        DevkitError: a word names none, or a compiled test is not built as the tree is now.
    """
    words, files = list(words), test_files(runner, root)
    compiled = [] if not changed and all_files(words, files) else compiled_tests(runner, build)
    chosen = named(words, files, compiled)
    if changed or operators:
        texts = {path: (root / path).read_text("utf-8", "replace") for path in files}
        more = [*touched(changed, texts), *sources(changed, compiled), *affected(operators, texts)]
        chosen += [path for path in more if path not in chosen]
    refuse_stale(runner, build, [path for path in chosen if not path.endswith(".py")])
    return chosen


def environ(app: App, interpreter: Python, root: Path, build: Path, chosen: Iterable[str]) -> dict[str, str]:
    """Return the environment of tests, in which ``import paddle`` is the tree: its overlay, else its build folder.

    Compiled tests alone import nothing.

    Raises:
        DevkitError: Python would import another Paddle, or a build folder whose Python is older than the tree's.
    """
    found = ci_variables(app)
    if not any(path.endswith(".py") for path in chosen):
        return found
    ours, copies = root / PACKAGE, build / "python" / "paddle"
    active = overlay.active(interpreter)
    if active and is_overlay_of(active, ours):
        refuse_old_links(active, overlay.tree_files(app.runner, root))
        return found
    # The overlay of devkit's own environment, which none is put into.
    beside = overlay.place(root, Path(interpreter.purelib) / "paddle")
    if not active and is_overlay_of(beside, ours):
        refuse_old_links(beside, overlay.tree_files(app.runner, root))
        return {**found, "PYTHONPATH": str(beside)}
    if not active and (copies / "base" / "libpaddle.so").is_file():
        refuse_old_copies(sync.compare(overlay.tree_files(app.runner, root), ours, copies), ours, copies, build.name)
        return {**found, "PYTHONPATH": str(copies.parent)}
    imported = overlay.imported(app.runner, interpreter, found)
    if imported and imported.resolve().is_relative_to(root.resolve()):
        return found
    raise not_the_tree(interpreter, imported, active, root)


def is_overlay_of(folder: Path, tree: Path) -> bool:
    """Tell whether an overlay's Python is that of a tree."""
    link = folder / "paddle" / "__init__.py"
    return link.is_symlink() and link.resolve() == (tree / "__init__.py").resolve()


def refuse_old_links(folder: Path, names: Iterable[str]) -> None:
    """Refuse an overlay that lacks files which came to the tree after it was made.

    Raises:
        DevkitError: it lacks one.
    """
    new = [name for name in names if not (folder / "paddle" / name).exists()]
    if new:
        more = f" and {len(new) - sync.SHOWN} more" if len(new) > sync.SHOWN else ""
        why = f"The tree has files that it lacks: {', '.join(new[: sync.SHOWN])}{more}."
        raise DevkitError("the overlay is older than the tree", why, Hint.of("devkit", "build", "overlay"))


def refuse_old_copies(found: sync.Difference, tree: Path, copies: Path, build: str) -> None:
    """Refuse a build folder whose copies of the tree's Python are not as the tree is now.

    Raises:
        DevkitError: one is not.
    """
    sync.check_edited(found, tree, copies)
    if found.copy:
        more = f" and {len(found.copy) - sync.SHOWN} more" if len(found.copy) > sync.SHOWN else ""
        flag = () if build == "build" else ("--build-dir", build)
        raise DevkitError(
            f"the Python in {copies} is older than the tree's",
            f"The tests would run that: {', '.join(found.copy[: sync.SHOWN])}{more}.",
            Hint.of("devkit", "build", "sync", *flag),
        )


def not_the_tree(interpreter: Python, imported: Path | None, active: Path | None, root: Path) -> DevkitError:
    """Return the refusal to test a Paddle that is not the tree's; it names the one that would have been tested."""
    what = f"the tests would not run the Paddle of {root}"
    why = f"{interpreter.environment} imports {imported}." if imported else f"{interpreter.environment} has no Paddle."
    if active:
        why = f"{interpreter.environment} has the overlay of another checkout: {active}."
    hints = [
        Hint.of("devkit", "build", "overlay", purpose="lays the tree's Python over the environment's wheel"),
        Hint.of("devkit", "build", purpose="builds the tree"),
    ]
    return DevkitError(what, why, *hints)


def line(
    interpreter: Python,
    root: Path,
    build: Path,
    path: str,
    log: Path,
    *,
    ctest: Collection[str] = (),
    flags: Iterable[str] = (),
) -> tuple[list[str], Path]:
    """Return the line that runs a test, and the folder where.

    Args:
        interpreter: the environment's Python.
        root: the checkout.
        build: its build folder.
        path: the test.
        log: where its output goes, beside which a file of Python runs.
        ctest: the files of Python that ctest runs too, by their names.
        flags: what ctest is given besides.
    """
    name = path.rpartition("/")[2].removesuffix(".py")
    if path.endswith(".py") and name not in ctest:
        text = (root / path).read_text("utf-8", "replace")
        return [interpreter.executable, "-u", *(PYTEST if in_pytest_style(text) else ()), str(root / path)], log.parent
    return ["ctest", "--output-on-failure", *flags, "-R", f"^{re.escape(name)}$"], build


def in_pytest_style(text: str) -> bool:
    """Tell whether a file's tests run under pytest alone: as a script it would execute none of them and succeed."""
    import ast

    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False  # running it says where
    started = any(isinstance(node, ast.If) and "__name__" in ast.dump(node.test) for node in tree.body)
    called = re.search(r"^(?:unittest\.)?main\(|^pytest\.main\(", text, re.MULTILINE)
    functions = any(isinstance(node, ast.FunctionDef) and node.name.startswith("test") for node in tree.body)
    return not started and not called and (functions or "unittest" in text or "pytest" in text)


def run(
    app: App, path: str, argv: list[str], cwd: Path, env: Mapping[str, str], *, log: Path, limit_s: float
) -> FileVerdict:
    """Run one test to its end, its output in the log."""
    begin = time.monotonic()
    try:
        done = app.runner.run(argv, cwd=cwd, env=env, timeout_s=limit_s, check=False, log=log)
    except TimedOut as error:
        return FileVerdict(path, False, None, time.monotonic() - begin, error.what, log=str(log))
    said = (done.stdout + done.stderr).decode(errors="replace")
    counts = [int("".join(found)) for found in COUNTED.findall(said)]
    ran = sum(counts) if counts else None
    complaint = "" if done.status == 0 else f"{fate(done.status)}\n{done.complaint}"
    why = not_run(said, ran, passed=done.status == 0)
    crashed = done.status < 0 or "SIGSEGV" in complaint or "SEGFAULT" in said
    return FileVerdict(path, done.status == 0 and not why, ran, done.seconds, complaint, why, crashed, log=str(log))


def stack(app: App, argv: list[str], cwd: Path, env: Mapping[str, str], *, log: Path, limit_s: float) -> str:
    """Run a test that crashed once more under gdb, and return where: the frames of C++, then those of Python.

    Raises:
        DevkitError: gdb is not installed.
    """
    if shutil.which("gdb", path=env.get("PATH")) is None:
        raise DevkitError("gdb is not installed", "It reads the stack of a crash.", "sudo apt install gdb")
    if argv[0] in {"ctest", "docker"}:
        return ""
    line = ["gdb", *GDB, "--args", argv[0], "-X", "faulthandler", *argv[1:]]
    try:
        done = app.runner.run(line, cwd=cwd, env=env, timeout_s=limit_s, check=False, log=log)
    except TimedOut as error:
        return error.what
    said = (done.stdout + done.stderr).decode(errors="replace")
    frames = FRAME.findall(said)
    python = said.partition("Fatal Python error")[2].partition("most recent call first):\n")[2]
    return "\n".join([*frames, *(found.strip() for found in re.findall(r"^  File .+", python, re.MULTILINE)[:FRAMES])])


def not_run(said: str, ran: int | None, *, passed: bool) -> str:
    """Return why a file's output says nothing about its tests; empty where some ran.

    Args:
        said: what it printed.
        ran: how many tests it counted; None where it counted none.
        passed: whether it ended with status 0.
    """
    if ran:
        return ""
    if not passed and (WITHOUT_PYTEST.search(said) or MISSING.search(said)):
        match = MISSING.search(said)
        return f"the module {match[1] if match else 'pytest'} is missing"
    return "no test ran in it" if passed or ran == 0 or re.search(r"no tests ran", said) else ""
