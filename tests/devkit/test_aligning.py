"""What a word of devkit align names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.aligning import parse
from devkit.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model.py", "a@b.py", "x.py.d/model.py", "odd.py@v1/model.py", "two\nlines.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("model.py", ("model.py", "model", "")),
        ("./model.py:net", ("model.py", "net", "")),
        ("model.py:", ("model.py", "model", "")),
        ("model.py@HEAD~1", ("model.py", "model", "HEAD~1")),
        ("model.py:net@HEAD@{1}", ("model.py", "net", "HEAD@{1}")),
        ("model.py@@", ("model.py", "model", "@")),
        ("model.py@@{upstream}", ("model.py", "model", "@{upstream}")),
        ("model.py@release/2.6", ("model.py", "model", "release/2.6")),
        ("model.py:net@topic/fix.py", ("model.py", "net", "topic/fix.py")),
        ("model.py@v3.0.0^{commit}", ("model.py", "model", "v3.0.0^{commit}")),
        ("model.py:net@:/fix a: b", ("model.py", "net", ":/fix a: b")),
        ("a@b.py", ("a@b.py", "model", "")),
        ("a@b.py:net@v1", ("a@b.py", "net", "v1")),
        ("x.py.d/model.py@v1", ("x.py.d/model.py", "model", "v1")),
        ("odd.py@v1/model.py:net", ("odd.py@v1/model.py", "net", "")),
        ("two\nlines.py:net@v1", ("two\nlines.py", "net", "v1")),
    ],
)
def test_a_word_names_a_file_a_function_and_a_revision(tmp_path: Path, word: str, named: tuple[str, str, str]) -> None:
    model = parse(word)
    assert (model.file, model.function, model.revision) == (str(tmp_path / named[0]), *named[1:])


@pytest.mark.parametrize(
    ("word", "missing"),
    [
        ("none.py", "none.py"), ("none.py:net@v1", "none.py"), ("none.py@x.py", "none.py"), ("model", "model"),
        ("model.py:net@", "model.py:net@"), ("model.pyc", "model.pyc"),
    ],
)  # fmt: skip
def test_what_names_no_model_says_what_one_is(word: str, missing: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(word)
    assert refused.value.what == f"{missing} does not exist"
    assert "FILE.py:NAME@REVISION" in refused.value.why
