"""Every line of devkit in README, the pages and --help can be typed, and is run in a walk or says why not."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pytest
from typer._click.exceptions import MissingParameter

from devkit.app import App
from devkit.commands._cli import tree
from devkit.commands._cli.typer_command import load

from .lines import ELSEWHERE, PAGES, WALKS, examples, nodes, parts_of, read_walk, spoken_of

if TYPE_CHECKING:
    from pathlib import Path

CHINESE = "\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
EXAMPLES = examples()
LINES = {line for _, line in EXAMPLES}


@pytest.mark.parametrize("where", sorted({where for where, _ in EXAMPLES}))
def test_every_example_is_a_line_that_its_command_takes(where: str) -> None:
    for line in (example for at, example in EXAMPLES if at == where):
        for words in parts_of(line):
            node, rest = tree.resolve(words)
            assert node.own_command, line
            context = load(node).make_context(" ".join(("devkit", *node.words)), rest, obj=App())
            assert context.params is not None, line


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_line_within_a_sentence_is_one_that_its_command_takes(path: Path) -> None:
    """Only what a command cannot do without may be left out where it is spoken of."""
    for line in spoken_of(path.read_text("utf-8")):
        for words in parts_of(line):
            node, rest = tree.resolve(words)
            assert node.own_command or not rest, line
            if node.own_command:
                with contextlib.suppress(MissingParameter) if not rest else contextlib.nullcontext():
                    load(node).make_context("devkit", rest, obj=App())


def test_every_example_is_run_or_says_what_it_needs() -> None:
    run = {step.example for path in WALKS.iterdir() for step in read_walk(path.name)}
    rows = [row for row in ELSEWHERE.read_text("utf-8").splitlines() if row and not row.startswith("#")]
    needs = dict(re.split(r" {2,}", row, maxsplit=1) for row in rows)
    assert needs.keys() - LINES == set(), "no page and no help has it any more"
    assert needs.keys() & run == set(), "it is run"
    assert LINES - run - needs.keys() == set(), "put it into a walk, or say what it needs"


def test_every_command_has_an_example() -> None:
    shown = {tree.resolve(words)[0].words for line in LINES for words in parts_of(line)}
    assert {" ".join(node.words) for node in nodes() if node.words not in shown} == set()


@pytest.mark.parametrize("path", [page for page in PAGES if "zh" in page.name], ids=lambda path: path.name)
def test_a_chinese_page_has_no_line_break_within_a_sentence(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(rf"[{CHINESE}]\n[{CHINESE}]", text)
