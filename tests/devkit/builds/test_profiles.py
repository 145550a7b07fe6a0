"""Profiles of a project, and words that make none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.builds.profiles import choose, defines, profiles
from devkit.config import Config
from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[build.profiles.x]\nextends = "nosuch"\n', "extends nosuch, which is none"),
        ('[build.profiles.x]\nextends = "x"\n', "extends itself"),
        ("[build.profiles.x]\nflags = 3\n", "is not a profile"),
        ('[build.profiles.x]\noptions = { "A B" = "1" }\n', "is not a profile"),
        ("[build]\nprofiles = 3\n", "is not a section"),
        ("[build", "does not parse"),
    ],
)
def test_a_profile_that_is_none_names_its_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "devkit.toml").write_text(text)
    with pytest.raises(DevkitError, match=said):
        profiles(Config(tmp_path / "none.toml", tmp_path / "devkit.toml"))


def test_the_profile_fits_the_machine_unless_one_is_named(tmp_path: Path) -> None:
    config = Config(tmp_path / "none.toml", None, {})
    assert choose(config, "", gpus=False).name == "cpu"
    assert choose(config, "", gpus=True).name == "gpu"
    assert choose(config, "debug", gpus=True).options["WITH_GPU"] == "OFF"
    assert choose(Config(tmp_path / "none.toml", None, {"DEVKIT_BUILD_PROFILE": "test"}), "", gpus=True).name == "test"
    with pytest.raises(UsageError, match="no profile named debg"):
        choose(config, "debg", gpus=False)


def test_every_profile_says_what_it_is_for(tmp_path: Path) -> None:
    found = profiles(Config(tmp_path / "none.toml", None, {}))
    assert {"cpu", "gpu", "debug", "test", "minimal"} <= set(found)
    assert all(profile.purpose and profile.options for profile in found.values())


def test_a_define_may_name_cmakes_type() -> None:
    assert defines(["A=1", "B:BOOL=ON", "C=x=y", "D="]) == {"A": "1", "B": "ON", "C": "x=y", "D": ""}
    for wrong in ("A", "=1", "A B=1", "A=1\n2"):
        with pytest.raises(UsageError):
            defines([wrong])
