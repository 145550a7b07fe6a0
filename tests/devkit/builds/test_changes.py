"""Which lines a change made, whatever its files are called and however its user likes to see a diff."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.builds import changes
from devkit.errors import UsageError
from tests.commands.build_.conftest import commit_all, run

if TYPE_CHECKING:
    from pathlib import Path

BELOW = ("python/paddle/",)
ODD = 'python/paddle/od d\n"name\t.py'


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python/paddle").mkdir(parents=True)
    (tmp_path / "python/paddle/a.py").write_text("one\ntwo\nthree\nfour\nfive\n")
    (tmp_path / ODD).write_text("one\ntwo\n")
    (tmp_path / "python/paddle/gone.py").write_text("one\n")
    (tmp_path / "elsewhere.py").write_text("one\n")
    commit_all(tmp_path)
    return tmp_path


def lines(tree: Path, commit: str = "HEAD") -> dict[str, list[int]]:
    return {path: sorted(numbers) for path, numbers in changes.lines(App().runner, tree, commit, BELOW).items()}


def test_committed_uncommitted_and_new_lines_count_and_removed_ones_do_not(tree: Path) -> None:
    before = run("git", "rev-parse", "HEAD", cwd=tree)
    (tree / "python/paddle/a.py").write_text("one\nTWO\nthree\nfour\n")
    commit_all(tree)
    (tree / "python/paddle/a.py").write_text("zero\none\nTWO\nthree\nfour\n")
    (tree / ODD).write_text("one\ndiff --git \n@@ -1 +7 @@\n")
    (tree / "python/paddle/gone.py").unlink()
    (tree / "elsewhere.py").write_text("two\n")
    (tree / "python/paddle/new.py").write_text("one\ntwo")
    assert lines(tree, before) == {"python/paddle/a.py": [1, 3], ODD: [2, 3], "python/paddle/new.py": [1, 2]}


def test_a_users_settings_do_not_change_which_lines_they_are(tree: Path) -> None:
    for key, value in (
        ("diff.interHunkContext", "9"),
        ("diff.mnemonicPrefix", "true"),
        ("diff.noprefix", "true"),
        ("diff.renames", "copies"),
        ("color.ui", "always"),
        ("diff.external", "false"),
        ("diff.relative", "true"),
    ):
        run("git", "config", key, value, cwd=tree)
    (tree / "python/paddle/a.py").write_text("ONE\ntwo\nTHREE\nfour\nfive\n")
    (tree / "python/paddle/gone.py").rename(tree / "python/paddle/moved.py")
    run("git", "add", "-A", cwd=tree)
    assert lines(tree) == {"python/paddle/a.py": [1, 3], "python/paddle/moved.py": [1]}


def test_a_file_that_became_a_link_and_one_whose_mode_changed_have_no_lines(tree: Path) -> None:
    (tree / "python/paddle/a.py").chmod(0o755)
    (tree / "python/paddle/gone.py").unlink()
    (tree / "python/paddle/gone.py").symlink_to("a.py")
    (tree / ODD).write_text("one\ntwo\nthree\n")
    assert lines(tree) == {"python/paddle/a.py": [], ODD: [3]}


def test_of_a_submodule_only_the_pin_counts_and_not_what_is_checked_out(tree: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "x").write_text("one\n")
    commit_all(inner)
    first = run("git", "rev-parse", "HEAD", cwd=inner)
    run("git", "update-index", "--add", "--cacheinfo", f"160000,{first},inner", cwd=tree)
    run("git", "commit", "-qm", "pinned", cwd=tree)
    (inner / "x").write_text("two\n")
    commit_all(inner)
    assert changes.files(App().runner, tree, "HEAD") == []
    run("git", "add", "inner", cwd=tree)
    assert changes.files(App().runner, tree, "HEAD") == ["inner"]
    assert lines(tree) == {}


def test_the_base_is_where_the_branch_left_a_remotes_develop_or_the_last_that_the_forge_merged(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(subject: str) -> str:
        run("git", "commit", "--allow-empty", "-qm", subject, cwd=tree)
        return run("git", "rev-parse", "HEAD", cwd=tree)

    head = run("git", "rev-parse", "HEAD", cwd=tree)
    assert changes.base(App(), tree) == changes.Base(head, "HEAD")
    run("git", "switch", "-q", "-c", "mine", cwd=tree)
    run("git", "branch", "-f", "master", cwd=tree)
    assert changes.base(App(), tree) == changes.Base(head, "master"), "a clone without a remote"
    first = commit("Upstream's")
    run("git", "update-ref", "refs/remotes/origin/develop", first, cwd=tree)
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "noreply@github.com")
    merged = commit("Mend it (#7)")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "test@example.com")
    commit("[cherry-pick] What a request of long ago did (#5)")  # a change of one's own, whatever its subject says
    assert changes.base(App(), tree) == changes.Base(merged, "request #7")
    second = commit("Mine")
    run("git", "update-ref", "refs/remotes/up/release/3.0", second, cwd=tree)
    commit("Mine too")
    monkeypatch.setenv("DEVKIT_PR_BASE_REMOTE", "up")
    monkeypatch.setenv("DEVKIT_PR_BASE_BRANCH", "release/3.0")
    assert changes.base(App(), tree) == changes.Base(second, "up/release/3.0")
    assert changes.base(App(), tree, "HEAD~4") == changes.Base(first, "HEAD~4")
    for word in ("nothing", "--all"):
        with pytest.raises(UsageError, match="is not a commit that this branch comes from"):
            changes.base(App(), tree, word)


def test_lines_are_told_as_ranges() -> None:
    assert changes.ranges([9, 1, 2, 3, 7]) == [(1, 3), (7, 7), (9, 9)]
    assert changes.ranges([]) == []
