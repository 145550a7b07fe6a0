from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.bench.watch import until_changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def test_a_file_that_an_editor_replaces_has_changed_once_it_is_there_again(tmp_path: Path) -> None:
    file, other = tmp_path / "mine.py", tmp_path / "other.py"
    file.write_text("one")
    other.write_text("")
    steps: Iterator[Callable[[], object]] = iter([list, file.unlink, lambda: file.write_text("two and more")])
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        next(steps)()

    assert until_changed([str(other), str(file)], sleep) == "mine.py"
    assert len(waited) == 3
