"""GitLab of one's own, nested groups included, and Gitee: their refs, pages and APIs, as their documentation has them.

Neither runs here: the answers are written by hand after GitLab's REST API (version 4) and Gitee's (version 5).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devkit.git.roles import forge_kind, repository_path
from devkit.pr.gitlab import parse_statuses, review_of
from devkit.pr.pages import Opening, opening_page
from tests.commands.pr.random_clones import git

if TYPE_CHECKING:
    from tests.commands.pr.conftest import Clone, Forge

LOG = "/paddle/a.cc:3:5: error: 'softmax' was not declared in this scope\nninja: build stopped: subcommand failed.\n"
TOKEN = "a-token-of-tests"  # noqa: S105 - of the server of these tests


def serve(forge: Forge, path: str, value: Any, *, post: bool = False) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    name = f"api_{path.replace('/', '_')}.json"
    (forge.folder / (f"POST_{name}" if post else name)).write_text(text)


def asked(forge: Forge, method: str) -> list[str]:
    return [line for line in forge.requests() if line.startswith(f"{method} ") and "/api/" in line]


def gitlab(forge: Forge) -> dict[str, str]:
    return {"GITLAB_TOKEN": TOKEN, "DEVKIT_PR_API": f"{forge.address}/api/v4", "GH_TOKEN": "not-for-this-forge"}


def gitee(forge: Forge) -> dict[str, str]:
    return {"GITEE_TOKEN": TOKEN, "DEVKIT_PR_API": f"{forge.address}/api/v5", "GH_TOKEN": "not-for-this-forge"}


@pytest.fixture
def merge_requests(forge: Forge) -> Forge:
    """The forge with GitLab's names of refs; its paths are below the folder that it is at, as a GitLab's may be."""
    bare = forge.bare("project/Paddle")
    git(bare, "update-ref", "refs/merge-requests/7/head", "refs/pull/7/head")
    git(bare, "update-ref", "-d", "refs/pull/7/head")
    return forge


def merge_request(forge: Forge, sha: str, **more: Any) -> dict[str, Any]:
    return {
        "iid": 7,
        "title": "Mend the op",
        "state": "opened",
        "draft": False,
        "author": {"username": "me"},
        "source_branch": "seven",
        "target_branch": "develop",
        "source_project_id": 2,
        "target_project_id": 1,
        "sha": sha,
        "web_url": f"{forge.address}/project/Paddle/-/merge_requests/7",
        **more,
    }


def test_the_kind_of_a_forge_is_told_by_its_host_or_its_api() -> None:
    assert forge_kind("gitlab.example") == "gitlab"
    assert forge_kind("code.example", "https://code.example/api/v4/") == "gitlab"
    assert forge_kind("gitee.com") == "gitee"
    assert forge_kind("github.com") == "github"
    assert forge_kind("gitlab.example", "https://ghe.example/api/v3") == "github"
    assert repository_path("gitlab", "git@gitlab.example:group/sub/Paddle.git") == "group/sub/Paddle"
    assert repository_path("gitlab", "https://code.example/gitlab/group/Paddle", "gitlab") == "group/Paddle"


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("github", "https://h/p/Paddle/compare/develop...me:a%20b?expand=1&title=T%26&body=B"),
        (
            "gitlab",
            (
                "https://h/me/Paddle/-/merge_requests/new?merge_request%5Bsource_branch%5D=a%20b"
                "&merge_request%5Btarget_branch%5D=develop&merge_request%5Btitle%5D=T%26&merge_request%5Bdescription%5D=B"
            ),
        ),
        ("gitee", "https://h/p/Paddle/pull/new/me:a%20b...p:develop"),
    ],
)
def test_the_page_that_opens_a_request(kind: Any, page: str) -> None:
    opening = Opening("me/Paddle", "a b", "p/Paddle", "develop")
    assert opening_page(kind, "h", opening, "T&", "B") == page
    assert len(opening_page(kind, "h", opening, "T&", "B" * 9000)) < 400


def test_gitlabs_statuses_and_reviewers_are_read() -> None:
    rows = [
        {"id": 5, "name": "lint", "status": "failed", "allow_failure": True, "target_url": "https://h/p/-/jobs/5"},
        {"id": 6, "name": "build", "status": "failed", "target_url": "https://h/p/-/jobs/6"},
        {"id": 7, "name": "deploy", "status": "manual", "target_url": "https://ci.example/run/-/jobs/6"},
        {"id": 8, "name": "test", "status": "pending"},
    ]
    found = parse_statuses(rows, "p")
    assert [(check.name, check.state, check.job) for check in found] == [
        ("build", "failed", "6"),
        ("deploy", "waiting", ""),
        ("test", "running", ""),
        ("lint", "skipped", "5"),
    ]
    assert review_of([{"user": {"username": "bo"}, "state": "requested_changes"}], {"approved": True}) == (
        "changes requested by bo"
    )
    assert review_of([], {"approved": True, "approved_by": [{"user": {"username": "ann"}}]}) == "approved"
    assert review_of(None, {"approved": True, "approved_by": []}) == ""


def test_a_gitlab_of_ones_own(clone: Clone, merge_requests: Forge) -> None:
    forge, env = merge_requests, gitlab(merge_requests)
    project, fork = "project%2FPaddle", "me%2FPaddle"
    said = clone.devkit("pr", "fetch", "!7", env=env)
    assert "✓ pr/7  2 commits" in said.text, said.text
    page = f"{forge.address}/project/Paddle/-/merge_requests/7/diffs"
    assert "up to date" in clone.devkit("pr", "fetch", page).text
    head = clone.git("rev-parse", "pr/7")
    at = f"v4/projects/{project}"
    serve(forge, f"{at}/merge_requests/7", merge_request(forge, head))
    serve(forge, "v4/projects/2", {"id": 2, "path_with_namespace": "me/Paddle"})
    serve(forge, f"{at}/merge_requests/7/reviewers", [])
    serve(forge, f"{at}/merge_requests/7/approvals", {"approved": True, "approved_by": [{"user": {}}]})
    serve(forge, f"{at}/repository/commits/{head}/statuses", [])
    job = {"id": 11, "name": "build", "status": "failed", "target_url": f"{forge.address}/me/Paddle/builds/11"}
    serve(forge, f"v4/projects/{fork}/repository/commits/{head}/statuses", [job])
    serve(forge, f"v4/projects/{fork}/jobs/11/trace", LOG)
    said = clone.devkit("pr", "checks", "7", env=env)
    assert (said.status, "'softmax' was not declared" in said.text, "approved" in said.text) == (4, True, True)
    serve(forge, f"v4/projects/{fork}/jobs/11/retry", {"id": 12}, post=True)
    assert "running again: build" in clone.devkit("pr", "checks", "7", "--rerun", env=env).text
    merged = "a" * 40  # what a pipeline of the merge with the base ran on
    serve(forge, f"{at}/merge_requests/7", merge_request(forge, head, head_pipeline={"id": 1, "sha": merged}))
    serve(forge, f"{at}/repository/commits/{merged}/statuses", [{"id": 12, "name": "test", "status": "success"}])
    found = json.loads(clone.devkit("pr", "checks", "7", "--json", env=env).text)
    assert [(one["name"], one["state"]) for one in found["checks"]] == [("test", "passed"), ("build", "failed")]
    serve(forge, f"{at}/merge_requests", [merge_request(forge, head), merge_request(forge, head, iid=12, draft=True)])
    found = json.loads(clone.devkit("pr", "list", "--forge", "--json", env=env).text)
    assert [(one["number"], one["state"], one["branch"]) for one in found] == [(7, "open", "pr/7"), (12, "draft", None)]
    git(forge.bare("me/Paddle"), "fetch", "-q", str(forge.bare("project/Paddle")), "refs/merge-requests/7/head:seven")
    clone.git("commit", "-q", "--allow-empty", "-m", "Answer")
    said = clone.devkit("pr", "push", env=env)
    assert "✓ pr/7 → fork/seven: pushed" in said.text, said.text
    assert {line.split()[2] for line in asked(forge, "GET")} == {TOKEN}


def test_a_merge_request_is_opened_in_the_fork_and_names_the_project(clone: Clone, merge_requests: Forge) -> None:
    forge, env = merge_requests, gitlab(merge_requests)
    project, fork = "project%2FPaddle", "me%2FPaddle"
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix the op", fix_txt="1")
    assert clone.devkit("pr", "push", env=env).status == 0
    page = clone.devkit("pr", "create", env=env).text
    assert "/me/Paddle/-/merge_requests/new?merge_request%5Bsource_branch%5D=fix" in page.replace("\n", "")
    serve(forge, f"v4/projects/{project}", {"id": 1})
    serve(forge, f"v4/projects/{fork}/merge_requests", merge_request(forge, "1", iid=13), post=True)
    said = clone.devkit("pr", "create", "--yes", "--draft", env=env)
    assert "✓ opened 13: Fix the op" in said.text, said.text
    (line,) = asked(forge, "POST")
    assert json.loads(line.split(" ", 3)[3]) == {
        "source_branch": "fix",
        "target_branch": "develop",
        "target_project_id": 1,
        "title": "Draft: Fix the op",
        "description": "",
    }


def pull(sha: str, **more: Any) -> dict[str, Any]:
    head = {"label": "me:seven", "ref": "seven", "sha": sha, "repo": {"full_name": "me/Paddle"}}
    base = {"title": "Mend the op", "state": "open", "user": {"login": "me"}, "base": {"ref": "develop"}, "number": 7}
    return {**base, "head": head, "html_url": "https://gitee.example/project/Paddle/pulls/7", **more}


def test_gitee(clone: Clone, forge: Forge) -> None:
    env, at = gitee(forge), "v5/repos/project/Paddle"
    assert "✓ pr/7  2 commits" in clone.devkit("pr", "fetch", f"{forge.address}/project/Paddle/pulls/7", env=env).text
    head = clone.git("rev-parse", "pr/7")
    reviewers = [{"login": "bo", "accept": True}, {"login": "ann", "accept": False}]
    serve(forge, f"{at}/pulls/7", pull(head, assignees=reviewers, assignees_number="1"))
    said = clone.devkit("pr", "checks", "7", env=env)
    assert said.status == 1
    assert "did not tell the checks of pr/7" in said.text
    assert "--log NAME=FILE" in said.text
    assert TOKEN not in clone.devkit("pr", "checks", "7", "-v", env=env).text
    run = {"id": 3, "name": "gate", "status": "completed", "conclusion": "failure"}
    serve(forge, f"{at}/commits/{head}/check-runs", {"total_count": 1, "check_runs": [run]})
    said = clone.devkit("pr", "checks", "7", "--rerun", env=env)
    assert said.status == 4
    assert "approved" in said.text
    assert "the forge's API did not start again: gate" in said.text
    serve(forge, f"{at}/pulls", [pull(head, assignees=reviewers, assignees_number=0)])
    rows = json.loads(clone.devkit("pr", "list", "--forge", "--json", env=env).text)
    assert [(row["number"], row["head"], row["branch"]) for row in rows] == [(7, "me/Paddle:seven", "pr/7")]
    assert rows[0]["review"] is None  # with no number asked for, all must have accepted
    assert {line.split()[2] for line in asked(forge, "GET")} == {"-"}
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix the op", fix_txt="1")
    assert clone.devkit("pr", "push", env=env).status == 0
    page = "/pull/new/me:fix...project:develop"
    assert page in clone.devkit("pr", "create", env=env).text.replace("\n", "")
    serve(forge, f"{at}/pulls", pull("1", number=13), post=True)
    assert "✓ opened 13" in clone.devkit("pr", "create", "--yes", env=env).text
    (line,) = asked(forge, "POST")
    sent = json.loads(line.split(" ", 3)[3])
    assert (sent["head"], sent["base"], sent["access_token"]) == ("me:fix", "develop", TOKEN)
    runs = Path(clone.state) / "devkit" / "runs"
    assert all(TOKEN not in file.read_text(errors="replace") for file in runs.rglob("*") if file.is_file())


def test_gitee_names_the_merge_of_a_request_otherwise(clone: Clone, forge: Forge) -> None:
    git(forge.bare("project/Paddle"), "update-ref", "refs/pull/7/MERGE", "refs/pull/7/head")
    for _ in range(2):
        said = clone.devkit("pr", "fetch", "7", "--merge", env=gitee(forge))
        assert "✓ pr/7-merge" in said.text, said.text
    assert "up to date" in said.text


def test_without_a_token_it_says_which_and_asks_nothing(clone: Clone, forge: Forge) -> None:
    for env, name in ((gitlab(forge), "GITLAB_TOKEN"), (gitee(forge), "GITEE_TOKEN")):
        said = clone.devkit("pr", "list", "--forge", env={**env, name: ""})
        assert said.status == 1
        assert f"→ read -rs {name} && export {name}" in said.text
    assert not [line for line in forge.requests() if "/api/" in line]
