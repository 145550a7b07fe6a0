"""Environments for a suite: its own pins, from its repository (a local one stands in), and what clashes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from devkit.envs import suites
from devkit.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.env.conftest import Index
    from tests.conftest import Devkit


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Path:
    """A repository that git takes for PaddleMIX's: the address is rewritten, as a mirror is."""
    folder = tmp_path / "mix"
    folder.mkdir()
    (home / ".gitconfig").write_text(
        f'[url "{tmp_path}/mix"]\n    insteadOf = {suites.OWNER}/PaddleMIX\n[uploadpack]\n    allowFilter = true\n'
        "    allowAnySHA1InWant = true\n[safe]\n    directory = *\n"
    )
    subprocess.run(["git", "init", "-q", "-b", "develop", folder], check=True)
    commit(folder, "tiny\n")
    return folder


def commit(folder: Path, text: str) -> str:
    (folder / "requirements.txt").write_text(text)
    for words in (["add", "."], ["commit", "-q", "-m", "pins"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    return subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()


def test_environment_has_what_the_suite_asks_for_at_a_commit(
    devkit: Devkit, repository: Path, index: Index, home: Path
) -> None:
    for version in ("1.0", "1.1"):
        index.add("tiny", version)
    old = commit(repository, "tiny==1.0  # as the examples have it\n-r other.txt\n")
    (repository / "other.txt").touch()
    commit(repository, "tiny==1.1\n")
    words = ("env", "create", "--python", sys.executable, "--paddle", "none", "--index-url", index.url)
    made = devkit(*words, "mix", "--for", "PaddleMIX")
    assert made.status == 0, made.err
    assert list((home / ".local/share/devkit/envs/mix").glob("lib/*/site-packages/tiny-1.1.dist-info"))
    shown = devkit(*words, "older", "--for", f"paddlemix@{old}", "--dry-run")
    assert shown.status == 0, shown.err
    assert old[:12] in shown.err
    assert f"PaddleMIX/{old[:12]}/requirements.txt" in shown.out
    assert "was not fetched" in devkit(*words, "x", "--for", "PaddleMIX@nosuch").err


def test_clash_is_named_before_anything_is_made(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "requirements.txt").write_text("numpy==2.4.1\n")
    refused = devkit("env", "create", "x", "--paddle", "cpu==3.3.1", "--for", "./suite", "--dry-run")
    assert refused.status == 1
    assert "suite asks for numpy==2.4.1, and this Paddle for numpy<2.4" in refused.err


def test_pins_of_paddle_hold_where_nothing_else_is_asked(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "requirements.txt").write_text("paddlepaddle==2.6.2\n")
    shown = devkit("env", "create", "x", "--for", "./suite", "--dry-run")
    assert "paddlepaddle==2.6.2" in shown.out
    assert "numpy<2" in shown.out


@pytest.mark.parametrize("text", ["PaddleX2", "PaddleMIX@--upload-pack=x", "PaddleMIX@", "@x"])
def test_what_is_no_suite_or_no_commit_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        suites.parse(text)
