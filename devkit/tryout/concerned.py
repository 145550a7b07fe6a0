"""What a request concerns: the tests and the benchmarks to run, the tests that it removes, and why there are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING

from devkit.tryout import extensions, file_kinds, selection, settings, syntax
from devkit.tryout.settings import PROJECT_FILES
from devkit.tryout.work import few

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from devkit.tryout.trial import Changed
    from devkit.tryout.work import Comparison, TryWork

FEW_SOURCES = 800
MOST_OWN = 50
"""How many of the test files that a request changes are run, unless more are asked for."""
NOTHING = "no test concerns what the request changes"


class Tree:
    """The request's files, as far as a choice of tests needs them.

    Attributes:
        listed: every file that git knows.
        python: those in Python.
    """

    def __init__(self, work: Comparison) -> None:
        self.work = work
        self._texts: dict[str, str] = {}
        self.folder = work.trial.side("request")
        self.listed = work.trial.files()
        self.python = [word for word in self.listed if word.endswith(".py") and (self.folder / word).is_file()]
        self.projects = projects(self.listed)
        self.support = [word for word in self.python if file_kinds.TEST_SUPPORT.search(word)]
        self.roots = self._roots()
        self.links = self._links()

    def read(self, path: str) -> str:
        """Return a file's text; the base's where the request has it no longer."""
        if path not in self._texts:
            file = self.folder / path
            there = file.is_file()
            work = self.work
            self._texts[path] = (
                file.read_text("utf-8", "replace") if there else work.trial.text(work.commits.base, path)
            )
        return self._texts[path]

    def _roots(self) -> list[str]:
        """Return the folders that the project puts on the path of its modules, beside the usual ones."""
        named = settings.code_folders(self.read)
        named |= {word.removeprefix("./").rstrip("/") for word in settings.pytest_words(self.read, "pythonpath")}
        for path in self.support:
            folder = path.rpartition("/")[0]
            named |= {f"{folder}/{word}".lstrip("/") for word in syntax.added_to_path(self.read(path))}
        return sorted(name for name in named if name.strip("./") and (self.folder / name).is_dir())

    def _links(self) -> dict[str, str]:
        """Return the links to folders of the tree: where a link is → what it leads to."""
        found = {}
        for word in self.listed:
            path = self.folder / word
            if "." not in word.rpartition("/")[2] and path.is_symlink() and path.is_dir():
                target = path.resolve()
                if target.is_relative_to(self.folder.resolve()):
                    found[word] = target.relative_to(self.folder.resolve()).as_posix()
        return found

    def module(self, path: str) -> str:
        """Return the name that a file is imported by, in the innermost project that holds it."""
        project = next((f"{place}/" for place in self.projects if path.startswith(f"{place}/")), "")
        return selection.module_of(path.removeprefix(project))

    def modules(self, path: str) -> list[str]:
        """Return every name that a file may be imported by, the likeliest first."""
        found = [self.module(path)]
        if file_kinds.belongs_to_tests(path, self.read):  # a helper beside tests is imported by its bare name, too
            found.append(found[0].rpartition(".")[2])
        found += [selection.module_of(path[len(root) + 1 :]) for root in self.roots if path.startswith(f"{root}/")]
        found += [
            self.module(link + path[len(target) :])
            for link, target in self.links.items()
            if path.startswith(f"{target}/")
        ]
        return list(dict.fromkeys(found))

    @property
    def packages(self) -> list[str]:
        """The top-level packages that are no tests'."""
        inits = [self.module(path) for path in self.python if path.endswith("/__init__.py")]
        return sorted({name for name in inits if "." not in name} - file_kinds.TOP_FOLDERS)

    @property
    def sources(self) -> list[str]:
        """The modules through which a test may reach a change; none where there are too many to read."""
        found = [word for word in self.python if not file_kinds.belongs_to_tests(word, self.read)]
        return found if not self.work.paddle and len(found) <= FEW_SOURCES else []


def projects(listed: Sequence[str]) -> list[str]:
    """Return the folders below the top that hold a project of their own, the innermost first."""
    places = {word.rpartition("/")[0] for word in listed if word.rpartition("/")[2] in PROJECT_FILES}
    return sorted(places - {""}, key=len, reverse=True)


@dataclass
class Touched:
    """What the changed files come to.

    Attributes:
        names: a file, and what changed in it.
        modules: the changed modules, by the likeliest of their names.
        own: the test files among them.
        data: those that are neither Python nor prose.
        fixtures: a conftest.py, and what changed in it or in a plugin that it names; none where all may matter.
    """

    names: list[tuple[str, selection.Names]] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    fixtures: list[tuple[str, frozenset[str]]] = field(default_factory=list)


def _touched(work: Comparison, tree: Tree) -> Touched:
    """Return what the changed files come to."""
    touched = Touched()
    declared = settings.extensions(tree.read)
    plugins = selection.plugins(tree.support, tree.read)
    for changed in work.changed:
        path = changed.path
        if not path.endswith(".py"):
            touched.data += [path] if not file_kinds.is_prose_file(path) else []
            made = extensions.modules_of(path, declared, tree.packages) if declared else []
            touched.names += [(path, selection.Names(module, frozenset())) for module in made]
            continue
        if file_kinds.is_test(path, tree.read) and path in tree.python:
            touched.own.append(path)
        found = _names(work, changed, tree)
        touched.names += [(path, named) for named in found]
        touched.modules += [named.module for named in found[:1]]
        naming = [plugins[named.module] for named in found if named.module in plugins]
        conftest = path if file_kinds.TEST_SUPPORT.search(path) else next(iter(naming), "")
        if found and conftest:
            both = (tree.read(path), work.trial.text(work.commits.base, path))
            every = any(selection.is_for_all(text, found[0].changed) for text in both)
            touched.fixtures.append((conftest, frozenset() if every else found[0].changed))
    return touched


def choose(work: Comparison) -> list[selection.Chosen]:
    """Return the test files that the request concerns, ranked."""
    tree = Tree(work)
    tests = [word for word in tree.python if file_kinds.is_test(word, tree.read)]
    touched = _touched(work, tree)
    texts = file_kinds.doctest_files(tree.listed, tree.read)
    doctests = [*_doctests(work, tree), *(changed.path for changed in work.changed if changed.path in texts)]
    sources = tree.sources
    readers = [reader.path for reader in selection.naming(touched.data, (), sources, tree.read)]
    names = [*touched.names, *((path, selection.Names(tree.module(path), frozenset())) for path in readers)]
    ranked = selection.select(names, touched.own, tests, tree.read, sources)
    rest = _without(tests, ranked)
    more = selection.beside(touched.fixtures, rest, tree.read)
    more += _of_operators(work, rest) if work.paddle else []
    unseen = [word for word in _without([*rest, *texts], more) if word not in doctests]
    named = selection.naming(touched.data, touched.modules, unseen, tree.read)
    imported = dict.fromkeys(named.module for _, named in names)
    named += selection.importing(imported, [word for word in texts if word in unseen], tree.read)
    named += _by_settings(work, tree, _without(unseen, named))
    return [*[selection.Chosen(path, "examples") for path in doctests], *ranked, *more, *named]


def _without(paths: Iterable[str], chosen: Iterable[selection.Chosen]) -> list[str]:
    seen = {one.path for one in chosen}
    return [path for path in paths if path not in seen]


def _by_settings(work: Comparison, tree: Tree, tests: Sequence[str]) -> list[selection.Chosen]:
    """Return the tests that the request concerns by changing pytest's settings."""
    for changed in work.changed:
        path = changed.path
        if path in settings.PYTEST_FILES:
            before, after = work.trial.text(work.commits.base, path), tree.read(path)
            if settings.pytest_section(path, before) != settings.pytest_section(path, after):
                return [selection.Chosen(test, "settings", path) for test in tests]
    return []


def bounded(
    ranked: Sequence[selection.Chosen], others: int
) -> tuple[list[selection.Chosen], list[selection.Chosen], list[selection.Chosen]]:
    """Return which of the ranked files are run, which of the request's own are not, and which of the others are not.

    Args:
        ranked: as ``choose`` returns them.
        others: how many are run beside the request's own.
    """
    most = max(MOST_OWN, others)
    own = [test for test in ranked if test.rank == "changed"]
    rest = [test for test in ranked if test.rank != "changed"]
    return [*own[:most], *rest[:others]], own[most:], rest[others:]


def _doctests(work: Comparison, tree: Tree) -> list[str]:
    """Return the changed modules whose docstrings hold examples, where the project runs these as tests."""
    if not {"--doctest-modules", "--xdoctest"} & set(settings.pytest_words(tree.read, "addopts")):
        return []
    return [
        changed.path
        for changed in work.changed
        if changed.path in tree.python
        and not file_kinds.belongs_to_tests(changed.path, tree.read)
        and ">>> " in tree.read(changed.path)
    ]


def benchmarks_of(work: Comparison) -> list[str]:
    """Return the benchmarks that the request concerns."""
    from devkit.tryout import benchmarks

    tree = Tree(work)
    known = [word for word in tree.python if benchmarks.is_benchmark(word)]
    names = [
        (changed.path, named)
        for changed in work.changed
        if changed.path.endswith(".py") and not file_kinds.belongs_to_tests(changed.path, tree.read)
        for named in _names(work, changed, tree)
    ]
    own = [changed.path for changed in work.changed if changed.path in known and changed.status != "D"]
    return [chosen.path for chosen in selection.select(names, own, known, tree.read, tree.sources)]


def _of_operators(work: Comparison, tests: Sequence[str]) -> list[selection.Chosen]:
    """Return the tests that are named after the operators whose kernels or YAML entries the request changes."""
    from devkit.ops.tree import is_read, touched

    trial, commits = work.trial, work.commits
    read = [changed for changed in work.changed if is_read(changed.path)]
    found: set[str] = set()
    for commit, changes in (
        (commits.base, {changed.path: changed.before for changed in read}),
        (commits.head, {changed.path: changed.after for changed in read}),
    ):
        there = {path: lines for path, lines in changes.items() if lines}
        found |= set(touched(there, {path: trial.text(commit, path) for path in there}))
    by_stem = {path.rpartition("/")[2]: path for path in tests}
    return [
        selection.Chosen(by_stem[name], "operator", operator)
        for operator in sorted(found)
        for name in (f"test_{operator}_op.py", f"test_{operator}.py", f"test_{operator}_api.py")
        if name in by_stem
    ]


def _names(work: Comparison, changed: Changed, tree: Tree) -> list[selection.Names]:
    """Return what a request changes in a module, by each name that it may be imported by; nothing where it is prose."""
    before = work.trial.text(work.commits.base, changed.path) if changed.status != "A" else ""
    after = tree.read(changed.path) if changed.status != "D" else ""
    if syntax.is_prose(before, changed.before) and syntax.is_prose(after, changed.after):
        return []
    found = syntax.changed_names(before, changed.before) | syntax.changed_names(after, changed.after)
    module = tree.module(changed.path)
    named = frozenset(found - {""})
    if not named and "." not in module and changed.path.endswith("__init__.py"):
        work.note(f"{changed.path} is imported by all: no test was chosen for it")
        return []
    return [selection.Names(word, named) for word in tree.modules(changed.path)]


class TestsDefined:
    """Which tests the changed files define on both sides."""

    __test__ = False

    def __init__(self, work: Comparison) -> None:
        self.before: dict[str, set[str]] = {}
        after: dict[str, set[str]] = {}
        read = cache(partial(work.trial.text, work.commits.head))
        for changed in work.changed:
            if file_kinds.is_test(changed.path, read):
                old, new = (
                    file_kinds.defined_tests(work.trial.text(commit, changed.path))
                    for commit in (work.commits.base, work.commits.head)
                )
                self.before[changed.path], after[changed.path] = old, new
        everywhere = set().union(*after.values())
        gone = {
            path: {name for name in old - after[path] if name.rpartition("::")[2].startswith("test")}
            for path, old in self.before.items()
        }
        self.removed = {path: sorted(names - everywhere) for path, names in gone.items()}
        self.moved = frozenset().union(*gone.values()) & everywhere
        """Those that left one file and stand in another."""

    def notes(self) -> list[str]:
        """Return which tests the request takes away: no run can say anything of them."""
        return [f"the request removes {few(names)} of {path}" for path, names in self.removed.items() if names]


def compiles(work: TryWork) -> bool:
    """Tell whether the request changes what the project's own build compiles."""
    declared = settings.extensions(settings.reader(work.trial.side("request")))
    return declared is not None and any(extensions.is_source(change.path) for change in work.changed)


def why_nothing(work: TryWork) -> str:
    """Return why no test was found for what the request changes."""
    base, head = work.commits.base, work.commits.head

    def prose(change: Changed) -> bool:
        if not change.path.endswith(".py"):
            return file_kinds.is_prose_file(change.path)
        sides = ((base, change.before, change.status != "A"), (head, change.after, change.status != "D"))
        return all(
            syntax.is_prose(work.trial.text(commit, change.path), rows) for commit, rows, there in sides if there
        )

    if all(map(prose, work.changed)):
        return "it changes only documentation, comments and docstrings: there is nothing to run"
    compiled = [change.path for change in work.changed if extensions.is_source(change.path)]
    built = work.paddle or work.config.get("try.build") or compiles(work)
    if compiled and not built:
        more = f" and {len(compiled) - 1} more" if len(compiled) > 1 else ""
        return f"{compiled[0]}{more} must be compiled, and no devkit.toml says how: [try] build = 'make'"
    return NOTHING
