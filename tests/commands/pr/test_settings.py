"""Clones with settings, marks and addresses of their own: what devkit does is the same, and loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.conftest import look, numbered
from tests.commands.pr.random_clones import differences, git

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.conftest import Clone, Forge

PROJECT = "project/Paddle"


def lines(clone: Clone, *each: str) -> list[int]:
    """Run lines of devkit and return their statuses."""
    return [clone.devkit(*words.split()).status for words in each]


def test_an_edit_that_git_was_told_to_overlook_stays(clone: Clone) -> None:
    clone.write("b.py", numbered(9, l1="mine"))
    clone.git("update-index", "--skip-worktree", "b.py")
    clone.write("a.cc", numbered(9, l1="mine"))
    clone.git("update-index", "--assume-unchanged", "a.cc")
    for words in ("pr fetch 7", "pr fetch 8", "wip save", "pr fetch 7 --worktree", "pr sync", "undo", "undo"):
        assert clone.devkit(*words.split()).status in {0, 1}, words
        assert (clone.folder / "b.py").read_text() == numbered(9, l1="mine"), words
        assert (clone.folder / "a.cc").read_text().startswith("mine\n"), words


def test_an_undo_says_that_it_would_take_an_edit_that_git_was_told_to_overlook(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    clone.git("update-index", "--assume-unchanged", "b.py")
    clone.write("b.py", "precious\n")
    said = clone.devkit("undo")
    assert said.status == 1
    assert "b.py was edited, which git was told to overlook" in said.text
    assert clone.devkit("undo", "--yes").status == 0
    assert clone.devkit("redo", "--yes").status == 0
    assert (clone.folder / "b.py").read_text() == "precious\n"


def test_a_branchs_settings_come_back_with_comments_and_what_is_included(
    clone: Clone, forge: Forge, tmp_path: Path
) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.git("switch", "-q", "develop")
    included = tmp_path / "included"
    included.write_text('[branch "pr/7"]\n\tmergeOptions = --no-ff\n')
    clone.git("config", "include.path", str(included))
    clone.git("config", "branch.pr/7.description", 'One\n"two" # three; four\n')
    with (clone.folder / ".git" / "config").open("a") as config:
        config.write('[branch "pr/7"]\n\t# keep: talk first\n\trebase\n')

    def settings() -> list[str]:
        rows = clone.git("config", "--list", "-z").split("\0")
        return sorted(row for row in rows if "devkitfetched" not in row)

    before = settings()
    forge.commit(PROJECT, "refs/pull/7/head", "More", {"more.txt": "1\n"})
    assert lines(clone, "pr fetch 7", "undo") == [0, 0]
    assert settings() == before
    assert "# keep: talk first" in (clone.folder / ".git" / "config").read_text()
    assert clone.git("config", "--type=bool", "branch.pr/7.rebase") == "true"


def test_what_git_traces_is_no_word_of_the_remote(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_TRACE", "GIT_TRACE_PACKET", "GIT_TRACE_SETUP"):
        monkeypatch.setenv(name, "1")
    assert "✗ pull request 99 was not found on upstream" in clone.devkit("pr", "fetch", "99").text
    assert lines(clone, "pr fetch 7", "pr start fix", "undo", "undo") == [0, 0, 0, 0]


def test_a_signature_that_cannot_be_made_is_said_and_given_up_whole(clone: Clone, tmp_path: Path) -> None:
    program = tmp_path / "gpg"
    program.write_text('#!/bin/sh\necho "gpg: signing failed: Inappropriate ioctl for device" >&2\nexit 2\n')
    program.chmod(0o755)
    clone.devkit("pr", "fetch", "7")
    clone.write("b.py", numbered(9, l1="mine"))
    clone.git("config", "commit.gpgsign", "true")
    clone.git("config", "gpg.program", str(program))
    before = look(clone)
    said = clone.devkit("pr", "rebase")
    assert said.status == 1
    assert "gpg failed to sign the data" in said.text
    assert clone.devkit("pr", "abort").status == 0
    after = look(clone)
    assert differences({**before, "refs": {}}, {**after, "refs": {}}) == []


def test_modes_and_links_on_a_disk_that_has_none(clone: Clone) -> None:
    clone.git("config", "core.fileMode", "false")
    clone.git("config", "core.symlinks", "false")
    oid = git(clone.folder, "hash-object", "-w", "--stdin", data=b"a.cc").decode().strip()
    clone.git("update-index", "--add", "--cacheinfo", f"120000,{oid},link")
    clone.git("commit", "-q", "-m", "Link")
    clone.git("checkout", "-q", "--", "link")
    clone.git("update-index", "--chmod=+x", "a.cc")
    clone.write("link", "b.py")
    before = clone.git("status", "--porcelain=v2")
    assert lines(clone, "wip save", "wip restore") == [0, 0]
    assert clone.git("status", "--porcelain=v2") == before
    assert (clone.folder / "link").read_text() == "b.py"


def test_a_submodule_follows_though_git_was_told_to_overlook_them(clone: Clone, forge: Forge, tmp_path: Path) -> None:
    library = tmp_path / "library"
    git(tmp_path, "init", "-q", "--template=", "-b", "main", str(library))
    for number in ("1", "2", "3"):
        (library / "l").write_text(number)
        git(library, "add", "l")
        git(library, "commit", "-q", "-m", number)
    one, two, three = (git(library, "rev-parse", f"main~{back}").decode().strip() for back in (2, 1, 0))
    clone.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "third/lib")
    inside = clone.folder / "third" / "lib"
    for oid, branch in ((one, "develop"), (two, "moved")):
        if branch != "develop":
            clone.git("switch", "-q", "-c", branch)
        git(inside, "checkout", "-q", oid)
        clone.git("commit", "-q", "-a", "-m", branch)
    git(forge.bare(PROJECT), "fetch", "-q", str(clone.folder), "moved:refs/pull/12/head")
    clone.git("switch", "-q", "develop")
    git(inside, "checkout", "-q", one)
    clone.git("config", "diff.ignoreSubmodules", "all")
    assert clone.devkit("pr", "fetch", "12").status == 0
    assert git(inside, "rev-parse", "HEAD").decode().strip() == two
    assert clone.devkit("undo").status == 0
    assert git(inside, "rev-parse", "HEAD").decode().strip() == one
    git(inside, "checkout", "-q", three)
    clone.git("add", "third/lib")
    assert clone.devkit("pr", "start", "fix", "--on", "moved").status == 1  # it would move what was staged
    assert clone.devkit("wip", "save", "b.py").status == 1  # nothing there; and the rest stays
    assert clone.git("ls-files", "--stage", "third/lib").split()[1] == three


def test_a_branch_without_a_commit_keeps_what_is_staged(clone: Clone) -> None:
    clone.git("switch", "-q", "--orphan", "fresh")
    clone.write("n.txt", "staged\n")
    clone.git("add", "n.txt")
    clone.write("n.txt", "staged\nmore\n")
    before = look(clone)
    for words in ("wip save", "pr show", "pr rebase", "pr push", "pr squash"):
        said = clone.devkit(*words.split())
        assert (said.status, differences(before, look(clone))) == (1, []), (words, said.text)
    assert lines(clone, "pr fetch 7", "undo") == [0, 0]
    assert differences(before, look(clone)) == []


def test_work_that_is_only_intended_to_be_added_comes_back_so(clone: Clone) -> None:
    clone.write("new.py", "new\n")
    clone.git("add", "-N", "new.py")
    before = look(clone)
    assert clone.devkit("wip", "save").status == 0
    assert not (clone.folder / "new.py").exists()
    assert clone.devkit("wip", "restore").status == 0
    assert clone.git("status", "--porcelain") == " A new.py"
    assert lines(clone, "pr fetch 8", "undo", "undo", "undo") == [0, 0, 0, 0]
    assert differences(before, look(clone)) == []


def test_a_mirror_without_requests_says_so(clone: Clone, forge: Forge) -> None:
    git(forge.bare(PROJECT), "config", "transfer.hideRefs", "refs/pull")
    clone.git("remote", "remove", "fork")
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 1
    assert "✗ pull request 7 was not found on upstream" in said.text
    assert "may be a fork or a mirror, which has no requests" in said.text.replace("\n  ", " ")


@pytest.mark.parametrize(
    "page", ["https://code.example/project/Paddle/pull/7/files", "https://real.example/project/Paddle/pull/7"]
)
def test_a_page_is_found_under_rewritten_addresses_and_aliases_of_ssh(
    clone: Clone, forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    """The remote is ``code.example`` by ``insteadOf``, or an alias for which ssh knows the real host."""
    programs = tmp_path / "programs"
    programs.mkdir()
    if "real" in page:
        ssh = programs / "ssh"
        ssh.write_text("#!/bin/sh\necho user git\necho hostname Real.example\n")
        ssh.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        clone.git("config", f"url.{forge.address}/.insteadOf", "git@work-alias:")
        clone.git("remote", "set-url", "upstream", "git@work-alias:project/Paddle.git")
    else:
        clone.git("config", f"url.{forge.address}/.insteadOf", "https://code.example/")
        clone.git("remote", "set-url", "upstream", "https://code.example/project/Paddle.git")
    said = clone.devkit("pr", "fetch", page)
    assert "✓ pr/7  2 commits" in said.text, said.text


def test_the_pages_address_tells_how_a_forge_names_its_requests(clone: Clone, forge: Forge) -> None:
    git(forge.bare(PROJECT), "update-ref", "refs/merge-requests/7/head", "refs/pull/7/head")
    git(forge.bare(PROJECT), "update-ref", "-d", "refs/pull/7/head")
    assert clone.devkit("pr", "fetch", f"{forge.address}/project/Paddle/-/merge_requests/7").status == 0
    clone.git("switch", "-q", "develop")
    assert "up to date" in clone.devkit("pr", "fetch", "7").text


def test_an_api_that_does_not_answer_costs_little_and_one_word(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "8", "9")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        env = {
            "GH_TOKEN": "a-token-of-tests",
            "DEVKIT_PR_API": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "FORKS_FIRST": "from devkit.pr import forges; forges.forge_of.__kwdefaults__['timeout_s'] = 0.2",
        }
        said = clone.devkit("pr", "list", env=env)
    assert said.status == 0
    assert said.text.count("did not answer") == 1
    assert [line.split()[0] for line in said.text.splitlines() if " pr/" in line] == ["7", "8", "9"]


def test_a_local_branch_named_like_the_remote_one_misleads_nothing(clone: Clone) -> None:
    clone.git("branch", "upstream/develop", "develop~2")
    clone.git("tag", "pr/7", "develop")
    clone.devkit("pr", "fetch", "7")
    assert (clone.folder / ".git" / "HEAD").read_text() == "ref: refs/heads/pr/7\n"
    said = clone.devkit("pr", "rebase", "7")
    assert "✓ pr/7 on upstream/develop: 2 commits, 2 files, +2 −1, 0 behind upstream/develop" in said.text, said.text
    assert clone.git("merge-base", "HEAD", "refs/remotes/upstream/develop") == clone.git(
        "rev-parse", "refs/remotes/upstream/develop"
    )
    assert clone.devkit("pr", "drop", "7").status == 0
    assert clone.git("rev-parse", "--verify", "refs/tags/pr/7") == clone.git("rev-parse", "develop")


def test_a_remote_that_was_renamed_makes_nobodys_commits_yours(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.git("switch", "-q", "develop")
    clone.git("remote", "rename", "upstream", "paddle")
    forge.commit(PROJECT, "refs/pull/7/head", "Anew", {"a.cc": "anew\n"}, on="refs/heads/develop")
    said = clone.devkit("pr", "fetch", "7", "--remote", "paddle")
    assert (said.status, "rewritten by its author" in said.text) == (0, True), said.text


def test_a_branch_that_only_the_remote_has_is_fetched_to_rebase_onto(clone: Clone, forge: Forge) -> None:
    git(forge.bare(PROJECT), "branch", "release/3.0", "develop~1")
    clone.devkit("pr", "fetch", "7")
    said = clone.devkit("pr", "rebase", "--onto", "upstream/release/3.0")
    assert "✓ pr/7 on upstream/release/3.0: 2 commits" in said.text, said.text


def test_the_branch_that_requests_go_to_was_renamed(clone: Clone, forge: Forge) -> None:
    git(forge.bare(PROJECT), "branch", "-m", "develop", "main")
    forge.commit(PROJECT, "refs/heads/main", "On main", {"main.txt": "1\n"})
    said = clone.devkit("pr", "fetch", "7")
    remedy = "git fetch upstream && git remote set-head upstream --auto"
    assert f"! upstream/develop is no longer there, and old here: {remedy}" in said.text, said.text
    said = clone.devkit("pr", "rebase")
    assert (said.status, f"→ {remedy}" in said.text) == (1, True), said.text
    for line in remedy.split(" && "):
        clone.git(*line.split()[1:])
    assert "✓ pr/7 on upstream/main: 2 commits, 2 files" in clone.devkit("pr", "rebase").text


def test_commits_that_a_rewritten_base_has_no_longer_are_nobodys(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "mine", "upstream/develop")
    clone.commit("Mine", mine_txt="1")
    git(forge.bare(PROJECT), "update-ref", "refs/heads/develop", "refs/heads/develop~1")
    forge.commit(PROJECT, "refs/heads/develop", "Instead", {"instead.txt": "1\n"})
    said = clone.devkit("pr", "rebase")
    assert "! upstream/develop was rewritten; 1 commit that it had before stays out: " in said.text, said.text
    assert "✓ mine on upstream/develop: 1 commit, 1 file" in said.text
    assert clone.git("log", "-3", "--format=%s").splitlines() == ["Mine", "Instead", "Words"]


def test_a_worktree_whose_folder_was_removed_by_hand(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "--worktree")
    tree = clone.folder.parent / "Paddle-pr-7"
    shutil.rmtree(tree)
    for words in ("pr fetch 7", "pr fetch 7 --dry-run", "pr rebase 7"):
        said = clone.devkit(*words.split())
        assert said.status == 1
        assert f"→ git worktree remove --force -- {tree}   tells it" in said.text, said.text
    assert lines(clone, "pr drop 7", "undo", "pr fetch 7") == [0, 0, 0]
    clone.git("worktree", "add", "-q", "../gone", "develop~1", "-b", "other")
    clone.git("-C", "../gone", "switch", "-q", "--ignore-other-worktrees", "develop")
    clone.git("-C", "../gone", "reset", "-q", "--hard", "HEAD~1")
    shutil.rmtree(clone.folder.parent / "gone")
    said = clone.devkit("pr", "sync")
    assert said.status == 0, said.text
    assert f"which is gone: git worktree remove --force -- {clone.folder.parent / 'gone'}" in said.text
    assert "now on" in clone.devkit("pr", "drop", "7").text


def test_a_squash_keeps_the_message_whatever_encoding_git_was_told(clone: Clone) -> None:
    clone.git("config", "i18n.commitEncoding", "gbk")
    clone.git("switch", "-q", "-c", "mine")
    for number, text in ((1, "修复"), (2, "增加")):
        clone.write("mine.txt", str(number))
        clone.git("add", "mine.txt")
        git(clone.folder, "commit", "-q", "-F", "-", data=text.encode("gbk"))
    said = clone.devkit("pr", "squash")
    assert (said.status, "修复" in said.text) == (0, True), said.text
    assert clone.git("log", "-1", "--format=%B", "--encoding=UTF-8").split() == ["修复", "-", "增加"]


LIKINGS = """
[column] ui = always
[color] ui = always
    branch = always
    diff = always
    status = always
[core] abbrev = 4
    quotePath = true
[log] follow = true
    decorate = full
    date = relative
    showRoot = false
    diffMerges = combined
[i18n] logOutputEncoding = ISO-8859-1
[diff] noprefix = true
    renames = copies
    external = false
    relative = true
    submodule = log
    context = 0
[status] short = true
    branch = true
    showUntrackedFiles = no
    showStash = true
[branch] autoSetupMerge = always
    autoSetupRebase = always
    sort = -committerdate
[push] default = nothing
    followTags = true
    autoSetupRemote = true
    useForceIfIncludes = true
[pull] rebase = merges
    ff = only
[fetch] prune = true
    pruneTags = true
    output = compact
    writeCommitGraph = true
    fsckObjects = true
[rebase] autoStash = true
    autoSquash = true
    forkPoint = true
    missingCommitsCheck = error
    instructionFormat = %s (%an)
    abbreviateCommands = true
[merge] conflictStyle = diff3
    ff = only
[rerere] enabled = true
    autoUpdate = true
[commit] verbose = 2
    status = false
    cleanup = scissors
[checkout] guess = false
[worktree] useRelativePaths = true
[index] version = 4
    skipHash = true
[feature] manyFiles = true
"""
"""Settings of git's by which people like to see and to do things otherwise."""


def test_how_one_likes_git_changes_nothing_that_devkit_reads(clone: Clone, forge: Forge, home: Path) -> None:
    (home / ".gitconfig").write_text(LIKINGS)
    clone.git("switch", "-q", "-c", "mine")
    clone.commit("Größe", mine_txt="1")
    clone.git("branch", "other", "develop~1")
    clone.git("switch", "-q", "develop")
    assert [row["branch"] for row in json.loads(clone.devkit("pr", "list", "--json").text)] == ["mine"]
    assert lines(clone, "pr fetch 7", "pr push mine") == [0, 0]
    found = json.loads(clone.devkit("pr", "list", "--json").text)
    assert [(row["branch"], row["title"], row["ahead"], row["dirty"]) for row in found] == [
        ("pr/7", "Mend the op", 2, False),
        ("mine", "Größe", 1, False),
    ]
    clone.write("loose.txt", "loose\n")
    clone.write("a.cc", numbered(9, l1="mine", l8="eight"))
    before = look(clone)
    said = clone.devkit("pr", "rebase")
    assert "✓ pr/7 on upstream/develop: 2 commits, 2 files, +2 −1, 0 behind upstream/develop" in said.text, said.text
    assert clone.status() == ["## pr/7", " M a.cc"]
    assert (clone.folder / "loose.txt").read_text() == "loose\n"
    assert clone.devkit("undo").status == 0
    assert differences(before, look(clone)) == []
    said = clone.devkit("pr", "show", "7")
    assert "test_op.py" in said.text
    assert "\x1b" not in said.text
    assert lines(clone, "wip save", "pr squash", "wip restore", "undo", "undo", "undo") == [0] * 6
    assert differences(before, look(clone)) == []
    assert lines(clone, "pr drop mine --remote", "undo") == [0, 0]
    assert "refs/heads/mine Größe" in forge.refs("me/Paddle")


def test_a_push_mirror_takes_no_single_branch(clone: Clone) -> None:
    clone.git("config", "remote.fork.mirror", "true")
    clone.devkit("pr", "start", "fix")
    clone.commit("Fix", fix_py="1\n")
    before = look(clone)
    for words in ("pr push", "pr push --dry-run", "pr sync", "pr drop fix --remote --yes"):
        said = clone.devkit(*words.split())
        assert said.status == 1, words
        assert "✗ fork is a mirror of this whole clone" in said.text, words
        assert "→ git config --unset-all remote.fork.mirror   lets" in said.text
    assert differences(before, look(clone)) == []
    clone.git("config", "--unset-all", "remote.fork.mirror")
    assert lines(clone, "pr push", "pr sync") == [0, 0]


def test_branches_that_a_fetch_would_replace_are_named(clone: Clone) -> None:
    clone.git("config", "remote.upstream.fetch", "+refs/*:refs/*")
    remedy = "git config --replace-all remote.upstream.fetch '+refs/heads/*:refs/remotes/upstream/*'"
    for words in ("pr fetch 7", "pr start fix"):
        assert f"with --prune removes yours: {remedy}" in clone.devkit(*words.split()).text
    clone.git("config", "--replace-all", "remote.upstream.fetch", "+refs/heads/*:refs/remotes/upstream/*")
    assert "--prune" not in clone.devkit("pr", "fetch", "8").text
    clone.git("fetch", "-q", "--prune", "upstream")
    assert "pr/7" in clone.git("branch")


def test_the_folder_that_the_user_stands_in_stays_when_a_request_has_none_such(clone: Clone) -> None:
    clone.git("switch", "-q", "-c", "deep")
    clone.commit("Deep", new__deep__file_txt="1\n")
    here = clone.folder / "new" / "deep"
    inode = here.stat().st_ino
    if clone.git_version() < (2, 35):  # it takes the folder away, as git by hand does
        assert clone.devkit("pr", "fetch", "7", folder=here).status == 0
        assert clone.devkit("undo").status == 0
        assert (here / "file.txt").read_text() == "1\n"
        return
    for words in ("pr fetch 7", "undo", "redo", "undo"):
        assert clone.devkit(*words.split(), folder=here).status == 0, words
        assert here.stat().st_ino == inode, words
    assert (here / "file.txt").read_text() == "1\n"


def test_a_branch_may_be_called_as_a_number(clone: Clone) -> None:
    clone.git("switch", "-q", "-c", "7")
    clone.commit("Seven", seven_txt="7\n")
    assert "✓ 7 → fork/7" in clone.devkit("pr", "push", "7").text
    clone.devkit("pr", "fetch", "7")
    assert "✓ removed pr/7" in clone.devkit("pr", "drop", "7").text
    assert clone.git("branch", "--format=%(refname:short)").split() == ["7", "develop"]


def test_what_git_advises_on_its_settings_is_no_word_of_the_remote(clone: Clone) -> None:
    clone.git("config", "fetch.showForcedUpdates", "false")
    assert "warning" not in clone.devkit("pr", "fetch", "7").text


def test_a_bare_repository_that_git_was_told_to_refuse(clone: Clone, tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_text("[safe]\n\tbareRepository = explicit\n")
    said = clone.devkit("pr", "list", folder=clone.folder / ".git", env={"GIT_CONFIG_GLOBAL": str(told)})
    if said.status:  # git 2.38 and later know the setting
        assert "→ git config --global safe.bareRepository all   if it is yours" in said.text


def test_a_push_during_a_rebase_names_the_ways_out(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    clone.devkit("pr", "rebase")
    said = clone.devkit("pr", "push")
    assert said.status == 1
    assert "✗ a rebase is in progress in this checkout\n  → devkit pr continue\n" in said.text


def test_a_fork_that_denies_removals_is_heard(clone: Clone, forge: Forge) -> None:
    git(forge.bare("me/Paddle"), "config", "receive.denyDeletes", "true")
    clone.devkit("pr", "start", "fix")
    clone.commit("Fix", fix_py="1\n")
    clone.devkit("pr", "push")
    before = look(clone)
    said = clone.devkit("pr", "drop", "fix", "--remote", "--yes")
    assert said.status == 1
    assert "✗ fork/fix did not take the push" in said.text
    assert "denying ref deletion" in said.text
    assert differences(before, look(clone)) == []
