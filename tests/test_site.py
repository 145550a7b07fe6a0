"""The site of the documentation: every page is in it, its links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml  # type: ignore[import-untyped]
from uv import find_uv_bin

from tests.examples.lines import lines_of

if TYPE_CHECKING:
    from tests.conftest import Devkit

ROOT = Path(__file__).parent.parent
SECTION = re.compile(r"^(?!# )#+ .*", re.MULTILINE)
PICTURE = re.compile(r"\]\((pictures/[^)]+)")
MATERIAL = "mkdocs-material==9.8.2"


def test_the_sites_navigation_names_pages_that_are_there() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    listed = {page for entry in nav for page in ([entry] if isinstance(entry, str) else next(iter(entry.values())))}
    assert listed <= {path.name for path in ROOT.glob("docs/*.md")}


def test_every_page_has_a_chinese_one_with_the_same_sections_lines_and_pictures() -> None:
    listed = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    nav = {title: pages for entry in listed if isinstance(entry, dict) for title, pages in entry.items()}
    for name in {"index.md", *nav["Guides"], *nav["How it works"], *nav["Reference"]} - {"commands.md"}:
        chinese = name.replace(".md", ".zh.md")
        assert chinese in nav["中文"]
        pages = [(ROOT / "docs" / page).read_text("utf-8") for page in (name, chinese)]
        assert f"[中文]({chinese})" in pages[0], name
        assert f"[English]({name})" in pages[1], chinese
        sections = [len(SECTION.findall(page)) for page in pages]
        pictures = [PICTURE.findall(page) for page in pages]
        typed = [set(lines_of(page)) for page in pages]
        for english, other in (sections, pictures, typed):
            assert english == other, name


def test_the_meshes_on_the_pages_are_what_the_command_draws(devkit: Devkit) -> None:
    block = re.compile(r"^\$ devkit train mesh '(.*?)' (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    drawn = {found for path in ROOT.glob("docs/parallel*.md") for found in block.findall(path.read_text("utf-8"))}
    for lists, axes, shown in drawn:
        assert devkit("train", "mesh", lists, axes).out.startswith(shown.rstrip("\n"))
    assert {axes for _, axes, _ in drawn} >= {"dp", "dp,pp,mp", "dp,mp", "dp,pp", "dp,sep", "dp,sharding"}


def build(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as ``make site`` does; with -q mkdocs would count no warning, and a broken link pass."""
    line = [find_uv_bin(), "tool", "run", "-q", "--python", sys.executable, "--from", MATERIAL, "mkdocs"]
    return subprocess.run(
        [*line, "build", "--strict", "-d", str(out)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.engine
def test_the_site_builds_and_a_broken_link_stops_it(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "first-day" / "index.html").is_file()
    shutil.copytree(ROOT / "docs", tmp_path / "copy" / "docs")
    shutil.copyfile(ROOT / "mkdocs.yml", tmp_path / "copy" / "mkdocs.yml")
    with (tmp_path / "copy" / "docs" / "glossary.md").open("a") as page:
        page.write("\n[broken](nowhere.md)\n")
    broken = build(tmp_path / "copy", tmp_path / "out")
    assert broken.returncode != 0
    assert "nowhere.md" in broken.stderr
