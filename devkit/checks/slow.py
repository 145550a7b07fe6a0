"""The checks that run something: pre-commit, the tests that the change concerns, examples in changed docstrings.

They run in a copy of the branch with its uncommitted work, so that nothing of the checkout is touched.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.builds.checkout import git
from devkit.checks.finding import CheckFinding, edit
from devkit.config import Config
from devkit.errors import DevkitError
from devkit.text import counted
from devkit.tryout import environment, file_kinds, selection, sides, syntax, tryout
from devkit.tryout.running import Limits
from devkit.tryout.trial import Commits, Trial
from devkit.tryout.work import TryOptions, TryWork

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.app import App
    from devkit.git.session import Session
    from devkit.git.state import State
    from devkit.runs import Run
    from devkit.tryout.work import Comparison

PRE_COMMIT = "4.3.0"
CONFIG = ".pre-commit-config.yaml"
PINS = ("tools/codestyle/pre_commit.sh", "ci/check_approval.sh", "CONTRIBUTING.md", "requirements-dev.txt")
NO_ENVIRONMENT = "tests and examples are not run: there is no .venv here"
LIMIT_S = 900.0
LEAST_COVERAGE = 90
EXAMPLES = Path(__file__).with_name("examples.py")
PLACE = re.compile(r"(?P<file>[\w./-]+\.\w+):(?P<line>\d+)(?::.*)?")
TRUE_ERROR = re.compile(r"(?:[\w-]+: )?(?:fatal|error|ERROR): |=====> |\w+Error: ")
HOOK = re.compile(r"^(?P<title>.+?)\.{3,}(?:\(.*\))?(?P<end>Passed|Failed|Skipped)$")


@dataclass(frozen=True)
class Hook:
    """A hook of pre-commit that failed: its id, what it said, and of which place that is."""

    id: str
    said: str
    modified: bool
    file: str = ""
    line: int = 0


def check(
    session: Session, state: State, base: str, env: str, run: Run, *, fix: bool
) -> tuple[list[CheckFinding], list[str]]:
    """Make the checks that run something; return findings, and the files that were mended in the checkout."""
    chosen = environment.chosen(session.app, state.checkout, env)
    options = TryOptions(base, chosen, limits=Limits(repeat=2))
    trial = Trial(session.app, session.place, 0, state.setting("extensions.objectformat"))
    with trial.locked():
        work = copy(session, state, base, options, run)
        files = [change.path for change in work.changed if change.status != "D"]
        findings, fixed = pre_commit(session.app, work, files, fix=state.checkout if fix else None)
        if not chosen:
            return [*findings, CheckFinding("tests", "look", NO_ENVIRONMENT, "devkit check --env NAME")], fixed
        try:
            work.trial.git.at(work.trial.side("request")).read("checkout", "-q", "--force", work.commits.head)
            findings += tests(work)
            ready = sides.prepare(work, [])
            findings += examples(work, ready.interpreter.executable, dict(ready.request.environ))
        except DevkitError as error:
            hint = error.remedies[0] if error.remedies else "devkit check --fast"
            findings.append(CheckFinding("tests", "look", f"{error.what}: {error.why}".rstrip(": "), hint))
    return findings, fixed


def copy(session: Session, state: State, base: str, options: TryOptions, run: Run) -> TryWork:
    """Return both sides of the branch that is checked out: its base, and a copy with its uncommitted work committed."""
    app, root = session.app, state.checkout
    trial = Trial(app, session.place, 0, state.setting("extensions.objectformat"))
    trial.open()
    trial.check_out(Commits(state.head, base))
    side = trial.side("request")
    names = git(app.runner, root, "diff", "--name-only", "-z", "--no-relative", "HEAD", "--").text.split("\0")
    names += git(app.runner, root, "ls-files", "-o", "--exclude-standard", "-z", "--full-name").text.split("\0")
    moved = list(dict.fromkeys(filter(None, names)))
    for name in moved:
        source, target = root / name, side / name
        if source.is_file() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        elif not source.is_dir():
            target.unlink(missing_ok=True)
    head = state.head
    if moved:
        inside = trial.git.at(side)
        inside.read("add", "-A", "--", ".")
        who = ("-c", "user.name=devkit", "-c", "user.email=devkit@localhost", "-c", "commit.gpgsign=false")
        inside.read(*who, "commit", "-q", "--allow-empty", "--no-verify", "-m", "uncommitted work")
        head = inside.text("rev-parse", "HEAD")
    commits = Commits(head, base)
    return TryWork(
        trial, commits, trial.check_out(commits), app=app, run=run, options=options, config=Config.load(root)
    )


def pinned(root: Path) -> str:
    """Return the version of pre-commit that the project names; the one that devkit knows otherwise."""
    for name in PINS:
        path = root / name
        match = re.search(r"pre-commit\s*==\s*([\d.]+)", path.read_text("utf-8", "replace")) if path.is_file() else None
        if match:
            return match[1]
    return PRE_COMMIT


def pre_commit(
    app: App, work: TryWork, files: Sequence[str], *, fix: Path | None
) -> tuple[list[CheckFinding], list[str]]:
    """Run the project's hooks on the changed files; return findings, and the files that were mended in the checkout.

    Args:
        app: whose runner starts it.
        work: the copy that they run in.
        files: the changed ones.
        fix: the checkout, where it is to get what the hooks mended.
    """
    from devkit.envs import uv

    side = work.trial.side("request")
    words = pre_commit_line(side, files)
    if not words:
        return [], []
    source = uv.Source(default_index=uv.check_url("env.index-url", app.config.get("env.index-url")))
    environ = {**app.child_environment(), **source.variables()}
    log = work.run.log("pre-commit")
    with app.console.progress(f"pre-commit {pinned(side)}"):
        done = app.runner.run(words, cwd=side, env=environ, timeout_s=LIMIT_S, check=False, log=log, keep=None)
    hooks = failed_hooks(done.text)  # on standard error uv and git tell of what they installed
    if done.status and not hooks:
        why = why_it_could_not_run(done.text + done.stderr.decode(errors="replace"))
        return [CheckFinding("pre-commit", "look", f"it could not run: {why}", f"less {log}")], []
    modified = work.trial.git.at(side).text("diff", "--name-only", "-z", "--").split("\0")
    changed = [word for word in modified if word]
    if fix is not None:
        for name in changed:
            shutil.copyfile(side / name, fix / name)
    findings = [
        CheckFinding(
            "pre-commit",
            "wrong",
            f"{hook.id}: {hook.said}",
            "devkit check --fix" if hook.modified else edit(hook.file, hook.line) if hook.file else f"less {log}",
            hook.file,
            hook.line,
        )
        for hook in hooks
        if not (fix is not None and hook.modified)
    ]
    return findings, changed if fix is not None else []


def why_it_could_not_run(said: str) -> str:
    """Return the line that tells why pre-commit, or uv that fetches it, could not begin: the first true error."""
    rows = [row.strip() for row in said.splitlines() if row.strip() and not row.startswith("Check the log at")]
    true = [row for row in rows if TRUE_ERROR.match(row)]
    return (true or rows[-1:] or ["it ended without a word"])[0][:200]


def pre_commit_line(root: Path, files: Sequence[str]) -> list[str]:
    """Return the line that runs the project's hooks on some files; empty where it has none, or nothing changed."""
    from devkit.envs import uv

    if not (root / CONFIG).is_file() or not files:
        return []
    words = [uv.binary(), "tool", "run", "--from", f"pre-commit=={pinned(root)}", "pre-commit", "run", "--color=never"]
    return [*words, "--files", *(f"./{file}" if file.startswith("-") else file for file in files)]


def failed_hooks(said: str) -> list[Hook]:
    """Return the hooks that failed, from what pre-commit printed."""
    found = []
    rows = said.split("\n")
    for number, row in enumerate(rows):
        match = HOOK.match(row)
        if not match or match["end"] != "Failed":
            continue
        block = []
        for following in rows[number + 1 :]:
            if HOOK.match(following):
                break
            block.append(following)
        id_ = next((word.partition(":")[2].strip() for word in block if word.startswith("- hook id:")), match["title"])
        words = [word.strip() for word in block if word.strip() and not word.startswith("- ")]
        modified = any("files were modified by this hook" in word for word in block)
        place = next((hit for word in words if (hit := PLACE.match(word))), None)
        silent = "it changed files" if modified else "it failed"
        said_ = (place[0] if place and not modified else words[0])[:200] if words else silent
        found.append(Hook(id_, said_, modified, place[1] if place else "", int(place[2]) if place else 0))
    return found


def tests(work: TryWork) -> list[CheckFinding]:
    """Run the tests that the change concerns, before and after it."""
    result = tryout.try_request(work)
    findings = []
    level = {"bad": "wrong", "undecided": "look"}.get(result.verdict.kind)
    broken = next((test for test in result.verdict.tests if test.verdict == "broken"), None)
    where = broken or next(iter(result.verdict.tests), None)
    if level == "wrong" or (level == "look" and result.verdict.tests):
        line = f"python -m pytest {shlex.quote(where.file)}" if where else "devkit check"
        findings.append(
            CheckFinding(
                "tests",
                "wrong" if level == "wrong" else "look",
                result.verdict.reason.replace("the request", "the change"),
                line,
                where.file if where else "",
            )
        )
    if not result.chosen:
        findings += untested(work)
    measured = result.coverage
    if measured and measured["changed"] and 100 * measured["covered"] < LEAST_COVERAGE * measured["changed"]:
        for file in measured["files"]:
            if file["missed"]:
                lines = ", ".join(map(str, file["missed"][:8]))
                text = f"{len(file['missed'])} of {file['changed']} changed lines ran in no test: {lines}"
                hint = f"{edit(file['file'], file['missed'][0])}   a test must run it"
                findings.append(CheckFinding("coverage", "wrong", text, hint, file["file"], file["missed"][0]))
    return findings


def untested(work: TryWork) -> list[CheckFinding]:
    """Return the changed modules that no test concerns: none of their changed lines ran."""
    found = []
    for changed in work.changed:
        if changed.status == "D" or not changed.path.endswith(".py") or file_kinds.belongs_to_tests(changed.path):
            continue
        text = work.trial.text(work.commits.head, changed.path)
        rows = sorted(changed.after & syntax.statement_lines(text))
        if rows:
            what = f"no test concerns it: none of its {counted(len(rows), 'changed line')} ran"
            hint = f"{edit(changed.path, rows[0])}   a test must run it"
            found.append(CheckFinding("coverage", "wrong", what, hint, changed.path, rows[0]))
    return found


def docstrings(text: str, lines: frozenset[int]) -> list[tuple[str, int, str]]:
    """Return name, line and text of the changed docstrings that hold examples."""
    tree = syntax.parse(text)
    if tree is None:
        return []
    nodes: list[tuple[str, ast.AST]] = [
        ("module", tree),
        *((name, node) for name, _, _, node in syntax.definitions(tree)),
    ]
    found = []
    for name, node in nodes:
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not node.body:
            continue
        first = node.body[0]
        held = ast.get_docstring(node)
        if held is None or ">>> " not in held:
            continue
        last = getattr(node, "end_lineno", None) or len(text.split("\n"))
        span = range(
            getattr(node, "lineno", 1), (last if not isinstance(node, ast.Module) else first.end_lineno or 1) + 1
        )
        if lines & set(span):
            found.append((name, first.lineno, held))
    return found


def changed_examples(work: Comparison) -> list[dict[str, Any]]:
    """Return the examples in the docstrings of what the change touches, as ``examples.py`` reads them."""
    side = work.trial.side("request")
    wanted: list[dict[str, Any]] = []
    for changed in work.changed:
        if changed.status == "D" or not changed.path.endswith(".py") or file_kinds.belongs_to_tests(changed.path):
            continue
        text = (side / changed.path).read_text("utf-8", "replace")
        wanted += [
            {
                "file": changed.path,
                "module": selection.module_of(changed.path),
                "name": name,
                "line": line,
                "text": held,
            }
            for name, line, held in docstrings(text, changed.after)
        ]
    return wanted


def examples(work: TryWork, python: str, environ: dict[str, str]) -> list[CheckFinding]:
    """Run the examples in the docstrings of what the change touches."""
    wanted = changed_examples(work)
    if not wanted:
        return []
    listed = work.run.folder / "examples.json"
    listed.write_text(json.dumps(wanted), "utf-8")
    log = work.run.log("examples")
    with work.app.console.progress("examples in docstrings"):
        done = work.app.runner.run(
            [python, str(EXAMPLES), str(listed)], cwd=work.run.folder, timeout_s=LIMIT_S, check=False,
            env=with_xdoctest(work.run.folder, environ), log=log, keep=None,
        )  # fmt: skip
    answers = [json.loads(row.partition("EXAMPLE ")[2]) for row in done.text.splitlines() if "EXAMPLE {" in row]
    findings = [
        CheckFinding("examples", "wrong", f"{name}: {answer['said'][:200]}", edit(file, row), file, row)
        for answer in answers
        if answer["failed"]
        for name, file, row in [(answer["name"], answer["file"], answer["line"])]
    ]
    if len(answers) < len(wanted):
        last: dict[str, Any] = wanted[len(answers)]
        text = f"{last['name']}: the process ended"
        findings.append(CheckFinding("examples", "wrong", text, f"less {log}", last["file"], last["line"]))
    return findings


def with_xdoctest(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python finds devkit's xdoctest, and nothing else of devkit's."""
    import xdoctest

    beside = folder / "xdoctest"
    beside.mkdir(exist_ok=True)
    link = beside / "xdoctest"
    if not link.is_symlink():
        link.symlink_to(Path(xdoctest.__file__).parent)
    return {**environ, "PYTHONPATH": os.pathsep.join(filter(None, [environ.get("PYTHONPATH", ""), str(beside)]))}
