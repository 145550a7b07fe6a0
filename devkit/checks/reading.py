"""Reading a branch for the checks: by git, and from the project's own files."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from devkit.builds import changes
from devkit.builds.checkout import git
from devkit.checks.fast import LARGE, Branch, Commit, PastFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
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
LINK, SUBMODULE = "120000", "160000"
PATCHES = (
    "-c", "core.quotePath=false", "log", "--no-merges", "--format=%x1e%n%H", "--patch-with-raw", "-U0", "--no-abbrev",
    "--inter-hunk-context=0", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--no-relative",
    "--ignore-submodules=all", "--diff-filter=AM",
)  # fmt: skip


def read(app: App, root: Path, base: changes.Base, *, title: str, body: Path | None) -> Branch:
    """Return the branch that is checked out in a folder, with its uncommitted work."""
    commits = _commits(app, root, base.commit)
    there = set(git(app.runner, root, "ls-tree", "-r", "--name-only", "-z", base.commit).text.split("\0"))
    added: dict[str, Mapping[int, str]] = {}
    sizes = {}
    for file, changed in changes.lines(app.runner, root, base.commit, ()).items():
        path = root / file
        if path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        if file not in there:
            sizes[file] = len(data)
        rows = [] if b"\0" in data[:8192] else data.decode("utf-8", "replace").split("\n")
        added[file] = added_lines(rows, changed)
    names = git(app.runner, root, "ls-files", "-z", "-co", "--exclude-standard").text.split("\0")
    links, submodules = _not_files(app, root, base.commit)
    return Branch(
        base.commit,
        base.name if "/" in base.name else base.commit[:10],
        git(app.runner, root, "config", "user.email", check=False).text.strip()
        or os.environ.get("GIT_AUTHOR_EMAIL", ""),
        commits,
        frozenset(_elsewhere(app, root, base)),
        _signed(app, root, base.commit),
        added,
        sizes,
        tuple(dict.fromkeys(filter(None, names))),  # a file in conflict is listed once a side
        title or (commits[-1].subject if commits else ""),
        body.read_text("utf-8", "replace") if body else None,
        next((_text(root / template) for template in TEMPLATES if (root / template).is_file()), ""),
        tuple(_owners(root)),
        frozenset(changes.untracked(app.runner, root)),
        str(body or ""),
        tuple(_past(app, root, base.commit, added)),
        links,
        submodules,
        frozenset(re.findall(r"^\s*path\s*=\s*(.+?)\s*$", _text(root / ".gitmodules"), re.MULTILINE)),
    )


def _commits(app: App, root: Path, base: str) -> tuple[Commit, ...]:
    log = ("log", f"--format={RECORD}%H{FIELD}%P{FIELD}%an{FIELD}%ae{FIELD}%s{FIELD}%B", f"{base}..HEAD", "--")
    found = []
    for record in git(app.runner, root, *log).text.split(RECORD)[1:]:
        oid, parents, author, email, subject, message = record.split(FIELD, 5)
        found.append(Commit(oid, subject, message, author, email, " " in parents))
    return tuple(found)


def _signed(app: App, root: Path, base: str) -> bool:
    """Tell whether most of the commits before the branch carry a sign-off."""
    line = ("log", f"-{LOOKED_BACK}", "--no-merges", "--format=%(trailers:key=Signed-off-by)%x1e", base, "--")
    old = git(app.runner, root, *line).text.split(RECORD)[:-1]
    return bool(old) and sum("Signed-off-by" in word for word in old) * 2 > len(old)


def _not_files(app: App, root: Path, base: str) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Return the symbolic links and the submodules that the branch adds or changes, as they are in the index."""
    line = ("diff", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-relative", "--diff-filter=AMT",
            "--ignore-submodules=none", base, "--")  # fmt: skip
    words = git(app.runner, root, *line).text.split("\0")
    links, submodules = {}, {}
    for fields, file in zip(words[::2], words[1::2], strict=False):
        old_mode, mode, old, new, _ = fields.removeprefix(":").split()
        if mode == LINK:
            links[file] = git(app.runner, root, "cat-file", "blob", new).text
        elif mode == SUBMODULE:
            submodules[file] = (old if old_mode == SUBMODULE else "", new)
    return links, submodules


def _past(app: App, root: Path, base: str, added: Mapping[str, Mapping[int, str]]) -> Iterator[PastFile]:
    """Yield what commits of the branch added to files, and later ones removed."""
    only = (f"--filter=blob:limit={LARGE + 1}", "--filter-print-omitted")
    listed = git(app.runner, root, "rev-list", "--objects", *only, f"{base}..HEAD", "--").text.splitlines()
    sizes = {row[1:]: int(git(app.runner, root, "cat-file", "-s", row[1:]).text) for row in listed if row[0] == "~"}
    for past in past_files(git(app.runner, root, *PATCHES, f"{base}..HEAD", "--").text, sizes):
        now = set(added.get(past.file, {}).values())
        lines = tuple(line for line in past.lines if line not in now)
        if lines or past.size:
            yield replace(past, lines=lines)


def past_files(log: str, sizes: Mapping[str, int]) -> Iterator[PastFile]:
    """Yield what ``PATCHES`` tells of each commit and file; without context, a line of a file begins with a sign.

    Args:
        log: what git printed.
        sizes: large blob → its size.
    """
    for record in re.split(rf"^{RECORD}\n", log, flags=re.MULTILINE)[1:]:
        head, *patches = re.split(r"^diff --git ", record, flags=re.MULTILINE)
        commit, *raw = head.splitlines()
        files = [(row.split()[3], row.partition("\t")[2]) for row in raw if row.startswith(":")]
        for (blob, file), patch in zip(files, patches, strict=False):
            rows = re.findall(r"^\+(.*)$", patch.partition("\n@@")[2], re.MULTILINE)
            yield PastFile(
                commit, file, sizes.get(blob, 0), tuple(row.removesuffix("\r")[:LONGEST_LINE] for row in rows)
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
