from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from devkit.bench.watch import states, until_changed, watch
from devkit.errors import DevkitError

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

    assert until_changed(states([str(other), str(file)]), sleep) == "mine.py"
    assert len(waited) == 3


def test_it_measures_again_at_each_save_beside_the_last_run_with_times_until_ctrl_c(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("one")
    broken = DevkitError("mine.py: invalid syntax")
    compared: list[str] = []
    said: list[str] = []
    failed: list[DevkitError] = []
    ends: Iterator[tuple[int, str] | DevkitError] = iter([(0, "a1"), broken, (4, ""), (0, "a2")])

    def measure(baseline: str) -> tuple[int, str]:
        compared.append(baseline)
        end = next(ends)
        if isinstance(end, DevkitError):
            raise end
        return end

    def sleep(_seconds: float) -> None:
        if len(compared) == 4:
            raise KeyboardInterrupt
        file.write_text("another" * len(compared))

    assert watch([str(file)], measure, "", fail=failed.append, say=said.append, sleep=sleep) == 0
    assert compared == ["", "a1", "a1", "a1"]
    assert failed == [broken]
    assert said == [*["watching mine.py: saved, it is measured again; Ctrl-C ends", "mine.py has changed"] * 3, said[0]]


def test_what_is_saved_while_it_measures_is_measured_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("one")
    compared: list[str] = []

    def measure(baseline: str) -> tuple[int, str]:
        compared.append(baseline)
        if len(compared) == 1:
            file.write_text("saved meanwhile")
        return 4, ""

    def sleep(_seconds: float) -> None:
        raise KeyboardInterrupt

    assert watch([str(file)], measure, "b0", fail=print, say=print, sleep=sleep) == 4
    assert compared == ["b0", "b0"]


def test_a_signal_that_is_not_ctrl_c_ends_the_command(tmp_path: Path) -> None:
    class Hangup(KeyboardInterrupt):
        number = signal.SIGHUP

    def sleep(_seconds: float) -> None:
        raise Hangup

    with pytest.raises(Hangup):
        watch([str(tmp_path / "mine.py")], lambda _: (0, ""), "", fail=print, say=print, sleep=sleep)
