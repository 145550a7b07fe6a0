"""Which files count, which of their lines, and when the bar is cleared."""

from __future__ import annotations

import pytest

from devkit.builds.changes import Base
from devkit.builds.coverage import CoverageReport, File, Lines, Unmeasured, judge, language

BASE = Base("abc", "upstream/develop")


def lines(executable: range, executed: range) -> Lines:
    return Lines(frozenset(executable), frozenset(executed))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("python/paddle/nn/layer/common.py", "Python"),
        ("python/paddle/tests/test_x.py", None),
        ("python/paddle/utils/test_it.py", None),
        ("python/paddle/_typing/basic.pyi", None),
        ("python/setup.py", None),
        ("test/legacy_test/test_diff_op.py", None),
        ("paddle/phi/kernels/abs_kernel.cc", "C++"),
        ("paddle/phi/kernels/gpu/abs_kernel.cu", "C++"),
        ("paddle/phi/core/tensor.h", "C++"),
        ("paddle/common/errors_test.cc", None),
        ("paddle/fluid/inference/tests/api/x.cc", None),
        ("paddle/phi/ops/yaml/ops.yaml", None),
        ("paddle/phi/api/generator/api_gen.py", None),
    ],
)
def test_what_counts_is_what_paddles_ci_counts(path: str, expected: str | None) -> None:
    assert language(path) == expected


def test_only_changed_lines_that_can_run_count() -> None:
    changed = {"python/paddle/a.py": frozenset(range(10, 20)), "python/paddle/b.py": frozenset({1})}
    measured = {
        "python/paddle/a.py": lines(range(1, 16), range(1, 13)),
        "python/paddle/b.py": lines(range(2, 4), range(0)),
    }
    found = judge(BASE, 90, changed, measured, {"paddle/x.cc": "the build has no WITH_COVERAGE"})
    assert found.files == (File("python/paddle/a.py", "Python", 6, 3, ((13, 15),)),)
    assert found.unmeasured == (Unmeasured("paddle/x.cc", "C++", "the build has no WITH_COVERAGE"),)
    assert found.counts() == (3, 6)
    assert found.as_dict()["totals"]["all"] == {"covered": 3, "changed": 6, "percent": 50.0}


def test_each_language_must_clear_the_bar_by_itself() -> None:
    python = File("python/paddle/a.py", "Python", 1000, 1000, ())
    compiled = File("paddle/a.cc", "C++", 10, 8, ((1, 2),))
    assert CoverageReport(BASE, 90, (python, compiled)).below() == ["C++"]
    assert CoverageReport(BASE, 80, (python, compiled)).below() == []
    assert CoverageReport(BASE, 90, (File("paddle/a.cc", "C++", 10, 9, ((1, 1),)),)).below() == []
    assert CoverageReport(BASE, 100, ()).below() == []
    assert CoverageReport(BASE, 100, ()).as_dict()["totals"]["Python"]["percent"] is None
