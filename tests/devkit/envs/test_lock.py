"""A lock that somebody edited: what is wrong with it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.envs import lock
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"format": "1", "python": '"3.11.7"', "packages": '["einops==0.8.2"]'}


def write(folder: Path, **changes: str) -> Path:
    file = folder / "a.lock"
    file.write_text("".join(f"{name} = {value}\n" for name, value in {**GOOD, **changes}.items() if value))
    return file


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": ""}, "It has no format."),
        ({"format": "7"}, "Its format is 7, not 1."),
        ({"python": "3.11"}, "Its python is 3.11, and not a version of Python 3 in quotation marks."),
        ({"python": '"2.7"'}, "Its python is '2.7', and not a version of Python 3 in quotation marks."),
        ({"packages": '"einops"'}, "Its packages are not a list."),
        ({"packages": '["einops", "--index-url=http://x"]'}, "Among its packages '--index-url=http://x' is not one."),
        ({"index": "3"}, "Its index is not an address."),
        ({"sha256": "3"}, "Its sha256 is not a table."),
    ],
)
def test_what_is_wrong_with_a_lock_is_said(changes: dict[str, str], why: str, tmp_path: Path) -> None:
    assert lock.read(write(tmp_path)).packages == ("einops==0.8.2",)
    with pytest.raises(DevkitError) as refused:
        lock.read(write(tmp_path, **changes))
    assert (refused.value.what, refused.value.why) == (f"{tmp_path / 'a.lock'} is not a lock of an environment", why)
