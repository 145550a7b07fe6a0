"""Pythons are found where their installers put them, and asked what they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.envs import interpreters
from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from devkit.app import App

MINOR = sys.version_info.minor
REAL = Path(os.path.realpath(sys.executable))


def link(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.symlink_to(REAL)
    return path


@pytest.mark.parametrize(
    ("place", "source"),
    [
        (".pyenv/versions/3.0.0/bin", "pyenv"),
        ("miniconda3/envs/work/bin", "conda"),
        (".local/share/uv/python/cpython-3/bin", "uv"),
        (".asdf/installs/python/3/bin", "asdf"),
        (".local/share/mise/installs/python/3/bin", "mise"),
    ],
)
def test_pythons_of_every_installer_are_found(place: str, source: str, tmp_path: Path) -> None:
    path = link(tmp_path / place / f"python3.{MINOR}")
    found = interpreters.candidates({"PATH": ""}, tmp_path)
    ours = [candidate for candidate in found if candidate.path.resolve() == REAL]
    assert len(ours) == 1
    assert (ours[0].path == path and ours[0].source == source) or str(ours[0].path).startswith(("/usr/", "/opt/"))


def test_shims_and_oddly_named_pythons_are_passed_over(tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    shims.mkdir()
    for folder, name in ((shims, f"python3.{MINOR}"), (tmp_path, f"python3.{MINOR}t"), (tmp_path, "python3")):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    found = interpreters.candidates({"PATH": f"{shims}:{tmp_path}"}, tmp_path / "nobody")
    assert not [candidate for candidate in found if tmp_path in candidate.path.parents]


def test_newest_suitable_python_is_chosen_and_a_broken_one_passed_over(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(tmp_path / ".pyenv" / "versions" / "ours" / "bin" / f"python3.{MINOR}")
    broken = tmp_path / ".pyenv" / "versions" / "broken" / "bin" / f"python3.{MINOR + 1}"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(
        interpreters, "folders", lambda *_: [(path, "pyenv") for path in tmp_path.glob(".pyenv/*/*/bin")]
    )
    found = interpreters.find(app.runner, "", (9, MINOR + 1))
    assert found.version == sys.version_info[:3]
    assert found.path.is_file()


def test_python_by_version_and_by_path(app: App) -> None:
    by_path = interpreters.find(app.runner, sys.executable, (9, 20))
    assert by_path.version == sys.version_info[:3]
    assert interpreters.find(app.runner, sys.prefix, (9, 20)).version == sys.version_info[:3]


def test_unknown_pythons_say_what_there_is_and_what_to_type(app: App, tmp_path: Path) -> None:
    with pytest.raises(DevkitError, match=r"there is no Python 3\.9\.99") as none:
        interpreters.find(app.runner, "3.9.99", (9, 13))
    assert "There is" in none.value.why
    assert any("pyenv install 3.9.99" in remedy for remedy in none.value.remedies)
    with pytest.raises(DevkitError, match=r"3\.8 does not suit"):
        interpreters.find(app.runner, "3.8", (9, 13))
    with pytest.raises(UsageError, match="not a version and no path"):
        interpreters.find(app.runner, "snake", (9, 13))
    with pytest.raises(DevkitError, match="there is no"):
        interpreters.find(app.runner, str(tmp_path / "python"), (9, 13))
    with pytest.raises(DevkitError, match="not a CPython"):
        interpreters.find(app.runner, "/bin/true", (9, 13))
    with pytest.raises(DevkitError, match="is Python 3"):
        interpreters.find(app.runner, sys.executable, (MINOR + 1, MINOR + 1))
