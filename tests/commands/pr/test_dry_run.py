"""--dry-run and the run: one planner. The same status, the same refusal; what is printed is what is run."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.conftest import numbered
from tests.commands.pr.random_clones import git, refs, saved

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.commands.pr.conftest import Clone, Forge

_NUMBERS = itertools.count()
WHOLES = ("# devkit wip", "# in ", "devkit undo ")  # lines that stand for one of devkit's own acts
LOOKS = ("git ls-remote ", "git fetch ")  # what the dry run did too: the remotes are asked, beside all that is here


def plain(clone: Clone, forge: Forge) -> None:
    del clone, forge


def dirty(clone: Clone, forge: Forge) -> None:
    del forge
    clone.write("a.cc", numbered(9, l1="mine"))
    clone.write("loose.txt", "loose\n")


def fetched(clone: Clone, forge: Forge) -> None:
    del forge
    clone.devkit("pr", "fetch", "7")
    clone.devkit("pr", "fetch", "9", "--no-switch")


def stopped(clone: Clone, forge: Forge) -> None:
    del forge
    clone.devkit("pr", "fetch", "8")
    clone.devkit("pr", "rebase")


def resolved(clone: Clone, forge: Forge) -> None:
    stopped(clone, forge)
    clone.write("b.py", numbered(9, l5="six"))
    clone.git("add", "b.py")


def own(clone: Clone, forge: Forge) -> None:
    del forge
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("One", fix_txt="1")
    clone.commit("Two", fix_txt="2")


def pushed(clone: Clone, forge: Forge) -> None:
    own(clone, forge)
    clone.devkit("pr", "push")


def ahead(clone: Clone, forge: Forge) -> None:
    pushed(clone, forge)
    forge.commit("me/Paddle", "refs/heads/fix", "A colleague's", {"theirs.txt": "\n"})
    clone.git("commit", "-q", "--amend", "-m", "Two, better")


def astray(clone: Clone, forge: Forge) -> None:
    del clone
    forge.commit("me/Paddle", "refs/heads/develop", "By mistake", {"oops.txt": "\n"})


def put_away(clone: Clone, forge: Forge) -> None:
    dirty(clone, forge)
    clone.devkit("wip", "save")


def unfit(clone: Clone, forge: Forge) -> None:
    put_away(clone, forge)
    clone.commit("Went on", a_cc=numbered(9, l1="theirs"))


def undone(clone: Clone, forge: Forge) -> None:
    fetched(clone, forge)
    clone.devkit("undo")


def moved(clone: Clone, forge: Forge) -> None:
    fetched(clone, forge)
    clone.commit("On top", top_txt="1")
    clone.devkit("pr", "rebase")
    clone.commit("On top again", top_txt="2")


def stacked(clone: Clone, forge: Forge) -> None:
    del forge
    clone.devkit("pr", "start", "lower")
    clone.commit("Lower", lower_txt="1")
    clone.devkit("pr", "start", "upper", "--on", "lower")
    clone.commit("Upper", upper_txt="1")
    clone.git("switch", "-q", "lower")
    clone.write("lower.txt", "better\n")
    clone.git("commit", "-q", "-a", "--amend", "-m", "Lower, better")


def tall(clone: Clone, forge: Forge) -> None:
    forge.commit("project/Paddle", "refs/heads/develop", "Meanwhile", {"meanwhile.txt": "\n"})
    stacked(clone, forge)
    clone.git("switch", "-q", "upper")
    clone.devkit("pr", "start", "top", "--on", "upper")
    clone.commit("Top", top_txt="1")
    clone.git("switch", "-q", "lower")
    forge.commit("project/Paddle", "refs/heads/develop", "Since", {"since.txt": "\n"})


CASES: list[tuple[Callable[[Clone, Forge], None], str]] = [
    (plain, "pr fetch 7"),
    (dirty, "pr fetch 7"),
    (plain, "pr fetch 7 8"),
    (plain, "pr fetch 99"),
    (stopped, "pr fetch 7"),
    (plain, "pr fetch 7 --worktree"),
    (fetched, "pr fetch 7 --worktree"),
    (fetched, "pr rebase"),
    (stopped, "pr rebase"),
    (plain, "pr rebase"),
    (fetched, "pr rebase --onto nowhere"),
    (stacked, "pr rebase --stack"),
    (stacked, "pr rebase upper"),
    (tall, "pr rebase --stack"),
    (plain, "pr rebase --stack"),
    (stopped, "pr continue"),
    (resolved, "pr continue"),
    (plain, "pr continue"),
    (stopped, "pr skip"),
    (stopped, "pr abort"),
    (plain, "pr abort"),
    (own, "pr squash"),
    (plain, "pr squash"),
    (plain, "pr sync"),
    (astray, "pr sync"),
    (stopped, "pr sync"),
    (own, "pr push"),
    (ahead, "pr push"),
    (plain, "pr push --remote upstream"),
    (fetched, "pr push"),
    (fetched, "pr drop 9"),
    (own, "pr drop fix"),
    (own, "pr drop fix --yes"),
    (fetched, "pr drop 7 --remote"),
    (fetched, "pr clean"),
    (fetched, "pr clean --remote"),
    (plain, "pr start more"),
    (own, "pr start fix"),
    (own, "pr start more --on nowhere"),
    (own, "pr create"),
    (dirty, "wip save"),
    (plain, "wip save"),
    (stopped, "wip save"),
    (put_away, "wip restore"),
    (unfit, "wip restore"),
    (unfit, "wip restore --markers"),
    (plain, "wip restore"),
    (put_away, "wip drop 1"),
    (plain, "wip drop 1"),
    (fetched, "undo"),
    (moved, "undo"),
    (plain, "undo"),
    (undone, "redo"),
    (plain, "redo"),
]


def _planned(text: str) -> list[str]:
    """Return the lines of git that a dry run printed, without what goes into their standard input."""
    lines = re.sub(r"^printf ('([^']|'\"'\"')*'|\S+) \| ", "", text, flags=re.MULTILINE).splitlines()
    return [_timeless(line) for line in lines if line.startswith("git ")]


def _executed(text: str) -> list[str]:
    """Return the lines of git that a run with ``-v`` showed."""
    return [_timeless(line[2:]) for line in text.splitlines() if line.startswith("$ git ")]


def _timeless(line: str) -> str:
    return re.sub(r"(devkitFetched) \d+", r"\1 NOW", line)


def _is(planned: str, executed: str) -> bool:
    """Tell whether a line is the planned one, in which NEW stands for a commit that is still to be made."""
    return re.fullmatch(re.escape(planned).replace("NEW", "[0-9a-f]{40}"), executed) is not None


def _in_order(lines: list[str], among: list[str]) -> list[str]:
    """Return the first of the lines, and what follows, that do not come in this order among others."""
    rest = iter(among)
    for number, line in enumerate(lines):
        if not any(_is(line, executed) for executed in rest):
            return lines[number:]
    return []


def _refusal(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("✗", "  →"))]


@pytest.mark.parametrize(("prepare", "line"), CASES, ids=[f"{one[0].__name__}: {one[1]}" for one in CASES])
def test_a_dry_run_ends_as_the_run_does(
    clone: Clone, forge: Forge, prepare: Callable[[Clone, Forge], None], line: str
) -> None:
    prepare(clone, forge)
    words = line.split()
    then = refs(clone.folder), saved(clone.folder), clone.status(), refs(forge.bare("me/Paddle"))
    dry = clone.devkit(*words, "--dry-run")
    assert (refs(clone.folder), saved(clone.folder), clone.status(), refs(forge.bare("me/Paddle"))) == then
    real = clone.devkit(*words, "-v")
    if real.status == 0:
        planned, executed = _planned(dry.text), _executed(real.text)
        assert _in_order(planned, executed) == []
        unplanned = [step for step in executed if not any(_is(line, step) for line in planned)]
        unplanned = [step for step in unplanned if not step.startswith(LOOKS)]
        assert unplanned == [] or any(word in dry.text for word in WHOLES)
    if real.status:
        assert _refusal(dry.text) == _refusal(real.text)
        assert dry.status == real.status
    else:
        assert dry.status == 0, dry.text
    assert dry.status != 3
    git(clone.folder, "fsck", "--connectivity-only")
