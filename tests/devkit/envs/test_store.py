"""Names, places, and the lock below which an environment is made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.envs import store
from devkit.envs.places import home as envs
from devkit.envs.resolve import resolve
from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["work", "py3.11", "a_b-c", "_x", "0"])
def test_name_that_can_be(name: str) -> None:
    assert store.check_name(name) == name


@pytest.mark.parametrize("name", ["", "-x", "a/b", ".", "..", ".venv", "a b", "a\nb", "ü", "a+b", "x" * 64])
def test_name_that_cannot_be_gets_a_better_one(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        store.check_name(name)
    better = refused.value.remedies[0].removeprefix("devkit env create ")
    assert store.check_name(better) == better


def test_folder_is_unfinished_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with store.creating(folder) as cut_off:
        assert not cut_off
        assert not store.unfinished(folder)
        store.begin(folder)
        folder.mkdir()
        assert store.unfinished(folder)
    assert not store.unfinished(folder)


def test_what_is_cut_off_stays_unfinished_and_the_next_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "work"

    def cut_off_making() -> None:
        with store.creating(folder):
            store.begin(folder)
            folder.mkdir()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        cut_off_making()
    assert store.unfinished(folder)
    with store.creating(folder) as cut_off:
        assert cut_off
    assert not store.unfinished(folder)


def test_second_making_that_is_refused_does_not_unmake_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with store.creating(folder):
        store.begin(folder)
        folder.mkdir()
        with pytest.raises(DevkitError, match="being made"), store.creating(folder):
            pytest.fail("two had the lock")
    with pytest.raises(DevkitError, match="taken"), store.creating(folder):
        raise DevkitError("the name is taken")
    assert not store.unfinished(folder)
    assert list((envs() / store.CREATING).iterdir()) == []


def test_record_is_read_as_it_was_written_without_secrets(tmp_path: Path) -> None:
    record = store.Record("work", "2026-01-01", "3.11.7", requirements=("x @ https://me:secret@host.example/x.whl",))
    store.write(tmp_path, record)
    text = (tmp_path / store.RECORD).read_text()
    assert "secret" not in text
    found = store.read(tmp_path)
    assert found is not None
    assert found.name == "work"
    (tmp_path / store.RECORD).write_text(text[:20])
    assert store.read(tmp_path) is None


def test_size_counts_what_is_not_shared(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "big").write_bytes(b"x" * 1_000_000)
    alone = store.own_size(tmp_path / "one")
    assert alone >= 1_000_000
    (tmp_path / "two" / "big").hardlink_to(tmp_path / "one" / "big")
    assert store.own_size(tmp_path / "two") < 100_000


def test_a_name_that_begins_with_a_dot_is_a_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / ".venv-peers" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert resolve(App().config, ".venv-peers").python == program
    with pytest.raises(DevkitError, match=r"no environment named \.other"):
        resolve(App().config, ".other")
