"""Which connection fetches which range, when only the open answer may be had."""

from __future__ import annotations

import asyncio

from devkit.transfer.http_download.work import RangeQueue

SPANS = [(0, 4), (4, 8), (8, 12)]


def test_the_open_answer_keeps_the_range_that_it_begins_with() -> None:
    async def check() -> None:
        work = RangeQueue(SPANS, 2, at=0)
        assert await work.take() == (4, 8)
        assert await work.take(0) == (0, 4)

    asyncio.run(check())


def test_the_open_answer_waits_for_what_it_goes_on_with_until_another_range_was_answered() -> None:
    async def check() -> None:
        work = RangeQueue(SPANS, 2, at=0)
        assert await work.take(0) == (0, 4)
        assert await work.take() == (4, 8)
        work.done()
        waits = asyncio.create_task(work.take(4))
        await asyncio.sleep(0)
        assert work.leave([(4, 8)])  # the other connection was refused
        work.done()
        assert await waits == (4, 8)

    asyncio.run(check())


def test_the_open_answer_takes_any_range_once_the_server_answers_ranges() -> None:
    async def check() -> None:
        work = RangeQueue(SPANS, 2, at=0)
        assert await work.take(0) == (0, 4)
        assert await work.take() == (4, 8)
        work.answered()
        work.done()
        assert await work.take(4) == (8, 12)

    asyncio.run(check())


def test_nothing_is_left_once_all_ranges_are_done() -> None:
    async def check() -> None:
        work = RangeQueue(SPANS[:1], 1, at=0)
        assert await work.take(0) == (0, 4)
        work.done()
        assert await work.take(4) is None

    asyncio.run(check())
