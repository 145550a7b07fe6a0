"""The application object: what a command is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.app import App

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


def test_programs_get_the_configured_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://old:1")
    monkeypatch.setenv("DEVKIT_PROXY_URL", "http://new:2")
    environ = App().child_environment()
    assert {environ[name] for name in PROXIES} == {"http://new:2"}


def test_the_environments_own_proxy_stays_where_none_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://old:1")
    environ = App().child_environment()
    assert environ["http_proxy"] == "http://old:1"
    assert "https_proxy" not in environ


def test_the_bypass_is_added_to_no_proxy_without_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost,.corp")
    monkeypatch.setenv("DEVKIT_PROXY_BYPASS", ".bcebos.com, localhost")
    environ = App().child_environment()
    assert environ["no_proxy"] == environ["NO_PROXY"] == "localhost,.corp,.bcebos.com"


def test_a_run_is_reproduced_by_the_words_that_were_typed(home: Path) -> None:
    with App(["bench", "attn", "--heads", "8"]).start_run("bench attn", heads=8) as run:
        pass
    assert run.record["reproduce"] == "devkit bench attn --heads 8"
    assert run.record["arguments"] == {"heads": 8}
    assert run.folder.parent == home / ".local/state/devkit/runs"


def test_bounds_of_the_records_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVKIT_RUNS_KEEP", "2")
    app = App()
    for _ in range(4):
        with app.start_run("x"):
            pass
    assert len(list(app.runs.entries())) == 2
