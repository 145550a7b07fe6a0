"""devkit config as a user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.config import SETTINGS

if TYPE_CHECKING:
    from tests.conftest import Devkit

REPOSITORY = Path(__file__).parent.parent.parent


def test_set_get_and_where_it_came_from(devkit: Devkit, home: Path) -> None:
    result = devkit("config", "set", "runs.keep", "7")
    file = home / ".config/devkit/config.toml"
    assert (result.status, result.out, result.err) == (0, "", f"✓ runs.keep set in {file}\n")
    result = devkit("config", "get", "runs.keep")
    assert (result.out, result.err) == ("7\n", f"from {file}\n")
    assert json.loads(devkit("config", "get", "runs.keep", "--json").out) == {"value": 7, "from": str(file)}


def test_show_lists_every_setting_with_its_origin(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "devkit.toml").write_text("[pr]\nfork-remote = 'mine'\n")
    result = devkit("config", "show", env={"DEVKIT_RUNS_KEEP": "9", "COLUMNS": "400"})
    shown = {line.split()[0]: line.split()[1:3] for line in result.out.splitlines()[2:]}
    assert list(shown) == [*SETTINGS, "project:"]
    assert shown["env.default"] == ["(none)", "default"]
    assert shown["pr.fork-remote"] == ["mine", "project"]
    assert shown["project:"] == [str(tmp_path / "devkit.toml")]
    assert shown["runs.keep"] == ["9", "DEVKIT_RUNS_KEEP"]
    values = json.loads(devkit("config", "show", "--json").out)
    assert values["pr.fork-remote"] == {"value": "mine", "from": str(tmp_path / "devkit.toml")}


def test_set_says_what_still_overrules_it(devkit: Devkit) -> None:
    result = devkit("config", "set", "runs.keep", "7", env={"DEVKIT_RUNS_KEEP": "9"})
    assert result.err.endswith("! DEVKIT_RUNS_KEEP still sets it to 9\n")


def test_a_password_comes_by_standard_input_and_is_never_shown(devkit: Devkit, home: Path) -> None:
    done = devkit("config", "set", "proxy.url", "-", data="http://me:geheim@proxy:8080\n")
    shown = [devkit("config", *words) for words in (["show"], ["get", "proxy.url"], ["show", "--json"])]
    assert all("geheim" not in result.out + result.err for result in [done, *shown])
    file = home / ".config/devkit/config.toml"
    assert "geheim" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_wrong_value_changes_nothing(devkit: Devkit, home: Path) -> None:
    result = devkit("config", "set", "runs.keep", "many")
    assert (result.status, result.out) == (2, "")
    assert result.err == "✗ runs.keep is a whole number, not 'many'\n  It came from the command line.\n"
    assert not (home / ".config/devkit").exists()


def test_a_broken_file_says_how_to_mend_it(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "devkit.toml").write_text("[runs\n")
    result = devkit("config", "show")
    assert result.status == 1
    assert result.err.startswith(f"✗ {tmp_path / 'devkit.toml'} does not parse as TOML\n")
    assert f"→ $EDITOR {tmp_path / 'devkit.toml'}" in result.err


def test_paths_of_the_files(devkit: Devkit, home: Path, tmp_path: Path) -> None:
    assert devkit("config", "path").out == f"{home / '.config/devkit/config.toml'}\n"
    assert devkit("config", "path", "--project").out == f"{tmp_path / 'devkit.toml'}\n"


def test_the_project_overrules_the_user(devkit: Devkit, tmp_path: Path) -> None:
    devkit("config", "set", "runs.keep", "7")
    devkit("config", "set", "runs.keep", "8", "--project")
    below = tmp_path / "a"
    below.mkdir()
    assert devkit("config", "get", "runs.keep", cwd=below).out == "8\n"


def test_a_file_that_is_there_keeps_its_mode_and_a_new_one_of_the_project_is_for_all(
    devkit: Devkit, tmp_path: Path
) -> None:
    assert devkit("config", "set", "--project", "build.jobs", "3").status == 0
    file = tmp_path / "devkit.toml"
    assert file.stat().st_mode & 0o777 == 0o666 & ~_umask()
    for mode in (0o644, 0o664, 0o600):
        file.chmod(mode)
        assert devkit("config", "set", "--project", "build.jobs", "4").status == 0
        assert file.stat().st_mode & 0o777 == mode


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def test_a_file_behind_a_link_is_changed_and_the_link_stays(devkit: Devkit, home: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles.toml").write_text("# mine\n")
    link = home / ".config/devkit/config.toml"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "dotfiles.toml")
    assert devkit("config", "set", "runs.keep", "9").status == 0
    assert link.is_symlink()
    assert (tmp_path / "dotfiles.toml").read_text() == "# mine\n\n[runs]\nkeep = 9\n"


def test_writers_at_once_lose_nothing(devkit: Devkit, tmp_path: Path) -> None:
    values = {"runs.keep": "3", "runs.max-mib": "4", "undo.keep": "5", "undo.max-mib": "6", "build.jobs": "7"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "devkit", "config", "set", key, value],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.DEVNULL,
        )
        for key, value in values.items()
    ]
    assert [process.wait(30) for process in started] == [0] * len(values)
    found = json.loads(devkit("config", "show", "--json").out)
    assert {key: found[key]["value"] for key in values} == {key: int(value) for key, value in values.items()}


def test_a_dry_run_prints_what_the_run_writes_and_refuses_what_it_refuses(
    devkit: Devkit, home: Path, tmp_path: Path
) -> None:
    file, ours = home / ".config/devkit/config.toml", tmp_path / "devkit.toml"
    lines = [
        (("set", "runs.keep", "7"), f"{file}: set [runs] keep = 7"),
        (("set", "proxy.bypass", ".a,.b"), f'{file}: set [proxy] bypass = [".a", ".b"]'),
        (("set", "runs.keep", "many"), ""),
        (("set", "runs.kept", "7"), ""),
        (("set", "--project", "proxy.url", "http://x"), ""),
        (("set", "--project", "build.jobs", "3"), f"{ours}: set [build] jobs = 3"),
        (("unset", "runs.keep"), f"{file}: remove [runs] keep"),
        (("unset", "runs.keep"), ""),
        (("unset", "nothing"), ""),
    ]
    for words, planned in lines:
        before = {path: path.read_text() for path in (file, ours) if path.exists()}
        dry = devkit("config", *words, "--dry-run")
        assert {path: path.read_text() for path in (file, ours) if path.exists()} == before
        real = devkit("config", *words)
        assert (dry.status, dry.out) == (real.status, f"{planned}\n" if planned else "")
        if not planned:
            assert dry.err == real.err
    ours.write_text("[build\n")
    for flags in ((), ("--dry-run",)):
        assert devkit("config", "set", "--project", "build.jobs", "3", *flags).status == 1


def test_a_password_is_not_in_what_a_dry_run_prints(devkit: Devkit) -> None:
    result = devkit("config", "set", "proxy.url", "-", "--dry-run", data="http://me:geheim@proxy:8080\n")
    assert result.status == 0
    assert "geheim" not in result.out + result.err
