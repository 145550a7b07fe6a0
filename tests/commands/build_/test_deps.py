"""devkit build deps: fetched once, built anywhere without a network."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tests.commands.build_.conftest import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit


def test_what_was_fetched_builds_in_another_worktree_and_on_another_machine_without_a_network(
    devkit: Devkit, project: Project, tmp_path: Path, home: Path
) -> None:
    result = devkit("build", "deps", "--json", cwd=project.root)
    assert result.status == 0, result.err
    got = {load["name"]: load["state"] for load in json.loads(result.out)["got"]}
    assert got == {"lapack_lnx_v1.tar.gz": "fetched", "third_party/greet": "fetched"}
    assert (project.root / "third_party/lapack/Linux/lapack_lnx_v1.tar.gz").is_file()
    again = devkit("build", "deps", cwd=project.root)
    assert "0 fetched, 2 kept" in again.err

    exported = devkit("build", "deps", "export", str(tmp_path / "deps.tar"), cwd=project.root)
    assert exported.status == 0, exported.err
    shutil.rmtree(home / ".cache" / "devkit" / "paddle-deps")
    empty = devkit("build", "deps", "export", str(tmp_path / "none.tar"), cwd=project.root)
    assert empty.status == 1
    assert "is not in the cache" in empty.err
    imported = devkit("build", "deps", "import", str(tmp_path / "deps.tar"), cwd=tmp_path)
    assert "1 repository and 1 archive came" in imported.err

    # The sources are gone, as on a machine without a network: only the cache has them.
    shutil.rmtree(tmp_path / "greet")
    shutil.rmtree(project.store)
    second = tmp_path / "second"
    run("git", "worktree", "add", "-q", "--detach", second, cwd=project.root)
    assert devkit("build", "deps", cwd=second).status == 0
    line = ("build", "--offline", "--target", "common", "--env", str(project.env))
    built = devkit(*line, cwd=second)
    assert built.status == 0, built.err
    assert "submodules 1 fetched" in built.err
    assert (second / "third_party" / "greet" / "greet.h").is_file()


def test_what_cannot_be_fetched_is_told_and_the_rest_is_kept(devkit: Devkit, project: Project, tmp_path: Path) -> None:
    (project.store / "lapack_lnx_v1.tar.gz").write_bytes(b"an error page")
    result = devkit("build", "deps", "--json", cwd=project.root)
    assert result.status == 1
    got = {load["name"]: load for load in json.loads(result.out)["got"]}
    assert got["third_party/greet"]["state"] == "fetched"
    assert "its MD5 is" in got["lapack_lnx_v1.tar.gz"]["complaint"]
    assert "1 thing of 2 could not be fetched" in result.err
    shutil.rmtree(tmp_path / "greet")
    assert devkit("build", "deps", cwd=project.root).status == 1


def test_a_file_that_is_no_export_is_refused(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("nothing")
    result = devkit("build", "deps", "import", "x.tar", cwd=tmp_path)
    assert result.status == 1
    assert "✗ x.tar is not an export of devkit's" in result.err


def test_what_is_in_the_cache_needs_no_host(devkit: Devkit, project: Project, tmp_path: Path) -> None:
    assert devkit("build", "deps", cwd=project.root).status == 0
    shutil.rmtree(tmp_path / "greet")
    shutil.rmtree(project.store)

    def worktree(name: str) -> Path:
        run("git", "worktree", "add", "-q", "--detach", tmp_path / name, cwd=project.root)
        return tmp_path / name

    built = devkit("build", "--target", "common", "--env", str(project.env), cwd=worktree("second"))
    assert built.status == 0, built.err
    fixed = devkit("build", "preflight", "--fix", "--env", str(project.env), cwd=worktree("third"))
    assert fixed.status == 0, fixed.out
    assert (tmp_path / "third" / "third_party" / "greet" / "greet.h").is_file()


def test_the_cache_comes_before_a_mirror_that_the_user_set_for_the_very_address(
    devkit: Devkit, project: Project, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert devkit("build", "deps", cwd=project.root).status == 0
    mine = f'[url "file://{tmp_path}/mirror-that-is-gone"]\n\tinsteadOf = file://{tmp_path}/greet\n'
    settings = (home / ".gitconfig").read_text()
    system = tmp_path / "system"
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "submodule.fetchJobs")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "2")
    build = ("build", "--offline", "--only", "submodules", "--env", str(project.env))
    for number, place in enumerate((home / ".gitconfig", project.root / ".git" / "config", system)):
        before = place.read_text() if place.exists() else ""
        place.write_text(before + mine)
        if place == system:
            monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(system))
        worktree = tmp_path / f"worktree-{number}"
        run("git", "worktree", "add", "-q", "--detach", worktree, cwd=project.root)
        built = devkit(*build, cwd=worktree)
        assert built.status == 0, built.err
        assert (worktree / "third_party" / "greet" / "greet.h").is_file()
        place.write_text(before)
    assert (home / ".gitconfig").read_text() == settings


def test_an_archive_that_other_options_take_is_neither_fetched_nor_missed(devkit: Devkit, project: Project) -> None:
    text = (
        (project.root / "cmake/external/lapack.cmake").read_text().replace("LAPACK", "MKLML").replace("lapack", "mklml")
    )
    (project.root / "cmake/external/mklml.cmake").write_text(text.replace(str(project.store), "/nowhere"))
    project.edit(
        "cmake/third_party.cmake",
        "message(STATUS",
        "if(WITH_MKL)\n  include(cmake/external/mklml.cmake)\nendif()\nmessage(STATUS",
    )
    greet = project.root / "third_party" / "greet"
    shutil.rmtree(greet)
    greet.mkdir()
    env = ("--env", str(project.env))
    for options in (("--profile", "minimal"), ("-D", "WITH_MKL=OFF")):
        fetched = devkit("build", "deps", *options, cwd=project.root)
        assert fetched.status == 0, fetched.err
        looked = devkit("build", "preflight", "--json", *options, *env, cwd=project.root)
        assert "mklml" not in looked.out
        assert devkit("build", "deps", "--offline", *options, cwd=project.root).status == 0
    built = devkit("build", "--target", "common", "--profile", "minimal", "--offline", *env, cwd=project.root)
    assert built.status == 0, built.err

    missed = devkit("build", "deps", "--offline", cwd=project.root)
    assert missed.status == 1
    assert "  mklml_lnx_v1.tar.gz: MD5 " in missed.err
    assert devkit("build", "deps", cwd=project.root).status == 1
    looked = devkit("build", "preflight", *env, cwd=project.root)
    assert looked.status == 4
    assert "mklml_lnx_v1.tar.gz (for CMake)" in looked.out


def test_the_profile_of_the_settings_is_that_of_deps_too(devkit: Devkit, project: Project) -> None:
    (project.root / "devkit.toml").write_text('[build]\nprofile = "distributed"\n')
    result = devkit("build", "deps", "--offline", "--json", cwd=project.root)
    names = {load["name"] for load in json.loads(result.out)["missing"]}
    assert {"allocator-5.tar.bz2", "tables.tar.gz", "storage.tar.gz", "messages.tar.gz"} <= names
    assert devkit("build", "deps", "--profile", "distribute", cwd=project.root).status == 2


def test_a_submodule_that_git_or_the_tree_leaves_out_is_missed_by_nobody(
    devkit: Devkit, project: Project, tmp_path: Path
) -> None:
    modules = project.root / ".gitmodules"
    for name in ("openvino", "cutlass"):
        modules.write_text(
            modules.read_text()
            + f'[submodule "third_party/{name}"]\n\tpath = third_party/{name}\n\turl = file://{tmp_path}/none-{name}\n'
        )
        (project.root / "third_party" / name).mkdir()
        run("git", "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},third_party/{name}", cwd=project.root)
    run("git", "config", "submodule.third_party/cutlass.update", "none", cwd=project.root)

    result = devkit("build", "preflight", "--env", str(project.env), cwd=project.root)
    assert result.status == 0, result.out
    assert "1 at their pinned commits, 2 left out" in result.out
    assert devkit("build", "deps", cwd=project.root).status == 0
    built = devkit("build", "--target", "common", "--env", str(project.env), cwd=project.root)
    assert "submodules all are there" in built.err


def test_where_an_export_cannot_be_written_or_read_it_says_so(devkit: Devkit, project: Project) -> None:
    assert devkit("build", "deps", cwd=project.root).status == 0
    folder = devkit("build", "deps", "export", ".", cwd=project.root)
    assert folder.status == 1
    assert "cannot be written\n  Is a directory." in folder.err
    assert list(project.root.parent.glob(".*.part")) == []
    odd = devkit("build", "deps", "export", "--", "-a b.tar", cwd=project.root)
    assert "→ devkit build deps import './-a b.tar'   there" in odd.err
    gone = devkit("build", "deps", "import", "gone.tar", cwd=project.root)
    assert gone.status == 1
    assert "✗ there is no gone.tar" in gone.err
    again = devkit("build", "deps", "import", "./-a b.tar", cwd=project.root)
    assert "nothing came: the cache has all of it" in again.err


def test_an_address_with_a_space_is_one(devkit: Devkit, project: Project) -> None:
    store = project.store.rename(project.store.with_name("the store"))
    project.edit("cmake/external/lapack.cmake", str(project.store), str(store))
    result = devkit("build", "deps", "--json", cwd=project.root)
    assert result.status == 0, result.err
    assert [load["name"] for load in json.loads(result.out)["got"]] == ["lapack_lnx_v1.tar.gz", "third_party/greet"]


def test_a_later_export_adds_to_what_an_earlier_one_brought(
    devkit: Devkit, project: Project, tmp_path: Path, home: Path
) -> None:
    greet = tmp_path / "greet"

    def exported(name: str) -> str:
        assert devkit("build", "deps", cwd=project.root).status == 0
        assert devkit("build", "deps", "export", str(tmp_path / name), cwd=project.root).status == 0
        shutil.rmtree(home / ".cache" / "devkit" / "paddle-deps")
        return str(tmp_path / name)

    first = exported("first.tar")
    (greet / "later.h").touch()
    run("git", "add", "-A", cwd=greet)
    run("git", "commit", "-qm", "later", cwd=greet)
    pin = run("git", "rev-parse", "HEAD", cwd=greet)
    run("git", "update-index", "--cacheinfo", f"160000,{pin},third_party/greet", cwd=project.root)
    run("git", "commit", "-qm", "the later greet", cwd=project.root)
    second = exported("second.tar")
    for file in (first, second, first):
        assert devkit("build", "deps", "import", file, cwd=tmp_path).status == 0
    assert "nothing came" in devkit("build", "deps", "import", second, cwd=tmp_path).err
    shutil.rmtree(greet)
    for number, commit in enumerate(("HEAD", "HEAD~1")):
        worktree = tmp_path / f"worktree-{number}"
        run("git", "worktree", "add", "-q", "--detach", worktree, commit, cwd=project.root)
        result = devkit("build", "--offline", "--only", "submodules", "--env", str(project.env), cwd=worktree)
        assert result.status == 0, result.err
        assert (worktree / "third_party" / "greet" / "later.h").is_file() == (commit == "HEAD")


def test_an_import_brings_neither_settings_nor_hooks(
    devkit: Devkit, project: Project, tmp_path: Path, home: Path
) -> None:
    assert devkit("build", "deps", cwd=project.root).status == 0
    (kept,) = (home / ".cache" / "devkit" / "paddle-deps" / "git").glob("*.git")
    run("git", "config", "core.fsmonitor", "touch /nowhere/x", cwd=kept)
    (kept / "hooks").mkdir(exist_ok=True)
    (kept / "hooks" / "reference-transaction").write_text("exit 1")
    assert devkit("build", "deps", "export", str(tmp_path / "x.tar"), cwd=project.root).status == 0
    shutil.rmtree(kept.parent)
    assert "1 repository and 0 archives" in devkit("build", "deps", "import", "x.tar", cwd=tmp_path).err
    assert "fsmonitor" not in (kept / "config").read_text()
    assert not (kept / "hooks").exists()
    assert devkit("build", "deps", "--offline", cwd=project.root).status == 0
