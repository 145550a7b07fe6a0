"""Which connection fetches which range, when only the open answer may be had."""

from __future__ import annotations

import threading

from devkit.transfer.http_download.work import Work

SPANS = [(0, 4), (4, 8), (8, 12)]


def test_the_open_answer_keeps_the_range_that_it_begins_with() -> None:
    work = Work(SPANS, 2, at=0)
    assert work.take() == (4, 8)
    assert work.take(0) == (0, 4)


def test_the_open_answer_waits_for_what_it_goes_on_with_until_another_range_was_answered() -> None:
    work = Work(SPANS, 2, at=0)
    assert work.take(0) == (0, 4)
    assert work.take() == (4, 8)
    work.done()
    taken: list[tuple[int, int] | None] = []
    waits = threading.Thread(target=lambda: taken.append(work.take(4)), daemon=True)
    waits.start()
    assert work.leave([(4, 8)])  # the other connection was refused
    work.done()
    waits.join(10)
    assert taken == [(4, 8)]


def test_the_open_answer_takes_any_range_once_the_server_answers_ranges() -> None:
    work = Work(SPANS, 2, at=0)
    assert work.take(0) == (0, 4)
    assert work.take() == (4, 8)
    work.answered()
    work.done()
    assert work.take(4) == (8, 12)


def test_nothing_is_left_once_all_ranges_are_done() -> None:
    work = Work(SPANS[:1], 1, at=0)
    assert work.take(0) == (0, 4)
    work.done()
    assert work.take(4) is None
