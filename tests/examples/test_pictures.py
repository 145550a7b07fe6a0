"""The pages' pictures hold in every viewer, and are of real runs."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from devkit.commands._cli import pictures

from .lines import PAGES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

# Of SVG 1.1, which librsvg knows whole: no foreignObject, no script, no variable of CSS, nothing that is fetched.
DRAWN = {
    "svg", "style", "defs", "clipPath", "g", "rect", "circle", "line", "polyline", "polygon", "text", "image", "title",
}  # fmt: skip


def test_pictures_hold_where_a_viewer_is_no_browser() -> None:
    for path in ROOT.glob("docs/**/*.svg"):
        text = path.read_text("utf-8")
        assert re.search(r'xml:space="preserve"|white-space: *pre', text), path.name
        assert not re.search(r"var\(--|url\((?!['\"]?#)|@import|on\w+=", text), path.name
        root = ET.fromstring(text)  # noqa: S314 - our own
        for element in root.iter():
            assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in DRAWN, path.name
            links = [value for name, value in element.attrib.items() if name.endswith("href")]
            assert all(link.startswith(("#", "data:image/png;base64,")) for link in links), path.name


def test_every_picture_of_a_run_stands_on_a_page_and_has_two_palettes() -> None:
    pages = "".join(path.read_text("utf-8") for path in PAGES)
    drawn = {path.stem: path.read_text("utf-8") for path in ROOT.glob("docs/pictures/*.svg")}
    assert set(drawn) == {*pictures.DRAWN, *(picture.name for picture in pictures.PICTURES)}
    for name, text in drawn.items():
        assert f"(pictures/{name}.svg)" in pages
        assert "prefers-color-scheme: dark" in text


@pytest.mark.slow
def test_the_pictures_are_drawn_from_real_runs(tmp_path: Path) -> None:
    pictures.main(tmp_path / "out", "undo", "check", "explain", "map", "curve")
    text = html.unescape((tmp_path / "out" / "undo.svg").read_text("utf-8")).replace("\xa0", " ")
    assert "$ devkit pr rebase" in text
    assert "devkit redo" in text
    curve = ET.fromstring((tmp_path / "out" / "curve.svg").read_text("utf-8"))  # noqa: S314 - our own
    one, two = (
        [float(number) for number in re.split("[ ,]", line.get("points", ""))]
        for line in curve.iter("{http://www.w3.org/2000/svg}polyline")
    )
    assert one == pytest.approx(two, abs=0.11)  # in pixels, rounded: sharding changes no loss


@pytest.mark.engine  # Chromium
def test_the_page_of_a_share_is_drawn_light_and_dark(tmp_path: Path) -> None:
    pictures.main(tmp_path, "share")
    root = ET.fromstring((tmp_path / "share.svg").read_text("utf-8"))  # noqa: S314 - our own
    shots = {image.get("class"): image.get("href") for image in root.iter("{http://www.w3.org/2000/svg}image")}
    assert set(shots) == set(pictures.SCHEMES)
    assert shots["day"] != shots["night"]


def test_progress_is_not_a_part_of_a_picture() -> None:
    text = "\n\x1b[2K\x1b[32m\u2819\x1b[0m reading 0:00:00\n\x1b[?25h\n\x1b[31mno\x1b[0m\n\x1b[1A\x1b[2K  yes\n"
    assert pictures.screen(text) == ["\x1b[31mno\x1b[0m", "  yes", ""]
