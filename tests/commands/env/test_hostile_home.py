"""A home that is full, cannot be written, or has no locks: the work is done all the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.env.conftest import Index
    from tests.conftest import Devkit

NO_RECORD = "! no record of this run is kept ("


def lives_in(home: Path | str) -> dict[str, str]:
    return {"HOME": str(home), **{f"XDG_{name}_HOME": "" for name in ("CONFIG", "STATE", "DATA", "CACHE")}}


def check_the_work(devkit: Devkit, index: Index, env: dict[str, str]) -> None:
    index.add("one", "1.0")
    index.add("two", "1.0")
    made = devkit("env", "create", "--paddle", "none", "--with", "one", "--index-url", index.url, env=env)
    assert (made.status, made.err.count(NO_RECORD)) == (0, 1), made.err
    changed = devkit("env", "install", "two", "--index-url", index.url, "--json", env=env)
    assert (changed.status, changed.err.count(NO_RECORD)) == (0, 1), changed.err
    assert json.loads(changed.out)["changed"] == {"two": {"from": "", "to": "1.0"}}
    ran = devkit("env", "run", "--", "python", "-c", "import one, two; print(two.VALUE)", env=env)
    assert (ran.status, ran.out) == (0, "1\n"), ran.err
    assert devkit("env", "list", "--json", env=env).status == 0
    removed = devkit("env", "remove", ".venv", env=env)
    assert removed.status == 0, removed.err


def test_a_home_that_cannot_be_written_is_no_condition_of_the_work(
    devkit: Devkit, index: Index, tmp_path: Path
) -> None:
    check_the_work(devkit, index, lives_in("/proc/nobody"))
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize("utf8", ["0", "1"], ids=["plain locale", "UTF-8"])
def test_a_home_may_have_a_chinese_name_in_any_locale(utf8: str, devkit: Devkit, tmp_path: Path) -> None:
    home = tmp_path / "家"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf8, **lives_in(home)}
    made = devkit("env", "create", "one", "--paddle", "none", env=plain)
    assert made.status == 0, made.err
    assert devkit("env", "show", "one", env=plain).status == 0
    # Its Python starts in any locale, and finds devkit's device side.
    code = "import devkit.kernels; print(ascii(devkit.kernels.__file__))"
    ran = devkit("env", "run", "one", "--", "python", "-c", code, env={**plain, "PYTHONUTF8": "0"})
    assert ran.out.endswith("/devkit/kernels/__init__.py'\n"), ran.err
    checked = devkit("env", "doctor", "one", "--json", env=plain)
    assert checked.out, checked.err
    assert [found["state"] for found in json.loads(checked.out) if found["about"] == "devkit"] == ["fine"]


@pytest.mark.engine
def test_a_home_that_is_full_is_no_condition_of_the_work(devkit: Devkit, index: Index, full: Path) -> None:
    check_the_work(devkit, index, lives_in(full))
