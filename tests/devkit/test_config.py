"""Settings: which of several holds, and what a wrong one says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from devkit.config import SETTINGS, Config, Setting, parse
from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

KEY = "runs.keep"


def config(tmp_path: Path, *, user: str = "", project: str | None = None, **environ: str) -> Config:
    (tmp_path / "user.toml").write_text(user)
    if project is not None:
        (tmp_path / "devkit.toml").write_text(project)
    return Config(tmp_path / "user.toml", tmp_path / "devkit.toml" if project is not None else None, environ)


def test_variable_over_project_over_user_over_default(tmp_path: Path) -> None:
    user, project = "[runs]\nkeep = 1\n", "[runs]\nkeep = 2\n"
    assert config(tmp_path).lookup(KEY).value == SETTINGS[KEY].default
    assert config(tmp_path).lookup(KEY).origin == "default"
    assert config(tmp_path, user=user).lookup(KEY).value == 1
    found = config(tmp_path, user=user, project=project).lookup(KEY)
    assert (found.value, found.origin) == (2, str(tmp_path / "devkit.toml"))
    found = config(tmp_path, user=user, project=project, DEVKIT_RUNS_KEEP="3").lookup(KEY)
    assert (found.value, found.origin) == (3, "DEVKIT_RUNS_KEEP")


def test_a_project_that_sets_something_else_leaves_the_users_value(tmp_path: Path) -> None:
    assert config(tmp_path, user="runs.keep = 1", project="[runs]\nmax-mib = 5\n").get(KEY) == 1


@pytest.mark.parametrize("key", [key for key, setting in SETTINGS.items() if not setting.project_sets])
def test_a_project_names_no_program_to_run_and_no_place_for_secrets(tmp_path: Path, key: str) -> None:
    section, name = key.split(".")
    hostile = '["touch", "pwned"]' if isinstance(SETTINGS[key].default, list) else '"http://evil.example"'
    settings = config(tmp_path, project=f"[{section}]\n{name} = {hostile}\n")
    assert settings.lookup(key).origin == "default"
    with pytest.raises(UsageError, match=f"a project cannot set {key}"):
        settings.set(key, "http://evil.example", project=True)


def test_the_projects_file_is_found_from_below(tmp_path: Path) -> None:
    (tmp_path / "devkit.toml").write_text("runs.keep = 9\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert Config.load(below).get(KEY) == 9


def test_every_setting_has_its_own_variable() -> None:
    variables = [setting.variable for setting in SETTINGS.values()]
    assert len(set(variables)) == len(variables)
    assert SETTINGS["runs.max-mib"].variable == "DEVKIT_RUNS_MAX_MIB"


@pytest.mark.parametrize("text", ["three", "", "1.5"])
def test_a_variable_that_is_no_number_is_a_usage_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="is a whole number") as caught:
        config(tmp_path, DEVKIT_RUNS_KEEP=text).get(KEY)
    assert "DEVKIT_RUNS_KEEP" in caught.value.why


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("runs.keep", "runs.keep = 'many'"),
        ("runs.keep", "runs.keep = true"),
        ("runs.keep", "runs.keep = 1.5"),
        ("proxy.bypass", "proxy.bypass = 'a,b'"),
        ("proxy.bypass", "proxy.bypass = [1, 2]"),
        ("env.default", "env.default = ['x']"),
        ("runs.keep", "runs = 3"),
    ],
)
def test_a_file_of_the_wrong_type_says_where_and_what(tmp_path: Path, key: str, text: str) -> None:
    with pytest.raises(DevkitError) as caught:
        config(tmp_path, user=text).get(key)
    assert str(tmp_path / "user.toml") in f"{caught.value.what} {caught.value.why}"
    assert caught.value.remedies


@pytest.mark.parametrize("data", [b"[runs", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_does_not_parse_says_which_and_how_to_mend_it(tmp_path: Path, data: bytes) -> None:
    here = config(tmp_path)
    here.user_file.write_bytes(data)
    for act in (lambda: here.get(KEY), lambda: here.set(KEY, "3")):
        with pytest.raises(DevkitError, match="does not parse as TOML") as caught:
            act()
        assert str(here.user_file) in caught.value.remedies[0]
    assert here.user_file.read_bytes() == data


def test_a_file_that_may_not_be_read_is_an_error_of_the_user(tmp_path: Path) -> None:
    here = config(tmp_path)
    here.user_file.unlink()
    here.user_file.mkdir()
    with pytest.raises(DevkitError, match="cannot be read"):
        here.get(KEY)


def test_a_pipe_in_the_place_of_a_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "user.toml")
    with pytest.raises(DevkitError, match=r"user\.toml cannot be read"):
        Config(tmp_path / "user.toml", None, {}).get(KEY)


def test_an_unknown_setting_names_the_near_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        config(tmp_path).get("runs.kept")
    assert "devkit config get runs.keep" in caught.value.remedies
    with pytest.raises(UsageError) as far:
        config(tmp_path).get("zzz")
    assert far.value.remedies == ("devkit config show   lists all",)


def test_set_keeps_comments_and_other_settings(tmp_path: Path) -> None:
    here = config(tmp_path, user="# mine\n[proxy]\nurl = 'http://p:1' # work\n\n[runs]\nkeep = 1\n")
    here.set(KEY, "7")
    text = here.user_file.read_text()
    assert text == "# mine\n[proxy]\nurl = 'http://p:1' # work\n\n[runs]\nkeep = 7\n"
    assert here.get(KEY) == 7


def test_a_password_closes_the_file_that_it_is_written_into(tmp_path: Path) -> None:
    here = config(tmp_path, user="# mine\n")
    here.user_file.chmod(0o644)
    here.set(KEY, "7")
    assert here.user_file.stat().st_mode & 0o777 == 0o644
    here.set("proxy.url", "http://me:geheim@proxy:8080")
    assert here.user_file.stat().st_mode & 0o777 == 0o600


def test_unset_takes_out_what_was_set_and_nothing_else(tmp_path: Path) -> None:
    here = config(tmp_path, user="# mine\n[runs]\nkeep = 1\nmax-mib = 5\n")
    assert here.unset(KEY) == here.user_file
    assert here.user_file.read_text() == "# mine\n[runs]\nmax-mib = 5\n"
    assert here.unset(KEY) is None
    here.unset("runs.max-mib")
    assert "runs" not in here.user_file.read_text()


def test_what_has_no_effect_is_named(tmp_path: Path) -> None:
    here = config(tmp_path, user="[runs]\nkepp = 3\n[zzz]\na = 1\n", project="[proxy]\nurl = 'http://p:1'\n")
    forbidden, misspelt, unknown = here.problems()
    assert "runs.kepp" in misspelt
    assert "runs.keep is" in misspelt
    assert "zzz.a" in unknown
    assert "a project cannot set it" in forbidden


@pytest.mark.parametrize("text", ["-1", "-200"])
def test_a_negative_number_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="0 or more"):
        config(tmp_path).set(KEY, text)
    with pytest.raises(DevkitError):
        config(tmp_path, user=f"[runs]\nkeep = {text}\n").get(KEY)


@pytest.mark.parametrize("text", ["runs = 3\n", "[[runs]]\nkeep = 1\n"])
def test_set_into_what_is_no_section_is_an_error_of_the_user(tmp_path: Path, text: str) -> None:
    here = config(tmp_path, user=text)
    with pytest.raises(DevkitError):
        here.set(KEY, "7")
    assert here.user_file.read_text() == text


def test_set_into_dotted_keys(tmp_path: Path) -> None:
    here = config(tmp_path, user="runs.keep = 1\nruns.max-mib = 5\n")
    here.set(KEY, "7")
    assert (here.get(KEY), here.get("runs.max-mib")) == (7, 5)


def test_set_of_the_project_makes_its_file_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = config(tmp_path).set("pr.fork-remote", "mine", project=True)
    assert path == tmp_path / "devkit.toml"
    assert Config.load(tmp_path).get("pr.fork-remote") == "mine"


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [(True, "off", False), (False, "YES", True), (1.5, "2", 2.0), (["x"], "", []), ("x", "", "")],
)
def test_text_becomes_the_settings_type(default: bool | float | str | list[str], text: str, value: object) -> None:
    assert parse(Setting("a.b", default, ""), text, "here") == value


def test_text_that_is_no_truth_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="true or false"):
        parse(Setting("a.b", True, ""), "maybe", "here")
