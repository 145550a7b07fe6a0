"""Reading a branch for the checks: by git, and from the project's own files."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from devkit.builds import changes
from devkit.builds.checkout import git
from devkit.checks.fast import Branch, Commit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from devkit.app import App

TEMPLATES = (
    ".github/PULL_REQUEST_TEMPLATE.md",
    ".github/pull_request_template.md",
    "PULL_REQUEST_TEMPLATE.md",
    "docs/PULL_REQUEST_TEMPLATE.md",
)
OWNERS = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
APPROVALS = "tools/check_file_diff_approvals.sh"
LOOKED_BACK = 50
RECORD, FIELD = "\x1e", "\x1f"
LONGEST_LINE = 4000


def read(app: App, root: Path, base: changes.Base, *, title: str, body: Path | None) -> Branch:
    """Return the branch that is checked out in a folder, with its uncommitted work."""
    log = ("log", f"--format={RECORD}%H{FIELD}%P{FIELD}%an{FIELD}%ae{FIELD}%s{FIELD}%B", f"{base.commit}..HEAD", "--")
    commits = []
    for record in git(app.runner, root, *log).text.split(RECORD)[1:]:
        oid, parents, author, email, subject, message = record.split(FIELD, 5)
        commits.append(Commit(oid, subject, message, author, email, " " in parents))
    numbers = changes.lines(app.runner, root, base.commit, ())
    loose = frozenset(changes.untracked(app.runner, root))
    added: dict[str, Mapping[int, str]] = {}
    sizes = {}
    there = set(git(app.runner, root, "ls-tree", "-r", "--name-only", "-z", base.commit).text.split("\0"))
    for file, changed in numbers.items():
        path = root / file
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        if file not in there:
            sizes[file] = len(data)
        if b"\0" in data[:8192]:
            added[file] = {}
            continue
        rows = data.decode("utf-8", "replace").split("\n")
        added[file] = added_lines(rows, changed)
    names = git(app.runner, root, "ls-files", "-z", "-co", "--exclude-standard").text.split("\0")
    old = git(app.runner, root, "log", f"-{LOOKED_BACK}", "--no-merges", "--format=%(trailers:key=Signed-off-by)%x1e",
              base.commit, "--").text.split(RECORD)[:-1]  # fmt: skip
    signed = bool(old) and sum("Signed-off-by" in word for word in old) * 2 > len(old)
    return Branch(
        base.commit,
        base.name if "/" in base.name else base.commit[:10],
        git(app.runner, root, "config", "user.email", check=False).text.strip()
        or os.environ.get("GIT_AUTHOR_EMAIL", ""),
        tuple(commits),
        frozenset(_elsewhere(app, root, base)),
        signed,
        added,
        sizes,
        tuple(dict.fromkeys(filter(None, names))),  # a file in conflict is listed once a side
        title or (commits[-1].subject if commits else ""),
        body.read_text("utf-8", "replace") if body else None,
        next((_text(root / template) for template in TEMPLATES if (root / template).is_file()), ""),
        tuple(_owners(root)),
        loose,
        str(body or ""),
    )


def added_lines(rows: list[str], changed: Collection[int]) -> dict[int, str]:
    """Return the changed lines of a file, by number; in one whose other lines end in CR LF, they should."""
    returns = any(row.endswith("\r") for number, row in enumerate(rows, 1) if number not in changed)
    return {
        number: rows[number - 1].removesuffix("\r" if returns else "")[:LONGEST_LINE]
        for number in sorted(changed)
        if number <= len(rows)
    }


def _elsewhere(app: App, root: Path, base: changes.Base) -> list[str]:
    """Return commits of the branch whose change the base branch has, under this name or another."""
    name = f"refs/remotes/{base.name}"
    if git(app.runner, root, "rev-parse", "--verify", "--quiet", name, check=False).status:
        return []
    said = git(app.runner, root, "cherry", name, "HEAD", base.commit, check=False).text
    return [row[2:] for row in said.splitlines() if row.startswith("- ")]


def _owners(root: Path) -> list[tuple[str, str]]:
    found = []
    for name in OWNERS:
        for row in _text(root / name).splitlines():
            words = row.partition("#")[0].split()
            if len(words) > 1:
                found.append((words[0], " ".join(words[1:])))
    match = re.search(r"API_FILES=\((.*?)\)", _text(root / APPROVALS), re.DOTALL)
    named = re.findall(r'"([^"]+)"', match[1]) if match else []
    return found + [(f"/{file}", f"those whom {APPROVALS} names") for file in named]


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""
