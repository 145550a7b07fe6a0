"""Which file of an overlay is whose, what a run of it changes, and what it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from devkit.app import App
from devkit.builds.checkout import has_commit
from devkit.builds.overlay import Near, OverlayStep, apply, check_own, is_compiled, present, refuse, step, wanted
from devkit.errors import DevkitError

ROOT, PACKAGE = Path("/tree"), Path("/wheel")
WHEEL = ("paddlepaddle 3.3.1", "abcdef1234")


@pytest.mark.parametrize(
    ("path", "compiled"),
    [
        ("paddle/phi/kernels/abs_kernel.cc", True),
        ("paddle/phi/kernels/gpu/abs_kernel.cu", True),
        ("paddle/phi/ops/yaml/ops.yaml", True),
        ("paddle/phi/api/generator/api_gen.py", True),
        ("paddle/fluid/framework/framework.proto", True),
        ("CMakeLists.txt", True),
        ("cmake/flags.cmake", True),
        ("third_party/eigen3", True),
        ("python/setup.py.in", True),
        ("python/paddle/nn/layer/common.py", False),
        ("python/paddle/_typing/basic.pyi", False),
        ("test/legacy_test/test_diff_op.py", False),
        ("test/cpp/phi/test_x.cc", False),
        ("test/CMakeLists.txt", False),
        ("README.md", False),
        ("paddle/phi/README.md", False),
    ],
)
def test_a_change_reaches_compiled_code_or_it_does_not(path: str, compiled: bool) -> None:
    assert is_compiled(path) is compiled


def test_the_trees_file_hides_the_wheels_and_what_was_deleted_stays_deleted() -> None:
    links = wanted(
        ["__init__.py", "new.py"],
        ["__init__.py", "base/libpaddle.so", "generated.py", "deleted.py"],
        {"__init__.py", "deleted.py"},
        root=ROOT,
        package=PACKAGE,
    )
    assert links == {
        "base/libpaddle.so": PACKAGE / "base/libpaddle.so",
        "generated.py": PACKAGE / "generated.py",
        "__init__.py": ROOT / "__init__.py",
        "new.py": ROOT / "new.py",
    }


def test_without_the_wheels_commit_what_only_the_wheel_has_is_kept() -> None:
    assert "deleted.py" in wanted([], ["deleted.py"], None, root=ROOT, package=PACKAGE)


def test_a_step_makes_what_is_new_or_leads_elsewhere_and_drops_the_rest(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    folder = tmp_path / "overlay"
    apply(folder, step({"x/one.py": a, "two.py": b}, present(folder)))
    assert present(folder) == {"x/one.py": a, "two.py": b}
    change = step({"two.py": c, "three.py": a}, present(folder))
    assert change == OverlayStep({"two.py": c, "three.py": a}, ("x/one.py",))
    apply(folder, change)
    assert present(folder) == {"two.py": c, "three.py": a}
    assert not (folder / "paddle" / "x").exists()
    assert step({"two.py": c, "three.py": a}, present(folder)) == OverlayStep({}, ())


def test_ones_own_compiled_change_is_refused() -> None:
    with pytest.raises(DevkitError, match="touches compiled code") as caught:
        check_own(("paddle/a.cc",))
    assert caught.value.why == "paddle/a.cc"
    check_own(())


def test_upstreams_compiled_changes_are_refused() -> None:
    near = Near(known=True, ahead=7, drifted=tuple(f"paddle/{name}.cc" for name in "abcde"))
    with pytest.raises(DevkitError, match="compiled code changed since paddlepaddle") as caught:
        refuse(near, *WHEEL)
    assert caught.value.why == "7 commits later, 5 files of it: paddle/a.cc, paddle/b.cc, paddle/c.cc and 2 more"


def test_an_unknown_commit_is_refused() -> None:
    with pytest.raises(DevkitError, match="how near") as caught:
        refuse(Near(known=False), *WHEEL)
    assert caught.value.remedies[0] == "git fetch https://github.com/PaddlePaddle/Paddle.git abcdef1234"
    refuse(Near(known=True), *WHEEL)


def test_a_clone_without_contents_asks_its_remote_for_no_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        line = ["git", "-c", "user.name=A", "-c", "user.email=a@example.com", *words]
        return subprocess.run(line, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    git("init", "-q", "remote")
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        git("-C", "remote", "config", key, "true")
    git("-C", "remote", "commit", "-q", "--allow-empty", "-m", "Begin")
    git("clone", "-q", "--filter=blob:none", f"file://{tmp_path}/remote", "clone")
    git("-C", "remote", "commit", "-q", "--allow-empty", "-m", "Later")
    begin, later = git("-C", "clone", "rev-parse", "HEAD"), git("-C", "remote", "rev-parse", "HEAD")
    runner = App().runner
    assert has_commit(runner, tmp_path / "clone", begin)
    assert not has_commit(runner, tmp_path / "clone", later)  # git cat-file -e would fetch it
