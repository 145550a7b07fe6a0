"""What uv is told, and what its words come to."""

from __future__ import annotations

from pathlib import Path

import pytest

from devkit.envs import uv
from devkit.envs.uv_progress import Bars
from devkit.errors import UsageError


@pytest.fixture(autouse=True)
def _a_shell_that_tells_uv_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in uv.STEERING:
        monkeypatch.delenv(name, raising=False)


def line(**variables: str) -> uv.Line:
    return uv.Line(("pip", "install", "x"), variables, Path())


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("error: Failed to install\n  cause: No space left on device (os error 28)", "the disk is full"),
        ("error: x\n  cause: x was not found in the cache\nhint: the network was disabled", "not in uv's cache"),
        ("error: tunnel error: failed to create underlying connection", "the proxy does not answer"),
        ("error: y\n  cause: y was not found in the package registry", "the index does not have it"),
        ("error: dns error\n  cause: failed to lookup address information", "host was not found"),
        ("error: client error (Connect)\n  cause: Connection refused (os error 111)", "the index does not answer"),
        ("error: there is no version of paddlepaddle==9.9", "no such version"),
        ("error: No solution found when resolving dependencies", "cannot be installed together"),
        (
            "error: x\n  cause: Because you require xx==1 and xx<1, your requirements are unsatisfiable",
            "contradict each",
        ),
        ("error: x\n  cause: Because there are no versions of idna and you require idna, we", "does not have it"),
        ("error: HTTP status client error (401 Unauthorized)", "the index wants a name and a password"),
        ("error: HTTP status server error (500 Internal Server Error) for url (x)", "the index is out of order"),
        ("error: tunnel error: proxy authorization required", "the proxy wants a password"),
        ("warning: Invalid `SSL_CERT_FILE`. Path does not exist: /x.pem\nerror: Connection refused", "is not there"),
        ("error: x\n  cause: failed to create directory `/ro/v`: Read-only file system (os error 30)", "/ro cannot be"),
        ("error: invalid peer certificate: UnknownIssuer", "certificate is not trusted"),
        ("error: Distribution not found at: file:///croot/numpy_166/work", "one of conda's"),
        ('error: Couldn\'t parse requirement\n  cause: no such comparison operator "=", must be', "one of conda's"),
        ("error: failed to decode file `r.txt`: stream did not contain valid UTF-8", "not in UTF-8"),
    ],
)
def test_failure_is_named(said: str, what: str) -> None:
    found = uv.explain(said, line())
    assert what in found.what
    assert found.why
    assert found.remedies


def test_a_remedy_names_the_uv_that_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    prune = uv.explain("error: no space left on device", line()).remedies[1]
    assert prune == f"{uv.binary()} cache prune   frees what uv no longer needs"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("error: Couldn't parse requirement in `r.txt` at position 0", "a requirement is not understood"),
        ("error: Error parsing included file in `r.txt` at position 0", "a file that is named is not there"),
        (
            "error: Failed to download `x @ http://h/x.whl`\n  cause: Encountered an unexpected header (actual: 0x6d)",
            "what was downloaded is no package",
        ),
        ("error: Failed to extract archive: c.tgz\n  cause: Invalid gzip header", "what was downloaded is no package"),
        ("error: Git operation failed\n  cause: failed to clone into: /c", "git could not fetch a package's source"),
        (
            "error: Failed to build `x @ file:///x`\n  cause: Package metadata name `y` does not match given name `x`",
            "a package has another name than it is asked for by",
        ),
    ],
)
def test_a_failure_of_a_file_of_requirements_is_named(said: str, what: str) -> None:
    assert uv.explain(said, line()).what == f"uv failed: {what}"


def test_what_answered_a_download_is_to_be_looked_at() -> None:
    said = "error: Failed to download `x @ http://h/x.whl`\n  cause: Encountered an unexpected header (actual: 0x6d7)."
    (look,) = uv.explain(said, line()).remedies
    assert look == "curl -sL -- http://h/x.whl | head   shows what answers: perhaps a page to log in at"


def test_remedy_is_about_the_package_and_the_pythons_that_uv_names() -> None:
    said = "error: no solution found\n  cause: Because there is no version of xx==7 and you require xx==7, we"
    assert uv.explain(said, line()).remedies[0].startswith("devkit env create --with xx ")
    said = (
        "error: no solution found\n  cause: p has no wheels with a matching Python ABI tag (e.g., `cp313`)\n"
        "hint: You require CPython 3.13 (`cp313`), but we only found wheels for `p` (v3) with: `cp38`, `cp311`, `cp312`"
    )
    assert uv.explain(said, line()).remedies == ("devkit env create --python 3.12",)


def test_refused_connection_below_a_proxy_is_the_proxys() -> None:
    said = "error: x\n  cause: client error (Connect)\n  cause: Connection refused"
    assert "proxy" in uv.explain(said, line(https_proxy="http://127.0.0.1:9")).what


def test_what_uv_was_told_holds_no_password_on_its_line() -> None:
    source = uv.Source("https://me:secret@index.example/simple", None, "http://me:secret@proxy.example:8080")
    told = uv.Line(("pip", "install", "x"), source.variables(), Path())
    assert "secret" not in " ".join(told.words)
    assert told.variables["UV_DEFAULT_INDEX"].startswith("https://me:secret@")
    assert told.variables["https_proxy"] == told.variables["HTTP_PROXY"]
    assert "secret" not in uv.explain(f"error: {source.index_url} says no", told).why


def test_gpu_build_asks_paddles_index_first_and_a_given_index_alone() -> None:
    own = "https://www.paddlepaddle.org.cn/packages/stable/cu126/"
    assert uv.Source("", own).variables()["UV_INDEX"] == own
    given = uv.Source("https://mirror.example/simple", own).variables()
    assert "UV_INDEX" not in given
    assert given["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    configured = uv.Source("", own, default_index="https://mirror.example/simple").variables()
    assert configured["UV_INDEX"] == own
    assert configured["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"


@pytest.mark.parametrize("url", ["index.example", "ftp://x/", "https://", "http://[::1", "http://h:port/"])
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        uv.check_url("--index-url", url)


def test_before_any_bar_uv_resolves() -> None:
    assert Bars().text() == "resolving"


def test_bars_are_summed() -> None:
    bars = Bars()
    bars.read(
        b"numpy                ------------------------------ 3.50 MiB/15.00 MiB   "
        b"paddlepaddle         ------------------------------ 100.00 KiB/185.00 MiB   "
    )
    bars.read(b"numpy                ------------------------------ 15.00 MiB/15.00 MiB   ")
    assert bars.bytes == pytest.approx((15 * 2**20 + 100 * 2**10, 200 * 2**20))
    assert bars.text() == "downloading paddlepaddle"
    bars.read("███░ [9/16] certifi==2026.1".encode())
    assert bars.text() == "installing, 9 of 16 packages"


def test_what_the_shell_tells_uv_is_named_where_uv_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UV_CONFIG_FILE", "/nonexistent/uv.toml")
    found = uv.explain("error: failed to open file `/nonexistent/uv.toml`: No such file or directory", line())
    assert found.remedies == ("unset UV_CONFIG_FILE   if uv should not be told so by your shell",)
    assert uv.explain("error: z", line(UV_CONFIG_FILE="x")).remedies == ()
    monkeypatch.delenv("UV_CONFIG_FILE")
    monkeypatch.setenv("UV_OFFLINE", "1")
    said = "error: x\n  cause: x was not found in the cache\nhint: the network was disabled"
    found = uv.explain(said, line())
    assert found.what == "uv failed: it is not in uv's cache, and UV_OFFLINE forbids to fetch it"
    assert found.remedies == ("unset UV_OFFLINE   if uv should not be told so by your shell",)
    assert "--offline forbids" in uv.explain(said, line(UV_OFFLINE="1")).what
    monkeypatch.delenv("UV_OFFLINE")
    (tmp_path / "uv.toml").write_text("")
    below = uv.Line(("pip", "install", "x"), {}, tmp_path / "a" / "b")
    assert uv.explain("error: z", below).remedies == (f"cat {tmp_path}/uv.toml   uv follows it too",)
