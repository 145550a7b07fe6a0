"""The user's files as workers take them in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from devkit.kernels.protocol import Refusal
from devkit.kernels.user_code import function_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def test_a_function_comes_from_the_file_as_it_is_now_and_finds_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "beside_mine.py").write_text("two = 2\n")
    file = tmp_path / "mine.py"
    for number in (1, 20):
        file.write_text(f"from beside_mine import two\ndef times(x):\n    return x * two * {number}\n")
        function, module = function_of(str(file), "times")
        assert function(3) == 6 * number
        assert module.two == 2


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        ("x = (\n", "cannot be run", "SyntaxError: '(' was never closed (mine.py:1)"),
        ("\ndef f():\n    return 1 / 0\nf()\n", "cannot be run", "ZeroDivisionError: division by zero (mine.py:3)"),
        ("import sys\nsys.exit(3)\n", "ended while it was loaded", "Its exit status is 3."),
        ("def f(): pass\n_g = f\n", "has no function attend", "It has f."),
        ("attend = 3\n", "has no function attend", "It has none."),
    ],
)
def test_what_cannot_be_taken_in_is_named_with_its_line(tmp_path: Path, text: str, what: str, why: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(Refusal) as refused:
        function_of(str(tmp_path / "mine.py"), "attend")
    assert what in refused.value.what
    assert refused.value.why == why


def test_what_it_prints_and_reads_is_not_the_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("print('loud')\nimport sys\nassert not sys.stdin.read()\ndef attend(): pass\n")
    before = sys.stdin
    function_of(str(tmp_path / "mine.py"), "attend")
    assert sys.stdin is before
    assert capsys.readouterr() == ("", "loud\n")
