"""Which runs an undo goes back to, and which state a redo comes forward to."""

from __future__ import annotations

from dataclasses import replace

from devkit.git.journal import After, JournalEntry, Push
from devkit.git.undo import operation_log

LEFT = After({}, {}, {}, {})


def run(name: str, number: int, undoes: str = "", *, killed: bool = False) -> JournalEntry:
    return JournalEntry(name, name, 0, after=None if killed else LEFT, undoes=undoes, sequence=number)


def log(*entries: JournalEntry) -> tuple[list[str], list[str]]:
    found = operation_log(entries)
    return [entry.id for entry in found.done], [entry.id for entry in found.undone]


def test_each_undo_goes_one_run_further_back() -> None:
    first, second = run("first", 1), run("second", 2)
    assert log(first, second) == (["first", "second"], [])
    assert log(first, second, run("undo", 3, "second")) == (["first"], ["undo"])
    assert log(first, second, run("undo", 3, "second"), run("again", 4, "first")) == ([], ["undo", "again"])
    assert log(first, second, run("undo", 3, "second"), run("redo", 4, "undo")) == (["first", "redo"], [])
    assert log(first, run("undo", 2, "first"), run("third", 3)) == (["third"], [])


def test_a_redo_leads_to_the_state_before_the_first_of_the_undos_that_were_killed() -> None:
    first, killed = run("first", 1), run("killed", 2, "first", killed=True)
    assert log(first, killed) == (["first", "killed"], [])
    assert log(first, killed, run("undo", 3, "first")) == ([], ["killed"])
    between = run("between", 3)
    assert log(first, killed, between, run("undo", 4, "first")) == (["killed", "between"], ["undo"])


def test_a_redo_takes_back_what_any_of_the_undos_pushed() -> None:
    first, killed, undo = run("first", 1), run("killed", 2, "first", killed=True), run("undo", 3, "first")
    one, other = (Push("fork", f"refs/heads/{name}", "1", "") for name in ("a", "b"))
    for pushes, later in (((), (one,)), ((one,), (one,)), ((one,), (other,))):
        found = operation_log([first, replace(killed, pushes=pushes), replace(undo, pushes=later)])
        assert [entry.pushes for entry in found.undone] == [tuple(dict.fromkeys(pushes + later))]
