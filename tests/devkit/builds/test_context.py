"""What an environment adds to a diagnosis of versions that do not belong together."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from devkit.builds.context import Companion, Here, companions, notes
from devkit.builds.diagnosis import diagnose

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit

LOG = (
    '  File "/e/site-packages/paddlex/static_infer.py", line 8, in _create\n    config.set_optimization_level(3)\n'
    "AttributeError: 'paddle.base.libpaddle.AnalysisConfig' object has no attribute 'set_optimization_level'\n"
)


def install(packages: Path, name: str, version: str, *requires: str) -> None:
    info = packages / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires), ""]))


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        ((), Companion("paddlex 3.0.1")),
        (("paddlepaddle>=3.0.0",), Companion("paddlex 3.0.1", "paddlepaddle>=3.0.0", met=False)),
        (("not a requirement ???", "PaddlePaddle<3,>=2.5"), Companion("paddlex 3.0.1", "PaddlePaddle<3,>=2.5")),
    ],
)
def test_the_paddle_that_a_package_asks_for_is_read_of_its_metadata(
    wants: tuple[str, ...], expected: Companion, tmp_path: Path
) -> None:
    install(tmp_path, "paddlepaddle-gpu", "2.6.2")
    install(tmp_path, "paddlex", "3.0.1", "numpy>=1.24", *wants)
    install(tmp_path, "numpy", "1.26.4")
    (tmp_path / "half-1.0.dist-info").mkdir()
    assert companions(tmp_path) == ("paddlepaddle-gpu 2.6.2", (expected,))


def test_without_paddle_nothing_is_said_of_it(tmp_path: Path) -> None:
    install(tmp_path, "paddlex", "3.0.1", "paddlepaddle>=3.0.0")
    assert companions(tmp_path) == ("", ())


def test_versions_that_do_not_belong_together_are_named_with_the_line_that_mends_them(
    devkit: Devkit, tmp_path: Path
) -> None:
    python = tmp_path / "e" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    packages = tmp_path / "e" / "lib" / "python3.11" / "site-packages"
    install(packages, "paddlepaddle", "2.6.2")
    install(packages, "paddlex", "3.0.1", "paddlepaddle>=3.0.0")
    told = devkit("explain", "-", "--env", str(tmp_path / "e"), "--json", data=LOG)
    (note,) = json.loads(told.out)["notes"]
    assert json.loads(told.out)["causes"][0]["id"] == "paddle-version"
    assert note["text"].endswith("has paddlepaddle 2.6.2; paddlex 3.0.1 asks for paddlepaddle>=3.0.0")
    assert note["remedy"].startswith(f"uv pip install --python {python} 'paddlepaddle>=3.0.0'   ")


@pytest.mark.parametrize(
    ("paddle", "companion", "text", "line"),
    [
        (
            "paddlepaddle-gpu 2.6.2",
            Companion("paddlex 3.0.1", "paddlepaddle>=3.0.0", met=False),
            "try has paddlepaddle-gpu 2.6.2; paddlex 3.0.1 asks for paddlepaddle>=3.0.0",
            "devkit env upgrade try paddlepaddle-gpu",
        ),
        (
            "paddlepaddle 2.6.2",
            Companion("paddleocr 3.1.0"),
            "try has paddlepaddle 2.6.2; the metadata of paddleocr 3.1.0 does not say which it wants",
            "uv pip install --python /e/bin/python --dry-run --upgrade paddlepaddle",
        ),
        (
            "paddlepaddle 3.0.0",
            Companion("paddlex 3.0.1", "paddlepaddle>=3.0.0"),
            (
                "try has paddlepaddle 3.0.0; paddlex 3.0.1 asks for paddlepaddle>=3.0.0, which it is: "
                "another Paddle is imported, or the code is not of that package"
            ),
            "",
        ),
    ],
)
def test_each_state_of_the_versions_has_its_note(paddle: str, companion: Companion, text: str, line: str) -> None:
    here = Here(1 << 40, 1 << 40, 1 << 40, "try", python="/e/bin/python", paddle=paddle, companions=(companion,))
    (note,) = notes(diagnose(LOG), here)
    assert (note.text, note.remedy.partition("   ")[0]) == (text, line)
