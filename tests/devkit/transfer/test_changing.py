"""Files that are written while they are read: what they held arrives and is said, nothing torn is taken for whole."""

from __future__ import annotations

import http.client
import io
import os
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from devkit.errors import DevkitError
from devkit.transfer.copy import Watch
from devkit.transfer.http_download.address import parse_address
from devkit.transfer.http_download.get import fetch
from devkit.transfer.http_download.options import FetchOptions

from .conftest import offer, sharing, transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from devkit.transfer.copy import CopyOutcome
    from devkit.transfer.remote.messages import Plan

SIZE = 12 << 20


def grow(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"more")


def replace(log: Path) -> None:
    other = log.with_name("other")
    other.write_bytes(os.urandom(SIZE + 5))
    other.rename(log)


def shrink(log: Path) -> None:
    os.truncate(log, 1000)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "train.log"
    path.write_bytes(os.urandom(SIZE))
    return path


def got(url: str, to: str, meanwhile: Callable[[], None]) -> CopyOutcome:
    """Fetch, while something happens once the plan is known."""

    def planned(_plan: Plan) -> None:
        meanwhile()

    return fetch(parse_address(url), FetchOptions(to), Watch(planned, lambda _count: None))


@pytest.mark.parametrize("change", [grow, replace])
def test_get_of_a_file_that_is_another_by_then_brings_that_and_says_so(
    change: Callable[[Path], None], log: Path, tmp_path: Path
) -> None:
    with sharing(log.parent) as server:
        outcome = got(f"{server.url()}train.log", f"{tmp_path}/here/", lambda: change(log))
    assert (tmp_path / "here" / "train.log").read_bytes() == log.read_bytes()
    assert ["changed while it was fetched" in line for line in outcome.remarks] == [True]
    assert os.listdir(tmp_path / "here") == ["train.log"]  # noqa: PTH208 - hidden ones too


def test_get_of_a_file_that_grows_all_the_time_ends(log: Path, tmp_path: Path) -> None:
    with sharing(log.parent) as server:
        watch = Watch(lambda _plan: grow(log), lambda _count: grow(log))
        fetch(parse_address(f"{server.url()}train.log"), FetchOptions(f"{tmp_path}/here/"), watch)
    came = (tmp_path / "here" / "train.log").read_bytes()
    assert len(came) > SIZE
    assert log.read_bytes().startswith(came)


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("change", [grow, shrink])
def test_an_archive_holds_what_a_file_held_at_first_and_ends_early_where_it_became_shorter(
    change: Callable[[Path], None], kind: str, log: Path
) -> None:
    (log.parent / "a").write_bytes(os.urandom(SIZE))
    held = log.read_bytes()
    with sharing(log.parent) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", f"/{server.secret}/?{kind}")
        response = connection.getresponse()
        began = response.read(1000)
        change(log)
        if change is shrink:
            with pytest.raises(http.client.IncompleteRead):
                response.read()
        else:
            body = io.BytesIO(began + response.read())
            if kind == "tar":
                member = tarfile.open(fileobj=body).extractfile("logs/train.log")  # noqa: SIM115 - in memory
                assert member is not None
                assert member.read() == held
            else:
                assert zipfile.ZipFile(body).read("logs/train.log") == held
        connection.close()


@pytest.mark.parametrize("change", [grow, replace, shrink])
def test_get_of_a_folder_brings_its_files_as_they_are_then(
    change: Callable[[Path], None], log: Path, tmp_path: Path
) -> None:
    with sharing(log.parent) as server:
        got(f"{server.url()}", f"{tmp_path}/here", lambda: change(log))
    assert (tmp_path / "here" / "train.log").read_bytes() == log.read_bytes()


@pytest.mark.parametrize("change", [grow, replace, shrink])
def test_a_file_that_is_another_before_it_is_read_arrives_as_it_is_then(
    change: Callable[[Path], None], log: Path, tmp_path: Path
) -> None:
    offered = offer(f"{log.parent}/")
    change(log)
    pair = transfer(offered, tmp_path / "there")
    assert (pair.result["failed"], pair.result["remarks"]) == ([], [])
    assert (tmp_path / "there" / "train.log").read_bytes() == log.read_bytes()


def test_a_file_that_becomes_shorter_while_it_is_fetched_is_not_taken_for_whole(log: Path, tmp_path: Path) -> None:
    with sharing(log.parent, rate=4 << 20) as server:
        watch = Watch(lambda _plan: None, lambda _count: shrink(log))
        options = FetchOptions(f"{tmp_path}/here/", connections=1)
        try:
            fetch(parse_address(f"{server.url()}train.log"), options, watch)
        except DevkitError:
            assert not (tmp_path / "here" / "train.log").exists()
        else:
            assert (tmp_path / "here" / "train.log").read_bytes() == log.read_bytes()
