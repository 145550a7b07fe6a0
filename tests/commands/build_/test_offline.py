"""Building without any network: from the tree and the shared cache, or not at all."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.commands.build_.conftest import ARCHIVE, commit_all, run
from tests.servers import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server of what the project fetches: its address, and what it was asked for."""
    paths: list[str] = []
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            paths.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with serving(handler) as address:
        yield address, paths


@pytest.fixture
def remote(project: Project, asked: tuple[str, list[str]], tmp_path: Path) -> Project:
    """The project, whose submodule and archive come from a web server."""
    address, _ = asked
    web = tmp_path / "web"
    run("git", "clone", "-q", "--bare", tmp_path / "greet", web / "greet.git", cwd=tmp_path)
    run("git", "update-server-info", cwd=web / "greet.git")
    shutil.copytree(project.store, web, dirs_exist_ok=True)
    run(
        "git",
        "config",
        "-f",
        ".gitmodules",
        "submodule.third_party/greet.url",
        f"{address}/greet.git",
        cwd=project.root,
    )
    run("git", "config", "--unset", "submodule.third_party/greet.url", cwd=project.root)
    for name in ("lapack", "allocator", "tables", "storage", "messages"):
        project.edit(f"cmake/external/{name}.cmake", f"file://{project.store}", address)
    run("git", "add", ".gitmodules", "cmake", cwd=project.root)
    run("git", "commit", "-qm", "from a server", cwd=project.root)
    return project


def worktree(project: Project, path: Path) -> Path:
    run("git", "worktree", "add", "-q", "--detach", path, cwd=project.root)
    return path


def test_a_build_from_the_cache_asks_no_server_for_anything(
    devkit: Devkit, remote: Project, asked: tuple[str, list[str]], tmp_path: Path
) -> None:
    assert devkit("build", "deps", cwd=remote.root).status == 0
    assert asked[1]
    asked[1].clear()
    second = worktree(remote, tmp_path / "second")
    result = devkit("build", "deps", "--offline", "--json", cwd=second)
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert (found["there"], found["missing"]) == ([], [])
    assert found["cached"] == ["lapack_lnx_v1.tar.gz", "third_party/greet"]
    assert (second / "third_party/lapack/Linux/lapack_lnx_v1.tar.gz").read_bytes() == ARCHIVE
    built = devkit("build", "--offline", "--env", str(remote.env), cwd=second)
    assert built.status == 0, built.err
    assert asked[1] == []
    again = devkit("build", "deps", "--offline", cwd=second)
    assert "nothing is missing: 2 in the tree, 0 in the cache" in again.err


def test_what_is_missing_is_named_at_once_with_its_pin_and_its_address(
    devkit: Devkit, remote: Project, asked: tuple[str, list[str]], tmp_path: Path
) -> None:
    second = worktree(remote, tmp_path / "second")
    pin = run("git", "ls-files", "-s", "third_party/greet", cwd=second).split()[1]
    asked[1].clear()
    for line in (("build", "--offline", "--env", str(remote.env)), ("build", "deps", "--offline")):
        result = devkit(*line, cwd=second)
        assert result.status == 1
        assert "✗ 2 things that the build takes are neither in the tree nor in the cache" in result.err
        assert f"  third_party/greet: commit {pin[:10]} of {asked[0]}/greet.git\n" in result.err
        assert f"of {asked[0]}/lapack_lnx_v1.tar.gz\n" in result.err
        assert "  lapack_lnx_v1.tar.gz: MD5 " in result.err
        assert "→ devkit build deps   fetches it, where there is a network" in result.err
        assert "→ devkit build deps import FILE" in result.err
        assert "preflight" not in result.err
    assert not (second / "build").exists()
    assert asked[1] == []


def test_a_nested_submodule_and_a_broken_archive_of_the_cache_are_missing_too(
    devkit: Devkit, remote: Project, tmp_path: Path, home: Path
) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    (deep / "deep.h").touch()
    commit_all(deep)
    greet = tmp_path / "greet"
    run("git", "submodule", "--quiet", "add", f"file://{deep}", "deep", cwd=greet)
    run("git", "commit", "-qm", "with a submodule", cwd=greet)
    run("git", "push", "-q", tmp_path / "web" / "greet.git", "HEAD:develop", cwd=greet)
    run("git", "update-server-info", cwd=tmp_path / "web" / "greet.git")
    pin = run("git", "rev-parse", "HEAD", cwd=greet)
    run("git", "update-index", "--cacheinfo", f"160000,{pin},third_party/greet", cwd=remote.root)
    run("git", "commit", "-qm", "the newer greet", cwd=remote.root)
    second = worktree(remote, tmp_path / "second")
    assert devkit("build", "deps", cwd=second).status == 0
    assert devkit("build", "deps", "--offline", cwd=second).status == 0
    build = ("build", "--offline", "--only", "submodules", "--env", str(remote.env))
    assert "submodules 1 fetched" in devkit(*build, cwd=second).err
    assert (second / "third_party/greet/deep/deep.h").is_file()
    run("git", "submodule", "--quiet", "deinit", "-f", "deep", cwd=second / "third_party" / "greet")
    assert "submodules 1 fetched" in devkit(*build, cwd=second).err
    assert (second / "third_party/greet/deep/deep.h").is_file()
    run("git", "submodule", "--quiet", "deinit", "-f", "--all", cwd=second)

    cache = home / ".cache" / "devkit" / "paddle-deps"
    (own,) = [path.parent for path in cache.glob("git/*.git/devkit-url") if path.read_text().endswith("/deep\n")]
    shutil.rmtree(own)
    (archive,) = (cache / "archives").iterdir()
    archive.write_bytes(b"half")
    shutil.rmtree(second / "third_party" / "lapack")
    result = devkit("build", "deps", "--offline", "--json", cwd=second)
    assert result.status == 1
    found = {load["name"]: load for load in json.loads(result.out)["missing"]}
    assert set(found) == {"third_party/greet/deep", "lapack_lnx_v1.tar.gz"}
    assert found["lapack_lnx_v1.tar.gz"]["why"].startswith(f"{archive} is broken: its MD5 is ")


def test_all_that_a_profile_takes_is_kept_in_whatever_way_the_tree_fetches_it(
    devkit: Devkit, remote: Project, asked: tuple[str, list[str]], tmp_path: Path, home: Path
) -> None:
    profile = ("--profile", "distributed")
    fetched = devkit("build", "deps", *profile, cwd=remote.root)
    assert fetched.status == 0, fetched.err
    assert "! storage.tar.gz: not verified: the tree names no MD5 (it is " in fetched.err
    exported = devkit("build", "deps", "export", str(tmp_path / "deps.tar"), *profile, cwd=remote.root)
    assert exported.status == 0, exported.err
    shutil.rmtree(home / ".cache" / "devkit" / "paddle-deps")
    second = worktree(remote, tmp_path / "second")
    missing = devkit("build", "deps", "--offline", *profile, cwd=second)
    assert missing.status == 1
    assert "→ devkit build deps --profile distributed   fetches it" in missing.err
    assert f"  storage.tar.gz: whatever there is of {asked[0]}/storage.tar.gz\n" in missing.err
    imported = devkit("build", "deps", "import", str(tmp_path / "deps.tar"), cwd=tmp_path)
    assert "1 repository and 5 archives came" in imported.err
    asked[1].clear()
    assert devkit("build", "deps", "--offline", *profile, cwd=second).status == 0
    built = devkit("build", "--offline", *profile, "--env", str(remote.env), cwd=second)
    assert built.status == 0, built.err
    assert (second / "build/third_party/storage/src/extern_storage/storage.h").is_file()
    assert (second / "build/third_party/messages/data/storage.h").is_file()
    assert (second / "third_party/allocator/Linux/allocator-kept.tar.bz2").read_bytes() == ARCHIVE
    assert asked[1] == []
    again = devkit("build", "deps", "--offline", *profile, "--json", cwd=second)
    assert json.loads(again.out)["cached"] == []


def test_options_that_take_more_than_the_last_time_are_told_before_anything_starts(
    devkit: Devkit, remote: Project
) -> None:
    assert devkit("build", "deps", cwd=remote.root).status == 0
    build = ("build", "--offline", "--env", str(remote.env))
    for _ in range(2):
        assert devkit(*build, "--target", "common", cwd=remote.root).status == 0
    result = devkit(*build, "--profile", "distributed", cwd=remote.root)
    assert result.status == 1
    assert "✗ 4 things that the build takes are neither in the tree nor in the cache" in result.err
    assert "configuring" not in result.err


def test_an_archive_without_a_sum_that_changed_in_the_cache_is_missing(
    devkit: Devkit, remote: Project, home: Path
) -> None:
    profile = ("--profile", "distributed")
    assert devkit("build", "deps", *profile, cwd=remote.root).status == 0
    (kept,) = (home / ".cache/devkit/paddle-deps/archives").glob("url.*-storage.tar.gz")
    kept.write_bytes(b"half")
    result = devkit("build", "deps", "--offline", *profile, cwd=remote.root)
    assert result.status == 1
    assert "storage.tar.gz is broken: its MD5 is " in result.err
    again = devkit("build", "deps", *profile, cwd=remote.root)
    assert "1 fetched" in again.err
    assert devkit("build", "deps", "--offline", *profile, cwd=remote.root).status == 0


def test_an_archive_that_only_a_configure_knows_of_is_told_and_stops_nothing(devkit: Devkit, remote: Project) -> None:
    assert devkit("build", "deps", cwd=remote.root).status == 0
    text = (remote.root / "cmake/external/lapack.cmake").read_text()
    text = text.replace("LAPACK", "XPU").replace("lapack", "xpu")
    (remote.root / "cmake/external/xpu.cmake").write_text(text)
    project = "find_library(XPU_LIB xpu)\nif(XPU_LIB)\n  include(cmake/external/xpu.cmake)\nendif()\n"
    remote.edit("cmake/third_party.cmake", "message(STATUS", f"{project}message(STATUS")
    result = devkit("build", "deps", "--offline", cwd=remote.root)
    assert result.status == 0, result.err
    assert "! 1 archive that the build may do without cannot be downloaded:\n  xpu_lnx_v1.tar.gz: MD5 " in result.err
    fetched = devkit("build", "deps", cwd=remote.root)
    assert fetched.status == 0, fetched.err
    assert "! xpu_lnx_v1.tar.gz: it answers, but has not what is asked for" in fetched.err


def test_a_download_that_nobody_could_know_of_fails_at_once_and_asks_nobody(
    devkit: Devkit, remote: Project, asked: tuple[str, list[str]]
) -> None:
    assert devkit("build", "deps", cwd=remote.root).status == 0
    with (remote.root / "paddle" / "CMakeLists.txt").open("a") as file:
        md5 = "0" * 32
        file.write(f"file(DOWNLOAD {asked[0]}/unknown.tgz ${{CMAKE_BINARY_DIR}}/unknown.tgz EXPECTED_MD5 {md5})\n")
    asked[1].clear()
    result = devkit("build", "--offline", "--env", str(remote.env), cwd=remote.root)
    assert result.status == 1
    assert (
        "✗ configure failed: it wanted something from the network that neither the tree nor the cache has" in result.err
    )
    assert "→ devkit build deps" in result.err
    assert "→ devkit build   without --offline" in result.err
    assert asked[1] == []
