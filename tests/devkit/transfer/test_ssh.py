"""The receiver that devkit brings along needs nothing but an old Python's standard library."""

from __future__ import annotations

import ast
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import pytest

from devkit.transfer.ssh import FOR_A_COPY, MODULES, PROGRAM, RemotePath, program, remote_command, ssh_line

if TYPE_CHECKING:
    from pathlib import Path

# What came with Python 3.6 and is still there, as far as the receiver uses it.
STANDARD = {
    "binascii",
    "collections",
    "contextlib",
    "ctypes",
    "errno",
    "fcntl",
    "functools",
    "gc",
    "glob",
    "mmap",
    "hashlib",
    "io",
    "json",
    "os",
    "queue",
    "re",
    "select",
}
STANDARD |= {"stat", "struct", "sys", "threading", "time", "typing", "unicodedata", "zlib"}
OPTIONAL = {"xxhash"}


def _ours(node: ast.ImportFrom) -> set[str]:
    """Return the modules beside this one that an import names."""
    return {node.module} if node.module else {alias.name for alias in node.names}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_the_receiver_is_python_3_6_and_imports_its_library_alone(name: str) -> None:
    tree = ast.parse((PROGRAM / f"{name}.py").read_text("utf-8"), feature_version=(3, 6))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= STANDARD | OPTIONAL
        elif isinstance(node, ast.ImportFrom):
            assert (_ours(node) <= {*MODULES}) if node.level else node.module in STANDARD
        assert not isinstance(node, ast.NamedExpr)


def test_every_module_is_sent_before_those_that_import_it() -> None:
    assert {path.stem for path in PROGRAM.glob("*.py")} == {*MODULES, "__init__"}
    known: set[str] = set()
    for name in MODULES:
        tree = ast.parse((PROGRAM / f"{name}.py").read_text("utf-8"))
        ours = [_ours(node) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
        assert set().union(*ours) <= known
        known.add(name)


@pytest.mark.parametrize("lacks", ["", "ctypes", "_ctypes"])
def test_the_receiver_starts_from_the_one_line_and_its_standard_input(lacks: str) -> None:
    without = f"import sys; sys.modules[{lacks!r}] = None\n".encode()
    source = zlib.compress(without + program() + b"\nprint('loaded', sorted(sys.modules)[-1] > '')\n")
    line = remote_command(len(source)).replace("python3 -I", f"{sys.executable} -I")
    done = subprocess.run(["sh", "-c", line], input=source, capture_output=True, check=True, timeout=30)
    assert done.stdout == b"loaded True\n"
    assert len(source) < 35_500


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("", []),
        ("StdinNull yes\nSessionType none\nForkAfterAuthentication yes", ["stdinnull", "sessiontype", "forkafter"]),
        (
            "PermitLocalCommand yes\nLocalCommand echo hello\nRemoteCommand tmux",
            ["permitlocalcommand", "remotecommand"],
        ),
    ],
)
def test_what_settings_make_of_a_session_for_people_is_not_for_a_copy(
    settings: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(f"Host box\n  HostName 127.0.0.1\n{settings}\n")
    line = ssh_line(["ssh", "-F", str(tmp_path / "config")], RemotePath("box", "there"))
    said = [word for word in line if word.partition("=")[0] in (*FOR_A_COPY, "sessiontype")]
    assert len(said) == len(expected)
    assert all(any(word.startswith(name) for word in said) for name in expected)
