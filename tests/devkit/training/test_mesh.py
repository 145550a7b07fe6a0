from __future__ import annotations

import pytest

from devkit.errors import UsageError
from devkit.training.mesh import parse

CUBE = parse("[[[0,1],[2,3]],[[4,5],[6,7]]]", "dp,mp,pp")


def test_ranks_that_differ_in_one_coordinate_talk_along_its_axis() -> None:
    assert CUBE.groups(0) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert CUBE.groups(1) == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert CUBE.groups(2) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert CUBE.coordinates(5) == (1, 0, 1)
    assert CUBE.notes() == []


def test_ranks_in_another_order_keep_it() -> None:
    mesh = parse("[[3, 1], [0, 2]]", "x,y")

    assert mesh.groups(0) == [[3, 0], [1, 2]]
    assert "does not see x, y" in mesh.notes()[0]


@pytest.mark.parametrize(
    ("text", "names", "complaint"),
    [
        ("[[0,1],[2]]", "dp,mp", "is ragged"),
        ("[[0,1],2]", "dp,mp", "not nested lists of ranks"),
        ("[]", "dp", "empty list"),
        ("[0,0]", "dp", "two places"),
        ('["a"]', "dp", "not nested lists"),
        ("[true, false]", "dp", "not nested lists"),
        ("[0, -1]", "dp", "not nested lists"),
        ("3", "dp", "not nested lists"),
        ("[0,1", "dp", "not nested lists"),
        ("[0,1]", "dp,mp", "has 1 axes"),
        ("[[0,1],[2,3]]", "dp,dp", "has 2 axes"),
    ],
)
def test_what_is_no_mesh_is_refused(text: str, names: str, complaint: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text, names)

    assert complaint in error.value.what
