"""What looks like a credential in the lines of a change; what it says is never repeated.

The shapes are stricter than those of ``devkit.redact``: that one may mask too much, a finding has to be one.
"""

from __future__ import annotations

import re

PRIVATE_KEY = "a private key"
# Shapes of credentials whose makers gave them a mark of their own, and assignments of long literals to telling names.
SECRETS = (
    (re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"), PRIVATE_KEY),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{60,}\b"), "a token of GitHub"),
    (re.compile(r"\bAKIA(?![0-9A-Z]*EXAMPLE\b)[0-9A-Z]{16}\b"), "an access key of AWS"),
    (re.compile(r"\bLTAI[A-Za-z0-9]{12,26}\b"), "an access key of Alibaba Cloud"),
    (re.compile(r"\bALTAK[A-Za-z0-9]{18,}\b"), "an access key of Baidu's cloud"),
    (re.compile(r"\bAKID[A-Za-z0-9]{32}\b"), "an access key of Tencent's cloud"),
    (re.compile(r"\bAIza[\w-]{35}\b"), "an API key of Google"),
    (re.compile(r"\bglpat-[\w-]{20,}\b"), "a token of GitLab"),
    (re.compile(r"\bhf_[A-Za-z0-9]{32,}\b"), "a token of Hugging Face"),
    (re.compile(r"\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[\w-]{50,}"), "a token that publishes packages"),
    (re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b"), "a token of Slack"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{32,}\b"), "an API key"),
    (re.compile(r"https?://[^/\s:@'\"{}$<]+:[^/\s:@'\"{}$<]{4,}@"), "a password in an address"),
    (
        re.compile(
            r"(?i)\b(?:password|passwd|secret|api_?key|access_?key|auth_?token)\b['\"]?\s*[:=]\s*['\"](?=[^'\"]*\d)"
            r"(?=[^'\"]*[A-Za-z])[A-Za-z0-9+/_=-]{16,}['\"]"
        ),
        "what looks like a credential",
    ),
)
PLACEHOLDER = re.compile(r"(?i)(.)\1{7}|:(?:pass|passwd|password|secret|token|your[\w-]*|\*+|x+)@")
"""What documentation writes in a credential's place."""
MEANT = re.compile(r"(?i)pragma:\s*(?:allow|white)list\s+secret|gitleaks:allow")
NEXT_IS_MEANT = re.compile(r"(?i)pragma:\s*(?:allow|white)list\s+nextline\s+secret")
"""What detect-secrets and gitleaks take as a person's word that a line may hold it."""


def secret_in(line: str, above: str = "") -> str:
    """Return what a line holds that looks like a credential; empty where none, or where it or the line above allows."""
    if MEANT.search(line) or NEXT_IS_MEANT.search(above):
        return ""
    for pattern, what in SECRETS:
        match = pattern.search(line)
        if match and not PLACEHOLDER.search(match[0]):
            return what
    return ""
