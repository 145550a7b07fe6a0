from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.errors import DevkitError, UsageError
from devkit.launching.request import Script, check_nodes, ranks_here

if TYPE_CHECKING:
    from pathlib import Path


def test_a_script_and_its_own_flags(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    assert Script.parse(["train.py", "--lr", "1"], tmp_path).argv == ("train.py", "--lr", "1")
    assert Script.parse(["python3", "-u", "train.py", "-u"], tmp_path).argv == ("train.py", "-u")
    assert Script.parse(["python", "-m", "pkg.train", "x"], tmp_path).argv == ("-m", "pkg.train", "x")
    assert Script.parse(["-m", "pkg"], tmp_path).name == "pkg"
    assert Script(("a/tr\nain.py",)).name == r"tr\nain.py"


def test_a_folder_with_a_main_is_a_script(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    with pytest.raises(DevkitError, match="is a folder"):
        Script.parse(["app"], tmp_path)
    (tmp_path / "app" / "__main__.py").touch()
    assert Script.parse(["app", "1"], tmp_path).argv == ("app/__main__.py", "1")


@pytest.mark.parametrize("words", [[], ["-m"], ["--lr", "3"]])
def test_words_that_name_no_script_are_a_matter_of_usage(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Script.parse(words, tmp_path)


def test_what_is_not_there_or_not_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/bash\npython train.py\n")
    with pytest.raises(DevkitError, match="there is no script"):
        Script.parse(["train.py"], tmp_path)
    (tmp_path / "program").write_bytes(b"\x7fELF\0\0")
    for name in ("run.sh", "program"):
        with pytest.raises(DevkitError, match="not a Python script"):
            Script.parse([name], tmp_path)


def test_other_launchers_and_notebooks_are_refused_with_the_line_to_type(tmp_path: Path) -> None:
    words = ["python", "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "my train.py", "--lr", "1"]
    with pytest.raises(UsageError, match=r"paddle\.distributed\.launch starts ranks itself") as refused:
        Script.parse(words, tmp_path)
    assert refused.value.remedies == ("devkit launch --nproc 2 -- 'my train.py'",)
    with pytest.raises(UsageError, match="torchrun starts ranks itself"):
        Script.parse(["torchrun", "--nproc_per_node", "2", "train.py"], tmp_path)
    (tmp_path / "-try.ipynb").touch()
    with pytest.raises(DevkitError, match="is a notebook") as notebook:
        Script.parse(["./-try.ipynb"], tmp_path)
    assert notebook.value.remedies[0].startswith("jupyter nbconvert --to script ./-try.ipynb")


def test_ranks_are_one_on_the_cpu_and_one_a_gpu() -> None:
    assert (ranks_here(None, 0), ranks_here(3, 0), ranks_here(None, 4), ranks_here(2, 4)) == (1, 3, 4, 2)
    for count, gpus in ((0, 0), (5, 4)):
        with pytest.raises(UsageError):
            ranks_here(count, gpus)


@pytest.mark.parametrize("nodes", [(0, 0, ""), (2, 2, "a:1"), (2, 0, ""), (2, 0, "a"), (2, 0, "a:99999")])
def test_machines_that_cannot_be(nodes: tuple[int, int, str]) -> None:
    with pytest.raises(UsageError):
        check_nodes(*nodes)
    check_nodes(1, 0, "")
    check_nodes(2, 1, "a:29500")
