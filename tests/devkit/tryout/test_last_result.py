"""What an environment holds, as a result that is shown again depends on it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from devkit.tryout.last_result import packages

if TYPE_CHECKING:
    from pathlib import Path


def install(site: Path, name: str, record: str, source: Path | None = None) -> None:
    folder = site / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RECORD").write_text(record)
    if source:
        (folder / "direct_url.json").write_text(json.dumps({"url": f"file://{source}", "dir_info": {"editable": True}}))


def test_a_package_of_the_same_version_that_was_installed_again_is_another(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    install(site, "paddle", "a")
    before = packages(tmp_path)
    assert packages(tmp_path) == before
    install(site, "paddle", "b, of another wheel")
    assert packages(tmp_path) != before


def test_a_package_in_development_changes_with_its_sources(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "kit").mkdir(parents=True)
    (source / "kit" / "a.py").write_text("x = 1\n")
    install(tmp_path / "lib" / "python3.11" / "site-packages", "kit", "", source)
    before = packages(tmp_path)
    assert packages(tmp_path) == before
    os.utime(source / "kit" / "a.py", ns=(1, 10**19 // 5))
    assert packages(tmp_path) != before
    assert packages(None) == []
