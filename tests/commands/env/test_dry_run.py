"""What --dry-run prints of an environment's commands is what they do: the same status, lines and refusals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.both_ways import never_started

if TYPE_CHECKING:
    from tests.commands.env.conftest import Engine, Index
    from tests.conftest import Devkit
    from tests.forks import Result


def everything(*roots: Path) -> set[tuple[str, int]]:
    """Return all that is below folders, but for devkit's memory of which Python answered what."""
    return {
        (str(path), path.lstat().st_mtime_ns if path.is_file() else 0)
        for root in roots
        for folder, below, names in os.walk(root)
        for path in (Path(folder, name) for name in (*below, *names))
        if ".cache" not in path.parts
    }


def both(devkit: Devkit, *words: str, watched: tuple[Path, ...]) -> tuple[list[str], Result]:
    """Run a line with --dry-run and without; return the planned lines and what the run said."""
    before = everything(*watched)
    dry = devkit(*words, "--dry-run")
    assert everything(*watched) == before, "a dry run changed something"
    real = devkit(*words, "-v")
    assert dry.status == real.status, (dry, real)
    said = [line for line in real.err.splitlines() if not line.startswith("$ ")]
    if dry.status:
        assert (dry.out, dry.err.splitlines()) == ("", said)
    return dry.out.splitlines(), real


def test_a_plan_is_what_the_run_does_and_refuses_what_it_refuses(
    devkit: Devkit, index: Index, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    for name in ("one", "two"):
        index.add(name, "1.0")
    (tmp_path / "work").mkdir()
    watched = (tmp_path / "work", home)

    def line(*words: str, status: int = 0, programs: bool = True) -> list[str]:
        planned, done = both(devkit, *words, watched=watched)
        assert done.status == status, done.err
        if status == 0 and programs:
            assert planned
            assert never_started(planned, done) == []
        return planned

    line("env", "create", "it", "--paddle", "none", "--with", "one")
    line("env", "create", "it", "--paddle", "none", status=1)
    line("env", "create", "other", "--python", "3.1", status=1)
    line("env", "create", "a/b", status=2)
    line("env", "install", "it", "two")
    line("env", "install", "it", "-r", "missing.txt", status=1)
    line("env", "install", "it", status=1)  # a package of this name for the .venv, which is not there
    line("env", "upgrade", "it", "one")
    line("env", "upgrade", "nowhere", "one", status=1)
    line("env", "uninstall", "it", "two")
    line("env", "clone", "it", "second")
    line("env", "clone", "it", "it", status=1)
    line("env", "bundle", "nowhere", status=1)
    folder = home / ".local/share/devkit/envs/it"
    assert line("env", "adopt", str(tmp_path / "work"), status=1) == []
    line("env", "adopt", "/usr", status=1)
    assert line("env", "remove", "it", programs=False) == [f"rm -r -- {folder}"]
    assert not folder.exists()
    line("env", "remove", "it", status=1)


@pytest.mark.engine
def test_a_plan_for_a_container_is_what_the_engine_is_asked_for(
    devkit: Devkit, engine: Engine, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    (tmp_path / ".git").mkdir()
    (tmp_path / "file").write_text("text")

    def line(*words: str, status: int = 0) -> list[str]:
        planned, done = both(devkit, *words, watched=(tmp_path, home))
        assert done.status == status, done.err
        return planned

    try:
        assert line("env", "create", "box", "--docker", "--image", engine.image)[0].startswith("docker run")
        line("env", "create", "box", "--docker", "--image", engine.image, status=1)
        (name,) = engine.docker("ps", "--format", "{{.Names}}").split()
        assert line("env", "cp", "file", "box:/etc/file") == [f"docker cp -- file {name}:/etc/file"]
        line("env", "cp", "missing", "box:/etc/file", status=1)
        line("env", "cp", "box:/etc/file", "no/such/folder/file", status=1)
        line("env", "cp", "file", "file", status=2)
        line("env", "commit", "box", "Not:An:Image", status=2)
        assert line("env", "commit", "box", "devkit-test:kept")[0].startswith("docker commit --change")
        line("env", "remove", "box", status=1)  # a file was changed in it
        assert line("env", "stop", "box") == [f"docker stop -t 5 {name}"]
        assert line("env", "stop", "box") == []
        line("env", "stop", "nowhere", status=1)
        assert line("env", "remove", "box", "--yes") == [f"docker rm --force --volumes {name}"]
        assert engine.docker("ps", "-aq") == ""
    finally:
        left = engine.docker("ps", "-aq").split()
        if left:
            engine.docker("rm", "-f", *left)
        engine.docker("rmi", "-f", "devkit-test:kept", check=False)
