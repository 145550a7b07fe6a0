"""Credentials are masked, ordinary text is not."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from devkit import redact as module
from devkit.redact import redact, redact_value, remember_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRETS = ("hunter2", "s3cr3t/with:signs", "p@ssw0rd", "correct horse battery", "密码很长")

ORDINARY = (
    "tokens/s=5140",
    "tokens_per_s=5140 peak_mib=153",
    "tokens: 512",
    "the tokenizer: bpe",
    "tokenizer=qwen2",
    "password policy: none",
    "the password was wrong",
    "no secret here",
    "https://github.com/PaddlePaddle/Paddle/pull/1007?w=1#issuecomment-3",
    "git@github.com:PaddlePaddle/Paddle.git",
    "ssh://git@github.com/PaddlePaddle/Paddle.git",
    "a@b.example wrote to c@d.example at 10:30",
    "rsync host:/data/x ./x",
    "http://127.0.0.1:8080/metrics",
    "-DPY_VERSION=3.11 --token-count 5",
    "max_tokens=512, num_tokens: 3",
    "scatter(key=1, keys=[2])",
    "12:30:01@node7",
)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No secret is remembered from one test to the next."""
    yield
    module._secrets.clear()


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://me:geheim@10.1.2.3:8080", "http://***@10.1.2.3:8080"),
        ("https://ghp_0123456789012345678901234567@github.com/x", "https://***@github.com/x"),
        ("socks5h://u:p@h:1 and http://v:q@i:2", "socks5h://***@h:1 and http://***@i:2"),
        ("http://me:p@ss@host:1/x", "http://***@host:1/x"),
        ("http_proxy=me:geheim@proxy:3128", "http_proxy=***@proxy:3128"),
        ("HTTP://Me:Geheim@HOST", "HTTP://***@HOST"),
        ("ssh://me:geheim@host/x", "ssh://***@host/x"),
        ("'https://a:b@c/d'", "'https://***@c/d'"),
    ],
)
def test_credentials_of_urls_are_masked(text: str, masked: str) -> None:
    assert redact(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("token=abc123", "token=***"),
        ("GITHUB_TOKEN=abc123 make", "GITHUB_TOKEN=*** make"),
        ("aws_secret_access_key = abc", "aws_secret_access_key = ***"),
        ('{"password": "a b c", "user": "me"}', '{"password": "***", "user": "me"}'),
        (r"{\"token\": \"abc\"}", r"{\"token\": \"***\"}"),
        ("password='a b c' next", "password='***' next"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("authorization: basic YWJj", "authorization: basic ***"),
        ("GET /x?token=abc&y=1", "GET /x?token=***&y=1"),
        ("--password hunter2 --verbose", "--password *** --verbose"),
        ("curl --api-key 'hunter 2' x", "curl --api-key '***' x"),
        ("--token=abc", "--token=***"),
        ("api-key: abc; next", "api-key: ***; next"),
    ],
)
def test_assigned_secrets_are_masked(text: str, masked: str) -> None:
    assert redact(text) == masked


@pytest.mark.parametrize(
    "token",
    [
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1" * 30,
        "glpat-" + "a1" * 10,
        "hf_" + "a1" * 17,
        "pypi-" + "AgEIcHlwaS5vcmc" * 3,
        "AKIA" + "A1" * 8,
    ],
)
def test_tokens_are_known_by_their_form(token: str) -> None:
    assert redact(f"use {token} for it") == "use *** for it"


@pytest.mark.parametrize(
    ("secret", "shape"),
    list(
        itertools.product(
            SECRETS,
            ("{}", "x {} y", "http://h/s/{}/f", "key={}", "'{}'", "{}{}", "\x1b[1m{}\x1b[0m"),
        )
    ),
)
def test_a_remembered_secret_is_masked_wherever_it_is(secret: str, shape: str) -> None:
    remember_secret(secret)
    assert secret not in redact(shape.format(secret, secret))


def test_a_longer_secret_is_masked_whole() -> None:
    remember_secret("abcd")
    remember_secret("abcdefgh")
    assert redact("abcdefgh") == "***"


def test_a_text_too_short_to_be_a_secret_is_not_remembered() -> None:
    remember_secret("on")
    assert redact("one of none") == "one of none"


@pytest.mark.parametrize("text", [*ORDINARY, "token=abc", "http://a:b@c", "--password hunter2"])
def test_masking_twice_is_masking_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_values_of_secret_names_are_masked_in_data() -> None:
    value = {
        "GITHUB_TOKEN": "abc",
        "password": "",
        "nested": [{"api_key": "x y"}, ("http://a:b@c", 3)],
        "tokenizer": "bpe",
        "token_type": "bearer",
        "tokens_per_s": 5140,
        "Authorization": "Bearer abc",
        "accessKey": "abc",
    }
    assert redact_value(value) == {
        "GITHUB_TOKEN": "***",
        "password": "",
        "nested": [{"api_key": "***"}, ["http://***@c", 3]],
        "tokenizer": "bpe",
        "token_type": "bearer",
        "tokens_per_s": 5140,
        "Authorization": "***",
        "accessKey": "***",
    }


def test_masked_json_is_still_json() -> None:
    text = json.dumps({"password": 'a"b', "url": "http://me:geheim@host", "n": 1})
    masked = json.loads(redact(text))
    assert masked["n"] == 1
    assert "geheim" not in json.dumps(masked)


def test_a_long_line_is_masked_in_no_time() -> None:
    """No pattern backtracks over a line of a megabyte."""
    for piece in ("a:", "http://x:", "token ", "a@", "password=", "--token ", "x" * 50, "a-", "a.", "token='"):
        text = piece * (1_000_000 // len(piece))
        assert len(redact(text)) > 0
