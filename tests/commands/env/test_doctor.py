"""``devkit env doctor`` on environments that are broken as they break in life."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.env.conftest import Index
    from tests.conftest import Devkit


CLEAN = {"PYTHONPATH": ""}  # by which other tests find this checkout


def test_numpy_too_new_and_a_lost_device_side_are_fixed(devkit: Devkit, index: Index, home: Path) -> None:
    index.add("paddlepaddle", "3.3.1", body="")
    index.add("setuptools", "80.0")
    for version in ("2.3.0", "2.4.1"):
        index.add("numpy", version)
    at = {**CLEAN, "UV_DEFAULT_INDEX": index.url}
    words = ("env", "create", "work", "--python", sys.executable, "--paddle", "none")
    made = devkit(*words, "--with", "paddlepaddle setuptools numpy==2.4.1", "--index-url", index.url, "--no-verify")
    assert made.status == 0, made.err
    packages = next((home / ".local/share/devkit/envs/work/lib").glob("python3*/site-packages"))
    (packages / "paddle.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')\n")
    (packages / "devkit-device-side.pth").unlink()
    sick = devkit("env", "doctor", "work", "--json", env=CLEAN)
    assert sick.status == 4
    assert {load["about"]: load["state"] for load in json.loads(sick.out)} == {
        "interpreter": "fine", "Paddle": "fine", "setuptools": "fine", "numpy": "broken", "devkit": "look",
        "computes": "broken",
    }  # fmt: skip
    fixed = devkit("env", "doctor", "work", "--fix", env=at)
    assert fixed.status == 4, fixed.out + fixed.err
    assert "0 to look at, 1 broken" in fixed.out
    assert "libgomp is missing" in fixed.out
    assert "apt install libgomp1" in fixed.out
    assert devkit("env", "run", "work", "--", "python", "-c", "import devkit.kernels.protocol").status == 0
    assert (packages / "numpy-2.3.0.dist-info").is_dir()


def test_pip_that_is_missing_or_leads_to_a_devkit_that_is_gone_is_put_in(devkit: Devkit, home: Path) -> None:
    assert devkit("env", "create", "work", "--python", sys.executable, "--paddle", "none").status == 0
    folder = home / ".local/share/devkit/envs/work"
    packages = next(folder.glob("lib/python3*/site-packages"))
    (packages / "devkit-pip.pth").unlink()  # as an earlier devkit made it
    sick = devkit("env", "doctor", "work", env=CLEAN)
    assert "it has no pip" in sick.out
    assert "devkit env doctor work --fix" in sick.out
    assert "it has no pip" not in devkit("env", "doctor", "work", "--fix", env=CLEAN).out
    assert "of devkit" in devkit("env", "run", "work", "--", "python", "-m", "pip", "--version").out
    for path in (folder / "bin" / "pip", folder / "lib" / "devkit-pip" / "pip" / "__main__.py"):
        path.write_text(path.read_text().replace(sys.executable, "/gone/bin/python"))
    (packages / "devkit-device-side.pth").write_text("/gone\n")
    (folder / "bin" / "pip3").write_text("#!/bin/sh\necho the user\n")
    fixed = devkit("env", "doctor", "work", "--fix", env=CLEAN)
    assert "its device side is in" in fixed.out
    for words in (("pip",), ("python", "-m", "pip")):
        assert "of devkit" in devkit("env", "run", "work", "--", *words, "--version").out
    assert devkit("env", "run", "work", "--", "pip3").out == "the user\n"


def test_gone_interpreter_and_what_leaks_in_are_told(devkit: Devkit, home: Path, tmp_path: Path) -> None:
    assert devkit("env", "create", "work", "--python", sys.executable, "--paddle", "none").status == 0
    (tmp_path / "paddle").mkdir()
    (tmp_path / "paddle" / "__init__.py").touch()
    result = devkit("env", "doctor", "work", env=CLEAN)
    assert result.status == 4
    assert f"{tmp_path}/paddle is imported instead" in result.out
    assert "PYTHONSAFEPATH" in result.out
    (tmp_path / "paddle" / "__init__.py").unlink()
    (tmp_path / "paddle").rmdir()
    leaking = devkit("env", "doctor", "work", env={"PYTHONPATH": str(tmp_path)})
    assert f"{tmp_path} comes before the environment" in leaking.out
    python = home / ".local/share/devkit/envs/work/bin/python"
    python.unlink()
    python.symlink_to("/nowhere")
    gone = devkit("env", "doctor", "work", env=CLEAN)
    assert gone.status == 4
    assert "is gone" in gone.out
    assert "devkit env remove work" in gone.out
