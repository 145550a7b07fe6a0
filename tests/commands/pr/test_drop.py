"""devkit pr list, show, diff, drop and clean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.commands.pr.random_clones import checkout, differences, git, refs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.conftest import Clone, Forge

PROJECT = "project/Paddle"


def test_the_list_says_what_is_merged_dirty_and_where(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "8", "9")
    clone.git("worktree", "add", "-q", str(clone.folder.parent / "eight"), "pr/8")
    clone.git("switch", "-q", "pr/7")
    clone.write("a.cc", "dirty\n")
    found = {load["number"]: load for load in json.loads(clone.devkit("pr", "list", "--json").text)}
    assert [row["title"] for row in found.values()] == ["Mend the op", "Other words", "Half"]
    assert [row["merged"] for row in found.values()] == [None, None, "squash-merged"]
    assert [(row["ahead"], row["behind"]) for row in found.values()] == [(2, 2), (1, 2), (2, 2)]
    assert [row["dirty"] for row in found.values()] == [True, False, False]
    assert [row["current"] for row in found.values()] == [True, False, False]
    assert found[8]["worktree"] == str(clone.folder.parent / "eight")
    heading, _, *rows = clone.devkit("pr", "list").text.splitlines()
    assert {"request", "branch", "title", "ahead", "behind", "state"} <= {*heading.split()}
    assert rows[0].split()[:7] == ["7", "pr/7", "Mend", "the", "op", "2", "2"]
    assert "dirty" in rows[0]
    (nine,) = [row for row in rows if row.split()[:1] == ["9"]]
    assert nine.split()[:5] == ["9", "pr/9", "Half", "2", "2"]
    assert "squash-merged" in nine


def test_merges_of_every_kind_are_seen(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7", "8")
    bare = forge.bare(PROJECT)
    (bare / "hooks" / "update").unlink()
    work = clone.folder.parent / "maintainer"
    git(clone.folder.parent, "clone", "-q", str(bare), str(work))
    git(work, "fetch", "-q", "origin", "refs/pull/7/head:seven", "refs/pull/8/head:eight")
    git(work, "merge", "-q", "--no-edit", "--no-ff", "seven")
    git(work, "push", "-q", "origin", "develop")
    clone.git("fetch", "-q", "upstream")
    assert _merged(clone) == {7: "merged", 8: None}
    git(work, "reset", "-q", "--hard", "HEAD~1")
    git(work, "commit", "-q", "--allow-empty", "-m", "Another day")
    git(work, "cherry-pick", "--keep-redundant-commits", "seven~1", "seven")
    git(work, "push", "-q", "-f", "origin", "develop")
    clone.git("fetch", "-q", "upstream")
    assert _merged(clone) == {7: "rebase-merged", 8: None}
    forge.commit(PROJECT, "refs/heads/develop", "Other words, reworked by hand (#8)", {"b.py": "reworked\n"})
    clone.git("fetch", "-q", "upstream")
    assert _merged(clone) == {7: "rebase-merged", 8: "squash-merged"}


def _merged(clone: Clone) -> dict[int, str | None]:
    return {load["number"]: load["merged"] for load in json.loads(clone.devkit("pr", "list", "--json").text)}


def test_clean_removes_what_is_merged_the_forks_branch_too_and_undo_brings_it_back(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7", "9")
    clone.git("switch", "-q", "pr/9")
    clone.write("loose.txt", "loose\n")
    before = checkout(clone.folder, clone.folder / ".git"), refs(clone.folder)
    log = clone.git("reflog", "pr/9")
    plan = clone.devkit("pr", "clean", "--dry-run").text
    assert "git branch --quiet -D -- pr/9\n" in plan
    assert "pr/7" not in plan
    said = clone.devkit("pr", "clean", "--remote")
    assert said.status == 0
    assert "✓ removed pr/9, fork/whole; now on develop" in said.text
    assert clone.status() == ["## develop...upstream/develop", "?? loose.txt"]
    assert forge.refs("me/Paddle") == ["refs/heads/develop Begin"]
    assert clone.devkit("undo").status == 0
    assert differences(before[0], checkout(clone.folder, clone.folder / ".git")) == []
    assert refs(clone.folder) == before[1]
    assert clone.git("reflog", "pr/9") == log
    assert forge.refs("me/Paddle") == ["refs/heads/develop Begin", "refs/heads/whole Whole"]


def test_drop_takes_the_worktree_and_asks_before_work_goes_with_it(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "--worktree")
    folder = clone.folder.parent / "Paddle-pr-7"
    (folder / "a.cc").write_bytes(b"work\r\n\0")
    (folder / "x.log").write_text("ignored\n")
    before = checkout(folder, clone.folder / ".git/worktrees/Paddle-pr-7")
    said = clone.devkit("pr", "drop", "7")
    assert said.status == 1
    assert f"{folder} holds 1 uncommitted file and 1 ignored file (8 B)" in said.text
    assert clone.devkit("pr", "drop", "7", "--yes").status == 0
    assert not folder.exists()
    assert clone.git("branch", "--list", "pr/*") == ""
    assert not [ref for ref in refs(clone.folder) if "devkit" in ref]
    assert clone.devkit("undo").status == 0
    assert differences(before, checkout(folder, clone.folder / ".git/worktrees/Paddle-pr-7")) == []
    assert git(folder, "status", "-sb") == b"## pr/7\n M a.cc\n"


def test_show_names_commits_files_operators_and_tests(clone: Clone, forge: Forge) -> None:
    files = {"paddle/phi/kernels/gpu/top_k_grad_kernel.cu": "1\n2\n", "test/legacy_test/test_top_k_op.py": "1\n"}
    forge.commit(PROJECT, "refs/pull/11/head", "Top k \x1b[31mred", files, on="refs/heads/develop")
    clone.devkit("pr", "fetch", "11", "--no-switch")
    found = json.loads(clone.devkit("pr", "show", "11", "--json").text)
    assert found["ops"] == ["top_k"]
    assert found["tests"] == ["test/legacy_test/test_top_k_op.py"]
    assert [(file["path"], file["added"]) for file in found["files"]] == [
        (path, len(text) // 2) for path, text in files.items()
    ]
    text = clone.devkit("pr", "show", "11").text
    assert "\x1b" not in text
    assert "Top k \\x1b[31mred" in text
    assert "operators  top_k" in text


OPERATORS = "- op : abs\n  args : (Tensor x)\n\n- op : acos\n  args : (Tensor x)\n  backward : acos_grad\n"
SOFTPLUS = """template <typename T>
void SoftplusGradKernel(const T* x) {
  a();
}

template <typename T>
void ReluKernel(const T* x) {
  b();
}

PD_REGISTER_KERNEL(
    hard_swish_grad, CPU, ALL_LAYOUT, phi::HardSwishGradKernel, float) {}
"""


def test_show_reads_tables_and_kernels_as_op_show_does(clone: Clone, forge: Forge) -> None:
    table, kernels = "paddle/phi/ops/yaml/ops.yaml", "paddle/phi/kernels/cpu/activation_grad_kernel.cc"
    before = {table: OPERATORS, kernels: SOFTPLUS}
    forge.commit(PROJECT, "refs/heads/develop", "Tables", before, on="refs/heads/develop")
    after = {
        table: OPERATORS.replace("  backward : acos_grad\n", ""),  # a line that is taken away, and no other
        kernels: SOFTPLUS.replace("a();", "c();").replace("float)", "float, double)"),
    }
    forge.commit(PROJECT, "refs/pull/12/head", "Change", after, on="refs/heads/develop")
    clone.devkit("pr", "fetch", "12", "--no-switch")
    found = json.loads(clone.devkit("pr", "show", "12", "--json").text)
    assert found["ops"] == ["acos", "hard_swish", "softplus"]


def test_diff_is_against_the_merge_base(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "--no-switch")
    assert clone.devkit("pr", "diff", "7", "--name-only").text == "a.cc\ntest_op.py\n"
    assert " 2 files changed, 2 insertions(+), 1 deletion(-)\n" in clone.devkit("pr", "diff", "7", "--stat").text
    assert clone.devkit("pr", "diff", "7").text.startswith("diff --git a/a.cc b/a.cc\n")


def test_titles_states_and_checks_come_from_the_api_where_there_is_a_token(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    request = {
        "title": "A title of the forge's",
        "state": "open",
        "draft": True,
        "merged": False,
        "user": {"login": "me"},
        "base": {"ref": "develop"},
        "head": {"ref": "seven", "sha": "1234", "repo": {"full_name": "me/Paddle"}},
    }
    checks = {
        "check_runs": [
            {"name": "CI-Build", "status": "completed", "conclusion": "failure"},
            {"name": "CI-Style", "status": "completed", "conclusion": "success"},
            {"name": "CI-Test", "status": "in_progress", "conclusion": None},
        ]
    }
    (forge.folder / "api_repos_project_Paddle_pulls_7.json").write_text(json.dumps(request))
    (forge.folder / "api_repos_project_Paddle_commits_1234_check-runs.json").write_text(json.dumps(checks))
    env = {"GH_TOKEN": "a-token-of-tests", "DEVKIT_PR_API": f"{forge.address}/api"}
    assert json.loads(clone.devkit("pr", "list", "--json", env=env).text)[0]["title"] == "A title of the forge's"
    text = clone.devkit("pr", "show", "-v", env=env).text
    assert "draft · checks: 1 passed, 1 failed (CI-Build), 1 running" in text
    assert "a-token-of-tests" not in text
    assert "✓ pr/7 → fork/seven" in clone.devkit("pr", "push", env=env).text  # where it comes from is known now
    wrong = {"GH_TOKEN": "another", "DEVKIT_PR_API": f"{forge.address}/api"}
    assert "Mend the op" in clone.devkit("pr", "list", env=wrong).text
    refused = clone.devkit("pr", "list", env={**env, "DEVKIT_PR_API": "http://forge.invalid/api"})
    assert refused.status == 1
    assert "A token only goes over https." in refused.text


def test_a_worktree_with_clones_in_it_that_have_work_of_their_own_stays(
    clone: Clone, forge: Forge, tmp_path: Path
) -> None:
    """No snapshot of this repository keeps what is in them."""
    inner = tmp_path / "inner"
    git(tmp_path, "init", "-q", "-b", "main", str(inner))
    (inner / "a.txt").write_text("a\n")
    git(inner, "add", "a.txt")
    git(inner, "commit", "-q", "-m", "Inner")
    clone.git("config", "--global", "protocol.file.allow", "always")  # git clones no submodule from a folder by default
    clone.git("submodule", "--quiet", "add", str(inner), "inner")
    clone.git("commit", "-q", "-m", "A submodule")
    clone.git("push", "-q", str(forge.bare(PROJECT)), "HEAD:refs/heads/with")
    git(forge.bare(PROJECT), "update-ref", "refs/pull/10/head", "refs/heads/with")
    tree = clone.folder.parent / "Paddle-pr-10"
    for spoil in ("edited", "committed", "stashed", "nothing"):
        assert clone.devkit("pr", "fetch", "10", "--worktree").status == 0
        (tree / "inner" / "a.txt").write_text("mine\n")
        if spoil == "committed":
            git(tree / "inner", "commit", "-q", "-a", "-m", "Mine")
            git(tree / "inner", "branch", "mine")
            git(tree / "inner", "switch", "-q", "--detach", "HEAD~1")
        elif spoil == "stashed":
            git(tree / "inner", "stash", "-q")
        elif spoil == "nothing":
            git(tree / "inner", "checkout", "-q", "a.txt")
        said = clone.devkit("pr", "drop", "10", "--yes")
        if spoil == "nothing":
            assert said.status == 0
            continue
        assert said.status == 1, spoil
        assert f"{tree} holds clones with work of their own\n  inner\n" in said.text
        assert f"git worktree remove --force -- {tree}" in said.text
        assert (tree / "inner" / "a.txt").is_file()
        clone.git("worktree", "remove", "--force", str(tree))
    assert clone.devkit("pr", "fetch", "10", "--worktree").status == 0
    git(tree, "init", "-q", "nested")
    assert "\n  nested\n" in clone.devkit("pr", "drop", "10", "--yes").text
    assert (tree / "nested").is_dir()


def test_the_forks_branch_goes_only_where_it_is_known(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7", "--no-switch")
    said = clone.devkit("pr", "drop", "7", "--remote")
    assert said.status == 1
    assert "it is not known which branch pull request 7 comes from" in said.text
    git(forge.bare("me/Paddle"), "branch", "backup", "whole")
    clone.devkit("pr", "fetch", "9", "--no-switch")
    said = clone.devkit("pr", "clean", "--remote")
    assert "pr/9 stays: it is not clear which branch pull request 9 comes from" in said.text
    assert [name.split()[0] for name in forge.refs("me/Paddle")] == [
        "refs/heads/backup",
        "refs/heads/develop",
        "refs/heads/whole",
    ]


def test_the_forks_branch_goes_under_the_name_that_it_was_pushed_to(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "mine")
    clone.commit("Mine", mine_txt="1")
    assert clone.devkit("pr", "push", "--branch", "theirs").status == 0
    said = clone.devkit("pr", "drop", "mine", "--remote")
    assert "✓ removed mine, fork/theirs" in said.text, said.text
    assert "refs/heads/theirs" not in str(forge.refs("me/Paddle"))
    assert clone.devkit("undo").status == 0
    assert "refs/heads/theirs Mine" in forge.refs("me/Paddle")


def test_commits_that_are_nowhere_else_are_named_before_they_go(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    tip = clone.commit("My own fix", own_txt="1")
    said = clone.devkit("pr", "drop", "7")
    assert said.status == 1
    assert "pr/7 has 1 commit that no other branch and no remote has" in said.text
    assert "My own fix" in said.text
    said = clone.devkit("pr", "drop", "7", "--yes")
    assert said.status == 0
    assert f"git branch pr/7 {tip[:10]}   brings them back" in said.text


def test_a_branch_of_ones_own_is_cleaned_once_it_is_squashed_upstream(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "mine")
    clone.commit("Half", mine_txt="1")
    clone.commit("Whole", mine_txt="2")
    clone.devkit("pr", "push")
    clone.git("switch", "-q", "-c", "fresh", "develop")
    forge.commit(PROJECT, "refs/heads/develop", "Mine (#10)", {"mine.txt": "2"})
    clone.git("fetch", "-q", "upstream")
    said = clone.devkit("pr", "clean", "--remote")
    assert said.status == 0
    assert "✓ removed mine, fork/mine" in said.text
    assert clone.git("branch", "--format=%(refname:short)").split() == ["develop", "fresh"]
    assert "refs/heads/mine" not in str(forge.refs("me/Paddle"))


def test_what_cannot_be_cleaned_keeps_nothing_else(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "9", "--worktree")
    clone.git("branch", "-q", "other", "pr/9")
    clone.git("config", "branch.other.remote", "upstream")
    clone.git("config", "branch.other.merge", "refs/pull/9/head")
    (clone.folder.parent / "Paddle-pr-9" / "x.log").write_text("1")
    said = clone.devkit("pr", "clean")
    assert said.status == 0
    assert "✓ removed other" in said.text
    assert "pr/9 stays: " in said.text
    assert "holds 1 ignored file" in said.text
    assert "devkit pr drop pr/9 --yes" in said.text
