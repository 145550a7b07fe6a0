"""A download that goes on where it ended, and addresses that are relative."""

from __future__ import annotations

import contextlib
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.builds.archives import Archive
from devkit.builds.checkout import resolved
from devkit.builds.deps import Fetcher
from devkit.errors import DevkitError
from tests.servers import Silent, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = b"0123456789" * 1000


@contextlib.contextmanager
def archive_server(*, ranges: bool, pause_s: float = 0.0, whole: bool = True) -> Iterator[tuple[str, list[str]]]:
    """A server of DATA, and the ranges that it was asked for."""
    asked: list[str] = []

    class Handler(Silent):
        def do_GET(self) -> None:  # noqa: N802 - the name of the standard library
            wanted = self.headers.get("Range", "")
            asked.append(wanted)
            begin = int(wanted.removeprefix("bytes=").rstrip("-") or 0) if ranges else 0
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(DATA) - begin))
            self.end_headers()
            self.wfile.write(DATA[begin : begin + 5000])
            self.wfile.flush()
            time.sleep(pause_s)
            if whole:
                self.wfile.write(DATA[begin + 5000 :])

    with serving(Handler) as address:
        yield f"{address}/a.tgz", asked


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_ended_or_begins_anew(tmp_path: Path, ranges: bool) -> None:
    kept = tmp_path / "a.tgz"
    (tmp_path / "a.tgz.part").write_bytes(DATA[:4000])
    with archive_server(ranges=ranges) as (url, asked):
        archive = Archive("a.tgz", url, (hashlib.md5(DATA).hexdigest(),))  # noqa: S324 - as the tree names it
        Fetcher(App(), tmp_path, 1)._download(archive, kept)
    assert asked == ["bytes=4000-"]
    assert kept.read_bytes() == DATA
    assert not (tmp_path / "a.tgz.part").exists()


def test_another_archive_than_the_trees_is_refused_and_not_kept(tmp_path: Path) -> None:
    with archive_server(ranges=True) as (url, _), pytest.raises(DevkitError, match="has the wrong checksum"):
        Fetcher(App(), tmp_path, 1)._download(Archive("a.tgz", url, ("0" * 32,)), tmp_path / "a.tgz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("expected", [(hashlib.md5(DATA).hexdigest(),), ()])  # noqa: S324 - as the tree names it
def test_two_that_fetch_the_same_into_the_cache_do_not_write_into_each_other(
    tmp_path: Path, expected: tuple[str, ...]
) -> None:
    with archive_server(ranges=True, pause_s=0.3) as (url, asked), ThreadPoolExecutor(2) as pool:
        archive = Archive("a.tgz", url, expected, by="wget")
        both = [pool.submit(Fetcher(App(), tmp_path, 1)._archive, archive) for _ in range(2)]
        assert sorted(future.result()[0].state for future in both) == ["fetched", "kept"]
    assert len(asked) == 1
    assert archive.kept.read_bytes() == DATA


def test_a_connection_that_ends_early_leaves_what_came_for_the_next_try(tmp_path: Path) -> None:
    archive = Archive("a.tgz", "", (hashlib.md5(DATA).hexdigest(),))  # noqa: S324 - as the tree names it
    kept = tmp_path / "a.tgz"
    with (
        archive_server(ranges=True, whole=False) as (url, _),
        pytest.raises(DevkitError, match="could not be downloaded") as caught,
    ):
        Fetcher(App(), tmp_path, 1)._download(replace(archive, url=url), kept)
    assert caught.value.why == "the connection ended after 5000 of 10000 bytes"
    with archive_server(ranges=True) as (url, asked):
        Fetcher(App(), tmp_path, 1)._download(replace(archive, url=url), kept)
    assert asked == ["bytes=5000-"]


@pytest.mark.parametrize(
    ("url", "parent", "whole"),
    [
        ("https://h/x.git", "https://h/p.git", "https://h/x.git"),
        ("../x.git", "https://h/a/p.git", "https://h/a/x.git"),
        ("./x", "https://h/a/p", "https://h/a/p/x"),
        ("../x", "/srv/p", "/srv/x"),
    ],
)
def test_a_relative_address_is_of_the_repository_that_names_it(url: str, parent: str, whole: str) -> None:
    assert resolved(url, parent) == whole
