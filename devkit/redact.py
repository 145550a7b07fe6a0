"""Credentials out of everything that is shown, logged or recorded."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_NAMES = r"(?:token|password|passwd|secret|api[_-]?key|access[_-]?key|authorization)"
_VALUE = (
    r"(?:(?P<quote>\\?[\"'])(?:(?!(?P=quote))(?:\\.|.))+(?P=quote)"
    r"|(?P<open>\\?[\"']?)(?P<scheme>(?:bearer|basic|digest|negotiate|token)\s+)?[^\s\"'&;,]+)"
)
# Every repetition is bounded or excludes what follows it: a line of a megabyte must not be read a million times.
_URL_CREDENTIALS = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,15}://)(?P<credentials>[^/?#\s'\"]+)@", re.IGNORECASE)
_BARE_CREDENTIALS = re.compile(r"(?<![^\s='\"])[^\s:/@='\"]{1,64}:[^\s:/@='\"]{1,256}@(?=[\w.-]{1,253}:\d)")
_ASSIGNED = re.compile(rf"(?P<name>{_NAMES}\b\\?[\"']?\s{{0,8}}[=:]\s{{0,8}}){_VALUE}", re.IGNORECASE)
_FLAG = re.compile(rf"(?P<name>(?<!\S)--?[\w-]{{0,32}}{_NAMES}\s{{1,8}})(?!-){_VALUE}", re.IGNORECASE)
_SECRET_NAME = re.compile(rf"{_NAMES}$", re.IGNORECASE)
_KNOWN_TOKEN = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{20,}|pypi-[\w-]{20,}|AKIA[0-9A-Z]{16}\b)"
)

_secrets: set[str] = set()


def remember_secret(secret: str) -> None:
    """Mask this exact text from now on, wherever it appears (the secret of a share, a password that was typed)."""
    if len(secret) >= 4:  # noqa: PLR2004 - shorter texts would mask ordinary words
        _secrets.add(secret)


def redact(text: str) -> str:
    """Return ``text`` with the credentials of URLs, assigned secrets and the tokens of forges as ``***``."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    if "@" in text:
        text = _URL_CREDENTIALS.sub(_masked_credentials, text)
        text = _BARE_CREDENTIALS.sub(f"{MASK}@", text)
    text = _ASSIGNED.sub(_masked_value, text)
    if "-" in text:
        text = _FLAG.sub(_masked_value, text)
    return _KNOWN_TOKEN.sub(MASK, text)


def _masked_credentials(match: re.Match[str]) -> str:
    if match["credentials"] == "USER:PASSWORD":
        return match[0]  # what a hint shows, where a password goes
    if match["scheme"].lower().endswith("ssh://") and ":" not in match["credentials"]:
        return match[0]  # the name of an account, without which the line could not be typed again
    return f"{match['scheme']}{MASK}@"


def _masked_value(match: re.Match[str]) -> str:
    if match["quote"]:
        return f"{match['name']}{match['quote']}{MASK}{match['quote']}"
    return f"{match['name']}{match['open']}{match['scheme'] or ''}{MASK}"


def redact_value(value: Any) -> Any:
    """Return plain data (what JSON holds) with every text in it redacted, and the values of secret names masked."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {
            key: MASK if isinstance(item, str) and item and _SECRET_NAME.search(str(key)) else redact_value(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact_value(item) for item in value]
    return value
