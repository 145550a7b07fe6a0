"""Which remote plays which part, and how requests are named: pure decisions, without a repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from devkit.config import Config
from devkit.errors import DevkitError, UsageError
from devkit.git.roles import base_branch, base_remote, fork_remote, locate, parse_request, request_of
from devkit.git.state import CloneDirs, State

PADDLE = "https://github.com/PaddlePaddle/Paddle.git"
MINE = "git@github.com:me/Paddle.git"


def state(remotes: dict[str, str], **more: str) -> State:
    config = {f"remote.{name}.url": (url,) for name, url in remotes.items()}
    config |= {key.replace("__", "."): (value,) for key, value in more.items() if "refs" not in key}
    place = CloneDirs(Path("/x/.git"), Path("/x/.git"), Path("/x"))
    refs = dict.fromkeys(more.get("refs", "").split(), "1" * 40)
    symrefs = {"refs/remotes/upstream/HEAD": "refs/remotes/upstream/trunk"} if more.get("refs") == "" else {}
    return State(place, "1" * 40, "x", refs, {}, symrefs, config, (), ())


def config(**values: str) -> Config:
    environ = {f"DEVKIT_{key.upper()}": value for key, value in values.items()}
    return Config(Path("/nowhere"), None, environ)


@pytest.mark.parametrize(
    ("remotes", "base"),
    [
        ({"upstream": MINE, "origin": PADDLE}, "upstream"),
        ({"origin": MINE, "pp": PADDLE}, "pp"),
        ({"gb": MINE, "origin": PADDLE}, "origin"),
        ({"origin": "/a/b.git", "x": "/c/d.git"}, "origin"),
        ({"only": "/a/b.git"}, "only"),
    ],
)
def test_the_base_is_found(remotes: dict[str, str], base: str) -> None:
    assert base_remote(state(remotes), config()) == base


def test_the_base_that_gh_was_told_is_heeded() -> None:
    remotes = {"origin": "https://x.example/me/tool", "theirs": "https://x.example/acme/tool"}
    more = {"remote__theirs__gh-resolved": "base"}
    assert base_remote(state(remotes, **more), config()) == "theirs"


def test_the_base_is_configured_and_asked_for() -> None:
    here = state({"upstream": PADDLE, "origin": MINE})
    assert base_remote(here, config(pr_base_remote="origin")) == "origin"
    assert base_remote(here, config(pr_base_remote="origin"), "upstream") == "upstream"
    with pytest.raises(DevkitError, match="there is no remote nowhere"):
        base_remote(here, config(), "nowhere")
    with pytest.raises(DevkitError, match="not clear which remote is the project's"):
        base_remote(state({"a": "/a/b", "c": "/c/d"}), config())


def test_the_base_branch_is_the_remotes_head_or_a_usual_name() -> None:
    assert base_branch(state({"upstream": PADDLE}, refs=""), config(), "upstream") == "trunk"
    assert base_branch(state({"upstream": PADDLE}, refs="refs/remotes/upstream/main"), config(), "upstream") == "main"
    assert base_branch(state({"upstream": PADDLE}), config(), "upstream") == "develop"
    assert base_branch(state({"upstream": PADDLE}), config(pr_base_branch="release/3.0"), "upstream") == "release/3.0"


def test_the_fork_is_found_or_asked_for() -> None:
    both = {"upstream": PADDLE, "origin": MINE}
    assert fork_remote(state(both), config(), "upstream") == "origin"
    three = {**both, "third": "/a/b"}
    assert fork_remote(state(three, remote__pushdefault="third"), config(), "upstream") == "third"
    assert fork_remote(state(three, branch__fix__pushremote="origin"), config(), "upstream", "fix") == "origin"
    assert fork_remote(state({"origin": PADDLE}), config(), "origin") == "origin"
    with pytest.raises(DevkitError, match="not clear which remote is your fork") as caught:
        fork_remote(state(three), config(), "upstream")
    assert caught.value.remedies == ("git config remote.pushDefault origin", "git config remote.pushDefault third")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (PADDLE, ("github.com", "PaddlePaddle", "Paddle")),
        (MINE, ("github.com", "me", "Paddle")),
        ("ssh://git@host.example:2222/group/sub/name.git", ("host.example", "sub", "name")),
        ("https://user:secret@host.example/a/b/", ("host.example", "a", "b")),
        ("/srv/git/me/Paddle.git", ("", "me", "Paddle")),
    ],
)
def test_urls_are_read(url: str, found: tuple[str, str, str]) -> None:
    place = locate(url)
    assert (place.host, place.owner, place.name) == found


@pytest.mark.parametrize(
    "text",
    [
        "1007",
        "#1007",
        "https://github.com/PaddlePaddle/Paddle/pull/1007",
        "https://github.com/paddlepaddle/paddle/pull/1007/files#diff",
    ],
)
def test_requests_are_read(text: str) -> None:
    request = parse_request(text, state({"origin": MINE, "upstream": PADDLE}), config())
    assert (request.number, request.remote, request.source) == (1007, "upstream", "refs/pull/1007/head")
    assert (request.branch, request.tracking) == ("pr/1007", "refs/devkit/pull/upstream/1007")


def test_a_gitlab_names_its_requests_otherwise() -> None:
    here = state({"upstream": "https://gitlab.example/a/b.git"})
    assert (
        parse_request("https://gitlab.example/a/b/-/merge_requests/3", here, config()).source
        == "refs/merge-requests/3/head"
    )


@pytest.mark.parametrize("text", ["", "x", "-7", "0", "7.5", "٧", "https://github.com/other/repo/pull/1", "--help"])
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises((UsageError, DevkitError)):
        parse_request(text, state({"upstream": PADDLE}), config())


def test_a_branch_tells_its_request() -> None:
    here = state(
        {"upstream": PADDLE}, **{"branch__pr/7__remote": "upstream", "branch__pr/7__merge": "refs/pull/7/head"}
    )
    found = request_of(here, "pr/7")
    assert found is not None
    assert (found.number, found.remote) == (7, "upstream")
    assert request_of(here, "other") is None


def test_another_name_for_the_project_is_no_fork() -> None:
    again = {"upstream": PADDLE, "again": "git@github.com:paddlepaddle/paddle", "mine": MINE}
    assert fork_remote(state(again), config(), "upstream") == "mine"
    assert fork_remote(state({"upstream": PADDLE, "again": PADDLE}), config(), "upstream") == "upstream"
    apart = state({"upstream": PADDLE, "origin": PADDLE}, remote__origin__pushurl=MINE)
    assert fork_remote(apart, config(), "upstream") == "origin"
