"""The checks that need nothing but git: each is a pure function of the branch as it was read."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from devkit.checks.finding import CheckFinding, edit
from devkit.checks.secrets import PRIVATE_KEY, secret_in
from devkit.text import counted, size
from devkit.tryout.file_kinds import belongs_to_tests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LARGE = 1 << 20
SQUASH = "devkit pr squash"
TITLE_LENGTH = 100
LONGEST_PATH = 200
CATEGORIES = (
    "User Experience", "Execute Infrastructure", "Operator Mechanism", "CINN", "Custom Device",
    "Performance Optimization", "Distributed Strategy", "Parameter Server", "Communication Library", "Auto Parallel",
    "Inference", "Environment Adaptation", "Others",
)  # fmt: skip
MARKERS = re.compile(r"^(?:<{7} |>{7} |\|{7} )|^={7}$")
LOCAL_HOST = re.compile(r"@(?:localhost|[^.@]+|.*\.(?:local|localdomain|lan))$", re.IGNORECASE)
DEVICES = re.compile(r"(?i)^(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?$")
PATCHES = (".patch", ".diff")
COMMENT = re.compile(r"//.*|/\*.*?(?:\*/|$)|^\s*\*(?:\s.*?)?(?:\*/|$)")
"""Of C++, in one line: one that begins with a star stands within a comment of several."""
CXX = (".cc", ".cpp", ".cu", ".h", ".hpp", ".cuh", ".kps")
WINDOWS = (
    (
        re.compile(r"#include\s*<(?:unistd|sys/(?:time|mman|socket|stat|wait)|dirent|dlfcn|pthread)\.h>"),
        "a header of POSIX",
    ),
    (re.compile(r"__attribute__\s*\(\("), "__attribute__ is GCC's: MSVC has __declspec"),
    (
        re.compile(r"\b(?:unsigned\s+)?long\b(?!\s+(?:long|double))(?<!long long)"),
        "long has 32 bits there: int64_t",
    ),
    (re.compile(r"\bssize_t\b"), "ssize_t is POSIX's: int64_t or ptrdiff_t"),
    (re.compile(r"\b__builtin_\w+\("), "a builtin of GCC"),
    (re.compile(r"\b(?:M_PI|M_E|M_SQRT2)\b"), "M_PI and the like want _USE_MATH_DEFINES under MSVC"),
)


@dataclass(frozen=True)
class Commit:
    """A commit of the branch."""

    oid: str
    subject: str
    message: str
    author: str
    email: str
    merge: bool = False


@dataclass(frozen=True)
class PastFile:
    """What a commit of the branch added to a file, and a later one removed: the history keeps it.

    Attributes:
        size: of the file then, in bytes; 0 where it was not large.
        lines: those that were removed since.
    """

    commit: str
    file: str
    size: int = 0
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Branch:
    """A branch as it was read, with the work that is not committed.

    Attributes:
        base: where it left the base branch.
        base_name: the base branch, as a person says it.
        email: what git's user.email is; empty where it is not set.
        commits: since the base, the newest first.
        elsewhere: commits of it that the base branch has under another name, or that another remote branch holds.
        signed: whether the project's commits carry a sign-off.
        added: file → its added lines, by number; without their carriage returns where the rest of the file has them.
        sizes: file that was added → its size in bytes.
        names: every file's name of the tree.
        title: of the request.
        body: of the request; None where it was not given.
        template: the project's template for it; empty where there is none.
        owners: patterns of files and who must approve them.
        untracked: files that are in no commit yet, and not in the index.
        body_file: where ``body`` was read.
        past: what its commits hold beside that.
        links: symbolic link that the branch adds → where it leads.
        submodules: path → commits before and after, of those that the branch moves; the first is empty of a new one.
        modules: paths of submodules that .gitmodules names.
    """

    base: str
    base_name: str
    email: str
    commits: tuple[Commit, ...]
    elsewhere: frozenset[str]
    signed: bool
    added: Mapping[str, Mapping[int, str]]
    sizes: Mapping[str, int]
    names: tuple[str, ...]
    title: str
    body: str | None
    template: str
    owners: tuple[tuple[str, str], ...]
    untracked: frozenset[str] = frozenset()
    body_file: str = ""
    past: tuple[PastFile, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    submodules: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()

    @property
    def paddle(self) -> bool:
        """Whether it is a tree of Paddle."""
        return "python/paddle/__init__.py" in self.names


def without_removed(branch: Branch) -> str:
    """Return the command that rewrites the branch's history without what a later commit removed."""
    line = "git commit --amend --all --no-edit" if len(branch.commits) < 2 else SQUASH  # noqa: PLR2004 - nothing to squash
    return f"{line}   leaves it out of the history"


def conflict_markers(branch: Branch) -> Iterable[CheckFinding]:
    """Yield lines that git left of a merge."""
    for file, lines in branch.added.items():
        rows = [number for number, row in lines.items() if MARKERS.match(row)]
        # A row of = alone is a heading in some languages; markers come together.
        if any(not lines[number].startswith("=") for number in rows):
            yield CheckFinding(
                "conflict markers", "wrong", "a merge's markers are left", edit(file, rows[0]), file, rows[0]
            )


def large_files(branch: Branch) -> Iterable[CheckFinding]:
    """Yield files that stay in the history of every clone."""
    for file, held in branch.sizes.items():
        if held > LARGE:
            line = f"git rm --cached -- {shlex.quote(file)} && git commit -m 'Leave it out' && {SQUASH}"
            if file in branch.untracked:
                line = f"echo {shlex.quote(f'/{file}')} >> .git/info/exclude"
            elif len(branch.commits) < 2:  # noqa: PLR2004 - nothing to squash: the one commit is made anew
                line = f"git rm --cached -- {shlex.quote(file)} && git commit --amend --no-edit"
            yield CheckFinding("large files", "wrong", f"{size(held)} would stay in every clone", line, file)
    for past in branch.past:
        if past.size > LARGE and (past.file in branch.untracked or past.file not in branch.sizes):
            text = f"{size(past.size)} would stay in every clone: {past.commit[:10]} holds it"
            yield CheckFinding("large files", "wrong", text, without_removed(branch), past.file)


def secrets(branch: Branch) -> Iterable[CheckFinding]:
    """Yield what looks like a credential; what it says is never repeated. A test may well have a key of its own."""
    for file, lines in branch.added.items():
        for number, row in lines.items():
            what = secret_in(row, lines.get(number - 1, ""))
            known = "" if file in branch.untracked else "   then revoke it: it may be in the history"
            hint = f"{edit(file, number)}{known}"
            if what == PRIVATE_KEY and belongs_to_tests(file):
                yield CheckFinding("secrets", "look", f"{what}, in a test: was it made for that?", hint, file, number)
            elif what:
                yield CheckFinding("secrets", "wrong", what, hint, file, number)
    for past in branch.past:
        for what in dict.fromkeys(filter(None, map(secret_in, past.lines))):
            text = f"{what} is in {past.commit[:10]} still, and a push takes that along"
            yield CheckFinding("secrets", "wrong", text, f"{without_removed(branch)}; then revoke it", past.file)


def whitespace(branch: Branch) -> Iterable[CheckFinding]:
    """Yield carriage returns in files that have none else, and blanks at ends of lines; a patch has both."""
    for file, lines in branch.added.items():
        if file.endswith(PATCHES):
            continue
        returns = [number for number, row in lines.items() if row.endswith("\r")]
        if returns and not file.endswith((".bat", ".cmd", ".ps1")):
            line = f"sed -i 's/\\r$//' {shlex.quote(file)}"
            yield CheckFinding(
                "line endings", "wrong", f"CR LF ends {counted(len(returns), 'line')}", line, file, returns[0]
            )
        blanks = [number for number, row in lines.items() if re.search(r"[ \t]$", row) and not file.endswith(".md")]
        if blanks:
            line = f"sed -i 's/[ \\t]*$//' {shlex.quote(file)}"
            yield CheckFinding(
                "line endings", "wrong", f"blanks end {counted(len(blanks), 'line')}", line, file, blanks[0]
            )


def foreign_commits(branch: Branch) -> Iterable[CheckFinding]:
    """Yield commits that are not of this branch: others' that came by a merge or a wrong rebase."""
    again = f"git rebase {branch.base_name}   (devkit pr rebase does so with a snapshot)"
    for commit in branch.commits:
        name = f"{commit.oid[:10]} {commit.subject}"
        if commit.merge:
            yield CheckFinding("commits", "look", f"{name} is a merge", again)
        elif commit.oid in branch.elsewhere:
            yield CheckFinding("commits", "wrong", f"{name} is on another branch already", again)


def identity(branch: Branch) -> Iterable[CheckFinding]:
    """Yield authors and sign-offs that the forge and its CLA would not know as you."""
    if not branch.email:
        yield CheckFinding(
            "identity", "wrong", "git does not know who you are", "git config user.email YOU@EXAMPLE.COM"
        )
    elif LOCAL_HOST.search(branch.email):
        text = f"user.email is {branch.email}, which is not an address: the CLA's check will not know you"
        yield CheckFinding("identity", "wrong", text, "git config user.email THE-ONE-OF-YOUR-ACCOUNT")
    amend = f"git commit --amend --no-edit --reset-author{' -s' * branch.signed}"
    line = f"git rebase --autostash {branch.base[:10]} --exec '{amend}'"
    own = [commit for commit in branch.commits if not commit.merge and commit.oid not in branch.elsewhere]
    authors = Counter(commit.email for commit in own)
    for email, count in authors.items():
        if branch.email and email.lower() != branch.email.lower():
            text = f"{count} of the commits are by {email}, and you are {branch.email}"
            yield CheckFinding("identity", "look", text, line)
    for commit in own if branch.signed else ():
        signed = re.findall(r"^Signed-off-by: .*<([^>]*)>", commit.message, re.MULTILINE)
        if not signed:
            yield CheckFinding(
                "identity", "wrong", f"{commit.oid[:10]} has no sign-off, which this project's have", line
            )
        elif commit.email.lower() not in {address.lower() for address in signed}:
            text = f"{commit.oid[:10]} is signed off by {signed[0]} and written by {commit.email}"
            yield CheckFinding("identity", "wrong", text, line)


def request(branch: Branch) -> Iterable[CheckFinding]:
    """Yield what the request's title and text lack against the project's template."""
    title = branch.title
    if branch.commits and not title.strip():
        yield CheckFinding("request", "wrong", "it has no title", "devkit check --title 'TITLE'")
    elif len(title) > TITLE_LENGTH:
        text = f"its title has {len(title)} letters"
        yield CheckFinding("request", "look", text, f"devkit check --title {shlex.quote(title[:60])}")
    if branch.paddle and title and not re.match(r"\[[^\]]+\]", title):
        text = f"its title names no area in brackets: {title}"
        yield CheckFinding("request", "look", text, f"devkit check --title {shlex.quote(f'[Area] {title}')}")
    if branch.body is None or not branch.template:
        return
    template = re.sub(r"<!--.*?-->|^(`{3,}|~{3,}).*?^\1", "", branch.template, flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#+ *(.+?)\s*$", template, re.MULTILINE):
        found = re.search(rf"^#+ *{re.escape(heading)}\s*$(.*?)(?=^#+ |\Z)", branch.body, re.MULTILINE | re.DOTALL)
        filled = re.sub(r"<!--.*?-->", "", found[1], flags=re.DOTALL).strip() if found else ""
        if not found:
            hint = f"echo {shlex.quote(f'### {heading}')} >> {shlex.quote(branch.body_file)}"
            yield CheckFinding("request", "wrong", f"its text lacks the section {heading}", hint)
        elif not filled:
            hint = f"{edit(branch.body_file, 1 + branch.body[: found.start()].count(chr(10)) if found else 0)}"
            yield CheckFinding("request", "wrong", f"its section {heading} is empty", hint)
        elif branch.paddle and heading == "PR Category" and not any(category in filled for category in CATEGORIES):
            text = f"{filled.splitlines()[0]} is not a category: {', '.join(CATEGORIES)}"
            yield CheckFinding("request", "wrong", text, edit(branch.body_file))


def approvals(branch: Branch) -> Iterable[CheckFinding]:
    """Yield who must approve which files."""
    needed: dict[str, list[str]] = {}
    for file in branch.added:
        who = [owner for pattern, owner in branch.owners if covers(pattern, file)]
        if who:
            needed.setdefault(who[-1], []).append(file)
    for owner, files in needed.items():
        few = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")  # noqa: PLR2004
        names = re.findall(r"@([\w/.-]+)", owner)
        line = f"gh pr edit --add-reviewer {','.join(names)}" if names else f"less {owner.split()[-2]}"
        yield CheckFinding("approvals", "look", f"{few} must be approved by {owner}", line, files[0])


def covers(pattern: str, file: str) -> bool:
    """Tell whether a pattern of a CODEOWNERS file means a file."""
    anchored = pattern.startswith("/") or "/" in pattern.rstrip("/")[:-1]
    body = pattern.strip("/")
    text = (
        re.escape(body)
        .replace(r"\*\*/", "(?:.*/)?")
        .replace(r"\*\*", ".*")
        .replace(r"\*", "[^/]*")
        .replace(r"\?", "[^/]")
    )
    start = "^" if anchored else r"(?:^|.*/)"
    end = "/.*$" if pattern.endswith("/") else "(?:/.*)?$"
    return re.match(f"{start}{text}{end}", file) is not None


def links(branch: Branch) -> Iterable[CheckFinding]:
    """Yield symbolic links that lead nowhere on another machine."""
    listed = set(branch.names)
    for file, target in branch.links.items():
        to = PurePosixPath(posixpath.normpath(posixpath.join(posixpath.dirname(file), target)))
        line = f"ln -sfn -- WHERE-IN-THE-PROJECT {shlex.quote(file)}"
        if to.is_absolute() or to.parts[:1] == ("..",):
            yield CheckFinding("links", "wrong", f"it leads to {target}, outside the project", line, file)
        # What is below a listed name is within a submodule or another link.
        elif listed.isdisjoint(map(str, (to, *to.parents))) and not any(
            to in PurePosixPath(name).parents for name in listed
        ):
            yield CheckFinding("links", "look", f"it leads to {target}, which is not in the project", line, file)


def submodules(branch: Branch) -> Iterable[CheckFinding]:
    """Yield submodules that the branch moves, as ``git add .`` does unasked, and clones within the clone."""
    for path, (old, new) in branch.submodules.items():
        name = shlex.quote(path)
        if path not in branch.modules:
            text = "it is a clone within this one: others get an empty folder"
            yield CheckFinding("submodules", "wrong", text, f"git rm --cached -- {name}", path)
        elif old:
            line = f"git restore --staged -s {branch.base[:10]} -- {name}   where that is not meant; then commit"
            text = f"the submodule goes from {old[:10]} to {new[:10]}"
            yield CheckFinding("submodules", "look", text, line, path)


def windows(branch: Branch) -> Iterable[CheckFinding]:
    """Yield what the Windows job stops at: names, headers, sizes of types, letters that MSVC misreads."""
    lower = Counter(name.lower() for name in branch.names)
    for file in branch.added:
        parts = file.split("/")
        bad = next(
            (part for part in parts if DEVICES.match(part) or re.search(r'[<>:"|?*\\\x00-\x1f]|[ .]$', part)), ""
        )
        line = f"{'mv' if file in branch.untracked else 'git mv'} -- {shlex.quote(file)} ANOTHER-NAME"
        if bad:
            yield CheckFinding("Windows", "wrong", f"{bad} cannot be a name there", line, file)
        elif lower[file.lower()] > 1:
            yield CheckFinding("Windows", "wrong", "its name differs from another by case alone", line, file)
        elif len(file) > LONGEST_PATH:
            yield CheckFinding("Windows", "look", f"its path has {len(file)} letters, and 260 are all", line, file)
        if not file.endswith(CXX):
            continue
        for number, row in branch.added[file].items():
            code = COMMENT.sub("", re.sub(r'"(?:\\.|[^"\\])*"', '""', row))
            what = next((text for pattern, text in WINDOWS if pattern.search(code)), "")
            if not what and not row.isascii():
                what = "letters beyond ASCII, which MSVC reads in the machine's own encoding"
            if what:
                yield CheckFinding("Windows", "look", what, edit(file, number), file, number)


CHECKS: tuple[Callable[[Branch], Iterable[CheckFinding]], ...] = (
    conflict_markers, secrets, large_files, whitespace, links, submodules, foreign_commits, identity, request,
    approvals, windows,
)  # fmt: skip


def check(branch: Branch) -> list[CheckFinding]:
    """Make all fast checks."""
    return [finding for one in CHECKS for finding in one(branch)]
