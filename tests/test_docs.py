"""The documentation says what is true now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devkit.commands._cli import tree
from devkit.commands._cli.pages import overview, page

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    assert (ROOT / "docs" / "commands.md").read_text("utf-8") == page(), "make docs"


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readme_lists_every_command(name: str) -> None:
    assert overview() in (ROOT / name).read_text("utf-8"), overview()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_within_the_project_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text("utf-8")):
        assert "://" in target or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_that_a_page_names_exists(path: Path) -> None:
    for line in re.findall(r"devkit ((?:[a-z]+ )?[a-z]+)", path.read_text("utf-8")):
        words = line.split()
        node, _ = tree.resolve(words)
        assert node.words or words[0] not in {"pr", "env", "bench", "train", "build", "runs", "config"}, line
