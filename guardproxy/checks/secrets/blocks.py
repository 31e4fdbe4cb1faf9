"""Secrets with a frame of their own: private keys, JSON web tokens, credentials in URLs and in HTTP headers."""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64decode
from binascii import Error
from collections.abc import Iterator

from guardproxy.checks.forms import Recogniser, Scan
from guardproxy.checks.secrets.entropy import bits, is_example, stands_in
from guardproxy.types import Finding

_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|---- END SSH2 ENCRYPTED PRIVATE KEY ----")
_LONGEST_BLOCK = 20_000
_BODY = re.compile(r"[A-Za-z0-9+/=]{16}")


def _private_key(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    """The whole block; to the end of the text if it has no end there, for the rest of a stream may follow."""
    limit = min(len(scan.text), end + _LONGEST_BLOCK)
    ends = scan.text.find("-- END" if scan.text.startswith("---- ", start) else "-----END", end, limit) >= 0
    last = _END.search(scan.text, end, limit) if ends else None
    body = scan.text[end : last.start() if last else limit]
    empty = not _BODY.search(body[:400]) and len(body.strip()) > 0
    yield Finding("PRIVATE_KEY", start, last.end() if last else len(scan.text), 0.4 if empty else 0.98)


def _encoded_key(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    """A PEM block in base64; certificates are encoded like this too."""
    value = scan.text[start : min(end, start + 80)]
    if b"PRIVATE KEY" in b64decode(value[: len(value) // 4 * 4]):
        yield Finding("PRIVATE_KEY", start, end, 0.97)


def _jwt(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    header = scan.text[start:end].partition(".")[0]
    try:
        decoded = urlsafe_b64decode(header + "=" * (-len(header) % 4))
    except (Error, ValueError):
        return
    yield Finding("JWT", start, end, 0.95 if b'"alg"' in decoded else 0.6)


def _url_password(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    value = scan.text[start:end]
    if stands_in(value) or value.startswith(("${", "{{", "<", "%(")):
        return
    yield Finding("URL_PASSWORD", start, end, 0.4 if is_example(value) else 0.9)


def _bearer(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    value = scan.text[start:end]
    if stands_in(value):
        return
    likely = any(map(str.isdigit, value)) and bits(value) >= 3.0
    yield Finding("BEARER_TOKEN", start, end, 0.3 if is_example(value) else 0.9 if likely else 0.3)


def _basic(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    """HTTP's Basic scheme: base64 of name and password with a colon between."""
    value = scan.text[start:end]
    try:
        decoded = b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (Error, ValueError):
        return
    if b":" in decoded and decoded.isascii() and decoded.decode().isprintable():
        yield Finding("PASSWORD", start, end, 0.93)


def _of(label: str) -> frozenset[str]:
    return frozenset({label})


_KEY_HEADER = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----"

BLOCKS = (
    Recogniser(_of("PRIVATE_KEY"), _KEY_HEADER, _private_key),
    Recogniser(_of("PRIVATE_KEY"), r"\bLS0tLS1CRUdJTi[A-Za-z0-9+/]{40,}={0,2}", _encoded_key),
    Recogniser(_of("JWT"), r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*", _jwt),
    Recogniser(
        _of("URL_PASSWORD"), r"(?i)\b[a-z][a-z0-9+.\-]*://[^\s:/@\"'<>]*:([^\s/\"'<>]+)@[\w.\-\[{$/]", _url_password
    ),
    Recogniser(
        _of("BEARER_TOKEN"), r"(?i)\b(?:bearer|ssws|authorization\W{1,4}token)\s+([A-Za-z0-9_\-.~+/]{12,}=*)", _bearer
    ),
    Recogniser(_of("PASSWORD"), r"(?i)\bbasic\s+([A-Za-z0-9+/]{8,}={0,2})", _basic),
)
