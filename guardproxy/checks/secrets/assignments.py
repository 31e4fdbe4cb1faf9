"""Values that are secrets because of the name they are given: `password = ...`, `"api_key": "..."`, `--token ...`.

The name alone is weak evidence, for programs and documentation are full of such names. The value must look like a
secret: not a variable, a type, a call or a mask; random enough for a key, and for a password at least not a plain word
in prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from guardproxy.checks.forms import Recogniser, Scan
from guardproxy.checks.secrets.entropy import bits, is_code, is_example, is_random, is_uuid, stands_in
from guardproxy.types import Finding

_PASSWORDISH = r"pass(?:word|wd|phrase|code|wort)|pwd|passw|kennwort|senha|contraseña|contrasena|mot[ _]de[ _]passe"
_KEY_WORDS = (
    r"(?:api|access|auth|encryption|signing|private|account|secret|app|application|license|master|storage|service|consumer"
    r"|shared|ssh|client|server|deploy|admin|preshared|tsig|session|jwt|hmac|webhook|unseal)[ _.\-]{0,2}key"
    r"|secret|token|credentials?|[_\-]pat|cookie[_\-]?secret"
)
_TAIL = r"(?:[_\-]?(?:prod|dev|test|live|staging|base64|b64|value|plain|hash|\d{1,2}))?"
_OPERATOR = r"[\"'\]`\\)]{0,2}(?:[ \t]{0,8}(?::=|=>|={1,3}|!={1,2}|:)|[ ,]{1,3}(?:value|content)[ ]?=)"
_NAME = rf"(?i)(?:{_PASSWORDISH}|(?:\b|_)pass|{_KEY_WORDS}){_TAIL}{_OPERATOR}"
_OPTION = (
    r"(?i)(?:^|\s)--?(?:password|passwd|pass|pwd|token|api-?key|secret|auth-?token|access-?token|client-?secret)\s"
)
_SAID = (
    r"(?i)\b(?:password|passphrase|passcode|passwort|kennwort|senha|contraseña|mot de passe|token|api key|secret key)"
    r"(?: for [\w.@'\"\-]+| for (?:the |my |our )?\w+ [\w.@'\"\-]+)? (?:is|was|es|é|est|lautet|ist|set to)(?: now)?:?\s"
)
_QUOTED = r"(?i)\b(?:password|passwd|pwd|passphrase)[ \t]{1,3}[\"']"
_NETRC = r"(?i)\bmachine\s+\S+\s+login\s+\S+\s+password\s+(\S+)"
_USER_OPTION = r"\s(?:-u|--user)[ =][\"']?[^\s:\"'/]+:([^\s\"'@/]{4,})"
_ELEMENT = r"(?i)<[\w:]*(?:password|passwd|pwd|secret|api_?key|token)>([^<>\s]{4,200})</"

_VALUE = re.compile(r"""\s{0,24}(?:\\?(["'`])((?:(?!\1)[^\n\\]|\\.){1,300})\1|([^\s"'`,;<>(){}\[\]]{1,300}))""")
_IS_PASSWORD = re.compile(rf"{_PASSWORDISH}|(?:\b|_)pass", re.IGNORECASE)
_IN_QUERY = re.compile(r"[?&][\w.\-]{0,40}$")
_ANSWERS_A_CALL = frozenset("([")
# Paths, URLs, and what is left of a string that ended just before: `"password: " + value`
_NO_VALUE = re.compile(
    r"^(?:https?://|arn:|\.{0,2}/|[A-Za-z]:\\|#[\w-]+$|--|[+.,;)&|]|[a-z]+:$|[a-z_]+(?:/[a-z_#]+)+$)", re.IGNORECASE
)


def _value(scan: Scan, start: int, end: int) -> tuple[int, int, bool] | None:
    """Where the value behind a name stands, and whether it is in quotes; None if there is none, or a call."""
    match = _VALUE.match(scan.text, end)
    if match is None:
        return None
    if match[1]:
        return match.start(2), match.end(2), True
    begin, finish = match.span(3)
    if scan.text[finish : finish + 1] in _ANSWERS_A_CALL:
        return None
    if _IN_QUERY.search(scan.text[max(0, start - 42) : start]):
        finish = begin + len(scan.text[begin:finish].partition("&")[0])
    while finish > begin and scan.text[finish - 1] in ".:\\":
        finish -= 1
    return (begin, finish, False) if finish > begin else None


def _password_score(value: str, quoted: bool, tight: bool) -> float:
    if len(value) < 4 or (not quoted and is_code(value)) or _NO_VALUE.match(value):
        return 0.0
    if is_example(value):
        return 0.35
    kinds = sum((any(map(str.isdigit, value)), any(map(str.isalpha, value)), not value.isalnum()))
    if kinds >= 2 and not (quoted and " " in value):
        return 0.8
    if quoted:
        return 0.6 if not value[0].isspace() and value.count(" ") <= 1 and not value.endswith((":", "?")) else 0.3
    return 0.55 if tight else 0.3


def _key_score(value: str) -> float:
    if " " in value or is_code(value) or _NO_VALUE.match(value):
        return 0.0
    if is_example(value):
        return 0.3
    if is_uuid(value):
        return 0.5
    if is_random(value):
        return 0.8 if len(value) >= 16 and bits(value) >= 3.2 else 0.65
    return 0.3 if len(value) >= 8 else 0.0


def _assigned(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    place = _value(scan, start, end)
    if place is None:
        return
    begin, finish, quoted = place
    value = scan.text[begin:finish]
    if stands_in(value):
        return
    name = scan.text[start:end]
    if _IS_PASSWORD.search(name):
        yield from _some("PASSWORD", begin, finish, _password_score(value, quoted, begin == end and "=" in name[-1:]))
    elif "account" in name.lower() or "sharedaccess" in scan.text[max(0, start - 6) : end].lower():
        azure = len(value) >= 40 and bits(value) >= 3.8
        yield from _some(
            "AZURE_KEY" if azure else "GENERIC_SECRET", begin, finish, 0.93 if azure else _key_score(value)
        )
    elif re.fullmatch(r"[A-Za-z0-9/+]{40}", value) and "aws" in scan.text[max(0, start - 40) : start].lower():
        yield Finding("AWS_ACCESS_KEY", begin, finish, 0.93)
    else:
        yield from _some("GENERIC_SECRET", begin, finish, _key_score(value))


def _some(label: str, start: int, end: int, score: float) -> Iterator[Finding]:
    if score > 0:
        yield Finding(label, start, end, score)


def _said(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    """`the password is ...`: in prose, only what no prose has counts, or what stands in quotes."""
    place = _value(scan, start, end - 1)
    if place is None:
        return
    begin, finish, quoted = place
    value = scan.text[begin:finish]
    if stands_in(value) or is_example(value) or _NO_VALUE.match(value):
        return
    odd = any(map(str.isdigit, value)) or (value != value.lower() and not value.istitle()) or not value.isalnum()
    if len(value) >= 4 and (quoted or (odd and not re.fullmatch(r"[\w]+['\-][\w]+", value))):
        yield Finding("PASSWORD", begin, finish, 0.7 if odd else 0.6)


def _element(scan: Scan, start: int, end: int) -> Iterator[Finding]:
    """A value in a frame that holds nothing but passwords."""
    value = scan.text[start:end]
    if not stands_in(value):
        yield Finding("PASSWORD", start, end, 0.35 if is_example(value) else 0.75)


ASSIGNMENTS = (
    Recogniser(frozenset({"PASSWORD", "GENERIC_SECRET", "AZURE_KEY", "AWS_ACCESS_KEY"}), _NAME, _assigned),
    Recogniser(frozenset({"PASSWORD", "GENERIC_SECRET"}), _OPTION, _assigned),
    Recogniser(frozenset({"PASSWORD"}), _SAID, _said),
    Recogniser(frozenset({"PASSWORD"}), _QUOTED, _said),
    Recogniser(frozenset({"PASSWORD"}), _ELEMENT, _element),
    Recogniser(frozenset({"PASSWORD"}), _NETRC, _element),
    Recogniser(frozenset({"PASSWORD"}), _USER_OPTION, _element),
)
