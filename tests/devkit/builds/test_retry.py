"""What is done about a cause: only what changes this build, and each thing once."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from devkit.app import App
from devkit.builds import python
from devkit.builds.configure import Jobs
from devkit.builds.diagnosis import Cause
from devkit.builds.profiles import Profile
from devkit.builds.request import BuildRequest
from devkit.builds.retry import Fixed, apply_fix, is_product
from devkit.envs.resolve import Environment


def cause(fix: str, **words: str) -> Cause:
    return Cause("x", 1, "", "", "", "", fix, words=words)


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    build = tmp_path / "build"
    build.mkdir()
    environment = Environment("env", Path("python"), "asked for")
    interpreter = python.Python("env", "python")
    return BuildRequest(tmp_path, build, environment, interpreter, Profile("cpu", "", {}, ""), {}, Jobs(8, 2))


def test_jobs_are_halved_down_to_one(request_: BuildRequest) -> None:
    did = []
    fixed: Fixed | None = Fixed(request_, "")
    while fixed is not None:
        did.append(fixed.did)
        fixed = apply_fix(App(), fixed.request, cause("jobs"))
    assert did[1:] == ["4 at once instead of 8", "2 at once instead of 4", "1 at once instead of 2"]


@pytest.mark.parametrize("fix", ["ownership", "policies"])
def test_what_was_done_before_is_not_done_again(request_: BuildRequest, fix: str) -> None:
    fixed = apply_fix(App(), request_, cause(fix))
    assert fixed is not None
    assert fixed.request != request_
    assert apply_fix(App(), fixed.request, cause(fix)) is None


def test_open_files_end_at_the_hard_limit(request_: BuildRequest) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        assert apply_fix(App(), request_, cause("open-files")) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_only_objects_and_libraries_of_the_build_folder_itself_are_removed(request_: BuildRequest) -> None:
    outside, inside = request_.root / "mine.o", request_.build / "half.o"
    for path in (outside, inside, request_.build / "CMakeCache.txt"):
        path.write_text("half")
    (request_.build / "link.o").symlink_to(outside)
    for name in ("../mine.o", str(outside), "link.o", "CMakeCache.txt", "gone.o", ""):
        assert apply_fix(App(), request_, cause("half", path=name)) is None
    assert outside.is_file()
    fixed = apply_fix(App(), request_, cause("half", path="half.o"))
    assert fixed is not None
    assert fixed.did == "half.o removed, which was half an object"
    assert not inside.exists()
    assert not is_product(request_.build / "CMakeCache.txt", request_.build)


def test_nothing_is_fetched_where_no_network_may_be_used_and_nothing_is_done_about_what_has_no_remedy(
    request_: BuildRequest,
) -> None:
    assert apply_fix(App(), replace(request_, offline=True), cause("submodules")) is None
    assert apply_fix(App(), request_, cause("")) is None
