"""The rooms hold: who may import whom, on which Python, and what a wheel installs."""

from __future__ import annotations

import ast
import os
import py_compile
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest
import tomlkit
from uv import find_uv_bin

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parent.parent
ROOMS = ("commands", "kernels", "templates")
OLDEST_TOOL, OLDEST_DEVICE = (3, 10), (3, 9)
DEVICE_ONLY = {"paddle", "numpy", "torch", "triton", "safetensors", "scipy", "tokenizers"}
DEVICE_MAY = {"paddle", "numpy", "safetensors", "triton", "torch", "scipy", "tokenizers"}
NOT_FOR_COMMANDS = {"git", "docker", "socket", "subprocess", "asyncio", "paramiko", "requests", "http"}
HEAVY = ("git", "docker", "paddle", "numpy", "rich", "typer", "pydantic", "click", "requests", "devkit.app")

CORE = sorted(
    path for path in (REPOSITORY / "devkit").rglob("*.py") if path.resolve().is_relative_to(REPOSITORY / "devkit")
)
COMMANDS = sorted((REPOSITORY / "commands").rglob("*.py"))
KERNELS = sorted((REPOSITORY / "kernels").rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    """Return a module as the oldest Python of the tool side reads it."""
    return ast.parse(path.read_text("utf-8"), str(path), feature_version=OLDEST_TOOL)


@cache
def calls_and_attributes(path: Path) -> tuple[list[ast.Call], list[ast.Attribute]]:
    """Return the calls in a module, and the attributes."""
    found = list(ast.walk(parsed(path)))
    return [one for one in found if isinstance(one, ast.Call)], [one for one in found if isinstance(one, ast.Attribute)]


@cache
def imports(path: Path, *, at_start: bool = False) -> list[tuple[int, str]]:
    """Return each imported module with its dots; with ``at_start`` only what runs when the module is imported."""
    return list(_imports(parsed(path), at_start=at_start))


def _imports(node: ast.AST, *, at_start: bool) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child.lineno, alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield child.lineno, "." * child.level + (child.module or "")
        elif not (at_start and runs_later(child)):
            yield from _imports(child, at_start=at_start)


def runs_later(node: ast.AST) -> bool:
    """Tell whether what is below a node does not run when its module is imported."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def offenders(paths: list[Path], forbidden: set[str], *, at_start: bool = False) -> list[str]:
    return [
        f"{path.relative_to(REPOSITORY)}:{line} imports {name}"
        for path in paths
        for line, name in imports(path, at_start=at_start)
        if name.split(".")[0] in forbidden
    ]


def test_the_rooms_are_seen_by_these_tests() -> None:
    assert {"app.py", "process.py", "supervisor.py"} <= {path.name for path in CORE}
    assert {"doctor.py", "main.py"} <= {path.name for path in COMMANDS}
    assert {"protocol.py", "probe.py"} <= {path.name for path in KERNELS}
    assert not {path for path in CORE if "kernels" in path.parts or "commands" in path.relative_to(REPOSITORY).parts}


def test_the_import_reader_sees_what_it_must(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "from typing import TYPE_CHECKING\nimport numpy.linalg\nif TYPE_CHECKING:\n    import docker\n"
        "try:\n    import paddle\nexcept ImportError:\n    pass\n"
        "def f():\n    from git import Repo\nfrom ..x import y\n"
    )
    assert [name for _, name in imports(source)] == ["typing", "numpy.linalg", "docker", "paddle", "git", "..x"]
    assert [name for _, name in imports(source, at_start=True)] == ["typing", "numpy.linalg", "paddle", "..x"]


def test_tool_side_never_imports_paddle_or_numpy() -> None:
    assert offenders([*CORE, *COMMANDS], {"paddle", "torch", "triton", "safetensors"}) == []
    assert offenders([*CORE, *COMMANDS], DEVICE_ONLY, at_start=True) == []


def test_core_never_imports_typer_or_commands() -> None:
    assert offenders(CORE, {"typer", "click"}) == []
    assert [
        f"{path.name}:{line}"
        for path in CORE
        for line, name in imports(path)
        if name.startswith("devkit.commands") and path.name != "__main__.py"
    ] == []


def test_core_imports_of_the_device_side_only_what_needs_no_paddle() -> None:
    """The protocol and the like: a kernels module that the tool side imports must not import Paddle when it starts."""
    modules = {name for path in [*CORE, *COMMANDS] for _, name in imports(path) if name.startswith("devkit.kernels")}
    for name in modules:
        path = REPOSITORY.joinpath(*name.split(".")[1:])
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert offenders([source], DEVICE_ONLY, at_start=True) == []


def test_commands_never_speak_to_git_docker_sockets_or_processes_themselves() -> None:
    assert offenders(COMMANDS, NOT_FOR_COMMANDS) == []


STARTS = {"run", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
EXECUTES = {"system", "popen", "posix_spawn", "posix_spawnp", "execl", "execle", "execlp", "execv", "execve", "execvp"}
# The one module that starts programs, what runs below it, and what becomes the program that was asked for.
MAY_START = {"devkit/process.py", "devkit/supervisor.py", "devkit/envs/enter.py"}


def test_programs_are_started_in_one_place() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for path in [*CORE, *COMMANDS]
        if str(path.relative_to(REPOSITORY)) not in MAY_START
        for node in calls_and_attributes(path)[0]
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
        if (node.func.value.id == "subprocess" and node.func.attr in STARTS)
        or (node.func.value.id == "os" and node.func.attr in EXECUTES)
    ]
    assert found == []


def test_addresses_of_the_web_are_opened_in_one_place() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for path in [*CORE, *COMMANDS]
        if path != REPOSITORY / "devkit" / "web.py"
        for node in calls_and_attributes(path)[1]
        if node.attr in {"urlopen", "build_opener", "ProxyHandler"}
    ]
    assert found == []


MACHINE_FACTS = (
    '/proc/cpuinfo"',
    '/proc/meminfo"',
    "/sys/fs/cgroup",
    "SC_PHYS_PAGES",
    ".virtual_memory(",
    "os.cpu_count(",
    "sched_getaffinity(",
)


def test_what_a_machine_has_is_read_in_one_module() -> None:
    assert [
        f"{path.relative_to(REPOSITORY)} reads {fact}"
        for path in [*CORE, *COMMANDS, *KERNELS]
        for fact in MACHINE_FACTS
        if fact in path.read_text("utf-8") and path != REPOSITORY / "kernels" / "machine.py"
    ] == []


GPU_FACTS = ("pynvml", "nvidia-smi --", "/proc/driver/nvidia", "/dev/nvidia", "/sys/bus/pci")


def test_gpus_are_read_in_one_module() -> None:
    assert [
        f"{path.relative_to(REPOSITORY)} reads {fact}"
        for path in [*CORE, *COMMANDS, *KERNELS]
        for fact in GPU_FACTS
        if fact in path.read_text("utf-8") and path != REPOSITORY / "devkit" / "gpus.py"
    ] == []


# Both sides' primitives, and the module that Python on another machine runs from its text alone.
MAY_LOCK = {"kernels/locks.py", "devkit/transfer/remote/locks.py"}


def test_files_are_locked_by_one_module() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in [*CORE, *COMMANDS, *KERNELS]
        if str(path.relative_to(REPOSITORY)) not in MAY_LOCK
        for line, text in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"fcntl\.(flock|lockf)\(|\bLOCK_(EX|SH)\b|import (filelock|portalocker)", text)
    ]
    assert found == []


def test_the_variables_of_git_are_sorted_in_one_place() -> None:
    assert [
        str(path.relative_to(REPOSITORY))
        for path in [*CORE, *COMMANDS]
        if 'startswith("GIT_")' in path.read_text("utf-8") and path.name != "environ.py"
    ] == []


def test_device_side_imports_each_other_relatively_and_never_the_tool_side() -> None:
    standard = set(sys.stdlib_module_names)
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{line} imports {name}"
        for path in KERNELS
        for line, name in imports(path)
        if not name.startswith(".") and name.split(".")[0] not in standard | DEVICE_MAY
    ]
    assert wrong == []


def test_relative_imports_of_the_device_side_stay_in_their_room() -> None:
    for path in KERNELS:
        depth = len(path.relative_to(REPOSITORY / "kernels").parts)
        for line, name in imports(path):
            dots = len(name) - len(name.lstrip("."))
            assert dots <= depth, f"{path}:{line} climbs out of kernels by {name}"


def test_nothing_imports_a_room_by_its_bare_name() -> None:
    everything = [*CORE, *COMMANDS, *KERNELS, *sorted((REPOSITORY / "tests").rglob("*.py"))]
    assert offenders(everything, set(ROOMS)) == []


def test_tool_side_reads_on_its_oldest_python() -> None:
    assert [path for path in [*CORE, *COMMANDS] if not parsed(path)] == []


def pythons(version: str) -> list[str]:
    """Return the interpreters of a version that this machine has."""
    places = [*Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python")]
    real_home = Path(os.environ.get("PYENV_ROOT", "/root/.pyenv")) / "versions"
    places += real_home.glob(f"{version}.*/bin/python")
    places += [Path(folder) / f"python{version}" for folder in os.environ["PATH"].split(os.pathsep)]
    return [str(path) for path in places if path.is_file()]


@pytest.mark.parametrize(("version", "feature"), [("3.9", OLDEST_DEVICE), ("3.10", OLDEST_TOOL)])
def test_device_side_reads_on_its_oldest_python(version: str, feature: tuple[int, int], tmp_path: Path) -> None:
    """By that interpreter where the machine has one, by the grammar of ``ast`` in any case."""
    sources = [REPOSITORY / "devkit" / "__init__.py", *KERNELS]
    for path in sources:
        ast.parse(path.read_text("utf-8"), str(path), feature_version=feature)
    if feature == OLDEST_DEVICE:
        for path in sources:
            py_compile.compile(str(path), str(tmp_path / "compiled.pyc"), doraise=True)
    for python in pythons(version)[:1]:
        code = "import sys\nfor p in sys.argv[1:]: compile(open(p, encoding='utf-8').read(), p, 'exec')"
        subprocess.run([python, "-c", code, *map(str, sources)], check=True, timeout=60)
        subprocess.run(
            [python, "-c", "import devkit.kernels.protocol as p; print(p.PROTOCOL)"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
            timeout=60,
        )


@pytest.mark.parametrize("words", [["--help"], ["runs", "--help"], [], ["--version"]])
def test_help_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "devkit", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "devkit.commands._cli.tree" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []


def test_a_command_imports_neither_git_docker_nor_paddle_until_it_needs_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "devkit", "config", "show"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in loaded
    assert [
        name for name in loaded if name.split(".")[0] in {"git", "docker", "paddle", "numpy", "pydantic", "tomlkit"}
    ] == []


def fake_wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """Write a wheel of a name and a version that requires others, and holds nothing."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {require}" for require in requires)]
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", *lines, ""]))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.mark.parametrize("there", [("2.6.2", "3.3.1", "3.4.0"), ("2.6.2",)])
def test_the_extra_of_gpus_is_a_paddle_that_fits_or_none(there: tuple[str, ...], tmp_path: Path) -> None:
    for version in there:
        fake_wheel(tmp_path, "paddlepaddle-gpu", version, "numpy<2" if version < "3" else "numpy")
    for version in ("1.26.4", "2.3.5", "2.5.0"):
        fake_wheel(tmp_path, "numpy", version)
    fake_wheel(tmp_path, "setuptools", "80.0")
    extras = tomlkit.parse((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    done = subprocess.run(
        [find_uv_bin(), "pip", "compile", "-q", "--no-index", "--find-links", tmp_path, "--no-header", "-"],
        input="\n".join(extras["gpu"]),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    chosen = [line for line in done.stdout.splitlines() if not line.lstrip().startswith("#")]
    wanted = ["numpy==2.3.5", "paddlepaddle-gpu==3.3.1", "setuptools==80.0"]
    assert (done.returncode == 0, chosen) == ((True, wanted) if "3.3.1" in there else (False, []))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel made from it, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [
            find_uv_bin(),
            "build",
            "--offline",
            "--no-build-isolation",
            "--python",
            sys.executable,
            "-o",
            folder,
            REPOSITORY,
        ],
        capture_output=True,
        check=True,
        timeout=100,
    )
    return folder


def test_a_wheel_installs_devkit_with_its_rooms_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"devkit"}
    assert {"devkit/commands/doctor.py", "devkit/kernels/probe.py", "devkit/supervisor.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]
    assert len(names) == len(set(names))


def test_a_wheel_holds_every_file_of_the_rooms(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "ls-files", "devkit", *ROOMS], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    kept = [name for name in listed if not (REPOSITORY / name).is_symlink() and (REPOSITORY / name).exists()]
    wanted = {name if name.startswith("devkit/") else f"devkit/{name}" for name in kept}
    assert wanted - names == set()


def test_a_wheel_made_from_the_tree_is_the_one_made_from_the_sdist(built: Path, tmp_path: Path) -> None:
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=REPOSITORY, check=True, timeout=60)
    (direct,), (through_sdist,) = tmp_path.glob("*.whl"), built.glob("*.whl")
    assert set(zipfile.ZipFile(direct).namelist()) == set(zipfile.ZipFile(through_sdist).namelist())


def test_an_sdist_holds_the_tests_and_nothing_of_the_workplace(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "tests/conftest.py"} <= names
    tops = {name.split("/")[0] for name in names}
    assert tops <= {"devkit", "tests", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"} | {
        "Makefile", "constraints.txt", "install.sh", "PKG-INFO", ".gitignore", ""
    }  # fmt: skip


def bare_environment(folder: Path, wheel: Path) -> Path:
    """Return the Python of a new environment with nothing but a wheel in it."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    subprocess.run(
        [find_uv_bin(), "pip", "install", "-q", "--offline", "--no-deps", "--python", python, wheel],
        check=True,
        timeout=100,
    )
    return python


def says(python: Path, *words: str, cwd: Path) -> str:
    done = subprocess.run(
        [python.parent / "devkit", *words], cwd=cwd, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_an_installed_wheel_shows_its_commands(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    python = bare_environment(tmp_path / "environment", wheel)
    assert "doctor" in says(python, "--help", cwd=tmp_path)
    (packages,) = (tmp_path / "environment" / "lib").glob("python*/site-packages")
    installed = {
        path.name for path in packages.iterdir() if not path.name.endswith((".dist-info", ".pth", ".virtualenv"))
    }
    assert installed - {"__pycache__", "_virtualenv.py"} == {"devkit"}


def test_an_editable_install_follows_the_working_tree(tmp_path: Path) -> None:
    code = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    python = bare_environment(tmp_path / "environment", tmp_path / done.stdout.strip())
    assert "doctor" in says(python, "--help", cwd=tmp_path)
    where = "import devkit.commands._cli.tree as tree; print(tree.__file__)"
    answer = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert Path(answer.stdout.strip()).resolve() == REPOSITORY / "commands" / "_cli" / "tree.py"


def test_no_imports_go_in_a_circle() -> None:
    """Those inside functions count too; those that only a type checker reads do not."""
    graph = grimp.build_graph("devkit", exclude_type_checking_imports=True)
    waiting = {name: graph.find_modules_directly_imported_by(name) & graph.modules for name in graph.modules}
    while ready := [name for name, imported in waiting.items() if not imported & waiting.keys()]:
        for name in ready:
            del waiting[name]
    assert sorted(waiting) == []
