"""Lines about environments, on this machine's Pythons and in a Docker engine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from devkit.envs.container import IMAGES
from tests.commands.env.conftest import _shared_cache, bundled, engine, uv_cache
from tests.commands.env.test_bundle import mirror

from .lines import type_walk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.env.conftest import Engine

__all__ = ["_shared_cache", "bundled", "engine", "mirror", "uv_cache"]  # fixtures


@pytest.mark.slow
def test_lines_about_environments_are_run_as_they_stand(
    mirror: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", mirror["UV_PYTHON_DOWNLOADS_JSON_URL"])
    (tmp_path / "work").mkdir()
    type_walk("environments.sh", tmp_path / "work", tmp_path / "log", 600)


@pytest.mark.engine
def test_lines_about_containers_are_run_as_they_stand(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    engine.docker("tag", engine.image, IMAGES["cpu"])
    work = tmp_path / "work"
    (work / ".git").mkdir(parents=True)
    try:
        type_walk("containers.sh", work, tmp_path / "log", 120)
    finally:
        engine.docker("rm", "-f", *engine.docker("ps", "-aq").split(), check=False)
        for image in (IMAGES["cpu"], "mine:1", "paddle-dev:with-nccl"):
            engine.docker("rmi", "-f", image, check=False)
        shutil.rmtree(work)
