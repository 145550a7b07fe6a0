"""Credentials out of everything that is shown, logged or recorded."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_URL_CREDENTIALS = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<credentials>[^/\s@'\"]+)@", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?P<name>\b[\w-]*(?:token|password|passwd|secret|api[_-]?key|access[_-]?key|authorization)\b[\"']?\s*[=:]\s*[\"']?)"
    r"(?P<scheme>(?:bearer|basic|token)\s+)?(?P<value>[^\s\"'&;,]+)",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"token|password|passwd|secret|api[_-]?key|access[_-]?key|authorization", re.IGNORECASE)
_FORGE_TOKEN = re.compile(r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,})")

_secrets: set[str] = set()


def remember_secret(secret: str) -> None:
    """Mask this exact text from now on, wherever it appears (the secret of a share, a password that was typed)."""
    if len(secret) >= 4:  # noqa: PLR2004 - shorter texts would mask ordinary words
        _secrets.add(secret)


def redact(text: str) -> str:
    """Return ``text`` with the credentials of URLs, assigned secrets and forge tokens as ``***``."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    if "://" in text:
        text = _URL_CREDENTIALS.sub(rf"\g<scheme>{MASK}@", text)
    text = _ASSIGNED.sub(lambda match: f"{match['name']}{match['scheme'] or ''}{MASK}", text)
    return _FORGE_TOKEN.sub(MASK, text)


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
