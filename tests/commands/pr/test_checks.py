"""devkit pr checks, create and list --forge: what the forge's API tells, and what a log does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from devkit.app import App
from devkit.git.command import Commit
from devkit.git.roles import locate
from devkit.pr.checks import judge
from devkit.pr.create import described
from devkit.pr.forge import Check
from devkit.pr.github import GitHub, parse_checks

if TYPE_CHECKING:
    from tests.commands.pr.conftest import Clone, Forge

LOG = "/paddle/a.cc:3:5: error: 'softmax' was not declared in this scope\nninja: build stopped: subcommand failed.\n"


def serve(forge: Forge, path: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    (forge.folder / f"api_repos_project_Paddle_{path.replace('/', '_')}.json").write_text(text)


def environment(forge: Forge) -> dict[str, str]:
    return {"GH_TOKEN": "a-token-of-tests", "DEVKIT_PR_API": f"{forge.address}/api"}


def request(number: int, sha: str, **more: Any) -> dict[str, Any]:
    head = {"ref": "seven", "sha": sha, "repo": {"full_name": "me/Paddle"}}
    base = {"title": "Mend the op", "state": "open", "user": {"login": "me"}, "base": {"ref": "develop"}}
    return {**base, "head": head, "number": number, "html_url": f"https://forge.example/pull/{number}", **more}


@pytest.mark.parametrize(
    ("check", "log", "base", "whose"),
    [
        (Check("CI-Build", "failed"), LOG, {"CI-Build": "passed"}, "yours"),
        (Check("CI-Build", "failed"), LOG, {"CI-Build": "failed"}, "the base's"),
        (Check("CI-Build", "failed"), "write: No space left on device\n", {}, "the machine's"),
        (Check("CI-Build", "cancelled"), "", {}, "the machine's"),
        (
            Check("CI-Approval", "failed"),
            "You must have one of RD (a, b) approval for this change",
            {},
            "an approval is missing",
        ),
        (
            Check("license/cla", "waiting", text="Contributor License Agreement is not signed yet"),
            "",
            {},
            "an approval is missing",
        ),
        (Check("CI-Build", "failed"), "", {}, ""),
    ],
)
def test_whose_a_failure_is(check: Check, log: str, base: dict[str, str], whose: str) -> None:
    assert judge(check, log, base).whose == whose


def test_two_interfaces_of_a_forge_make_one_list() -> None:
    runs = {
        "check_runs": [{"name": "b", "status": "completed", "conclusion": "success"}, {"name": "a", "status": "queued"}]
    }
    statuses = {"statuses": [{"context": "old-ci", "state": "error", "description": "boom", "target_url": "https://x"}]}
    found = parse_checks(runs, statuses)
    assert [(check.name, check.state) for check in found] == [("old-ci", "failed"), ("a", "running"), ("b", "passed")]
    assert parse_checks(None, None) == []


def test_a_failed_check_is_read_and_told(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    serve(forge, "pulls/7", request(7, "1234"))
    page = "https://forge.example/actions/runs/1/job/11"
    runs = [
        {"id": 1, "name": "CI-Build", "status": "completed", "conclusion": "failure", "details_url": page},
        {"id": 2, "name": "CI-Style", "status": "completed", "conclusion": "success"},
    ]
    serve(forge, "commits/1234/check-runs", {"check_runs": runs})
    serve(forge, "actions/jobs/11/logs", LOG)
    said = clone.devkit("pr", "checks", "7", env=environment(forge))
    assert said.status == 4
    assert "CI-Build" in said.text
    assert "'softmax' was not declared in this scope" in said.text
    found = json.loads(clone.devkit("pr", "checks", "7", "--json", env=environment(forge)).text)
    assert [(check["name"], check["state"]) for check in found["checks"]] == [
        ("CI-Build", "failed"),
        ("CI-Style", "passed"),
    ]
    serve(forge, "actions/jobs/11/rerun", "{}")
    assert "running again: CI-Build" in clone.devkit("pr", "checks", "7", "--rerun", env=environment(forge)).text


def test_a_watch_goes_on_until_nothing_runs_though_the_forge_is_silent_once(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    serve(forge, "pulls/7", request(7, "1234"))
    states: list[dict[str, Any]] = [{"status": "in_progress"}, {}, {"status": "completed", "conclusion": "success"}]
    name = "api_repos_project_Paddle_commits_1234_check-runs.json"
    for number, state in enumerate(states):
        answer = {"check_runs": [{"name": "CI-Build", **state}]} if state else None
        (forge.folder / f"{number}").write_text(json.dumps(answer) if answer else "not JSON")
    (forge.folder / "0").replace(forge.folder / name)
    first = (  # instead of a wait: what the forge says next
        "import os, types; import devkit.commands.pr.checks as c; "
        "c.time = types.SimpleNamespace(sleep=lambda _, left=iter(['1', '2']), move=os.replace: "
        f"move('{forge.folder}/' + next(left), '{forge.folder}/{name}'))"
    )
    said = clone.devkit("pr", "checks", "7", "--watch", env={**environment(forge), "FORKS_FIRST": first})
    assert said.status == 0, said.text
    assert said.text.count("1 running, asking again in 30 s") == 2
    assert "did not tell the checks of pr/7" in said.text
    assert "passed" in said.text


def test_a_watch_waits_for_checks_to_begin_but_not_for_ever(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    serve(forge, "pulls/7", request(7, clone.git("rev-parse", "pr/7")))
    serve(forge, f"commits/{clone.git('rev-parse', 'pr/7')}/check-runs", {"check_runs": [], "total_count": 0})
    first = "import types; import devkit.commands.pr.checks as c; c.time = types.SimpleNamespace(sleep=lambda _: None)"
    said = clone.devkit("pr", "checks", "7", "--watch", env={**environment(forge), "FORKS_FIRST": first})
    assert (said.status, said.text.count("none running, asking again")) == (0, 4)
    assert "pr/7 has no checks" in said.text


def test_a_list_of_checks_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    place = locate("https://github.com/project/Paddle")
    github = GitHub(App(), "https://api", place, "project/Paddle", "token")
    runs = [{"name": f"check {number}", "status": "completed", "conclusion": "success"} for number in range(250)]
    runs[249]["conclusion"] = "failure"
    asked = []

    def ask(_self: GitHub, path: str, **_: object) -> object:
        asked.append(path)
        page = int(path.partition("&page=")[2] or 1)
        return {"total_count": 250, "check_runs": runs[100 * page - 100 : 100 * page]} if "check-runs" in path else None

    monkeypatch.setattr(GitHub, "ask", ask)
    found = github.checks("1234")
    assert found is not None
    assert (len(found), found[0].name, found[0].state, len(asked)) == (250, "check 249", "failed", 4)


def test_checks_of_another_commit_than_the_branch_is_at_are_said_to_be(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    head = clone.git("rev-parse", "pr/7")
    serve(forge, "pulls/7", request(7, head))
    serve(forge, f"commits/{head}/check-runs", {"check_runs": [{"name": "CI", "status": "queued"}], "total_count": 1})
    assert "these are of" not in clone.devkit("pr", "checks", env=environment(forge)).text
    tip = clone.commit("Mine", mine_txt="1")
    said = clone.devkit("pr", "checks", env=environment(forge)).text
    assert f"! these are of {head[:10]}, and pr/7 is at {tip[:10]}: devkit pr push pr/7" in said
    serve(forge, "pulls/7", request(7, "1234"))
    serve(forge, "commits/1234/check-runs", {"check_runs": [{"name": "CI", "status": "queued"}], "total_count": 1})
    assert (
        f"and pr/7 is at {tip[:10]}: devkit pr fetch pr/7" in clone.devkit("pr", "checks", env=environment(forge)).text
    )


def test_a_log_that_was_saved_is_read_without_a_token(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    said = clone.devkit("pr", "checks", "7")
    assert said.status == 1
    assert "the checks of pr/7 are known to the forge alone" in said.text
    clone.write("ci.log", LOG)
    said = clone.devkit("pr", "checks", "7", "--log", "CI-Build=ci.log")
    assert said.status == 4
    assert "'softmax' was not declared" in said.text
    assert clone.devkit("pr", "checks", "7", "--log", "ci.log").status == 2


def test_the_open_requests_of_the_forge_are_listed(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    serve(forge, "pulls", [request(7, "1234"), request(12, "5678", title="Another", draft=True)])
    found = json.loads(clone.devkit("pr", "list", "--forge", "--json", env=environment(forge)).text)
    assert [(one["number"], one["state"], one["branch"]) for one in found] == [(7, "open", "pr/7"), (12, "draft", None)]
    assert "Another" in clone.devkit("pr", "list", "--forge", env=environment(forge)).text


def commit(message: str) -> Commit:
    return Commit("1" * 40, message.split("\n", maxsplit=1)[0], message, "me", 0, ())


def overview(number: int, sha: str, **more: Any) -> dict[str, Any]:
    commit = {"commit": {"statusCheckRollup": {"state": "FAILURE"}}}
    return {
        "number": number,
        "title": "Mend the op",
        "state": "OPEN",
        "isDraft": False,
        "url": f"https://forge.example/pull/{number}",
        "reviewDecision": "CHANGES_REQUESTED",
        "author": {"login": "me"},
        "baseRefName": "develop",
        "headRefName": "seven",
        "headRefOid": sha,
        "headRepository": {"nameWithOwner": "me/Paddle"},
        "commits": {"nodes": [commit]},
        **more,
    }


def test_lists_ask_once_for_reviews_and_checks_too(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7", "8")
    env = {**environment(forge), "COLUMNS": "200"}
    gone = overview(12, "2", isDraft=True, reviewDecision=None, author=None, headRepository=None, commits={"nodes": []})
    rows = {"r7": overview(7, "1"), "r8": None, "requests": {"nodes": [overview(7, "1"), gone]}}
    (forge.folder / "POST_api_graphql.json").write_text(json.dumps({"data": {"repository": rows}, "errors": [{}]}))
    said = clone.devkit("pr", "list", env=env)
    assert "open, changes requested, checks failed" in said.text, said.text
    found = json.loads(clone.devkit("pr", "list", "--json", env=env).text)
    assert [(one["number"], one["state"], one["checks"]) for one in found if one["number"]] == [
        (7, "open", "failed"),
        (8, None, None),
    ]
    found = json.loads(clone.devkit("pr", "list", "--forge", "--json", env=env).text)
    assert [(one["number"], one["state"], one["review"], one["checks"], one["author"]) for one in found] == [
        (7, "open", "changes requested", "failed", "me"),
        (12, "draft", None, None, ""),
    ]
    asked = [line for line in forge.requests() if "/api/" in line]
    assert len(asked) == 3
    assert all(line.startswith("POST ") for line in asked)


def test_what_a_check_says_at_length_is_read_where_there_is_no_log(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    serve(forge, "pulls/7", request(7, "1234"))
    output = {"title": "build", "summary": "The build failed.", "text": LOG}
    run = {"id": 1, "name": "gate", "status": "completed", "conclusion": "failure", "output": output}
    serve(forge, "commits/1234/check-runs", {"check_runs": [run]})
    said = clone.devkit("pr", "checks", "7", env=environment(forge))
    assert said.status == 4
    assert "gate, line 2 of what the check says: /paddle/a.cc:3:5: error: 'softmax' was not" in said.text, said.text


def test_a_template_is_filled_from_the_commits() -> None:
    template = "### PR Category\n<!-- one of -->\n### Description\n<!-- describe it -->\n### 是否引起精度变化\n否\n"
    filled = described(template, [commit("Second"), commit("First\n\nWhy.")])
    assert filled == "### PR Category\n<!-- one of -->\n### Description\n- First\n- Second\n### 是否引起精度变化\n否\n"
    assert described("", [commit("First\n\nWhy.")]) == "Why."
    assert described("Say it.", [commit("First\n\nWhy.")]) == "Why.\n\nSay it."


def test_a_request_is_opened_from_what_was_pushed(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix the op", fix_txt="1")
    said = clone.devkit("pr", "create")
    assert said.status == 1
    assert "→ devkit pr push fix" in said.text
    clone.devkit("pr", "push")
    said = clone.devkit("pr", "create")
    assert said.status == 0
    assert "me:fix into develop: Fix the op" in said.text
    plan = clone.devkit("pr", "create", "--dry-run", "--yes", env=environment(forge))
    assert "/repos/project/Paddle/pulls" in plan.text
    serve(forge, "pulls", request(13, "1"))
    said = clone.devkit("pr", "create", "--yes", env=environment(forge))
    assert "✓ opened 13: Fix the op" in said.text


def test_the_bases_template_is_taken_whatever_its_name(clone: Clone, forge: Forge) -> None:
    files: dict[str, str | None] = {
        ".github/PULL_REQUEST_TEMPLATE/one.md": "One of several",
        "docs/Pull_Request_Template": "## Why",
    }
    forge.commit("project/Paddle", "refs/heads/develop", "Templates", files)
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix the op\n\nIt was broken.", fix_txt="1")
    clone.git("fetch", "-q", "upstream")
    clone.devkit("pr", "push")
    said = clone.devkit("pr", "create", "--dry-run").text
    assert "It was broken.\n\n## Why" in said
    assert "One of several" not in said


def test_how_reviewers_stand_is_told(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    serve(forge, "pulls/7", request(7, "1234"))
    reviews = [
        {"state": "APPROVED", "user": {"login": "ann"}},
        {"state": "CHANGES_REQUESTED", "user": {"login": "bo"}},
        {"state": "COMMENTED", "user": {"login": "bo"}},
    ]
    serve(forge, "pulls/7/reviews", reviews)
    serve(forge, "commits/1234/check-runs", {"check_runs": []})
    env = environment(forge)
    assert "open, changes requested by bo" in clone.devkit("pr", "list", env={**env, "COLUMNS": "200"}).text
    found = json.loads(clone.devkit("pr", "checks", "7", "--json", env=env).text)
    assert found["review"] == "changes requested by bo"
    serve(forge, "pulls/7/reviews", [*reviews, {"state": "APPROVED", "user": {"login": "bo"}}])
    rows = json.loads(clone.devkit("pr", "list", "--json", env=env).text)
    assert [row["review"] for row in rows if row["number"] == 7] == ["approved"]
