"""Lines about what the forge knows of requests, and about trying them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.conftest import clone, forge, made, nobody, server
from tests.commands.pr.test_checks import LOG, environment, request, serve

from .lines import type_walk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.conftest import Clone, Forge

__all__ = ["clone", "forge", "made", "nobody", "server"]  # fixtures


@pytest.mark.parametrize("name", ["requests.sh", pytest.param("tries.sh", marks=pytest.mark.slow)])
def test_lines_about_requests_are_run_as_they_stand(
    name: str, clone: Clone, forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, base = "project/Paddle", "refs/heads/develop"
    test = "from money import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"
    forge.commit(project, base, "Add", {"money.py": "def add(a, b):\n    return a - b\n", "test_money.py": test})
    for number in (1, 7, 1007):
        files = {"money.py": "def add(a, b):\n    return a + b\n", "demo.py": "import money\n"}
        head = forge.commit(project, f"refs/pull/{number}/head", "Mend", files, on=base)
        serve(forge, f"pulls/{number}", request(number, head))
        check = {"id": 1, "name": "CI-Build", "status": "completed", "conclusion": "failure"}
        serve(forge, f"commits/{head}/check-runs", {"check_runs": [check]})
    serve(forge, "pulls", [request(7, head)])
    clone.write("build.log", LOG)
    for variable, value in environment(forge).items():
        monkeypatch.setenv(variable, value)
    type_walk(name, clone.folder, tmp_path / "log", 120)
