"""What pip is told of indexes is told to uv, where uv is told nothing else."""

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


def test_file_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    conf(tmp_path, "no section = 1\n")
    assert "UV_DEFAULT_INDEX" not in variables(tmp_path)
    assert "UV_DEFAULT_INDEX" not in variables(tmp_path, PIP_CONFIG_FILE="/dev/null")
