"""What ``--dry-run`` says is what the run does: the same status, the same files, the same refusals."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from .web import plain

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit
    from tests.forks import Result

    from .conftest import Hosts


def refusals(result: Result) -> list[str]:
    """Return what was refused or left out, and why."""
    lines = [line.strip() for line in result.err.splitlines()]
    return [line for line in lines if re.match(r"[✗!] |left out|.*\((a |it |not )", line)]


def in_the_way(home: Path) -> None:
    (home / "src" / "script.sh" / "in").mkdir(parents=True)


def a_file(home: Path) -> None:
    (home / "there").write_text("x")


@pytest.mark.parametrize(
    ("words", "prepare", "status"),
    [
        (("send", "source", "h:there/"), None, 0),
        (("send", "source/", "h:there"), a_file, 1),
        (("send", "source/", "h:src"), in_the_way, 1),
        (("send", "none", "h:there/"), None, 1),
        (("send", "-L", "source", "h:there/"), None, 0),
        (("recv", "h:none", "."), None, 1),
        (("recv", "h:../../source", "here/"), None, 0),
        (("recv", "--update", "--delete", "h:../../source/", "here"), None, 0),
        (("send", "source", "unreachable:x"), None, 1),
    ],
)
def test_send_and_recv_plan_what_they_do(
    words: tuple[str, ...], prepare: object, status: int, devkit: Devkit, remote: Hosts, source: Path, tmp_path: Path
) -> None:
    assert source.is_dir()
    if callable(prepare):
        prepare(remote.home)
    before = sorted(os.fsencode(path) for path in tmp_path.rglob("*"))
    planned = devkit(*words, "--dry-run")
    assert sorted(os.fsencode(path) for path in tmp_path.rglob("*")) == before
    done = devkit(*words, "-v")
    assert (planned.status, done.status) == (status, status), planned.err + done.err
    assert refusals(planned) == refusals(done)
    for name in planned.out.splitlines():
        assert name in done.err


@pytest.mark.parametrize("words", [("out/",), ("file/x",), ("out/", "--sha256", "0" * 64)])
def test_get_plans_what_it_does(words: tuple[str, ...], devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with plain(b"data") as server:
        planned = devkit("get", f"{server.url}/data.bin", *words, "--dry-run")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        done = devkit("get", f"{server.url}/data.bin", *words)
        gone = devkit("get", f"{server.url}/data.bin", *words, env={"http_proxy": "http://127.0.0.1:9"})
        gone_plan = devkit(
            "get", f"{server.url}/data.bin", *words, "--dry-run", env={"http_proxy": "http://127.0.0.1:9"}
        )
    if "--sha256" not in words:  # what it hashes to is not known before it came
        assert (planned.status, refusals(planned)) == (done.status, refusals(done))
    assert (gone_plan.status, refusals(gone_plan)) == (gone.status, refusals(gone)) == (1, refusals(gone))
    assert planned.status == (1 if words[0] == "file/x" else 0)


def test_serve_says_where_it_would_listen_and_refuses_as_it_would(devkit: Devkit, source: Path) -> None:
    planned = devkit("serve", str(source), "--dry-run")
    assert (planned.status, planned.out.startswith("http://127.0.0.1:")) == (0, True)
    assert "would share source" in planned.err
    for words in (("none",), (str(source), "--bind", "203.0.113.9"), (str(source), "--upload", "/proc/none")):
        planned, done = devkit("serve", *words, "--dry-run"), devkit("serve", *words)
        assert (planned.status, planned.err) == (done.status, done.err)
        assert planned.status == 1
