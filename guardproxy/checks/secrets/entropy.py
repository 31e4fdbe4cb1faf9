"""How random a value looks, and whether it only stands where a secret will be."""

from __future__ import annotations

import re
from collections import Counter
from math import log2

_PLACEHOLDER = re.compile(
    r"^(?:<.*>?|&lt;.*|\[.*\]?|\$\{.*|\$\(.*|\$[A-Za-z_]\w*|\$[A-Z][A-Z_]+\W.*|%\w*%?|%[(<{].*|\{.*"
    r"|#\{.*|@.*@|\*+|\.{2,}|_+|-+|#+|\?+|[xX]{1,}|0+"
    r"|none|null|nil|nan|undefined|true|false|yes|no|on|off|string|str|text|bytes|int|object|any|optional|required"
    r"|hidden|redacted|masked|removed|empty|unset|default|input|value|env|os\.environ.*|os\.getenv.*|getenv.*"
    r"|process\.env.*|env\.\w+|secrets?\.\w+|vars?\.\w+|data\.\w+|self\.\w+|this\.\w+|config\.\w+|settings\.\w+)$",
    re.IGNORECASE,
)
_EXAMPLE = re.compile(
    r"change_?-?me|your[_\- ]?|example|placeholder|dummy|sample|replace|insert|todo|redacted|goes here|xxxx|\*\*\*"
    r"|fill[_\- ]?in|^(?:my|the|some|a)?[_\-]?(?:super)?[_\-]?(?:pass(?:word|wd)?|pwd|secret|token"
    r"|api[_\-]?key|key|test)[_\-]?\d{0,3}$",
    re.IGNORECASE,
)
_CODE = re.compile(r"^[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+$")
_UUID = re.compile(r"^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$", re.IGNORECASE)


def bits(value: str) -> float:
    """Shannon entropy of the characters, in bits for each."""
    size = len(value)
    return -sum(count / size * log2(count / size) for count in Counter(value).values()) if size else 0.0


def stands_in(value: str) -> bool:
    """Whether the value is a variable, a type, a mask or nothing: no secret at all."""
    bare = value.strip("'\"")
    return len(set(bare)) < 2 or _PLACEHOLDER.match(bare) is not None


def is_example(value: str) -> bool:
    """Whether the value says itself that it is an example."""
    return _EXAMPLE.search(value) is not None


def is_code(value: str) -> bool:
    """Whether the value is a name with dots, as programs have."""
    return _CODE.match(value) is not None and sum(map(str.isdigit, value)) < 4


def is_uuid(value: str) -> bool:
    """Whether the value is a UUID: an identifier more often than a secret."""
    return _UUID.match(value) is not None


def is_random(value: str, least: float = 3.0) -> bool:
    """Whether the characters are mixed as generated keys are."""
    return len(value) >= 12 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and bits(value) >= least
