"""What ranks of one machine see of each other's collectives."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from devkit.kernels.guard import board as boards
from devkit.kernels.guard.board import MOST_GROUPS, Board, Differs, Gone

if TYPE_CHECKING:
    from collections.abc import Iterator

WORLD, PAIR = 7, 9


@pytest.fixture
def board() -> Iterator[Board]:
    """Ranks 4, 5 and 6 are on this machine."""
    made = Board.create(3, 4)
    assert made is not None
    yield made[1]
    os.close(made[0])


def test_ranks_see_what_others_have_begun(board: Board) -> None:
    assert board.here(range(8)) == [4, 5, 6]
    assert board.begin(5, WORLD, 1, "all_reduce at a.py:1") == 1
    assert board.begin(5, WORLD, 1, "barrier at a.py:2") == 2
    board.begin(5, PAIR, 1, "ein Wörtchen " * 100)

    assert (board.count(5, WORLD), board.count(5, PAIR), board.count(4, WORLD)) == (2, 1, 0)
    assert board.text(5).startswith("ein Wörtchen")


def test_who_comes_last_does_not_wait_and_the_first_waits_for_it(board: Board) -> None:
    board.begin(4, WORLD, 1, "barrier")
    other = threading.Timer(0.05, board.begin, (5, WORLD, 1, "barrier"))
    other.start()

    assert board.wait(4, [5], WORLD, 1, 1)
    assert board.wait(5, [4], WORLD, 1, 1)
    other.join()
    assert not board.wait(4, [6], WORLD, 1, 1, most_s=0.0)


def test_two_that_call_different_collectives_are_told_so(board: Board) -> None:
    board.begin(4, WORLD, 1, "all_reduce of float32 [4] at a.py:9")
    board.begin(5, WORLD, 2, "broadcast at a.py:7")

    with pytest.raises(Differs) as found:
        board.wait(4, [5], WORLD, 1, 1)
    assert (found.value.rank, found.value.theirs) == (5, "broadcast at a.py:7")
    board.end(5)
    assert board.wait(4, [5], WORLD, 1, 1), "it has gone on, and what it called is not known any more"


def test_two_that_wait_for_each_other_in_two_groups_are_told_so(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "CROSSED_S", 0.0)
    board.begin(4, WORLD, 1, "all_reduce")
    board.begin(5, PAIR, 2, "backward at b.py:3")

    assert not board.crossed(4, 5), "a group that rank 4 is not in"
    board.groups.add(PAIR)
    with pytest.raises(Differs, match=r"rank 5 calls backward at b\.py:3"):
        board.wait(4, [5], WORLD, 1, 1)


def test_nobody_waits_for_a_rank_that_has_ended(board: Board) -> None:
    board.begin(4, WORLD, 1, "barrier")
    board.leave(5)

    with pytest.raises(Gone, match="rank 5 has ended"):
        board.wait(4, [5], WORLD, 1, 1)
    board.begin(6, WORLD, 1, "barrier")
    board.leave(6)
    assert board.wait(4, [6], WORLD, 1, 1), "it had done its part"


def test_more_groups_than_there_is_room_for_are_not_waited_for(board: Board) -> None:
    numbers = [board.begin(4, 100 + group, 1, "barrier") for group in range(MOST_GROUPS + 1)]

    assert numbers == [1] * MOST_GROUPS + [0]
    assert board.begin(4, 100, 1, "barrier") == 2


def test_a_process_finds_the_board_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Board.create(2, 0)
    assert made is not None
    monkeypatch.setenv(boards.VARIABLE, f"{made[0]},2,0")
    found = Board.inherited()

    assert found is not None
    found.begin(1, WORLD, 1, "barrier")
    assert made[1].count(1, WORLD) == 1
    assert boards.VARIABLE not in os.environ
    assert Board.inherited() is None
    os.close(made[0])
