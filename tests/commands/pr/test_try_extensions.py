"""devkit pr try on projects with extension modules: built as pip would, on both sides; where not, that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.ledger import everything, start, words

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.ledger import Ledger

FAST = """#include <Python.h>

static PyObject *add(PyObject *self, PyObject *args) {
    long a, b;
    if (!PyArg_ParseTuple(args, "ll", &a, &b)) return NULL;
    return PyLong_FromLong(a - b);
}

static PyMethodDef methods[] = {{"add", add, METH_VARARGS, ""}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_fast", "", -1, methods};

PyMODINIT_FUNC PyInit__fast(void) { return PyModule_Create(&module); }
"""
FILES = {
    ".gitignore": "*.so\n",
    "pyproject.toml": '[project]\nname = "quick"\nversion = "1"\n'
    '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
    "setup.py": "from setuptools import Extension, setup\n\n"
    'setup(ext_modules=[Extension("quick._fast", ["src/quick/_fast.c"])])\n',
    "src/quick/__init__.py": "from quick._fast import add\n\nHALF = 2\n",
    "src/quick/_fast.c": FAST,
    "src/quick/plain.py": "def half(x):\n    return x / 3\n",
    "tests/test_add.py": "from quick import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
}


@pytest.fixture
def quick(tmp_path: Path) -> Ledger:
    return start(tmp_path, FILES)


def test_extension_modules_are_built_on_both_sides_and_the_clone_is_left_alone(quick: Ledger) -> None:
    quick.request(1, src__quick___fast_DOT_c=FAST.replace("a - b", "a + b"))
    before = everything(quick.clone)
    status, found = quick.tried("1")
    assert everything(quick.clone) == before
    assert (status, found["reason"]) == (0, "nothing broken: 1 test fixed")
    assert words(found) == {"test_add": "fixed"}


@pytest.mark.slow
def test_an_extension_module_that_does_not_compile_is_the_requests_fault_where_the_base_does(quick: Ledger) -> None:
    quick.request(1, src__quick___fast_DOT_c=FAST.replace("a - b", "c"))
    status, found = quick.tried("1")
    assert (status, found["verdict"]) == (4, "bad")
    assert found["reason"].startswith("the request does not build: src/quick/_fast.c:6:28: error:")
    (quick.folder / "forge" / "src/quick/_fast.c").write_text(FAST.replace("long a", "lang a"))
    quick.git("commit", "-qam", "spoil it")
    quick.request(2, src__quick__plain_DOT_py="def half(x):\n    return x / 2\n", tests__test_half_DOT_py=HALF)
    status, found = quick.tried("2")
    assert (status, words(found)) == (1, {"test_half": "not run"})
    assert found["reason"].startswith(
        "test_half, which the request adds, did not run: missing module quick._fast, which was not built: src/quick/_fa"
    )


HALF = "def test_half():\n    from quick.plain import half\n    assert half(2) == 1\n"


@pytest.mark.slow
def test_without_a_compiler_what_needs_none_runs_and_the_rest_says_what_is_missing(
    quick: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORKS_FIRST", "from devkit.tryout import extensions; extensions.COMPILERS['cc'] = ()")
    quick.request(1, src__quick___fast_DOT_c=FAST.replace("a - b", "a + b"))
    status, found = quick.tried("1")
    assert (status, words(found)) == (1, {"tests/test_add.py": "not run"})
    assert found["reason"] == (
        "no test ran: tests/test_add.py: missing module quick._fast, which was not built: "
        "there is no compiler (apt install build-essential)"
    )
    pure = {**FILES, "src/quick/__init__.py": "try:\n    from quick._fast import add\nexcept ImportError:\n    pass\n"}
    (quick.folder / "forge" / "src/quick/__init__.py").write_text(pure["src/quick/__init__.py"])
    quick.git("commit", "-qam", "do without")
    quick.request(2, src__quick__plain_DOT_py="def half(x):\n    return x / 2\n", tests__test_half_DOT_py=HALF)
    status, found = quick.tried("2")
    assert (status, words(found)) == (0, {"test_half": "fixed"})
    assert found["notes"] == [
        "its extension modules were not built: there is no compiler (apt install build-essential)"
    ]
