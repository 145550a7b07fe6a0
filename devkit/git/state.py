"""What a clone is at one moment, as plain data: read by a few plumbing lines, parsed by pure functions."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.git.command import lines_of, unheeded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from devkit.git.command import Answer, Git

GITLINK = "160000"
INCOMING = "refs/devkit/incoming/"  # what a fetch brought, until the command ends
NO_VALUE = "true"  # what a key without a value means
REF_FORMAT = "%(refname)%00%(objectname)%00%(objecttype)%00%(symref)"
PICKS = ("CHERRY_PICK_HEAD", "REVERT_HEAD")
SEQUENCED = {b"pick": "cherry-pick", b"p": "cherry-pick", b"revert": "revert"}
NOT_HERE = "ref: refs/heads/.invalid"  # in HEAD, where refs are in a table
_TRUST = re.compile(r"(git config --global --add safe\.directory .+)")
# The file or folder in a checkout's git directory that says what is going on, and what to type.
OPERATIONS = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_LOG": "bisect",
}


@dataclass(frozen=True)
class CloneDirs:
    """Where a clone keeps its things.

    Attributes:
        git_dir: this checkout's own git directory.
        common_dir: the one that all its worktrees share.
        top: the checkout's folder; None in a bare repository.
        object_format: ``sha1`` or ``sha256``.
        ref_format: ``files``, or ``reftable``: git alone knows the refs then, ``HEAD`` and ``CHERRY_PICK_HEAD`` too.
        picking: which of ``CHERRY_PICK_HEAD`` and ``REVERT_HEAD`` there are, where refs are in a table.
    """

    git_dir: Path
    common_dir: Path
    top: Path | None
    object_format: str = "sha1"
    shallow: bool = False
    ref_format: str = "files"
    picking: frozenset[str] = frozenset()

    @property
    def null(self) -> str:
        """The name of no object."""
        return "0" * (64 if self.object_format == "sha256" else 40)

    @property
    def operation(self) -> str:
        """The rebase, am, merge, cherry-pick, revert or bisect that is going on, or nothing."""
        marks = OPERATIONS.items()
        found = next((name for mark, name in marks if mark in self.picking or (self.git_dir / mark).exists()), "")
        if found in {"", "bisect"}:
            found = self._sequenced or found
        return "am" if found == "rebase" and (self.git_dir / "rebase-apply" / "applying").exists() else found

    @property
    def _sequenced(self) -> str:
        """The cherry-pick or revert of several commits whose stop was committed by hand: only its list is there."""
        try:
            first = (self.git_dir / "sequencer" / "todo").read_bytes().split(maxsplit=1)[:1]
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return SEQUENCED.get(first[0], "") if first else ""


@dataclass(frozen=True)
class StatusEntry:
    """A tracked path that is not as HEAD has it.

    Attributes:
        xy: the two letters of git's status: index against HEAD, files against index.
        submodule: the four letters of a submodule's state, or ``N...``.
        head, index: mode and object there; for an unmerged path ``stages`` holds those of the three stages.
    """

    path: str
    xy: str
    submodule: str
    head: tuple[str, str]
    index: tuple[str, str]
    stages: tuple[tuple[str, str], ...] = ()

    @property
    def unmerged(self) -> bool:
        """Whether it is in conflict."""
        return bool(self.stages)

    @property
    def is_submodule(self) -> bool:
        """Whether it is a submodule."""
        return self.submodule.startswith("S") or GITLINK in {self.head[0], self.index[0]}


@dataclass(frozen=True)
class Status:
    """What in a checkout differs from HEAD, and what is not tracked."""

    entries: tuple[StatusEntry, ...] = ()
    untracked: tuple[str, ...] = ()

    @property
    def dirty(self) -> tuple[StatusEntry, ...]:
        """The tracked paths with uncommitted work; a submodule whose files alone changed is not among them."""
        return tuple(entry for entry in self.entries if not entry.is_submodule or entry.xy[0] != "." or entry.unmerged)

    @property
    def unmerged(self) -> tuple[StatusEntry, ...]:
        """The paths in conflict."""
        return tuple(entry for entry in self.entries if entry.unmerged)


@dataclass(frozen=True)
class Worktree:
    """A checkout of the repository."""

    path: Path
    head: str = ""
    branch: str = ""
    bare: bool = False
    locked: bool = False
    prunable: bool = False

    @property
    def missing(self) -> bool:
        """Whether its folder is not there: removed by hand, or on a disk that is away."""
        return not (self.path / ".git").exists()


@dataclass(frozen=True)
class State:
    """A clone at one moment.

    Attributes:
        head: the commit that is checked out; empty when there is none yet.
        branch: the branch that is checked out; empty when HEAD is detached.
        refs: every ref's object.
        kinds: every ref's kind of object.
        symrefs: where symbolic refs lead.
        config: every setting's values, keys as git lists them.
        local: the settings of the repository's own file, in order.
        private: the names among the refs that only devkit knows.
    """

    place: CloneDirs
    head: str
    branch: str
    refs: Mapping[str, str]
    kinds: Mapping[str, str]
    symrefs: Mapping[str, str]
    config: Mapping[str, tuple[str, ...]]
    local: tuple[tuple[str, str], ...]
    worktrees: tuple[Worktree, ...]
    status: Status = field(default_factory=Status)
    private: frozenset[str] = frozenset()

    @cached_property
    def remotes(self) -> dict[str, str]:
        """The remotes that have a URL, in the order of the configuration."""
        found = {}
        for key, values in self.config.items():
            if key.startswith("remote.") and key.endswith(".url") and key.count(".") > 1:
                found[key[len("remote.") : -len(".url")]] = values[0]
        return found

    @cached_property
    def own_refs(self) -> dict[str, str]:
        """The refs that have an object of their own: a symbolic one moves with what it leads to."""
        return own_refs(self.refs, self.symrefs)

    @cached_property
    def branches(self) -> dict[str, str]:
        """The local branches."""
        prefix = "refs/heads/"
        return {name[len(prefix) :]: oid for name, oid in self.refs.items() if name.startswith(prefix)}

    def gone_worktree_of(self, branch: str) -> Worktree | None:
        """Return the worktree whose folder was removed and for which git still keeps a branch, or None."""
        return next((worktree for worktree in self.worktrees if worktree.branch == branch and worktree.prunable), None)

    def setting(self, key: str) -> str:
        """Return the value of git's setting ``key``, or nothing."""
        return self.config.get(key, ("",))[-1]

    def worktree_of(self, branch: str) -> Worktree | None:
        """Return the worktree where a branch is checked out, or None."""
        return next(
            (worktree for worktree in self.worktrees if worktree.branch == branch and not worktree.prunable), None
        )

    @property
    def checkout(self) -> Path:
        """The folder of this checkout.

        Raises:
            DevkitError: there is none.
        """
        if self.place.top is None:
            raise DevkitError(
                "there is no checkout here", "This is a bare repository.", "git worktree list   shows the checkouts"
            )
        return self.place.top


def find_place(git: Git) -> CloneDirs:
    """Return where the clone that holds git's directory keeps its things.

    Raises:
        DevkitError: there is none.
    """
    words = (
        "--git-dir",
        "--git-common-dir",
        "--is-shallow-repository",
        "--show-object-format",
        "--show-ref-format",  # before git 2.45 it is only repeated
        "--is-inside-work-tree",
        "--show-cdup",
    )
    answer = git.ask("rev-parse", *words)
    if answer.status:
        raise not_usable(git.directory, answer.complaint)
    lines = os.fsdecode(answer.stdout).split("\n")
    base = git.directory
    if len(lines) < len(words) or not {lines[2], lines[5]} <= {"true", "false"}:
        raise DevkitError(f"the folder of the clone at {base} has a line break in its name")
    git_dir, common_dir, shallow, object_format, ref_format, inside, up = lines[: len(words)]
    table = ref_format == "reftable"
    return CloneDirs(
        Path(os.path.realpath(base / git_dir)),
        Path(os.path.realpath(base / common_dir)),
        Path(os.path.realpath(base / up)) if inside == "true" else None,  # up is a folder only when inside
        object_format,
        shallow == "true",
        "reftable" if table else "files",
        frozenset(name for name in PICKS if not git.ask("rev-parse", "--quiet", "--verify", name).status)
        if table
        else frozenset(),
    )


def not_usable(directory: Path, complaint: str) -> DevkitError:
    """Return the error for a folder where git finds no clone, or not one that it may read."""
    trust = _TRUST.search(complaint)
    if trust:
        return DevkitError(f"git does not trust {directory}", complaint, Hint(trust[1]))
    if "safe.bareRepository" in complaint:
        hint = Hint.of("git", "config", "--global", "safe.bareRepository", "all", purpose="if it is yours")
        return DevkitError(f"git takes no bare repository, and {directory} is one", complaint, hint)
    if "not a git repository" not in complaint:
        return DevkitError(f"git cannot work at {directory}", complaint, "git status   once that is mended")
    elsewhere = unheeded().get("GIT_WORK_TREE") or unheeded().get("GIT_DIR", "").removesuffix(".git")
    if elsewhere:
        why = f"{complaint}\nGIT_DIR and GIT_WORK_TREE are not heeded: devkit works where it is started."
        return DevkitError(f"there is no clone at {directory}", why, Hint.of("cd", "--", elsewhere))
    return DevkitError(f"there is no clone at {directory}", complaint, "git clone URL")


def again(git: Git, place: CloneDirs) -> CloneDirs:
    """Return the place after a line that may have ended a cherry-pick or a revert."""
    return find_place(git) if place.picking else place


def linked_worktree(admin: Path) -> Path:
    """Return the folder of a linked worktree by its own git directory, whose link may be relative.

    Raises:
        OSError: there is no link.
    """
    link = Path(os.fsdecode((admin / "gitdir").read_bytes()).removesuffix("\n"))
    return Path(os.path.normpath(admin / link)).parent


STATUS = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", "--no-ahead-behind")
REFS = ("for-each-ref", f"--format={REF_FORMAT}")
NAMES = ("for-each-ref", f"--format={REF_FORMAT.replace('%(objecttype)', '')}")  # no object is looked at


def read_state(git: Git, place: CloneDirs | None = None, *, status: bool = True, since: State | None = None) -> State:
    """Read a clone's state; with ``since``, an earlier one, its worktrees and commit are taken from there."""
    place = place or find_place(git)
    looks = status and place.top
    config, refs, *rest = git.read_all(
        ("config", "--list", "-z", "--show-scope"),
        REFS,
        *([] if since else [("worktree", "list", "--porcelain", "-z")]),
        *([STATUS] if looks else []),
    )
    names, kinds, symrefs = parse_refs(refs.stdout)
    private = {name: oid for name, oid in git.private.read().items() if name not in names} if git.private else {}
    names.update(private)
    kinds.update(dict.fromkeys(private, "commit"))
    values, local = parse_config(config.stdout)
    if since:
        head, branch = since.head, since.branch
    else:
        text = head_text(git, place.git_dir).strip()
        symref = text.removeprefix("ref: ")
        head, branch = text if symref == text else names.get(symref, ""), branch_in(text)
    return State(
        place,
        head,
        branch,
        names,
        kinds,
        symrefs,
        values,
        local,
        since.worktrees if since else _worktrees(git, place, rest[0]),
        parse_status(rest[-1].stdout) if looks else Status(),
        frozenset(private),
    )


def _worktrees(git: Git, place: CloneDirs, answer: Answer) -> tuple[Worktree, ...]:
    data = answer.stdout
    if answer.status:  # before git 2.36 there is no -z
        data = git.read("worktree", "list", "--porcelain").replace(b"\n", b"\0")
    found = parse_worktrees(data)
    # Before git 2.31 nothing says that one whose folder was removed can be pruned.
    told = [replace(tree, prunable=tree.prunable or (tree.missing and not tree.locked)) for tree in found[1:]]
    return _own_first((*found[:1], *told), place)


def _own_first(worktrees: tuple[Worktree, ...], place: CloneDirs) -> tuple[Worktree, ...]:
    """Give the main worktree of a submodule its folder: git names its git directory instead."""
    if place.top and place.git_dir == place.common_dir and worktrees:
        return (replace(worktrees[0], path=place.top), *worktrees[1:])
    return worktrees


def read_status(git: Git) -> Status:
    """Read what is dirty in the checkout at git's directory."""
    return parse_status(git.read(*STATUS))


def read_head(git: Git, place: CloneDirs) -> str:
    """Return the branch that HEAD names, or nothing when it is detached."""
    return branch_in(head_text(git, place.git_dir).strip())


def branch_in(head: str) -> str:
    """Return the branch that the text of a ``HEAD`` names, or nothing."""
    prefix = "ref: refs/heads/"
    return head.removeprefix(prefix) if head.startswith(prefix) else ""


def head_text(git: Git, git_dir: Path) -> str:
    """Return what is in ``HEAD``, a symbolic link (``core.preferSymlinkRefs``) or not; what would be, with a table."""
    head = git_dir / "HEAD"
    text = f"ref: {os.readlink(head)}\n" if head.is_symlink() else os.fsdecode(head.read_bytes())  # noqa: PTH115 - its very words
    if text.strip() != NOT_HERE:
        return text
    named = git.ask(f"--git-dir={git_dir}", "symbolic-ref", "--quiet", "HEAD").stdout
    return f"ref: {os.fsdecode(named)}" if named else os.fsdecode(git.read(f"--git-dir={git_dir}", "rev-parse", "HEAD"))


def parse_refs(data: bytes) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return every ref's object, kind of object, and where the symbolic ones lead."""
    names, kinds, symrefs = {}, {}, {}
    for word in lines_of(data):
        name, oid, kind, symref = word.split("\0")
        names[name] = oid
        kinds[name] = kind
        if symref:
            symrefs[name] = symref
    return names, kinds, symrefs


def refs_now(git: Git, under: str = "refs/") -> dict[str, str]:
    """Read the object of every ref that is not symbolic, or of those below a name that ends in ``/``."""
    names, _, symrefs = parse_refs(git.read(*NAMES, "--", under))
    private = git.private.read() if git.private else {}
    return {**{name: oid for name, oid in private.items() if name.startswith(under)}, **own_refs(names, symrefs)}


def own_refs(names: Mapping[str, str], symrefs: Mapping[str, str]) -> dict[str, str]:
    """Return the refs without the symbolic ones."""
    return {name: oid for name, oid in names.items() if name not in symrefs}


def parse_config(data: bytes) -> tuple[dict[str, tuple[str, ...]], tuple[tuple[str, str], ...]]:
    """Return every setting's values, and the repository's own settings in their order."""
    fields = os.fsdecode(data).split("\0")
    values: dict[str, tuple[str, ...]] = {}
    local = []
    for scope, text in zip(fields[::2], fields[1::2], strict=False):
        key, given, value = text.partition("\n")
        value = value if given else NO_VALUE
        values[key] = (*values.get(key, ()), value)
        if scope == "local":
            local.append((key, value))
    return values, tuple(local)


def parse_worktrees(data: bytes) -> tuple[Worktree, ...]:
    """Return the worktrees, the main one first."""
    found = []
    for block in os.fsdecode(data).split("\0\0"):
        facts = dict(word.partition(" ")[::2] for word in block.split("\0") if word)
        if "worktree" in facts:
            found.append(
                Worktree(
                    Path(facts["worktree"]),
                    facts.get("HEAD", ""),
                    facts.get("branch", "").removeprefix("refs/heads/"),
                    "bare" in facts,
                    "locked" in facts,
                    "prunable" in facts,
                )
            )
    return tuple(found)


def parse_status(data: bytes) -> Status:
    """Return what ``git status --porcelain=v2 -z`` says."""
    entries, untracked = [], []
    for record in os.fsdecode(data).split("\0"):
        kind = record[:1]
        if kind == "1":
            _, xy, submodule, head_mode, index_mode, _, head, index, path = record.split(" ", 8)
            entries.append(StatusEntry(path, xy, submodule, (head_mode, head), (index_mode, index)))
        elif kind == "u":
            _, xy, submodule, m1, m2, m3, _, h1, h2, h3, path = record.split(" ", 10)
            stages = ((m1, h1), (m2, h2), (m3, h3))
            entries.append(StatusEntry(path, xy, submodule, stages[1], stages[1], stages))
        elif kind == "?":
            untracked.append(record[2:])
    return Status(tuple(entries), tuple(untracked))
