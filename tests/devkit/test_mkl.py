from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit import mkl
from devkit.app import App
from devkit.kernels.machine import features
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mkl, "is_amd", lambda: True)
    monkeypatch.setattr(mkl, "features", lambda: frozenset({"avx2", "avx512f"}))


def test_a_real_product_decides() -> None:
    """The processor of the test has AVX-512 or an illegal instruction ends the child, and not devkit."""
    assert mkl.works(App(), "5")
    assert mkl.works(App(), "7") == ("avx512f" in features())


@pytest.mark.usefixtures("amd")
@pytest.mark.parametrize(("answer", "wanted"), [(True, "7"), (False, "5")])
def test_avx512_is_tried_once_and_the_answer_kept(monkeypatch: pytest.MonkeyPatch, answer: bool, wanted: str) -> None:
    tried: list[str] = []

    def works(_: App, value: str, __: Path | None) -> bool:
        tried.append(value)
        return answer

    monkeypatch.setattr(mkl, "works", works)
    assert [mkl.cpu_type(App(), Path(sys.executable)) for _ in range(2)] == [wanted] * 2
    assert tried == ["7"]


@pytest.mark.usefixtures("amd")
@pytest.mark.parametrize("break_it", [lambda path: path.write_text("{"), lambda path: path.mkdir()])
def test_a_cache_that_cannot_be_read_or_written_is_no_condition(
    monkeypatch: pytest.MonkeyPatch, break_it: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(mkl, "works", lambda *_: True)
    cache_home().mkdir(parents=True, exist_ok=True)
    break_it(cache_home() / "mkl.json")

    assert mkl.cpu_type(App()) == "7"


def test_without_avx512_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mkl, "is_amd", lambda: True)
    monkeypatch.setattr(mkl, "features", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(mkl, "works", lambda *_: pytest.fail("a child was started"))

    assert mkl.cpu_type(App()) == "5"
