"""Which unit tests a word or a change means."""

from __future__ import annotations

import pytest

from devkit.builds.tests import named, touched
from devkit.errors import DevkitError

FILES = ["test/legacy_test/test_diff_op.py", "test/xpu/test_diff_op.py", "test/legacy_test/test_add.py"]


def test_a_word_is_a_name_or_a_path() -> None:
    assert named(["test_add"], FILES) == ["test/legacy_test/test_add.py"]
    assert named(["test_diff_op.py", "test_add", "test_add"], FILES) == [*FILES[:2], FILES[2]]
    assert named(["test/xpu/test_diff_op.py"], FILES) == ["test/xpu/test_diff_op.py"]


def test_a_word_that_is_none_names_the_nearest() -> None:
    with pytest.raises(DevkitError, match="there is no test test_dif_op") as caught:
        named(["test_dif_op"], FILES)
    assert caught.value.remedies[0] == "devkit build test test_diff_op"


def test_a_change_touches_tests_that_name_its_module() -> None:
    texts = {
        "test/a.py": "import paddle.nn.functional as F",
        "test/b.py": "from paddle.nn import functional",
        "test/c.py": "import paddle.nn.functional_more",
        "test/d.py": "import unittest",
        "test/e.py": "import unittest",
    }
    changed = ["python/paddle/nn/functional/__init__.py", "test/e.py", "paddle/phi/a.cc", "README.md"]
    assert touched(changed, texts) == ["test/a.py", "test/b.py", "test/e.py"]
    assert touched([], texts) == []
