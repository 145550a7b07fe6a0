"""A project with Paddle's shape, in a repository with a submodule and an archive, and an environment for it."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import coverage
import numpy as np
import pytest
from uv import find_uv_bin

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parent / "project"
ARCHIVE = b"this stands for a third-party archive\n"
LIMIT_S = 60.0


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Project:
    """The checkout, the environment for it, and where its archive comes from."""

    root: Path
    env: Path
    store: Path

    @property
    def build(self) -> Path:
        return self.root / "build"

    @property
    def packages(self) -> Path:
        (found,) = self.env.glob("lib/python*/site-packages")
        return found

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    def python(self, code: str) -> str:
        return run(self.env / "bin" / "python", "-c", code, cwd=self.env)

    def edges(self) -> int:
        """How many edges ninja ever built here."""
        return len((self.build / ".ninja_log").read_text("utf-8").splitlines())


def tiny_wheel(folder: Path, name: str, version: str, module: str, code: bytes = b"") -> None:
    """Write a wheel with one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        module: code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for path, data in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)


def tarball(path: Path, name: str) -> bytes:
    """Write an archive with one file in it."""
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return path.read_bytes()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the packages that a build imports, as uv's only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    modules = {
        "protobuf": "google/protobuf/__init__.py",
        "pyyaml": "yaml.py",
        "jinja2": "jinja2.py",
        "wheel": "wheel.py",
        "pip": "pip.py",
        "setuptools": "setuptools.py",
        "networkx": "networkx.py",
    }
    for name, module in modules.items():
        tiny_wheel(folder, name, "9.0", module)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_OFFLINE", "1")
    return folder


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made by the first test that needs it, and copied for each."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture
def bare_env(templates: Path, tmp_path: Path) -> Path:
    """An environment with NumPy and nothing else."""
    made = templates / "bare"
    if not made.exists():
        run(find_uv_bin(), "venv", "-q", "--offline", "-p", sys.executable, made, cwd=templates)
        (packages,) = made.glob("lib/python*/site-packages")
        theirs = Path(np.__file__).parent
        for path in (theirs, theirs.parent / "numpy.libs", *theirs.parent.glob("numpy-*.dist-info")):
            if path.exists():
                (packages / path.name).symlink_to(path)
    return shutil.copytree(made, tmp_path / "env", symlinks=True)


@pytest.fixture
def counted_env(bare_env: Path) -> Path:
    """An environment that has coverage too."""
    (packages,) = bare_env.glob("lib/python*/site-packages")
    (packages / "coverage").symlink_to(Path(coverage.__file__).parent)
    return bare_env


@pytest.fixture
def make_project(templates: Path, tmp_path: Path, home: Path) -> Callable[[Path], Project]:
    """Make the project anew, for an environment."""

    def make(env: Path) -> Project:
        (home / ".gitconfig").write_text('[protocol "file"]\n\tallow = always\n[init]\n\tdefaultBranch = develop\n')
        made = templates / "project"
        if not made.exists():
            _fill(made)
        root, store = tmp_path / "Paddle", tmp_path / "store"
        for folder in (root, store, tmp_path / "greet"):
            shutil.copytree(made / folder.name, folder)
        named = (root / ".gitmodules", root / ".git" / "config", root / ".git/modules/third_party/greet/config")
        for path in (*named, *(root / "cmake" / "external").iterdir()):
            path.write_text(path.read_text().replace(str(made), str(tmp_path)))
        run("git", "update-index", "-q", "--refresh", cwd=root / "third_party" / "greet")
        commit_all(root)
        return Project(root, env, store)

    return make


def _fill(folder: Path) -> None:
    """Make the project, not yet committed, its submodule's repository and its archives, whose addresses are there."""
    greet, store, root = (folder / name for name in ("greet", "store", "Paddle"))
    greet.mkdir(parents=True)
    (greet / "greet.h").write_text('#pragma once\nconstexpr const char* kGreeting = "hello";\n')
    commit_all(greet)
    run("git", "tag", "v1.0", cwd=greet)
    (greet / "README").write_text("what is pinned is newer than what is built\n")
    commit_all(greet)
    store.mkdir()
    for archive in ("lapack_lnx_v1.tar.gz", "allocator-5.tar.bz2", "tables.tar.gz"):
        (store / archive).write_bytes(ARCHIVE)
    packed = tarball(store / "storage.tar.gz", "storage.h")
    (store / "messages.tar.gz").write_bytes(packed)
    for path in PROJECT.rglob("*"):
        if path.is_file():
            name = str(path.relative_to(PROJECT)).removesuffix(".txt") if path.name.endswith(".py.txt") else None
            target = root / (name or path.relative_to(PROJECT))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    (root / "gitignore").rename(root / ".gitignore")
    sums = {"@MD5@": ARCHIVE, "@TAR_MD5@": packed}
    for path in (root / "cmake" / "external").iterdir():
        text = path.read_text().replace("@STORE@", f"file://{store}")
        for mark, data in sums.items():
            text = text.replace(mark, hashlib.md5(data).hexdigest())  # noqa: S324 - as Paddle names it
        path.write_text(text)
    run("git", "init", "-q", "--template=", ".", cwd=root)
    run("git", "submodule", "--quiet", "add", f"file://{greet}", "third_party/greet", cwd=root)


def commit_all(folder: Path) -> None:
    """Commit everything but what a configure checked out in submodules."""
    if not (folder / ".git").exists():
        run("git", "init", "-q", "--template=", ".", cwd=folder)
    run("git", "add", "-A", "--", ".", ":(exclude)third_party", cwd=folder)
    run("git", "commit", "-qm", "as it is", cwd=folder)


@pytest.fixture
def project(make_project: Callable[[Path], Project], bare_env: Path, index: Path, templates: Path) -> Project:
    """The project, and an environment with all that its build imports."""
    made = templates / "env"
    if not made.exists():
        wheels = sorted(index.glob("*.whl"))
        run(find_uv_bin(), "pip", "install", "-q", "--python", bare_env / "bin" / "python", *wheels, cwd=bare_env)
        bare_env.rename(made)
    shutil.rmtree(bare_env, ignore_errors=True)
    shutil.copytree(made, bare_env, symlinks=True)
    return make_project(bare_env)
