from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit import mkl
from devkit.app import App
from devkit.bench import workers
from devkit.bench.workers import HUGE_PAGES, TUNABLES, bench_environment, huge_pages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "given"),
    [("always [madvise] never\n", True), ("[always] madvise never\n", True), ("a b [never]\n", False)],
)
def test_whether_huge_pages_are_given_is_the_kernels_word(tmp_path: Path, text: str, given: bool) -> None:
    setting = tmp_path / "enabled"
    assert not huge_pages(setting)
    setting.write_text(text)
    assert huge_pages(setting) is given


def test_what_measures_asks_for_huge_pages_and_leaves_a_users_tunables(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(["bench", "attn"])
    monkeypatch.setattr(mkl, "cpu_type", lambda *_: None)
    monkeypatch.setattr(workers, "huge_pages", lambda: True)
    monkeypatch.delenv(TUNABLES, raising=False)
    found = bench_environment(app, 3, {"CUDA_VISIBLE_DEVICES": "1"})
    assert (found[TUNABLES], found["OMP_NUM_THREADS"], found["CUDA_VISIBLE_DEVICES"]) == (HUGE_PAGES, "3", "1")
    monkeypatch.setenv(TUNABLES, "theirs")
    assert bench_environment(app, 3)[TUNABLES] == "theirs"
    monkeypatch.delenv(TUNABLES)
    monkeypatch.setattr(workers, "huge_pages", lambda: False)
    assert TUNABLES not in bench_environment(app, 3)
