"""What is said of an operator that does not compile: the compiler's first true line, wherever it was printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.ops.checking import Target, compile_error

if TYPE_CHECKING:
    from pathlib import Path

GCC = """Compiling user custom op, it will cost a few seconds.....
[2026-11-29] [    INFO] base.py:1176 - g++ -Wall -c /w/my gate.cc
/w/gate.cc: In function ‘T sigmoid(T)’:
/w/gate.cc:14:56: error: ‘exq’ is not a member of ‘std’
   14 |   return std::exq(-value);
error: [Errno 2] No such file or directory: '/w/build/gate.o'
"""


@pytest.mark.parametrize(
    ("printed", "line", "place"),
    [
        (GCC, "/w/gate.cc:14:56: error: ‘exq’ is not a member of ‘std’", "+14 /w/gate.cc"),
        (
            "/w/a.cc:3:10: 致命错误：x.h：没有那个文件或目录\n",
            "/w/a.cc:3:10: 致命错误：x.h：没有那个文件或目录",
            "+3 /w/a.cc",
        ),
        (
            '/w/a.cu(7): error: identifier "y" is undefined\n',
            '/w/a.cu(7): error: identifier "y" is undefined',
            "+7 /w/a.cu",
        ),
        ("ImportError: /w/a.so: undefined symbol: _Zf\n", "ImportError: /w/a.so: undefined symbol: _Zf", ""),
    ],
)
def test_the_first_true_line_of_a_compilation_and_where_it_is(
    tmp_path: Path, printed: str, line: str, place: str
) -> None:
    (tmp_path / "worker.log").write_text(printed)
    error = compile_error(Target("/w/gate.py"), tmp_path / "worker.log")
    assert error is not None
    assert (error.what, error.why) == ("/w/gate.py does not compile", line)
    assert place in error.remedies[0]


def test_a_log_without_such_a_line_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("E0101 an error: of something else\nValueError: x\n")
    assert compile_error(Target("a"), tmp_path / "worker.log") is None
    assert compile_error(Target("a"), tmp_path / "none.log") is None
