"""What the fast checks find in a branch, as pure functions; and nothing in one that is fine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devkit.checks.fast import Branch, Commit, check, covers
from devkit.checks.reading import added_lines, past_files
from devkit.checks.slow import docstrings, failed_hooks, why_it_could_not_run

ME = "me@example.com"
SIGNED = f"Add it\n\nSigned-off-by: Me <{ME}>\n"
COMMIT = Commit("a" * 40, "Add it", SIGNED, "Me", ME)
TEMPLATE = "### PR Category\n<!-- One of … -->\n\n### Description\n<!-- Describe -->\n"
FINE = Branch(
    base="b" * 40,
    base_name="upstream/develop",
    email=ME,
    commits=(COMMIT,),
    elsewhere=frozenset(),
    signed=True,
    added={"src/money.py": {1: "def add(a, b):", 2: "    return a + b"}},
    sizes={"src/money.py": 40},
    names=("src/money.py", "README.md"),
    title="Add it",
    body="### PR Category\nOthers\n\n### Description\nIt adds.\n",
    template=TEMPLATE,
    owners=(),
)


def said(branch: Branch) -> list[tuple[str, str, str]]:
    return [(check_finding.check, check_finding.level, check_finding.message) for check_finding in check(branch)]


def with_lines(file: str, *lines: str) -> Branch:
    return replace(FINE, added={file: dict(enumerate(lines, 1))}, names=(file,))


def test_nothing_is_found_in_a_branch_that_is_fine() -> None:
    assert check(FINE) == []


def test_every_finding_has_the_line_that_mends_it() -> None:
    bad = replace(
        with_lines("aux.h", "<<<<<<< HEAD", "long x;  ", 'token = "ghp_' + "a1" * 18 + '"\r'),
        email="root@machine",
        title="",
        body="",
        sizes={"aux.h": 3 << 20},
        owners=(("*.h", "@them"),),
    )
    found = check(bad)
    assert {check_finding.check for check_finding in found} == {
        "conflict markers", "secrets", "large files", "line endings", "identity", "request", "approvals", "Windows"
    }  # fmt: skip
    assert all(check_finding.hint for check_finding in found)


@pytest.mark.parametrize(
    "line",
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        "key = 'AKIA" + "ABCDEFGHIJKLMNOP'",
        "url = 'https://me:s3cretword@example.com/x'",
        'api_key = "a8f5f167f44f4964e6c998dee827110c"',
        'PASSWORD: "Tr0ub4dor3xTr0ub4dor3"',
        'TOKEN = "hf_' + "Ab3dE" * 7 + '"',
        "id: LTAI" + "5tQ7cDeF9hIjK2mN",
    ],
)
def test_a_secret_is_found_and_not_repeated(line: str) -> None:
    (found,) = [check_finding for check_finding in check(with_lines("a.py", line)) if check_finding.check == "secrets"]
    assert line not in found.message + found.hint


@pytest.mark.parametrize(
    "line",
    [
        "password = os.environ['PASSWORD']",
        "secret = 'see the documentation'",
        "url = f'https://{user}:{password}@host'",
        "sha = 'a8f5f167f44f4964e6c998dee827110c'",
        "def api_key(self) -> str:",
        "https://www.example.com:8080/path@2x.png",
        "aws_access_key_id = AKIAIOSFODNN7EXAMPLE",
        "git clone https://user:password@git.example.com/x.git",
        "export HTTPS_PROXY=http://me:********@proxy:8080",
        'token = "ghp_' + "x" * 36 + '"',
        'token = "ghp_' + "a1" * 18 + '"  # pragma: allowlist secret',
        "url = 'https://me:s3cretword@example.com/x'  # gitleaks:allow",
    ],
)
def test_what_is_no_secret_is_not_found(line: str) -> None:
    assert [
        check_finding for check_finding in check(with_lines("a.py", line)) if check_finding.check == "secrets"
    ] == []


def test_a_key_in_a_test_is_for_a_person_to_look_at() -> None:
    line = "-----BEGIN PRIVATE KEY-----"
    assert [level for _, level, _ in said(with_lines("tests/key.pem", line))] == ["look"]
    assert [level for _, level, _ in said(with_lines("src/key.pem", line))] == ["wrong"]


LOG = f"""\x1e
{"c" * 40}

:000000 100644 {"0" * 40} {"1" * 40} A\ta b.py

diff --git a/a b.py b/a b.py
new file mode 100644
--- /dev/null
+++ b/a b.py
@@ -0,0 +1,2 @@
+++ plus
+url = 'https://me:s3cretword@example.com/x'
\x1e
{"d" * 40}

:000000 100644 {"0" * 40} {"2" * 40} A\tweights.bin

diff --git a/weights.bin b/weights.bin
new file mode 100644
Binary files /dev/null and b/weights.bin differ
"""


def test_what_a_later_commit_took_out_is_in_the_history_still() -> None:
    past = tuple(past_files(LOG, {"2" * 40: 3 << 20}))
    assert [(file.commit[0], file.file, file.size, len(file.lines)) for file in past] == [
        ("c", "a b.py", 0, 2),
        ("d", "weights.bin", 3 << 20, 0),
    ]
    branch = replace(FINE, commits=(COMMIT, replace(COMMIT, oid="c" * 40)), past=past)
    assert [(load.check, load.file, load.hint.split("   ")[0]) for load in check(branch)] == [
        ("secrets", "a b.py", "devkit pr squash"),
        ("large files", "weights.bin", "devkit pr squash"),
    ]
    amended = replace(branch, commits=(COMMIT,))
    assert {load.hint.split("   ")[0] for load in check(amended)} == {"git commit --amend --all --no-edit"}


@pytest.mark.parametrize(
    ("file", "target", "level"),
    [
        ("docs/a", "../README.md", []),
        ("a", "src", []),
        ("a", ".", []),
        ("a", "third_party/x/y.h", []),
        ("a", "../other/README.md", ["wrong"]),
        ("docs/a", "/etc/passwd", ["wrong"]),
        ("a", "build/out.so", ["look"]),
    ],
)
def test_links_lead_into_the_project(file: str, target: str, level: list[str]) -> None:
    branch = replace(FINE, links={file: target}, names=(*FINE.names, "third_party/x"))
    assert [level for check, level, _ in said(branch) if check == "links"] == level


def test_submodules_that_move_and_clones_within_the_clone() -> None:
    moved = {"third_party/x": ("1" * 40, "2" * 40), "third_party/new": ("", "3" * 40), "notes": ("", "4" * 40)}
    branch = replace(FINE, submodules=moved, modules=frozenset({"third_party/x", "third_party/new"}))
    assert said(branch) == [
        ("submodules", "look", "the submodule goes from 1111111111 to 2222222222"),
        ("submodules", "wrong", "it is a clone within this one: others get an empty folder"),
    ]


def test_markers_come_together_and_a_heading_is_none() -> None:
    assert said(with_lines("a.rst", "Title", "=======")) == []
    assert said(with_lines("a.py", "<<<<<<< HEAD", "=======", ">>>>>>> x"))[0][0] == "conflict markers"


def test_commits_that_came_from_elsewhere() -> None:
    merge = replace(COMMIT, oid="c" * 40, merge=True)
    assert said(replace(FINE, commits=(COMMIT, merge))) == [("commits", "look", f"{'c' * 10} Add it is a merge")]
    other = replace(FINE, elsewhere=frozenset({COMMIT.oid}))
    assert said(other) == [("commits", "wrong", f"{'a' * 10} Add it is on another branch already")]


def test_the_sign_off_must_be_there_and_be_the_authors_where_the_project_has_them() -> None:
    bare = replace(FINE, commits=(replace(COMMIT, message="Add it\n"),))
    assert said(bare) == [("identity", "wrong", f"{'a' * 10} has no sign-off, which this project's have")]
    assert said(replace(bare, signed=False)) == []
    other = replace(COMMIT, message="Add it\n\nSigned-off-by: X <x@example.com>\n")
    assert (
        said(replace(FINE, commits=(other,)))[0][2] == f"{'a' * 10} is signed off by x@example.com and written by {ME}"
    )


def test_lines_of_a_file_end_as_the_rest_of_it_does() -> None:
    assert added_lines(["a\r", "b\r", ""], {2}) == {2: "b"}
    assert added_lines(["a", "b\r", ""], {2}) == {2: "b\r"}
    assert added_lines(["a\r", "b\r"], {1, 2}) == {1: "a\r", 2: "b\r"}
    assert said(with_lines("a.py", "x\r"))[0][2] == "CR LF ends 1 line"
    assert said(with_lines("fix.patch", " ", "-x\r")) == []


def test_a_template_in_comments_and_examples_asks_for_no_section() -> None:
    template = "<!--\n# How\nRead.\n-->\n### Description\n```release-note\n# none\n```\n"
    assert said(replace(FINE, template=template, body="### Description\nIt adds.\n")) == []


def test_sections_of_the_template_must_be_there_and_filled() -> None:
    assert said(replace(FINE, body="### PR Category\nOthers\n")) == [
        ("request", "wrong", "its text lacks the section Description")
    ]
    assert said(replace(FINE, body=TEMPLATE.replace("<!-- Describe -->", "It adds."))) == [
        ("request", "wrong", "its section PR Category is empty")
    ]
    paddle = replace(FINE, names=(*FINE.names, "python/paddle/__init__.py"), title="[Docs] Add it")
    assert said(replace(paddle, body="### PR Category\nMagic\n### Description\nx\n"))[0][2].startswith(
        "Magic is not a category: "
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("#include <unistd.h>", True),
        ("long count = 0;", True),
        ("unsigned long count = 0;", True),
        ("int64_t count = 0;  // as long as it takes", False),
        ("long long count = 0;", False),
        ("long double count = 0;", False),
        ('LOG(INFO) << "a long way";', False),
        ("// 注释", True),
        ("/* as long as it takes */ int64_t count = 0;", False),
        (" * a long line of a comment of several", False),
        (" * at last */ long count = 0;", True),
        ("  *place = long(1);", True),
        ('const char* at = "http://long.example.com/*";', False),
        ("ssize_t n = 0;", True),
    ],
)
def test_hazards_of_windows(line: str, found: bool) -> None:
    assert bool(said(with_lines("a.cc", line))) is found


@pytest.mark.parametrize(
    ("pattern", "file", "covered"),
    [
        ("*.py", "a/b.py", True),
        ("/docs/", "docs/a.md", True),
        ("/docs/", "x/docs/a.md", False),
        ("docs/", "x/docs/a.md", True),
        ("/paddle/**/api.h", "paddle/phi/core/api.h", True),
        ("paddle/phi", "paddle/phi/a.cc", True),
        ("/a.*", "a.b.c", True),
        ("/a.*", "ab", False),
    ],
)
def test_patterns_of_owners(pattern: str, file: str, covered: bool) -> None:
    assert covers(pattern, file) is covered


def test_failed_hooks_are_read_with_their_words() -> None:
    text = (
        "Check Yaml...........................................(no files to check)Skipped\n"
        "fix end of files.........................................................Failed\n"
        "- hook id: end-of-file-fixer\n- exit code: 1\n- files were modified by this hook\n\nFixing a.txt\n\n"
        "ruff.....................................................................Failed\n"
        "- hook id: ruff\n- exit code: 1\n\na.py:1:1: F401 `os` imported but unused\n"
        "trim.....................................................................Passed\n"
    )
    assert [(hook.id, hook.said, hook.modified) for hook in failed_hooks(text)] == [
        ("end-of-file-fixer", "Fixing a.txt", True),
        ("ruff", "a.py:1:1: F401 `os` imported but unused", False),
    ]
    silent = "eof.....Failed\n- hook id: eof\n- exit code: 1\n- files were modified by this hook\n"
    assert [hook.said for hook in failed_hooks(silent)] == ["it changed files"]


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        (
            "An error has occurred: InvalidConfigError: \n==> File .pre-commit-config.yaml\n=====> while parsing\n",
            "=====> while parsing",
        ),
        (
            "stderr:\n    fatal: unable to access 'https://h/'\nCheck the log at /x",
            "fatal: unable to access 'https://h/'",
        ),
        ("usage: pre-commit\npre-commit: error: no such\n", "pre-commit: error: no such"),
        ("", "it ended without a word"),
    ],
)
def test_why_pre_commit_could_not_run_is_the_first_true_error(printed: str, why: str) -> None:
    assert why_it_could_not_run(printed) == why


def test_changed_docstrings_with_examples_are_found() -> None:
    text = 'def a():\n    """A.\n\n    >>> a()\n    """\n\n\ndef b():\n    """B.\n\n    >>> b()\n    """\n'
    assert [name for name, _, _ in docstrings(text, frozenset({10}))] == ["b"]
    assert docstrings(text, frozenset({6})) == []
