"""What pip is told is told to uv, where uv is told nothing else; what it is not told is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.envs import pip_settings, uv

if TYPE_CHECKING:
    from pathlib import Path

MIRROR = "https://mirror.example/simple"


def conf(home: Path, text: str) -> None:
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".config" / "pip" / "pip.conf").write_text(text)


def variables(home: Path, **environ: str) -> dict[str, str]:
    return pip_settings.read({"XDG_CONFIG_DIRS": str(home / "none"), **environ}, home).variables(environ)


def test_mirror_of_pip_conf_and_of_the_shell_is_uvs_index(tmp_path: Path) -> None:
    conf(tmp_path, f"[global]\nindex-url = {MIRROR}\n[install]\ntrusted-host = mirror.example\n")
    found = variables(tmp_path)
    assert (found["UV_DEFAULT_INDEX"], found["UV_INSECURE_HOST"]) == (MIRROR, "mirror.example")
    assert variables(tmp_path, PIP_INDEX_URL="https://other/simple")["UV_DEFAULT_INDEX"] == "https://other/simple"


def test_what_uv_is_told_stays(tmp_path: Path) -> None:
    conf(tmp_path, f"[global]\nindex-url = {MIRROR}\n")
    assert "UV_DEFAULT_INDEX" not in variables(tmp_path, UV_INDEX_URL="https://own/simple")
    source = uv.Source(index_url="https://flag/simple", pip=variables(tmp_path))
    assert source.variables()["UV_DEFAULT_INDEX"] == "https://flag/simple"
    assert uv.Source(pip=variables(tmp_path)).variables()["UV_DEFAULT_INDEX"] == MIRROR


def test_further_indexes_are_asked_as_pip_asks_them(tmp_path: Path) -> None:
    found = variables(tmp_path, PIP_EXTRA_INDEX_URL="https://a/simple\n https://b/simple", PIP_FIND_LINKS="/w /x")
    assert found["UV_INDEX"] == "https://a/simple https://b/simple"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert found["UV_FIND_LINKS"] == "/w,/x"
    source = uv.Source(paddle_index="https://paddle/", pip=found)
    assert source.variables()["UV_INDEX"] == "https://paddle/ https://a/simple https://b/simple"


def test_file_that_is_not_understood_is_said(tmp_path: Path) -> None:
    conf(tmp_path, f"index-url = {MIRROR}\n")
    read = pip_settings.read({"XDG_CONFIG_DIRS": str(tmp_path / "none")}, tmp_path)
    assert "index-url" not in read.values
    place = tmp_path / ".config" / "pip" / "pip.conf"
    assert f"{place}, which is not understood: File contains no section headers" in read.not_followed()
    assert pip_settings.read({"PIP_CONFIG_FILE": "/dev/null"}, tmp_path).not_followed() == ""


def test_file_of_another_encoding_is_read(tmp_path: Path) -> None:
    conf(tmp_path, "")
    place = tmp_path / ".config" / "pip" / "pip.conf"
    for before in (b"\xef\xbb\xbf", "# 中文\n".encode("gbk")):
        place.write_bytes(before + f"[global]\r\nindex-url = {MIRROR}\r\n".encode())
        assert variables(tmp_path)["UV_DEFAULT_INDEX"] == MIRROR


def test_proxy_constraints_and_patience_of_pip_are_uvs(tmp_path: Path) -> None:
    conf(
        tmp_path, "[global]\nproxy = me:secret@proxy:3128\ntimeout = 60.0\n[install]\nconstraint = /c.txt\npre = yes\n"
    )
    found = variables(tmp_path)
    assert found["https_proxy"] == found["HTTP_PROXY"] == "http://me:secret@proxy:3128"
    assert (found["UV_HTTP_TIMEOUT"], found["UV_CONSTRAINT"], found["UV_PRERELEASE"]) == ("60", "/c.txt", "allow")
    assert "https_proxy" not in variables(tmp_path, HTTPS_PROXY="http://own:1")
    # They hold for an index that is named elsewhere too; pip's own indexes do not.
    told = uv.Source(index_url="https://flag/simple", pip={**found, "UV_INDEX": "https://a/"}).variables()
    assert told["https_proxy"] == found["https_proxy"]
    assert "UV_INDEX" not in told


def test_section_of_install_overrules_the_one_for_all_commands(tmp_path: Path) -> None:
    conf(tmp_path, "[global]\nindex-url = https://all/simple\n")
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text("[install]\nindex-url = https://install/simple\n")
    assert variables(tmp_path, XDG_CONFIG_DIRS=str(tmp_path))["UV_DEFAULT_INDEX"] == "https://install/simple"


def test_what_is_not_followed_is_said(tmp_path: Path) -> None:
    conf(tmp_path, "[install]\nuser = true\nno-deps = false\ndisable-pip-version-check = yes\n")
    read = pip_settings.read({"XDG_CONFIG_DIRS": str(tmp_path / "none"), "PIP_TARGET": "/t"}, tmp_path)
    place = tmp_path / ".config" / "pip" / "pip.conf"
    assert read.not_followed() == f"not followed, of pip's settings: target (PIP_TARGET), user ({place})"
    assert pip_settings.PipSettings({}).not_followed() == ""
