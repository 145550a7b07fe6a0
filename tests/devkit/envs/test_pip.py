"""What stands in for pip takes the flags that people know from pip."""

from __future__ import annotations

import pytest

from devkit.envs.pip import translated


@pytest.mark.parametrize(
    ("typed", "handed_on", "variables"),
    [
        ("install -U x --no-cache-dir", "install -U x --no-cache-dir", {}),
        ("-q install x", "install -q x", {}),
        ("--default-timeout=100 install x", "install x", {"UV_HTTP_TIMEOUT": "100"}),
        ("install x --timeout 60 --progress-bar off", "install x", {"UV_HTTP_TIMEOUT": "60"}),
        ("install x --retries 5", "install x", {"UV_HTTP_RETRIES": "5"}),
        ("install --user --prefer-binary --root-user-action=ignore -I x", "install --force-reinstall x", {}),
        ("list -o", "list --outdated", {}),
        ("freeze -l", "freeze", {}),
        ("uninstall -y x", "uninstall -y x", {}),
        ("install --timeout", "install", {"UV_HTTP_TIMEOUT": ""}),
        ("", "", {}),
    ],
)  # fmt: skip
def test_words_of_pip_are_those_of_uv(typed: str, handed_on: str, variables: dict[str, str]) -> None:
    assert translated(typed.split()) == (handed_on.split(), variables)


def test_proxy_of_pip_holds_for_uv() -> None:
    words, variables = translated(["install", "--proxy", "me:secret@proxy:3128", "x"])
    assert words == ["install", "x"]
    assert set(variables.values()) == {"http://me:secret@proxy:3128"}
    assert {"https_proxy", "HTTP_PROXY"} <= variables.keys()
