"""Which addresses are opened through which proxy."""

from __future__ import annotations

import urllib.request

import pytest

from devkit.doctor.proxy import AROUND
from devkit.web import LOOPBACK, not_bypassed, opener


def proxies(url: str, environ: dict[str, str], **wish: frozenset[str]) -> dict[str, str]:
    """Return the proxies that an opener goes through."""
    handlers = opener(url, environ, **wish).handlers  # type: ignore[attr-defined]  # not in the stubs
    found = next((handler for handler in handlers if isinstance(handler, urllib.request.ProxyHandler)), None)
    return dict(vars(found)["proxies"]) if found is not None else {}


@pytest.mark.parametrize(
    ("bypass", "missing"),
    [
        ("", ["localhost", "127.0.0.1", ".bcebos.com"]),
        ("*", []),
        ("localhost,127.0.0.1,bcebos.com", []),
        ("LOCALHOST,127.0.0.0/8,*.bcebos.com", []),
        ("localhost,127.0.0.1", [".bcebos.com"]),
        ("localhost,127.0.0.1,.bj.bcebos.com", [".bcebos.com"]),
        ("localhost.example,127.0.0.10,xbcebos.com", ["localhost", "127.0.0.1", ".bcebos.com"]),
    ],
)
def test_gaps_of_no_proxy(bypass: str, missing: list[str]) -> None:
    assert not_bypassed([word for word in bypass.split(",") if word], AROUND) == missing


def test_an_address_is_opened_through_the_proxies_that_are_named_in_either_case() -> None:
    environ = {"http_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}
    assert proxies("https://x.test/y", environ) == {"http": "http://a:1", "https": "http://b:2"}


@pytest.mark.parametrize("bypass", ["x.test", ".test", "a, x.test", "*"])
def test_a_host_that_no_proxy_covers_is_reached_directly(bypass: str) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        assert proxies("http://x.test:8/y", {"http_proxy": "http://a:1", name: bypass}) == {}
    assert proxies("http://y.example/", {"http_proxy": "http://a:1", "no_proxy": "x.test"}) != {}


def test_this_machine_is_reached_directly_where_that_is_wished() -> None:
    environ = {"http_proxy": "http://a:1"}
    assert proxies("http://127.0.0.1:9/", environ, around=LOOPBACK) == {}
    assert proxies("http://127.0.0.1:9/", environ) == {"http": "http://a:1"}
